"""Rollouts and their steps, as stored. Only ``routing.guarding.services`` and ``.machine`` write them."""

from django.core.validators import MinLengthValidator
from django.db import models
from django.db.models import Q

from catalog.models import Persona, Tenant
from catalog.tenancy import Tenancy


class Rollout(models.Model):
    """The flag of one scope (``persona`` empty: of all the tenant's personas without a share of their own) on its way
    up a plan's steps. Unfinished ones, of which a scope has one at most, are running, paused or rolled back."""

    tenancy = Tenancy("tenant__slug")

    class State(models.TextChoices):
        RUNNING = "running", "running"
        PAUSED = "paused", "paused"
        ROLLED_BACK = "rolled_back", "rolled back"
        COMPLETED = "completed", "completed"
        CANCELLED = "cancelled", "cancelled"

    UNFINISHED = (State.RUNNING, State.PAUSED, State.ROLLED_BACK)

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="rollouts")
    persona = models.ForeignKey(
        Persona,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="rollouts",
        help_text="Empty: all of the tenant's.",
    )
    plan = models.JSONField(help_text="As routing.rollout.plan.Plan.to_dict gives it.")
    state = models.CharField(max_length=12, choices=State, default=State.RUNNING, db_index=True)
    by_itself = models.BooleanField(default=False, help_text="Whether no person brought it into this state.")
    reason = models.CharField(
        max_length=500, validators=[MinLengthValidator(10)], help_text="Why it is in this state."
    )
    attempt = models.PositiveIntegerField(default=1, help_text="Goes up when a person begins at a step anew.")
    step = models.PositiveSmallIntegerField(help_text="Of the plan, from 0.")
    step_began_at = models.DateTimeField()
    share = models.DecimalField(
        max_digits=5, decimal_places=2, help_text="The percentage that it set the flag to last."
    )
    created_by = models.CharField(max_length=160)
    created_at = models.DateTimeField()
    changed_by = models.CharField(max_length=160)
    changed_at = models.DateTimeField()
    version = models.PositiveIntegerField(default=1, help_text="Goes up with each change, for If-Match.")
    looked_at = models.DateTimeField(null=True, help_text="When its evidence was last looked at.")
    look = models.JSONField(null=True, help_text="What was found then: evidence, verdict, what holds it.")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "persona"],
                condition=Q(state__in=("running", "paused", "rolled_back"), persona__isnull=False),
                name="rollout_unfinished_once_per_scope",
            ),
            models.UniqueConstraint(
                fields=["tenant"],
                condition=Q(state__in=("running", "paused", "rolled_back"), persona=None),
                name="rollout_unfinished_once_per_tenant",
            ),
            models.CheckConstraint(
                condition=Q(share__gte=0, share__lte=100), name="rollout_share_is_a_percentage"
            ),
        ]

    def __str__(self) -> str:
        return f"rollout {self.pk} of {self.scope}"

    @property
    def scope(self) -> str:
        """Tenant and persona, for people."""
        return f"{self.tenant.slug} × {self.persona.slug}" if self.persona else self.tenant.slug

    @property
    def is_unfinished(self) -> bool:
        return self.state in self.UNFINISHED


class RolloutStep(models.Model):
    """One step of one attempt, kept with what was known when it ended."""

    tenancy = Tenancy("rollout__tenant__slug")

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="steps")
    attempt = models.PositiveIntegerField()
    index = models.PositiveSmallIntegerField(help_text="Of the plan, from 0.")
    percent = models.DecimalField(max_digits=5, decimal_places=2)
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    ended_as = models.CharField(max_length=12, blank=True, help_text="What was done: advance, roll_back, ...")
    evidence = models.JSONField(null=True, help_text="Sums by arm when it ended.")
    verdict = models.JSONField(null=True, help_text="As judged when it ended.")

    class Meta:
        ordering = ["attempt", "index"]
        constraints = [
            models.UniqueConstraint(
                fields=["rollout", "attempt", "index"], name="rollout_step_once_per_attempt"
            )
        ]

    def __str__(self) -> str:
        return f"{self.percent}% of rollout {self.rollout_id}"
