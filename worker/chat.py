"""Reading chat completions as OpenAI-compatible providers write them, whole or streamed. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson

_STANDARD = frozenset(
    ("id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier")
)
#: The event's limits.
_MOST_TOKENS = 10_000_000
_MOST_DOLLARS = Decimal(100_000)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, and US dollars if the provider says what it billed (OpenRouter's ``usage.cost``)."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """``served_model`` is what the provider says it served; ``usage`` None: it does not say; ``extra`` are
    members of the answer that the standard does not know."""

    text: str
    served_model: str | None
    usage: Usage | None
    finish_reason: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def read_answer(body: bytes) -> ChatAnswer:
    """Raises ValueError when it is no chat completion."""
    document = _document(body)
    choice = _first_choice(document)
    if choice is None:
        raise ValueError("an answer without choices")
    message = choice.get("message")
    if not isinstance(message, dict):
        raise ValueError("a choice without a message")
    return _answer(_text(message.get("content")), choice.get("finish_reason"), document)


def read_stream(lines: Iterable[bytes], on_text: Callable[[str], None]) -> ChatAnswer:
    """From server-sent events, up to ``data: [DONE]``. Raises ValueError when they are no chat completion,
    or end before they are done."""
    text: list[str] = []
    merged: dict[str, Any] = {}
    finish: object = None
    done = False
    for line in lines:
        data = line.strip().removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
        if not data:
            continue
        if data == b"[DONE]":
            done = True
            break
        document = _document(data)
        # Later chunks say more (usage comes last), but null takes nothing back.
        merged |= {name: value for name, value in document.items() if value is not None}
        choice = _first_choice(document)
        if choice is None:
            continue
        finish = choice.get("finish_reason") or finish
        delta = choice.get("delta")
        piece = _text(delta.get("content")) if isinstance(delta, dict) else ""
        if piece:
            text.append(piece)
            on_text(piece)
    if not done and finish is None:
        raise ValueError("a stream that ended before it was done")
    return _answer("".join(text), finish, merged)


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ValueError("an answer that is not JSON") from None
    if not isinstance(document, dict):
        raise ValueError("an answer that is no object")
    if document.get("error"):
        raise ValueError("an error in place of an answer")
    return document


def _first_choice(document: Mapping[str, Any]) -> dict[str, Any] | None:
    choices = document.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    # Some providers give parts.
    parts = content if isinstance(content, list) else []
    return "".join(
        part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)
    )


def _answer(text: str, finish: object, document: Mapping[str, Any]) -> ChatAnswer:
    model = document.get("model")
    return ChatAnswer(
        text=text,
        served_model=_line(model) if isinstance(model, str) else None,
        usage=_usage(document.get("usage")),
        finish_reason=finish if isinstance(finish, str) else None,
        extra={name: value for name, value in document.items() if name not in _STANDARD},
    )


def _line(value: str) -> str | None:
    return "".join(letter for letter in value if letter.isprintable())[:200] or None


def _usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion = _tokens(usage.get("prompt_tokens")), _tokens(usage.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    details = usage.get("prompt_tokens_details")
    cached = _tokens(details.get("cached_tokens")) if isinstance(details, dict) else None
    # Cached tokens are part of the prompt's; a provider that counts them beside would be refused.
    return Usage(
        prompt, completion, None if cached is None else min(cached, prompt), _cost(usage.get("cost"))
    )


def _tokens(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_TOKENS:
        return None
    return value


def _cost(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        cost = Decimal(str(value))
    except ArithmeticError:
        return None
    return cost if cost.is_finite() and 0 <= cost <= _MOST_DOLLARS else None
