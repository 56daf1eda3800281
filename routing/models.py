"""What the machine concluded, and what it gave: snapshots, policy revisions, selections, deliveries, alerts."""

from typing import Any, NoReturn, Self, TypeVar
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.db import models
from django.db.models import Q

from catalog.models import Tenant
from catalog.tenancy import Tenancy
from overrides.models import Override
from routing.decision import Reason
from routing.guarding.models import Rollout as Rollout
from routing.guarding.models import RolloutStep as RolloutStep
from routing.quarantining.models import ProfileQuarantine as ProfileQuarantine


class ImmutableError(Exception):
    """A record of what was is never changed; a new one is written."""


M = TypeVar("M", bound=models.Model, covariant=True)


class ImmutableQuerySet(models.QuerySet[M]):
    def update(self, **kwargs: Any) -> NoReturn:
        raise ImmutableError(f"{self.model._meta.verbose_name_plural} are immutable.")


class Archived(models.Model):
    """Canonical JSON, compressed, with the SHA-256 of that JSON, checked whenever it is read."""

    created_at = models.DateTimeField(db_index=True)
    checksum = models.CharField(max_length=64)
    payload = models.BinaryField()

    objects = models.Manager.from_queryset(ImmutableQuerySet[Self])()

    class Meta:
        abstract = True
        ordering = ["-id"]

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise ImmutableError(f"{self._meta.verbose_name_plural} are immutable.")
        super().save(*args, **kwargs)


class ScoreSnapshot(Archived):
    """All scorecards of one scoring run."""

    policy_version = models.PositiveBigIntegerField(help_text="The catalogue's version it was scored under.")
    scopes = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"snapshot {self.pk} of {self.created_at:%Y-%m-%d %H:%M:%S} UTC"


class ScoringRun(Archived):
    """A snapshot in the making, in parts (``routing.scoring_runs``): what all parts are scored from. Gone when its
    snapshot is stored, or when the next run supersedes it."""

    partitions = models.PositiveSmallIntegerField()
    deadline = models.DateTimeField(help_text="From then on the next run supersedes it.")
    after = models.PositiveBigIntegerField(
        null=True, help_text="The newest snapshot when it began; with a newer one it is of no use."
    )
    policy_version = models.PositiveBigIntegerField(help_text="The catalogue's version it scores under.")

    def __str__(self) -> str:
        return f"scoring run {self.pk} of {self.created_at:%Y-%m-%d %H:%M:%S} UTC"


class ScoringPart(Archived):
    """The scores of one share of a run's scopes."""

    run = models.ForeignKey(ScoringRun, on_delete=models.CASCADE, related_name="parts")
    number = models.PositiveSmallIntegerField()

    class Meta(Archived.Meta):
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="scoring_part_once_per_run")]

    def __str__(self) -> str:
        return f"part {self.number} of scoring run {self.run_id}"


class PolicyRevision(Archived):
    """Everything of a policy bundle but the snapshot: catalogue, flag, enabled tiers. ``name`` is the policy
    version and the start of the checksum, so that processes with other settings cannot be mistaken."""

    name = models.CharField(max_length=40, unique=True)

    def __str__(self) -> str:
        return self.name


class Selection(models.Model):
    """One decision, and whether it has been published: the outbox of ``router.selection`` events.

    ``core`` is the decision's canonical JSON; its candidates stand in it by checksum and are rebuilt from
    the policy revision and the snapshot. Names, not keys: the record outlives the catalogue.
    """

    tenancy = Tenancy("tenant")

    class Source(models.TextChoices):
        REMOTE = "remote", "this service"
        LOCAL = "local", "a worker, by the policy bundle"
        JOURNAL = "journal", "this service, while the database was away"

    class Replay(models.TextChoices):
        EQUAL = "equal", "equal, byte for byte"
        DIFFERENT = "different", "different"
        IMPOSSIBLE = "impossible", "not possible"

    decision_id = models.UUIDField(unique=True)
    decided_at = models.DateTimeField(db_index=True)
    recorded_at = models.DateTimeField()
    tenant = models.CharField(max_length=63)
    persona = models.CharField(max_length=63)
    task = models.CharField(max_length=63)
    conversation_id = models.CharField(max_length=200)
    profile = models.CharField(max_length=63)
    reason = models.CharField(max_length=40, choices=[(reason.value, reason.value) for reason in Reason])
    source = models.CharField(max_length=8, choices=Source)
    caller = models.CharField(max_length=160)
    request_id = models.CharField(max_length=100, null=True)  # noqa: DJ001  # unknown is NULL, never ""
    policy = models.CharField(max_length=40, db_index=True)
    snapshot = models.PositiveBigIntegerField(null=True, db_index=True)
    core = models.TextField()
    in_clickhouse = models.BooleanField(default=False)
    fanned_out = models.BooleanField(default=False)
    replay = models.CharField(max_length=10, choices=Replay, null=True)  # noqa: DJ001  # NULL: not tried yet

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "request_id"],
                condition=Q(request_id__isnull=False),
                name="selection_once_per_request",
            )
        ]
        indexes = [
            models.Index(
                fields=["tenant", "conversation_id", "-decided_at"], name="selection_by_conversation"
            ),
            # Of published ones alone, so that making a decision does not pay for people looking at a scope.
            models.Index(
                fields=["tenant", "persona", "-decided_at"],
                condition=Q(in_clickhouse=True),
                name="selection_by_scope",
            ),
            models.Index(fields=["id"], condition=Q(in_clickhouse=False), name="selection_for_clickhouse"),
            models.Index(fields=["id"], condition=Q(fanned_out=False), name="selection_for_webhooks"),
        ]

    def __str__(self) -> str:
        return str(self.decision_id)


class ConversationSelection(models.Model):
    """What a conversation was given last: what makes decisions sticky."""

    tenancy = Tenancy("tenant")

    tenant = models.CharField(max_length=63)
    persona = models.CharField(max_length=63)
    conversation_id = models.CharField(max_length=200)
    profile = models.CharField(max_length=63)
    reason = models.CharField(max_length=40)
    decision_id = models.UUIDField()
    decided_at = models.DateTimeField(db_index=True)
    origin = models.CharField(  # noqa: DJ001  # unknown is NULL, never ""
        max_length=16, null=True, help_text="The process that wrote it, so that only others read it as news."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "conversation_id", "persona"], name="conversation_once_per_persona"
            )
        ]

    def __str__(self) -> str:
        return f"{self.tenant} x {self.persona}: {self.conversation_id}"


class Webhook(models.Model):
    """Somebody who is told of events: each is POSTed as a CloudEvent, signed with ``secret``."""

    name = models.CharField(max_length=80, unique=True)
    url = models.CharField(
        max_length=500,
        validators=[URLValidator(schemes=["http", "https"])],
        help_text="https; http too in LOCAL and DEVELOPMENT. No user or password in it: it is shown.",
    )
    secret = models.CharField(max_length=100, editable=False)
    enabled = models.BooleanField(default=True)
    selections = models.BooleanField(default=True, help_text="Send router.selection events.")
    alerts = models.BooleanField(default=True, help_text="Send router.alert events.")
    tenant = models.ForeignKey(
        Tenant, null=True, blank=True, on_delete=models.CASCADE, help_text="Empty: events of all tenants."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        from django.conf import settings

        super().clean()
        try:
            parts = urlsplit(self.url)
            known = parts.port is None or parts.port > 0
        except ValueError:
            known = False
        if not known:
            raise ValidationError({"url": "The port is no number from 1 to 65535."})
        if parts.username or parts.password:
            raise ValidationError({"url": "Leave user and password out: the address is shown and logged."})
        if settings.ENV.is_hardened and not self.url.startswith("https://"):
            raise ValidationError({"url": f"{settings.MODE} sends events over https only."})


class WebhookDelivery(models.Model):
    """One event on its way to one webhook."""

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        DELIVERED = "delivered", "delivered"
        DEAD = "dead", "given up"

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    event_id = models.CharField(max_length=60)
    event_type = models.CharField(max_length=40)
    payload = models.TextField()
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField()
    next_attempt_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "webhook deliveries"
        constraints = [
            models.UniqueConstraint(fields=["webhook", "event_id"], name="delivery_once_per_event")
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"], condition=Q(state="waiting"), name="delivery_waiting_by_time"
            )
        ]

    def __str__(self) -> str:
        return f"{self.event_type} {self.event_id} to {self.webhook}"


class Alert(models.Model):
    """A condition that people must know of, from when it began until it was cleared."""

    name = models.CharField(
        max_length=160, help_text="A kind, or a kind and what it is about: kind:tenant/persona."
    )
    detail = models.CharField(max_length=500)
    since = models.DateTimeField()
    told_at = models.DateTimeField(help_text="When it was last repeated.")
    times_told = models.PositiveIntegerField(default=1)
    cleared_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["name"], condition=Q(cleared_at__isnull=True), name="alert_holds_once"
            )
        ]

    def __str__(self) -> str:
        return self.name


class OverrideMeter(models.Model):
    """What an override has cost or saved, as last measured (``routing.meter``); over all tenants that it is about."""

    override = models.OneToOneField(Override, on_delete=models.CASCADE, related_name="meter")
    measured_at = models.DateTimeField(db_index=True, help_text="UTC.")
    figures = models.JSONField(help_text="As GET /api/v1/settings/overrides/{id}/regret gives them.")

    class Meta:
        ordering = ["-measured_at"]

    def __str__(self) -> str:
        return f"meter of override {self.override_id}"
