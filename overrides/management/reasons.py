"""What commands that change something by a service have in common: their reason, and what a service refuses."""

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from overrides.four_eyes import NeedsApproval


def add_reason(parser: ArgumentParser) -> None:
    """``--reason``, without which nothing is changed."""
    parser.add_argument(
        "--reason", required=True, help="for the audit log, 10 characters or more: others will ask"
    )


@contextmanager
def told_as_errors(four_eyes: str) -> Iterator[None]:
    """Tell what a service refuses in one line. ``four_eyes``: what may be done instead of waiting for approval."""
    try:
        yield
    except ValidationError as error:
        fields = error.message_dict if hasattr(error, "error_dict") else {"": error.messages}
        raise CommandError(
            " ".join(f"{name}: {' '.join(told)}".lstrip(": ") for name, told in fields.items())
        ) from None
    except NeedsApproval as error:
        raise CommandError(f"{error} {four_eyes}") from None
