"""A TCP proxy that misbehaves on demand: between the product and a server that does not."""

import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum


class Fault(Enum):
    NONE = "passes everything"
    DELAY = "passes answers late"
    TRUNCATE = "cuts the connection in the midst of an answer"
    BLACKHOLE = "accepts and never answers"
    REFUSE = "resets every connection"


class Proxy:
    """Listens on a loopback port of its own; ``fault`` may be changed at any time, for running connections too.
    ``delay``: seconds that DELAY holds each answer back."""

    def __init__(self, target_port: int, delay: float = 5) -> None:
        self.fault = Fault.NONE
        self.delay = delay
        #: Answers that a fault was done to.
        self.hits = 0
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._stopping = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def misbehaving(self, fault: Fault) -> Iterator[None]:
        """Until the block ends."""
        self.fault = fault
        try:
            yield
        finally:
            self.fault = Fault.NONE

    def stop(self) -> None:
        self._stopping.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self.fault is Fault.REFUSE:
                self.hits += 1
                _reset(client)
                return
            with socket.create_connection(self._target, timeout=30) as server:
                self._pump(client, server)

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        has_lost = False
        while not self._stopping.is_set():
            for ready in select.select([client, server], [], [], 0.2)[0]:
                data = ready.recv(65536)
                if not data:
                    return
                if self.fault is Fault.BLACKHOLE:
                    has_lost = True
                    self.hits += 1
                elif ready is client:
                    server.sendall(data)
                elif not self._answer(client, data):
                    return
            if has_lost and self.fault is not Fault.BLACKHOLE:
                # A network that is back resets what it knows nothing of any more.
                _reset(client)
                return

    def _answer(self, client: socket.socket, data: bytes) -> bool:
        """Pass an answer on, or not; False ends the connection."""
        if self.fault is not Fault.NONE:
            self.hits += 1
        if self.fault is Fault.DELAY:
            time.sleep(self.delay)
        if self.fault in (Fault.TRUNCATE, Fault.REFUSE):
            client.sendall(data[: len(data) // 2])
            _reset(client)
            return False
        client.sendall(data)
        return True


def _reset(client: socket.socket) -> None:
    # Linger 0: closing sends a reset instead of an end.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def proxy(target_port: int, delay: float = 5) -> Iterator[Proxy]:
    one = Proxy(target_port, delay)
    try:
        yield one
    finally:
        one.stop()
