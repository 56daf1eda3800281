"""`manage.py servicekey list|rotate|revoke`: service keys from the command line, audited as in the admin."""

import os
import pwd
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from catalog import keys
from catalog.models import ServiceKey
from overrides import settings
from overrides.audit import Actor
from overrides.models import AuditEntry
from overrides.states import describe, stored

_ACTOR = Actor("command:servicekey", "command")


class Command(BaseCommand):
    help = "List service keys, replace one by a new one, or end one for good."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listed = actions.add_parser("list", help="prefix, name, verbs, tenants and end of each")
        listed.add_argument("--all", action="store_true", help="those that ended, too")
        rotate = actions.add_parser("rotate", help="print a new key, shown this once; the old one ends later")
        revoke = actions.add_parser("revoke", help="end a key for good, within 5 seconds everywhere")
        for one in (rotate, revoke):
            one.add_argument("prefix", help="what the key begins with, up to the dot")
            one.add_argument("--reason", default="", help="for the audit log")
        rotate.add_argument(
            "--overlap-hours",
            type=float,
            default=keys.OVERLAP / timedelta(hours=1),
            metavar="HOURS",
            help="how long the old key goes on beside the new one (default: 24; 0: not at all)",
        )

    def handle(self, *, action: str, **options: Any) -> None:
        if action == "list":
            self._list(options["all"])
            return
        key = self._named(options["prefix"])
        reason = options["reason"].strip() or f"manage.py servicekey {action}, run by the OS user {_user()}"
        try:
            if action == "rotate":
                self._rotate(key, timedelta(hours=options["overlap_hours"]), reason)
            else:
                self._revoke(key, reason)
        except (keys.KeyEnded, ValueError, OverflowError) as error:
            raise CommandError(str(error)) from None

    def _named(self, prefix: str) -> ServiceKey:
        # Somebody may paste the whole key: only what is before the dot is looked at, and told.
        prefix = prefix.partition(".")[0]
        key: ServiceKey | None = ServiceKey.objects.filter(prefix=prefix).first()
        if key is None:
            raise CommandError(f"There is no service key with the prefix '{prefix[:20]}'.")
        return key

    def _rotate(self, key: ServiceKey, overlap: timedelta, reason: str) -> None:
        now = timezone.now()
        with transaction.atomic():
            before = describe(key)
            new, secret = keys.rotate(key, now, overlap)
            settings.tell(_ACTOR, AuditEntry.Verb.CREATE, new, None, stored(new), reason, now)
            settings.tell(_ACTOR, AuditEntry.Verb.ROTATE, key, before, stored(key), reason, now)
        self.stderr.write(f"{key.prefix} ({key.name}) ends at {key.expiry_date:%Y-%m-%d %H:%M:%S} UTC.")
        self.stderr.write("The new key, shown this once:")
        self.stdout.write(secret)

    def _revoke(self, key: ServiceKey, reason: str) -> None:
        now = timezone.now()
        with transaction.atomic():
            before = describe(key)
            keys.revoke(key, now)
            settings.tell(_ACTOR, AuditEntry.Verb.REVOKE, key, before, stored(key), reason, now)
        self.stdout.write(f"{key.prefix} ({key.name}) is revoked; every process refuses it within 5 seconds.")

    def _list(self, ended_too: bool) -> None:
        now = timezone.now()
        rows: Any = ServiceKey.objects.order_by("name", "created").prefetch_related("tenants")
        for key in rows:
            if keys.has_ended(key, now) and not ended_too:
                continue
            whose = "all" if key.all_tenants else ",".join(tenant.slug for tenant in key.tenants.all())
            end = "revoked" if key.revoked else key.expiry_date.isoformat() if key.expiry_date else "never"
            self.stdout.write("\t".join((key.prefix, key.name, ",".join(key.verbs), whose or "none", end)))


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # containers run as numbers that nobody is named by
        return str(os.getuid())
