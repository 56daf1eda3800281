from tests.telemetry.engines import clickhouse_url, native_server
from tests.telemetry.pipeline import door

__all__ = ["clickhouse_url", "door", "native_server"]
