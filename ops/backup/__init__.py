"""A backup is a folder: the Django database, ClickHouse's rows, an audit checkpoint, and a signed manifest of all.

docs/adr/0030-backups.md says why this format and this order.
"""


class BackupError(Exception):
    """Why it could not be made or restored, for whoever runs the command."""
