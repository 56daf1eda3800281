"""The before/after report: the demo's load with automatic selection off, then on, and what each cost and achieved.

`python -m demo.report` (`make report`) writes docs/reports/cost-performance.md. Everything is run: selections through
the endpoint, calls to the demo's provider, completions through ingest, roll-ups, snapshots.
"""
