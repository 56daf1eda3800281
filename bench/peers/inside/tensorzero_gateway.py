"""`tensorzero_gateway.py CONFIG FILE`: TensorZero's HTTP gateway on a loopback port of its own choice, whose address is
written to the file. The wheel has no program for it, but its helper for OpenAI clients starts just this."""

import os
import signal
import sys
from pathlib import Path

from tensorzero import _start_http_gateway  # type: ignore[import-not-found]


def main() -> None:
    config, told = sys.argv[1], Path(sys.argv[2])
    gateway = _start_http_gateway(
        config_file=config, clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
    )
    # Whole or not at all: it is read as soon as it is there.
    part = told.with_suffix(".part")
    part.write_text(gateway.base_url.removesuffix("/").removesuffix("/openai/v1"))
    os.replace(part, told)
    signal.pause()


if __name__ == "__main__":
    main()
