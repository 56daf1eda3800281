"""What happened, as far as the Django database holds it: the spool before ClickHouse, what is to be
rolled up, what was refused, and how fresh each scope is."""

from django.db import models

from catalog.tenancy import Tenancy


class SpoolBatch(models.Model):
    """One accepted batch, committed before its 202, deleted once it is in ClickHouse."""

    received_at = models.DateTimeField()
    source = models.CharField(max_length=80)
    events = models.PositiveIntegerField()
    # JSON rows in the order of telemetry.events.COLUMNS.
    payload = models.BinaryField()
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "spool batches"

    def __str__(self) -> str:
        return f"{self.events} events from {self.source}"


class DirtyBucket(models.Model):
    """A 5-minute bucket with rows that its roll-up has not seen. ``token`` changes with every marking, so
    a roll-up takes away only the mark that it read."""

    start = models.DateTimeField(unique=True)
    token = models.CharField(max_length=32)
    marked_at = models.DateTimeField()

    class Meta:
        ordering = ["start"]

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M}"


class RollupClock(models.Model):
    """The only row (id 1) holds the last version given to a roll-up; versions never go back."""

    last_version = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="rollup_clock_one_row")]

    def __str__(self) -> str:
        return str(self.last_version)


class ScopeActivity(models.Model):
    """The newest rolled-up event of a scope. Names, not keys: they are what events carry."""

    tenancy = Tenancy("tenant")

    tenant = models.CharField(max_length=63)
    persona = models.CharField(max_length=63)
    last_event_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "persona"], name="scope_activity_once")]
        verbose_name_plural = "scope activity"

    def __str__(self) -> str:
        return f"{self.tenant} x {self.persona}"


class PipelineStage(models.Model):
    """How a stage of the pipeline (drain, rollup) last ended."""

    name = models.CharField(max_length=20, unique=True)
    succeeded_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    error_code = models.CharField(max_length=40, blank=True, default="")
    error = models.CharField(max_length=500, blank=True, default="")

    def __str__(self) -> str:
        return self.name

    @property
    def is_failing(self) -> bool:
        """Whether its last run failed."""
        return self.failed_at is not None and (
            self.succeeded_at is None or self.succeeded_at < self.failed_at
        )


class Lease(models.Model):
    """Who runs a task that should run once at a time, until when."""

    name = models.CharField(max_length=40, unique=True)
    holder = models.CharField(max_length=32)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class QuarantinedEvent(models.Model):
    """An event that was refused, with the reason. The newest QUARANTINE_KEEP are kept."""

    tenancy = Tenancy("tenant")

    received_at = models.DateTimeField(db_index=True)
    source = models.CharField(max_length=80)
    tenant = models.CharField(max_length=63, blank=True, default="")
    code = models.CharField(max_length=40, db_index=True)
    detail = models.CharField(max_length=1000)
    raw = models.TextField(help_text="The event as it came, cut after 4,000 characters.")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.code}: {self.detail[:80]}"


class QuarantineCount(models.Model):
    """How many events were refused, per day (UTC) and reason; kept when the events themselves go."""

    day = models.DateField()
    code = models.CharField(max_length=40)
    count = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["-day", "code"]
        constraints = [models.UniqueConstraint(fields=["day", "code"], name="quarantine_count_once")]

    def __str__(self) -> str:
        return f"{self.day} {self.code}: {self.count}"


class IngestedFile(models.Model):
    """How far `manage.py ingest` came in a file, known by its content."""

    sha256 = models.CharField(max_length=64, unique=True)
    path = models.CharField(max_length=500)
    lines_done = models.PositiveBigIntegerField(default=0)
    accepted = models.PositiveBigIntegerField(default=0)
    rejected = models.PositiveBigIntegerField(default=0)
    finished_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.path
