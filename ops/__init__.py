"""How it is run: units, containers, the proxy in front, backup and restore (docs/operations.md)."""
