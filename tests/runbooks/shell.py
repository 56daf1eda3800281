"""A shell that commands are typed into one after another, as on-call does: variables stay."""

import os
import secrets
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType


@dataclass(frozen=True, slots=True)
class Output:
    """``text``: standard output and errors together."""

    status: int
    text: str


class Shell:
    """One bash. ``run`` gives what a command printed; TimeoutError when it does not end."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-o", "pipefail"],
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._in, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._out.fileno(), False)

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._in.close()
        self._out.close()

    def run(self, command: str, timeout: float = 60) -> Output:
        end = f"end-{secrets.token_hex(8)}"
        # Braces, not a subshell: what it sets stays. It reads nothing that is meant for the next one.
        self._in.write(f"{{\n{command}\n}} </dev/null 2>&1\nprintf '\\n%s %s\\n' {end} $?\n".encode())
        self._in.flush()
        text = self._read_until(end, command, timeout)
        output, _, status = text.rpartition(f"\n{end} ")
        return Output(int(status), output)

    def _read_until(self, end: str, command: str, timeout: float) -> str:
        deadline, found = time.monotonic() + timeout, b""
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._out, selectors.EVENT_READ)
            while f"\n{end} ".encode() not in found or not found.endswith(b"\n"):
                left = deadline - time.monotonic()
                if left <= 0 or not waiting.select(left):
                    raise TimeoutError(
                        f"{command}\ndid not end within {timeout:g} s; so far:\n{found.decode()}"
                    )
                piece = self._out.read()
                assert piece, f"{command}\nended the shell:\n{found.decode()}"
                found += piece
        return found.decode(errors="replace")
