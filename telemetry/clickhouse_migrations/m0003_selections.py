"""Selection events, one row a decision, however often it is sent."""

from telemetry.clickhouse_migrations.dialect import Dialect


def forward(dialect: Dialect) -> list[str]:
    label = dialect.label()
    index = dialect.skip_index("by_conversation", "conversation_id", "bloom_filter(0.01)")
    return dialect.create(
        "selections",
        f"""    decision_id UUID,
    decided_at DateTime('UTC'){dialect.codec("DoubleDelta, LZ4")},
    decided_us UInt64{dialect.codec("DoubleDelta, LZ4")},
    tenant {label},
    persona {label},
    task {label},
    conversation_id String,
    profile {label},
    provider {label},
    model {label},
    reason {label},
    propensity Float64,
    source {label},
    replay {label},
    bundle_version {label},
    freshness {label},
    event String{dialect.codec("ZSTD(3)")}{index}""",
        engine="ReplacingMergeTree",
        clauses="PARTITION BY toYYYYMMDD(decided_at)\nORDER BY (decided_at, tenant, decision_id)",
        shard_by="cityHash64(tenant, toString(decision_id))",  # 18.16 cannot hash a UUID
    )


def backward(dialect: Dialect) -> list[str]:
    return dialect.drop("selections")
