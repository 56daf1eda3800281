"""Sentinels: is a profile behaving as no noise explains? Pure: no Django, no I/O, no clock. docs/sentinels.md."""
