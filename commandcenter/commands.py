"""What manage.py runs: Django's commands, with what they change in the audit log."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from django.core.management import BaseCommand, ManagementUtility

#: Servers, whose requests have actors of their own; and what makes or fills databases before there is a log.
NOT_RECORDED = {"runserver", "testserver", "test", "migrate"}


class Utility(ManagementUtility):
    def fetch_command(self, subcommand: str) -> BaseCommand:
        command = super().fetch_command(subcommand)
        if subcommand not in NOT_RECORDED:
            command.execute = _recorded(command.execute, subcommand)  # type: ignore[method-assign]
        return command


def _recorded(execute: Callable[..., Any], name: str) -> Callable[..., Any]:
    @wraps(execute)
    def recorded_execute(*args: Any, **options: Any) -> Any:
        # Not before: models are loaded when a command is executed, and not yet when it is fetched.
        from commandcenter.recorder import recorded

        with recorded(name, f"manage.py {name}"):
            return execute(*args, **options)

    return recorded_execute


def run(argv: Sequence[str]) -> None:
    """Run a command as ``manage.py`` was given it."""
    Utility(list(argv)).execute()
