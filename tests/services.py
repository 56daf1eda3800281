"""Real servers for tests, on free loopback ports in temporary directories. No Django.

Each is a context manager that gives an address and leaves no process behind. ServiceMissing says that a
program is not installed; what to do about that is the caller's to decide (tests skip or fail).
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT = 30.0
ZOOKEEPER_CLASSES = "/etc/zookeeper/conf_example:/usr/share/java/zookeeper.jar"


class ServiceMissing(Exception):
    """A program that a test needs is not installed."""


def require(program: str, *elsewhere: str) -> str:
    """The program's path; ServiceMissing when there is none."""
    for candidate in (shutil.which(program), *elsewhere):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise ServiceMissing(f"{program} is not installed: run `make services`")


def free_ports(count: int) -> list[int]:
    """Loopback ports that were free a moment ago, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_until(ready: Callable[[], bool], what: str, timeout: float = START_TIMEOUT) -> None:
    """Poll until ``ready`` or raise TimeoutError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout:g} s")
        time.sleep(0.02)


def accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return True
    except OSError:
        return False


@dataclass
class Server:
    """One process that listens on a loopback port. It can be stopped, killed and started again."""

    name: str
    command: Sequence[str]
    port: int
    directory: Path
    ready: Callable[[int], bool] = accepts
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it is ready; RuntimeError with the log's tail otherwise."""
        with (self.directory / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.directory,
            )
        process = self._process
        try:
            wait_until(lambda: process.poll() is not None or self.ready(self.port), f"start of {self.name}")
        except TimeoutError as error:
            self.kill()
            raise RuntimeError(f"{error}\n{self.log_tail()}") from error
        if process.poll() is not None:
            raise RuntimeError(f"{self.name} exited with {process.returncode}\n{self.log_tail()}")

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end, insist after 10 s; return when it has ended."""
        if self._process is None:
            return
        self._process.send_signal(sign)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it from running without closing its sockets, as an overloaded or partitioned host would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def log_tail(self, characters: int = 3000) -> str:
        logs = sorted(self.directory.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-characters:]}" for log in logs)


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Start it; kill it at the end."""
    try:
        server.start()
        yield server
    finally:
        server.resume()
        server.kill()


@contextmanager
def _temporary_directory(prefix: str, where: Path | None = None) -> Iterator[Path]:
    # A killed server's threads may still be deleting files of their own.
    with tempfile.TemporaryDirectory(prefix=prefix, dir=where, ignore_cleanup_errors=True) as name:
        yield Path(name)


# ClickHouse

_USERS = """<yandex><profiles><default/></profiles><users><default><password></password>
<networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users>
<quotas><default/></quotas></yandex>"""


@dataclass(frozen=True)
class ClickHouseServer:
    server: Server
    port: int

    def url(self, database: str) -> str:
        return f"clickhouse://127.0.0.1:{self.port}/{database}"


def _clickhouse(directory: Path, ports: Sequence[int], extra: str = "") -> ClickHouseServer:
    binary = require("clickhouse-server", "/usr/sbin/clickhouse-server", "/usr/bin/clickhouse-server")
    (directory / "data" / "tmp").mkdir(parents=True)
    (directory / "users.xml").write_text(_USERS)
    tcp, http, interserver = ports
    (directory / "config.xml").write_text(
        f"""<yandex><logger><level>warning</level><log>{directory}/server.log</log>
<errorlog>{directory}/error.log</errorlog></logger>
<listen_host>127.0.0.1</listen_host><tcp_port>{tcp}</tcp_port><http_port>{http}</http_port>
<interserver_http_host>127.0.0.1</interserver_http_host>
<interserver_http_port>{interserver}</interserver_http_port>
<path>{directory}/data/</path><tmp_path>{directory}/data/tmp/</tmp_path>
<users_config>{directory}/users.xml</users_config><default_profile>default</default_profile>
<default_database>default</default_database><timezone>UTC</timezone>
<mark_cache_size>67108864</mark_cache_size>{extra}</yandex>"""
    )
    command = [binary, f"--config-file={directory}/config.xml"]
    return ClickHouseServer(Server("clickhouse-server", command, tcp, directory), tcp)


@contextmanager
def clickhouse_server(where: Path | None = None) -> Iterator[ClickHouseServer]:
    """One server without a cluster, its data in a folder below ``where``; about 0.5 s to start."""
    with _temporary_directory("clickhouse-", where) as directory:
        one = _clickhouse(directory, free_ports(3))
        with running(one.server):
            yield one


@dataclass(frozen=True)
class ClickHouseCluster:
    """``nodes[shard][replica]``; the cluster is called ``name``."""

    name: str
    nodes: tuple[tuple[ClickHouseServer, ...], ...]

    def url(self, database: str) -> str:
        """Every node, the first shard's first replica first."""
        first, *others = [node for shard in self.nodes for node in shard]
        alternatives = ",".join(f"127.0.0.1:{node.port}" for node in others)
        return f"{first.url(database)}?alt_hosts={alternatives}"


@contextmanager
def clickhouse_cluster(shards: int = 2, replicas: int = 2) -> Iterator[ClickHouseCluster]:
    """ZooKeeper and ``shards`` x ``replicas`` servers; about 100 MB each."""
    name = "selection"
    count = shards * replicas
    with ExitStack() as stack:
        root = stack.enter_context(_temporary_directory("clickhouse-cluster-"))
        zookeeper_port, *ports = free_ports(1 + 3 * count)
        triples = [ports[3 * n : 3 * n + 3] for n in range(count)]
        stack.enter_context(running(_zookeeper(root / "zookeeper", zookeeper_port)))
        remote = _remote_servers(name, [triple[0] for triple in triples], replicas)
        nodes = []
        for n, triple in enumerate(triples):
            directory = root / f"node{n}"
            directory.mkdir()
            shard, replica = divmod(n, replicas)
            extra = f"""{remote}<zookeeper><node><host>127.0.0.1</host><port>{zookeeper_port}</port></node>
<session_timeout_ms>5000</session_timeout_ms></zookeeper>
<macros><shard>{shard}</shard><replica>{replica}</replica></macros>
<distributed_ddl><path>/clickhouse/task_queue/ddl</path></distributed_ddl>"""
            node = _clickhouse(directory, triple, extra)
            stack.enter_context(running(node.server))
            nodes.append(node)
        yield ClickHouseCluster(
            name, tuple(tuple(nodes[n : n + replicas]) for n in range(0, count, replicas))
        )


def _remote_servers(name: str, ports: Sequence[int], replicas: int) -> str:
    replica = "<replica><host>127.0.0.1</host><port>{}</port></replica>".format
    shards = "".join(
        "<shard><internal_replication>true</internal_replication>"
        + "".join(map(replica, ports[n : n + replicas]))
        + "</shard>"
        for n in range(0, len(ports), replicas)
    )
    return f"<remote_servers><{name}>{shards}</{name}></remote_servers>"


def _zookeeper(directory: Path, port: int) -> Server:
    java = require("java")
    if not Path(ZOOKEEPER_CLASSES.split(":")[1]).exists():
        raise ServiceMissing("zookeeper is not installed: run `make services`")
    directory.mkdir()
    (directory / "zoo.cfg").write_text(
        f"tickTime=500\ndataDir={directory}/data\nclientPort={port}\n"
        "clientPortAddress=127.0.0.1\nadmin.enableServer=false\n"
    )
    main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    command = [java, "-Xmx128m", "-cp", ZOOKEEPER_CLASSES, main, f"{directory}/zoo.cfg"]
    return Server("zookeeper", command, port, directory, ready=_zookeeper_serves)


def _zookeeper_serves(port: int) -> bool:
    # It accepts connections before it serves, and 18.16 crashes on a connection lost that early.
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
            connection.sendall(b"srvr")
            return b"Mode:" in connection.recv(4096)
    except OSError:
        return False


# PostgreSQL and Redis


@dataclass(frozen=True)
class PostgresServer:
    server: Server
    url: str

    def restart(self, pause: float = 0.0) -> None:
        """Shut down fast, as an operator would: clients are cut off; start again after ``pause`` seconds."""
        self.server.stop(signal.SIGINT)
        time.sleep(pause)
        self.server.start()


@contextmanager
def postgres() -> Iterator[str]:
    """A fresh PostgreSQL; gives its URL (superuser ``postgres``, database ``postgres``)."""
    with postgres_server() as one:
        yield one.url


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """The same, with the means to restart it. ``durable``: commits are on the disk, which tests can do without."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    home = str(versions[-1]) if versions else ""
    initdb = require("initdb", f"{home}/initdb")
    binary = require("postgres", f"{home}/postgres")
    with _temporary_directory("postgres-") as directory:
        # PostgreSQL refuses to run as root.
        as_user: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres", "postgres")
            as_user = [require("setpriv"), "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
        data = directory / "data"
        subprocess.run(
            [*as_user, initdb, "-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=directory,
        )
        [port] = free_ports(1)
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(directory),
            "fsync": "on" if durable else "off",
            "port": str(port),
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        asks = require("pg_isready", f"{home}/pg_isready")

        def serves(port: int) -> bool:
            # It accepts connections before it serves.
            command = [asks, "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
            return subprocess.run(command, check=False).returncode == 0

        command = [*as_user, binary, "-D", str(data), *flags]
        server = Server("postgres", command, port, directory, ready=serves)
        try:
            server.start()
            yield PostgresServer(server, f"postgres://postgres@127.0.0.1:{port}/postgres")
        finally:
            server.stop(signal.SIGQUIT)  # immediate shutdown, which also ends its children


@dataclass(frozen=True)
class RedisServer:
    server: Server
    url: str


@contextmanager
def redis() -> Iterator[RedisServer]:
    """A fresh Redis that saves nothing; gives its URL and the means to stop and restart it."""
    binary = require("redis-server")
    with _temporary_directory("redis-") as directory:
        [port] = free_ports(1)
        command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
        with running(Server("redis-server", command, port, directory)) as server:
            yield RedisServer(server, f"redis://127.0.0.1:{port}/0")
