"""Decisions on their way to the database: many that come at the same time in one statement (ADR 31).

- ``grouping``: who comes while others are being committed waits, and all who wait go together.
- ``committing``: what a group does: read what its conversations were given last, decide, commit.
- ``lanes``: connections of the process's own for that; ``postgres`` and ``sqlite``: the statements.
- ``behind``: answer first, commit a moment later (SELECTION_STORE=write-behind).
"""
