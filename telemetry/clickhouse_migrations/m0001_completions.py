"""Raw completion events. Of several copies of one event the last received remains."""

from telemetry.clickhouse_migrations.dialect import Dialect


def forward(dialect: Dialect) -> list[str]:
    label = dialect.label()
    return dialect.create(
        "completions",
        f"""    event_id UUID,
    occurred_at DateTime('UTC'){dialect.codec("DoubleDelta, LZ4")},
    received_us UInt64{dialect.codec("DoubleDelta, LZ4")},
    tenant {label},
    persona {label},
    task {label},
    profile {label},
    conversation_id String,
    decision_id Nullable(UUID),
    success UInt8,
    error_code Nullable(String),
    latency_ms UInt32,
    latency_bucket UInt8,
    prompt_tokens UInt32,
    completion_tokens UInt32,
    cached_tokens Nullable(UInt32),
    cost_usd Nullable(Decimal(18, 9)),
    cost_source Nullable(String),
    accuracy Nullable(Decimal(9, 6)),
    escalated UInt8,
    safety_violation UInt8,
    served_model Nullable(String),
    served_other UInt8,
    schema_version UInt8{dialect.skip_index("by_conversation", "conversation_id", "bloom_filter(0.01)")}""",
        engine="ReplacingMergeTree",
        arguments="received_us",
        clauses="PARTITION BY toYYYYMMDD(occurred_at)\nORDER BY (occurred_at, tenant, event_id)",
        shard_by="cityHash64(tenant, toString(event_id))",  # 18.16 cannot hash a UUID
    )


def backward(dialect: Dialect) -> list[str]:
    return dialect.drop("completions")
