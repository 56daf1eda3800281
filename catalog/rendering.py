"""JSON in and out of the API by orjson: strict (no NaN), fast, Decimals as strings."""

from collections.abc import Mapping
from decimal import Decimal
from typing import IO, Any

import orjson
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

from catalog.bodies import read_body


def _default(value: object) -> object:
    # Money crosses the wire as a string: a float would change it.
    if isinstance(value, Decimal):
        return format(value, "f")
    if hasattr(value, "__str__"):
        return str(value)
    raise TypeError


class OrjsonRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None  # JSON is UTF-8 by definition

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> bytes:
        return b"" if data is None else orjson.dumps(data, default=_default, option=orjson.OPT_NON_STR_KEYS)


class OrjsonParser(BaseParser):
    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            # Not the stream: it knows no limit and no gzip.
            return orjson.loads(read_body((parser_context or {})["request"]._request))
        except orjson.JSONDecodeError as error:
            raise ParseError(f"The body is not JSON: {error}") from error
