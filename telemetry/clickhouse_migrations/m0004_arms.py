"""Sums per day, scope, task and arm of the holdout, squares by conversation included; of each row the newest
version counts."""

from telemetry.clickhouse_migrations.dialect import Dialect


def forward(dialect: Dialect) -> list[str]:
    label = dialect.label()
    return dialect.create(
        "arms_24h",
        f"""    bucket DateTime('UTC'){dialect.codec("DoubleDelta, LZ4")},
    tenant {label},
    persona {label},
    task {label},
    arm {label},
    conversations UInt64,
    completions UInt64,
    successes UInt64,
    escalations UInt64,
    safety_violations UInt64,
    completions_squared UInt64,
    successes_squared UInt64,
    escalations_squared UInt64,
    safety_violations_squared UInt64,
    completions_successes UInt64,
    completions_escalations UInt64,
    completions_safety_violations UInt64,
    priced_conversations UInt64,
    priced UInt64,
    priced_squared UInt64,
    cost_usd Decimal(38, 9),
    cost_squared Float64,
    priced_cost Float64,
    seen String,
    version UInt64""",
        engine="ReplacingMergeTree",
        arguments="version",
        clauses="PARTITION BY toYYYYMM(bucket)\nORDER BY (tenant, persona, task, arm, bucket)",
        shard_by="cityHash64(tenant, persona, task)",
    )


def backward(dialect: Dialect) -> list[str]:
    return dialect.drop("arms_24h")
