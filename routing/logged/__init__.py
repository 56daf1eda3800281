"""Logged decisions and completions of one scope, read from ClickHouse by a time range, a day at a time."""
