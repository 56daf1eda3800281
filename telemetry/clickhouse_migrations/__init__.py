"""The schema in ClickHouse, as numbered migrations that go forward and backward.

A landed migration is frozen: FROZEN holds its hash and a test compares them. To change the schema, add
the next number, then run ``python -m telemetry.clickhouse_migrations.freeze``.
"""
