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
