"""How requests are read: strictly."""

from typing import Any

from rest_framework import serializers


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses members that it does not know: a misspelt one would otherwise be dropped in silence."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := set(data) - set(self.fields)):
            names = ", ".join(sorted(str(name)[:60] for name in unknown)[:5])
            raise serializers.ValidationError({"": [f"Unknown members: {names}."]})
        return super().to_internal_value(data)


class TextField(serializers.CharField):
    """A string as it came: not trimmed, and no number made into one, so that every endpoint and every worker
    means the same by it. Line breaks and other control characters are refused."""

    default_error_messages = {"invalid": "Must be a string.", "control": "Must hold no control characters."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if any(ord(character) < 32 or character == "\x7f" for character in data):
            self.fail("control")
        return super().to_internal_value(data)
