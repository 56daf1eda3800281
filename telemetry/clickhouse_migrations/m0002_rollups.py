"""Roll-ups of 5 minutes, 1 hour and 24 hours: one schema, and of each row the newest version counts.

Partitions are what retention drops: days of the 5-minute table, months of the others, which are small
and kept long.
"""

from telemetry.clickhouse_migrations.dialect import Dialect

PARTITIONS = (
    ("rollup_5m", "toYYYYMMDD(bucket)"),
    ("rollup_1h", "toYYYYMM(bucket)"),
    ("rollup_24h", "toYYYYMM(bucket)"),
)


def forward(dialect: Dialect) -> list[str]:
    return [
        statement
        for table, partition in PARTITIONS
        for statement in dialect.create(
            table,
            _columns(dialect),
            engine="ReplacingMergeTree",
            arguments="version",
            clauses=(
                f"PARTITION BY {partition}\nORDER BY (tenant, persona, task, profile, bucket)\n"
                # A row holds a histogram of about a kilobyte, so the usual 8,192 rows a granule would
                # make every question about one scope read megabytes.
                "SETTINGS index_granularity = 256"
            ),
            shard_by="cityHash64(tenant, persona, task, profile)",
        )
    ]


def _columns(dialect: Dialect) -> str:
    label = dialect.label()
    return f"""    bucket DateTime('UTC'){dialect.codec("DoubleDelta, LZ4")},
    tenant {label},
    persona {label},
    task {label},
    profile {label},
    requests UInt64,
    successes UInt64,
    escalations UInt64,
    safety_violations UInt64,
    accuracy_sum Decimal(38, 6),
    accuracy_count UInt64,
    prompt_tokens UInt64,
    completion_tokens UInt64,
    cached_tokens UInt64,
    served_other UInt64,
    priced UInt64,
    priced_tokens UInt64,
    priced_successes UInt64,
    cost_usd Decimal(38, 9),
    latency Array(UInt64),
    last_event_at DateTime('UTC'),
    version UInt64"""


def backward(dialect: Dialect) -> list[str]:
    return [statement for table, _ in reversed(PARTITIONS) for statement in dialect.drop(table)]
