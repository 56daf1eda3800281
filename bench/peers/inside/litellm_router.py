"""LiteLLM's Router over 20 deployments of one model, all mocked."""

from collections.abc import Callable

from litellm import Router  # type: ignore[import-not-found]

_ASKED = [{"role": "user", "content": "hello"}]


def _router() -> Router:
    return Router(
        model_list=[
            {
                "model_name": "chat",
                "litellm_params": {"model": f"openai/m-{n}", "api_key": "none", "mock_response": "constant"},
            }
            for n in range(20)
        ]
    )


def choose() -> Callable[[int], object]:
    router = _router()
    return lambda n: router.get_available_deployment(model="chat", messages=_ASKED)


def complete() -> Callable[[int], object]:
    router = _router()

    def one(n: int) -> None:
        assert router.completion(model="chat", messages=_ASKED).choices[0].message.content == "constant"

    return one
