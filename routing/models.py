"""What the machine concluded: score snapshots, immutable and checksummed."""

from typing import Any, NoReturn

from django.db import models


class ImmutableError(Exception):
    """A snapshot is never changed; a new one is written."""


class SnapshotQuerySet(models.QuerySet["ScoreSnapshot"]):
    def update(self, **kwargs: Any) -> NoReturn:
        raise ImmutableError("Score snapshots are immutable.")


class ScoreSnapshot(models.Model):
    """All scorecards of one scoring run. ``payload`` is canonical JSON, compressed; ``checksum`` is the
    SHA-256 of that JSON, checked whenever it is read."""

    created_at = models.DateTimeField(db_index=True)
    policy_version = models.PositiveBigIntegerField(help_text="The catalogue's version it was scored under.")
    scopes = models.PositiveIntegerField()
    checksum = models.CharField(max_length=64)
    payload = models.BinaryField()

    objects = models.Manager.from_queryset(SnapshotQuerySet)()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"snapshot {self.pk} of {self.created_at:%Y-%m-%d %H:%M:%S} UTC"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise ImmutableError("Score snapshots are immutable.")
        super().save(*args, **kwargs)
