"""A profile's quarantine, as it is kept."""

from django.db import models
from django.db.models import Q

from catalog.models import ModelProfile
from catalog.versions import PolicyModel
from routing.sentinels.findings import Sentinel


class ProfileQuarantine(PolicyModel):
    """A profile that is not given for a while. Rows are never deleted; only ``routing.quarantining.services`` writes
    them. Decisions go by the times alone: ``state`` is what was last told of them."""

    class State(models.TextChoices):
        OPEN = "open", "open"
        HALF_OPEN = "half_open", "half-open"
        CLOSED = "closed", "closed"

    profile = models.ForeignKey(ModelProfile, on_delete=models.PROTECT, related_name="quarantines")
    sentinel = models.CharField(max_length=20, choices=[(one.value, one.value) for one in Sentinel])
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    opened_at = models.DateTimeField()
    probe_at = models.DateTimeField(null=True, help_text="UTC. Half-open from then on. Empty: not probed.")
    probes = models.PositiveSmallIntegerField(default=0, help_text="How often probes were bad.")
    expires_at = models.DateTimeField(db_index=True, help_text="UTC. Closed then in any case.")
    opened_by = models.CharField(max_length=160)
    reason = models.CharField(max_length=500)
    figures = models.JSONField(default=dict, help_text="What the sentinel saw, over all tenants.")
    closed_at = models.DateTimeField(null=True)
    closed_by = models.CharField(max_length=160, blank=True, default="")
    close_reason = models.CharField(max_length=500, blank=True, default="")
    version = models.PositiveIntegerField(default=1, help_text="Goes up with each change, for If-Match.")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["profile", "sentinel"],
                condition=Q(closed_at=None),
                name="profile_quarantine_once_per_sentinel",
            )
        ]

    def __str__(self) -> str:
        return f"{self.profile}: {self.sentinel} #{self.pk}"
