"""Notebooks over the bundled recordings, and what runs them (`make notebook`)."""
