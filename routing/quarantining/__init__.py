"""Quarantines of profiles: kept, opened by sentinels or people, probed, closed. docs/sentinels.md."""
