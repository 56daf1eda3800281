"""Ask for a profile and remember what was answered."""

import uuid
from typing import Any

from locust.contrib.fasthttp import FastHttpUser

from load.users.common import HEADERS, RECORD


def select(user: FastHttpUser, tenant: str, persona: str, task: str, conversation_id: str) -> str | None:
    """The profile's slug, with the decision's id noted; None: an error, which locust has counted."""
    body = {
        "tenant": tenant,
        "persona": persona,
        "task": task,
        "conversation_id": conversation_id,
        "request_id": str(uuid.uuid4()),
    }
    with user.client.post(
        "/api/v1/selections", json=body, headers=HEADERS, name="select", catch_response=True
    ) as answer:
        if answer.status_code != 200:
            answer.failure(f"status {answer.status_code}: {str(answer.text)[:200]}")
            return None
        decision: dict[str, Any] = answer.json()
        RECORD.note(decision=decision["decision_id"], reason=decision["reason"])
        return str(decision["profile"]["slug"])
