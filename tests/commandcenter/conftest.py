from tests.telemetry.engines import clickhouse, clickhouse_url, empty_clickhouse, native_server
from tests.telemetry.pipeline import door

__all__ = ["clickhouse", "clickhouse_url", "door", "empty_clickhouse", "native_server"]
