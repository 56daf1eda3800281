"""What stands in ops/, read for tests: units, environment samples."""

import shlex
from dataclasses import dataclass
from pathlib import Path

OPS = Path(__file__).parents[2] / "ops"
UNITS = OPS / "systemd"


@dataclass(frozen=True)
class Unit:
    """A systemd unit: its settings, in order, by name."""

    name: str
    settings: dict[str, list[str]]

    def one(self, name: str) -> str:
        [value] = self.settings[name]
        return value

    def commands(self) -> list[list[str]]:
        return [shlex.split(command) for command in self.settings["ExecStart"]]

    def seconds(self, name: str) -> float:
        return float(self.one(name))


def unit(name: str) -> Unit:
    settings: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        setting, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            settings.setdefault(setting, []).append(value)
    return Unit(name, settings)


def services() -> list[Unit]:
    return [unit(path.name) for path in sorted(UNITS.glob("*.service"))]


def sample(name: str, *, optional: bool = False) -> dict[str, str]:
    """The variables of an environment sample; ``optional``: the ones that are commented out."""
    found = {}
    for line in (OPS / name).read_text().splitlines():
        text = line.removeprefix("#") if optional else line
        variable, equals, value = text.partition("=")
        if equals and variable.isupper() and " " not in variable and line.startswith("#") == optional:
            found[variable] = value
    return found
