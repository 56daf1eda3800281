"""What is asked and what is answered: requests, reasons, problems, decisions. Pure."""

import hashlib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from routing.policy import BundleProfile, canonical_json
from telemetry.freshness_state import Freshness

_NAMESPACE = uuid.UUID("c2b7f9a4-6f1e-5d38-9f60-0c8a5d5f7e11").bytes


def _text(at: datetime) -> str:
    """``isoformat()``; of UTC orjson writes the same in a third of the time."""
    return orjson.dumps(at)[1:-1].decode() if at.tzinfo is UTC else at.isoformat()


class Reason(StrEnum):
    """Which rule decided; docs/decisions.md explains each."""

    KILL_SWITCH = "kill_switch"
    OVERRIDE_LOCK = "override_lock"
    OVERRIDE_PREFER = "override_prefer"
    FLAG_OFF = "flag_off"
    HOLDOUT = "holdout"
    TELEMETRY_STALE = "telemetry_stale"
    EXPLORE = "explore"
    STICKY = "sticky"
    RANKED = "ranked"
    NO_ELIGIBLE_CANDIDATE = "no_eligible_candidate"


class SelectionProblem(Exception):
    """No profile can be given, and a silent default would hide why. ``status`` is the HTTP status."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


class SelectionRequest(NamedTuple):
    """What a worker asks, and when (UTC): time is an input, so that a decision can be replayed.

    ``exclude`` are profiles that the worker will not take; ``last_profile`` is what the conversation was
    given last, if anything; ``request_id`` makes a repeated request the same one.
    """

    tenant: str
    persona: str
    conversation_id: str
    at: datetime
    task: str = "general"
    exclude: tuple[str, ...] = ()
    last_profile: str | None = None
    request_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "tenant": self.tenant,
            "persona": self.persona,
            "conversation_id": self.conversation_id,
            "task": self.task,
            "exclude": list(self.exclude),
            "last_profile": self.last_profile,
            "request_id": self.request_id,
            "decided_at": _text(self.at),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "SelectionRequest":
        """From the members of a decision that ``to_dict`` made; others are passed over."""
        return cls(
            tenant=data["tenant"],
            persona=data["persona"],
            conversation_id=data["conversation_id"],
            at=datetime.fromisoformat(data["decided_at"]),
            task=data["task"],
            exclude=tuple(data["exclude"]),
            last_profile=data["last_profile"],
            request_id=data["request_id"],
        )


class Decision(NamedTuple):
    """The answer: which profile, why, and what to try next. ``asked`` are the request's JSON values;
    ``candidates_json`` is the canonical JSON of all candidates, in order of rank, ``candidates_sha256`` is of these
    bytes. ``overrides`` are the ids of those that had a say, by what they did: ``applied`` (None: none),
    ``excluding``, ``shadowed``."""

    decision_id: str
    request: SelectionRequest
    asked: Mapping[str, Any]
    profile: BundleProfile
    reason: Reason
    explanation: str
    candidates_json: bytes
    candidates_sha256: str
    fallback: tuple[str, ...]
    propensity: float
    bundle_version: str
    snapshot_id: str | None
    freshness: Freshness
    as_of: datetime | None
    overrides: dict[str, Any]

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """Parsed anew each time."""
        found: list[dict[str, Any]] = orjson.loads(self.candidates_json)
        return found

    def core(self) -> dict[str, Any]:
        """JSON values; the candidates stand in it by their checksum only. What is stored of a decision."""
        return {
            **self.asked,
            "decision_id": self.decision_id,
            "profile": self.profile.to_dict(),
            "reason": self.reason.value,
            "explanation": self.explanation,
            "candidates_sha256": self.candidates_sha256,
            "fallback": list(self.fallback),
            "propensity": self.propensity,
            "bundle_version": self.bundle_version,
            "snapshot_id": self.snapshot_id,
            "freshness": self.freshness.value,
            "as_of": _text(self.as_of) if self.as_of else None,
            "overrides": self.overrides,
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON values, as the API shows them."""
        return {**self.core(), "candidates": self.candidates}


def decision_id(bundle_version: str, asked: Mapping[str, Any]) -> str:
    """From the content, so that a replay gives the same id: a UUID of version 5. ``asked``: the request's JSON
    values."""
    content = _NAMESPACE + canonical_json([bundle_version, asked])
    # What ``str(uuid.uuid5(...))`` gives (RFC 9562, 5.5), without the objects in between.
    digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"
