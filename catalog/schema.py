"""How service keys look in the OpenAPI schema."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from catalog.access import KEYWORD


class ServiceKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """drf-spectacular finds this class by its being imported (catalog.apps)."""

    target_class = "catalog.access.ServiceKeyAuthentication"
    name = "serviceKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": f"`Authorization: {KEYWORD} <key>`. Keys are bound to verbs and tenants.",
        }


_PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem details; docs/api.md lists every code.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Branch on this."},
        "detail": {"type": "string", "description": "For people."},
        "errors": {"type": "object", "description": "By field, when a field is wrong."},
        "request_id": {"type": "string", "description": "As in the header X-Request-ID; the logs have it."},
    },
}
#: What an operation of each kind may answer besides its own; what depends on its words is in docs/api.md.
_ALWAYS = {"401": "No key, or one that does not work.", "403": "The key lacks the verb, or may not do this."}
_WITH_INPUT = {"400": "Something in the request is wrong.", "404": "Not there, or not yours."}
_WITH_BODY = {
    "409": "The state of things forbids it.",
    "413": "Too large.",
    "415": "Send JSON, plain or gzip.",
    "422": "Nothing of a batch was accepted.",
}
_AWAY = {"503": "What this needs is away now; try again."}
_TAGS = {
    "selections": "selection",
    "conversations": "selection",
    "policy": "selection",
    "rankings": "selection",
    "telemetry": "telemetry",
    "metrics": "telemetry",
    "settings": "settings",
    "audit": "settings",
}


#: Operations that take the hash of what they would do, from a dry run.
_CONFIRMED = {"undo_actor"}
_PAGES = {name: {"type": "string", "nullable": True} for name in ("next", "previous")}


def _in_an_envelope(operation: dict[str, Any]) -> None:
    """Lists come as ``{"results": [...]}``, with ``next`` and ``previous`` where they come in pages."""
    for media in operation["responses"].get("200", {}).get("content", {}).values():
        listed = media["schema"]
        if listed.get("type") == "array":
            in_pages = any(
                one["name"] in ("page", "page_size", "cursor") for one in operation.get("parameters", ())
            )
            members = {"results": listed, **(_PAGES if in_pages else {})}
            media["schema"] = {"type": "object", "required": list(members), "properties": members}


def _or_a_preview(operation: dict[str, Any]) -> None:
    """With ``?dry_run=1`` a change answers what it would do."""
    named = {one["name"] for one in operation.get("parameters", ())}
    if "dry_run" not in named or operation["operationId"] in _CONFIRMED:
        return
    preview = {"$ref": "#/components/schemas/Preview"}
    for media in operation["responses"].get("200", {}).get("content", {}).values():
        if media["schema"] != preview:
            media["schema"] = {"anyOf": [media["schema"], preview]}


def finish(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """drf-spectacular's last hook: problems for every operation, tags by subject, and no session where only keys
    may ask."""
    result["components"]["schemas"]["Problem"] = _PROBLEM
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path, operations in result["paths"].items():
        subject = path.removeprefix("/api/v1/").strip("/").split("/")[0]
        for method, operation in operations.items():
            operation["tags"] = [_TAGS.get(subject, "watching")]
            problems = {**_ALWAYS, **_AWAY}
            if operation.get("parameters") or "requestBody" in operation:
                problems |= _WITH_INPUT
            if "requestBody" in operation:
                problems |= _WITH_BODY
            if any(one["name"] == "If-Match" for one in operation.get("parameters", ())):
                problems["428"] = "Send If-Match."
            elif operation["operationId"] in _CONFIRMED:
                problems["428"] = "Ask with ?dry_run=1 first."
            for status, text in problems.items():
                operation["responses"].setdefault(status, {"description": text, "content": content})
            _in_an_envelope(operation)
            _or_a_preview(operation)
            if (method == "post" and subject in ("selections", "telemetry")) or subject == "policy":
                operation["security"] = [one for one in operation["security"] if "cookieAuth" not in one]
    return result
