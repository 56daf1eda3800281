"""That processes without an address of their own are alive."""

from django.db import models


class Heartbeat(models.Model):
    """When beat, or Celery's workers of a host, last did their work. One row per kind and host."""

    class Kind(models.TextChoices):
        BEAT = "beat", "beat"
        WORKER = "worker", "Celery worker"

    kind = models.CharField(max_length=10, choices=Kind)
    host = models.CharField(max_length=200)
    at = models.DateTimeField(help_text="UTC.")
    lag_seconds = models.FloatField(
        null=True, help_text="Beat: by how much its longest pause since the last heartbeat was too long."
    )
    task = models.CharField(max_length=100, help_text="What was sent (beat) or done (worker) then.")

    class Meta:
        ordering = ["kind", "host"]
        constraints = [models.UniqueConstraint(fields=["kind", "host"], name="heartbeat_once_per_host")]

    def __str__(self) -> str:
        return f"{self.kind} on {self.host}"
