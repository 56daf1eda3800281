"""What each further order of magnitude needs, computed from measured costs (docs/scaling.md)."""
