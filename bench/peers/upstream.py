"""The model behind the gateways: nginx, which gives the same completion to whoever asks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.peers.base import process
from tests.services import accepts, free_ports, require

COMPLETION = {
    "id": "chatcmpl-constant",
    "object": "chat.completion",
    "created": 1,
    "model": "constant",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "constant"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
}


@dataclass(frozen=True)
class Upstream:
    """``url``: the base of an OpenAI-compatible API, without a slash at the end."""

    url: str
    pid: int


@contextmanager
def upstream(folder: Path) -> Iterator[Upstream]:
    """One that answers some 200,000 requests a second, so that it is never what is measured."""
    nginx = require("nginx", "/usr/sbin/nginx")
    [port] = free_ports(1)
    home = folder / "upstream"
    home.mkdir()
    (home / "nginx.conf").write_text(
        f"""daemon off; worker_processes 1; pid {home}/nginx.pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  server {{
    listen 127.0.0.1:{port};
    default_type application/json;
    location / {{ return 200 '{json.dumps(COMPLETION)}'; }}
  }}
}}
"""
    )
    command = [nginx, "-e", "stderr", "-p", str(home), "-c", str(home / "nginx.conf")]
    with process(command, home, lambda: accepts(port), {}) as pid:
        yield Upstream(f"http://127.0.0.1:{port}/v1", pid)
