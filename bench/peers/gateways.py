"""LiteLLM, TensorZero and Portkey: gateways that choose a model and answer with its completion."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.peers.base import INSIDE, Ask, Peer, Request, Start, in_process, process, served
from bench.peers.install import from_npm, from_pypi, modules, node, python
from bench.peers.upstream import upstream
from tests.services import free_ports

#: As many as our endpoint has profiles to choose from.
CANDIDATES = 20
_ASKED = [{"role": "user", "content": "hello"}]
_LITELLM = {
    # Prices come with the package; otherwise they are fetched at each start.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",
}


def _chat(model: str, right: str, path: str = "/v1/chat/completions", **headers: str) -> Request:
    body = json.dumps({"model": model, "messages": _ASKED})
    headers = {"Content-Type": "application/json", **headers}
    return Request("POST", path, right, headers, body)


@contextmanager
def _litellm_proxy(folder: Path, before: Sequence[str]) -> Iterator[Ask]:
    [port] = free_ports(1)
    models = [
        {
            "model_name": "chat",
            "litellm_params": {"model": f"openai/m-{n}", "api_key": "none", "mock_response": "constant"},
        }
        for n in range(CANDIDATES)
    ]
    # JSON is YAML.
    config = {"model_list": models, "general_settings": {"master_key": "sk-bench"}}
    (folder / "config.yaml").write_text(json.dumps(config))
    command = [
        *before, str(python("litellm").with_name("litellm")), "--config", str(folder / "config.yaml"),
        "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1", "--telemetry", "False",
    ]  # fmt: skip
    base, request = f"http://127.0.0.1:{port}", _chat("chat", "constant", Authorization="Bearer sk-bench")
    with process(command, folder, lambda: request.answered(base), _LITELLM) as pid:
        yield served(base, request, folder, [pid])


def _litellm_router(operation: str) -> Start:
    return lambda folder, before: in_process(
        python("litellm"), f"litellm_router:{operation}", folder, before, _LITELLM
    )


@contextmanager
def _tensorzero(folder: Path, before: Sequence[str]) -> Iterator[Ask]:
    with upstream(folder) as model:
        variants = "".join(
            f'[functions.chat.variants.profile-{n}]\ntype = "chat_completion"\nmodel = "m"\n'
            for n in range(CANDIDATES)
        )
        (folder / "tensorzero.toml").write_text(
            f"""[gateway]
observability.enabled = false
[models.m]
routing = ["constant"]
[models.m.providers.constant]
type = "openai"
model_name = "constant"
api_base = "{model.url}/"
api_key_location = "none"
[functions.chat]
type = "chat"
{variants}"""
        )
        told = folder / "url"
        command = [*before, str(python("tensorzero")), str(INSIDE / "tensorzero_gateway.py")]
        # One worker, as ours: Tokio would start one for each core.
        environment = {"TOKIO_WORKER_THREADS": "1", "TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS": "1"}
        with process(
            [*command, str(folder / "tensorzero.toml"), str(told)], folder, told.exists, environment
        ) as pid:
            base = told.read_text()
            request = _chat("tensorzero::function_name::chat", "constant", "/openai/v1/chat/completions")
            if not request.answered(base):
                raise RuntimeError("TensorZero's gateway gives no completion")
            yield served(base, request, folder, [pid], [model.pid])


@contextmanager
def _portkey(folder: Path, before: Sequence[str]) -> Iterator[Ask]:
    with upstream(folder) as model:
        [port] = free_ports(1)
        program = modules("portkey") / "@portkey-ai" / "gateway" / "build" / "start-server.js"
        command = [
            *before, str(node("portkey")), "--require", str(INSIDE / "loopback.cjs"),
            str(program), "--headless", f"--port={port}",
        ]  # fmt: skip
        base = f"http://127.0.0.1:{port}"
        headers = {
            "Authorization": "Bearer none",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": model.url,
        }
        request = _chat("constant", "constant", **headers)
        with process(command, folder, lambda: request.answered(base), {"NODE_ENV": "production"}) as pid:
            yield served(base, request, folder, [pid], [model.pid])


def _install_litellm() -> str:
    return from_pypi("litellm", "litellm")


GATEWAYS = (
    Peer(
        "litellm-proxy",
        "LiteLLM's proxy, one worker, 20 deployments of one model (its default strategy: at random), a master key. "
        "More: answers with a completion, which is mocked in its process (no call out), counts its cost, runs its "
        "hooks. Less: no SLA, no bounds, no tenant or persona; the choice is not stored, nor why.",
        _install_litellm,
        _litellm_proxy,
    ),
    Peer(
        "litellm-router",
        "LiteLLM's Router in process: choose one of 20 deployments and give its mocked completion. "
        "More: the completion. Less: no HTTP, no key, nothing stored; the choice is by chance.",
        _install_litellm,
        _litellm_router("complete"),
        in_process=True,
    ),
    Peer(
        "litellm-router-choice",
        "LiteLLM's Router in process, the choice alone (get_available_deployment over 20 deployments). "
        "Less: no HTTP, no key, nothing stored, by chance; its nearest to our engine.",
        _install_litellm,
        _litellm_router("choose"),
        in_process=True,
    ),
    Peer(
        "tensorzero",
        "TensorZero's HTTP gateway (Rust), as its Python wheel starts it for the OpenAI client, one Tokio worker, a "
        "function with 20 variants chosen among evenly, before a constant upstream. More: calls the upstream and "
        "gives its answer. Less: no key is asked for, nothing is stored (no ClickHouse or PostgreSQL), the choice is "
        "by chance. Its own program is neither on PyPI nor on npm; the wheel serves the OpenAI-compatible routes "
        "alone.",
        lambda: from_pypi("tensorzero", "tensorzero"),
        _tensorzero,
    ),
    Peer(
        "portkey",
        "Portkey's gateway on Node.js 22, one process, before a constant upstream. More: calls the upstream and gives "
        "its answer. Less: chooses nothing (one provider, named by header, its fastest form), checks no key, stores "
        "nothing.",
        lambda: from_npm("portkey", "@portkey-ai/gateway", "1.15.2"),
        _portkey,
    ),
)
