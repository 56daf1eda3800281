"""What people decided: the feature flag, overrides, the kill switch, and the audit log of all of it."""

import secrets
from decimal import Decimal
from typing import Any, ClassVar

from django.core.validators import MaxValueValidator, MinLengthValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from waffle.managers import FlagManager
from waffle.models import AbstractUserFlag

from catalog.models import ModelProfile, Persona, Tenant
from catalog.slugs import MAX_LENGTH, validate_slug
from catalog.tenancy import EVERYBODYS, Tenancy
from catalog.versions import PolicyModel, PolicyQuerySet, VersionedModel

_PERCENT = [MinValueValidator(Decimal(0)), MaxValueValidator(Decimal(100))]
_PERCENT_CHECK = Q(rollout_percent__gte=0, rollout_percent__lte=100)


def new_salt() -> str:
    return secrets.token_hex(8)


class Flag(VersionedModel, AbstractUserFlag):
    """A waffle flag that rolls out per tenant and by a stable share of conversations.

    ``everyone`` (yes or no) wins; else a scope's own percentage, else its tenant's own, else
    ``rollout_percent``. Waffle's own ``percent`` and ``testing`` stay unused: the first flips per request,
    the second lets anyone flip the flag by query string.
    """

    tenancy = EVERYBODYS

    rollout_percent = models.DecimalField(
        max_digits=5,
        decimal_places=2,
        default=Decimal(0),
        validators=_PERCENT,
        help_text="Share of conversations, 0 to 100, of tenants that have no row of their own. "
        "Stable: a conversation keeps its side, and raising the percentage never takes one out.",
    )
    salt = models.CharField(
        max_length=32,
        default=new_salt,
        editable=False,
        help_text="Makes the shares of two flags independent of each other.",
    )
    tenants = models.ManyToManyField(Tenant, through="FlagTenant", related_name="flags")

    # Waffle's manager, with bulk writes that bump the policy version, too.
    objects: ClassVar[Any] = FlagManager.from_queryset(PolicyQuerySet)()

    class Meta(AbstractUserFlag.Meta):
        abstract = False
        ordering = ["name"]
        constraints = [models.CheckConstraint(condition=_PERCENT_CHECK, name="flag_rollout_percent_range")]


class FlagTenant(PolicyModel):
    """One tenant's own rollout percentage of a flag."""

    tenancy = Tenancy("tenant__slug")

    flag = models.ForeignKey(Flag, on_delete=models.CASCADE, related_name="tenant_rollouts")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="flag_rollouts")
    rollout_percent = models.DecimalField(
        max_digits=5, decimal_places=2, validators=_PERCENT, help_text="Share of conversations, 0 to 100."
    )

    class Meta:
        ordering = ["tenant__slug"]
        verbose_name = "tenant's rollout"
        constraints = [
            models.UniqueConstraint(fields=["flag", "tenant"], name="flag_once_per_tenant"),
            models.CheckConstraint(condition=_PERCENT_CHECK, name="flag_tenant_rollout_percent_range"),
        ]

    def __str__(self) -> str:
        return f"{self.tenant}: {self.rollout_percent}%"


class FlagScope(PolicyModel):
    """The rollout percentage of one tenant's conversations with one persona."""

    tenancy = Tenancy("tenant__slug")

    flag = models.ForeignKey(Flag, on_delete=models.CASCADE, related_name="scope_rollouts")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="flag_scopes")
    persona = models.ForeignKey(Persona, on_delete=models.CASCADE, related_name="flag_scopes")
    rollout_percent = models.DecimalField(
        max_digits=5, decimal_places=2, validators=_PERCENT, help_text="Share of conversations, 0 to 100."
    )

    class Meta:
        ordering = ["tenant__slug", "persona__slug"]
        verbose_name = "scope's rollout"
        constraints = [
            models.UniqueConstraint(fields=["flag", "tenant", "persona"], name="flag_once_per_scope"),
            models.CheckConstraint(condition=_PERCENT_CHECK, name="flag_scope_rollout_percent_range"),
        ]

    def __str__(self) -> str:
        return f"{self.tenant} × {self.persona}: {self.rollout_percent}%"


class Override(PolicyModel):
    """An operator's deterministic choice for a scope. It stands until it expires or is revoked; rows are
    never deleted. Only ``overrides.services`` writes them."""

    tenancy = Tenancy("tenant__slug", shared=Q(tenant=None))

    class Kind(models.TextChoices):
        LOCK = "lock", "lock: this profile, whatever its figures"
        PREFER = "prefer", "prefer: this profile, unless it is proved to miss the SLA"
        EXCLUDE = "exclude", "exclude: never this profile"

    kind = models.CharField(max_length=8, choices=Kind)
    tenant = models.ForeignKey(
        Tenant,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="overrides",
        help_text="Empty: all.",
    )
    persona = models.ForeignKey(
        Persona,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="overrides",
        help_text="Empty: all.",
    )
    task = models.CharField(  # noqa: DJ001  # every task is NULL, never ""
        max_length=MAX_LENGTH, null=True, blank=True, validators=[validate_slug], help_text="Empty: all."
    )
    profile = models.ForeignKey(ModelProfile, on_delete=models.PROTECT, related_name="overrides")
    reason = models.CharField(max_length=500, validators=[MinLengthValidator(10)])
    expires_at = models.DateTimeField(null=True, blank=True, help_text="UTC. Empty: until it is revoked.")
    created_by = models.CharField(max_length=160)
    created_at = models.DateTimeField()
    version = models.PositiveIntegerField(default=1, help_text="Goes up with each change, for If-Match.")
    revoked_at = models.DateTimeField(null=True, blank=True)
    expiry_recorded = models.BooleanField(default=False)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=["lock", "prefer", "exclude"]), name="override_kind_known"
            )
        ]
        indexes = [
            models.Index(
                fields=["tenant", "persona"], condition=Q(revoked_at=None), name="override_standing"
            ),
            # What ended by the clock and is not told yet: a handful, among however many.
            models.Index(
                fields=["expires_at"],
                condition=Q(revoked_at=None, expiry_recorded=False),
                name="override_ending",
            ),
        ]
        permissions = [
            ("override_without_expiry", "May make overrides that never expire"),
            ("override_all_tenants", "May make changes for all tenants at once"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.profile_id} #{self.pk}"


class KillSwitch(PolicyModel):
    """Stops automatic selection for a tenant, or (``tenant`` empty) for everybody; deletes nothing."""

    tenancy = Tenancy("tenant__slug", shared=Q(tenant=None))

    tenant = models.ForeignKey(
        Tenant, null=True, blank=True, on_delete=models.CASCADE, related_name="kill_switches"
    )
    on = models.BooleanField(default=False)
    reason = models.CharField(max_length=500)
    changed_by = models.CharField(max_length=160)
    changed_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "kill switches"
        constraints = [
            models.UniqueConstraint(fields=["tenant"], name="kill_switch_once_per_tenant"),
            models.UniqueConstraint(
                models.Value(1), condition=Q(tenant=None), name="kill_switch_once_for_everybody"
            ),
        ]

    def __str__(self) -> str:
        return f"kill switch of {self.tenant or 'everybody'}: {'on' if self.on else 'off'}"


class ChangeRequest(models.Model):
    """A change that waits for a second person, bound to what it does by ``diff_hash``: an approval holds for that
    hash, so whatever edits the change voids it. ``overrides.approvals`` writes them."""

    class State(models.TextChoices):
        OPEN = "open"
        APPLIED = "applied"
        REJECTED = "rejected"
        WITHDRAWN = "withdrawn"

    #: What flags are for all tenants names tenants.
    tenancy = Tenancy("tenant", shared=Q(tenant=None) & ~Q(kind="flag"))

    kind = models.CharField(
        max_length=40, help_text="What is changed, and how: override.create, persona, ..."
    )
    target = models.CharField(
        max_length=80, blank=True, help_text="The object's id or name; empty: a new one."
    )
    wanted = models.JSONField()
    before = models.JSONField(null=True, help_text="The object when the change was proposed or edited.")
    after = models.JSONField(null=True, help_text="What it would be.")
    diff_hash = models.CharField(max_length=64)
    tenant = models.CharField(max_length=63, null=True, db_index=True)  # noqa: DJ001  # NULL: of all tenants
    reason = models.CharField(max_length=500)
    authors = models.JSONField(help_text="Who proposed or edited it, and so may not approve it.")
    state = models.CharField(max_length=10, choices=State, default=State.OPEN, db_index=True)
    version = models.PositiveIntegerField(default=1)
    requested_by = models.CharField(max_length=160)
    requested_at = models.DateTimeField()
    closed_by = models.CharField(max_length=160, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        permissions = [("approve_changerequest", "May approve the changes of others")]

    def __str__(self) -> str:
        return f"change request {self.pk}: {self.kind} {self.target}".rstrip()


class Approval(models.Model):
    """Somebody's yes to a change as it was then. It counts while the change still has this hash."""

    request = models.ForeignKey(ChangeRequest, on_delete=models.PROTECT, related_name="approvals")
    by = models.CharField(max_length=160)
    at = models.DateTimeField()
    diff_hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["request", "by", "diff_hash"], name="approval_once_per_diff")
        ]

    def __str__(self) -> str:
        return f"{self.by}: {self.diff_hash[:12]}"


class AuditEntry(models.Model):
    """Who changed what, when and why. Append-only (database triggers refuse update and delete), and each
    entry's hash covers the one before: ``overrides.audit`` writes and verifies them."""

    #: Of entries that concern all tenants, those about flags, keys, people and roles may name foreign tenants.
    tenancy = Tenancy(
        "tenant",
        shared=Q(
            tenant=None,
            object_type__in=["override", "kill_switch", "persona", "modelprofile", "pricerevision"],
        ),
    )

    class Verb(models.TextChoices):
        CREATE = "create"
        UPDATE = "update"
        DELETE = "delete"
        REPLACE = "replace"
        REVOKE = "revoke"
        UNDO = "undo"
        EXPIRE = "expire"
        SWITCH = "switch"
        PROPOSE = "propose"
        EDIT = "edit"
        APPROVE = "approve"
        REJECT = "reject"
        WITHDRAW = "withdraw"
        ROTATE = "rotate"
        START = "start"
        ADVANCE = "advance"
        COMPLETE = "complete"
        PAUSE = "pause"
        RESUME = "resume"
        ROLL_BACK = "roll_back"
        CANCEL = "cancel"

    seq = models.PositiveBigIntegerField(unique=True, help_text="From 1, without a gap.")
    at = models.DateTimeField(db_index=True)
    actor = models.CharField(max_length=160)
    role = models.CharField(max_length=20)
    source_ip = models.CharField(max_length=45, blank=True)
    request_id = models.CharField(max_length=100, blank=True)
    verb = models.CharField(max_length=20, choices=Verb)
    object_type = models.CharField(max_length=40)
    object_id = models.CharField(max_length=40)
    tenant = models.CharField(max_length=63, null=True, db_index=True)  # noqa: DJ001  # NULL: of all tenants
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    reason = models.CharField(max_length=500)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["-seq"]
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["object_type", "object_id", "seq"], name="audit_by_object")]

    def __str__(self) -> str:
        return f"{self.seq}: {self.actor} {self.verb} {self.object_type} {self.object_id}"


class AuditHead(models.Model):
    """The only row (id 1): the last entry's number and hash. Whoever appends locks it, so the chain has one
    end under any number of writers."""

    seq = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, default="0" * 64)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="audit_head_one_row")]

    def __str__(self) -> str:
        return str(self.seq)


class IdempotencyKey(models.Model):
    """A request's key with what it was answered: the same request again gets the same answer."""

    caller = models.CharField(max_length=160)
    key = models.CharField(max_length=100)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of method, path, If-Match and body.")
    status = models.PositiveSmallIntegerField()
    body = models.TextField(help_text="JSON, in the order it was answered in.")
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["caller", "key"], name="idempotency_key_once")]

    def __str__(self) -> str:
        return f"{self.caller}: {self.key}"
