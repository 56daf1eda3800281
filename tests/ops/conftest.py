from tests.telemetry.engines import clickhouse, clickhouse_url, empty_clickhouse, native_server

__all__ = ["clickhouse", "clickhouse_url", "empty_clickhouse", "native_server"]
