"""How a statement is written for one server: its cluster, and what its version has.

Landed migrations render through this module, so it may grow but what it renders must not change.
"""

from dataclasses import dataclass

# From here on servers have codecs, skip indexes and LowCardinality without a flag. These only make
# storage smaller and reads faster: results are the same without them.
_HAS_EXTRAS = (20, 1)
# From here on DROP TABLE is put off unless told not to, and a replica's path would stay taken meanwhile.
_DROPS_LATER = (20, 10)


@dataclass(frozen=True, slots=True)
class Dialect:
    """Renders statements for a server of ``version`` (major, minor); ``cluster`` is None without one."""

    version: tuple[int, int]
    database: str
    cluster: str | None = None

    @property
    def on_cluster(self) -> str:
        """`` ON CLUSTER name``, or nothing; follows a table's name in DDL."""
        return f" ON CLUSTER {self.cluster}" if self.cluster else ""

    @property
    def has_extras(self) -> bool:
        return self.version >= _HAS_EXTRAS

    def table(self, name: str) -> str:
        """The table that is written to and read from, with its database."""
        return f"{self.database}.{name}"

    def local(self, name: str) -> str:
        """The table that holds the data on each node, with its database: for partitions and mutations."""
        return f"{self.database}.{name}_local" if self.cluster else self.table(name)

    def label(self) -> str:
        """A string column of few distinct values."""
        return "LowCardinality(String)" if self.has_extras else "String"

    def codec(self, codecs: str) -> str:
        """`` CODEC(...)``, or nothing where there is none; ends a column's line."""
        return f" CODEC({codecs})" if self.has_extras else ""

    def skip_index(self, name: str, column: str, kind: str) -> str:
        """A column list's further line, with the comma before it, or nothing."""
        return f",\n    INDEX {name} {column} TYPE {kind} GRANULARITY 4" if self.has_extras else ""

    def create(
        self, name: str, columns: str, *, engine: str, arguments: str = "", clauses: str, shard_by: str
    ) -> list[str]:
        """A MergeTree-family table; on a cluster replicated, sharded by ``shard_by``, and with a
        Distributed table of the plain name over it."""
        if not self.cluster:
            return [_create(self.table(name), "", columns, f"{engine}({arguments})", clauses)]
        where = f"'/clickhouse/tables/{{shard}}/{self.database}/{name}', '{{replica}}'"
        replicated = f"Replicated{engine}({where}{', ' if arguments else ''}{arguments})"
        over_it = (
            f"CREATE TABLE IF NOT EXISTS {self.table(name)}{self.on_cluster} AS {self.local(name)}\n"
            f"ENGINE = Distributed({self.cluster}, {self.database}, {name}_local, {shard_by})"
        )
        return [_create(self.local(name), self.on_cluster, columns, replicated, clauses), over_it]

    def create_everywhere(self, name: str, columns: str, *, engine: str, clauses: str) -> list[str]:
        """A small table that every node of a cluster has in full."""
        if not self.cluster:
            return [_create(self.table(name), "", columns, f"{engine}()", clauses)]
        where = f"'/clickhouse/tables/all/{self.database}/{name}', '{{shard}}-{{replica}}'"
        return [_create(self.table(name), self.on_cluster, columns, f"Replicated{engine}({where})", clauses)]

    def drop(self, name: str) -> list[str]:
        """What ``create`` created."""
        now = " SYNC" if self.cluster and self.version >= _DROPS_LATER else ""
        tables = [self.table(name), self.local(name)] if self.cluster else [self.table(name)]
        return [f"DROP TABLE IF EXISTS {table}{self.on_cluster}{now}" for table in tables]


def _create(table: str, on_cluster: str, columns: str, engine: str, clauses: str) -> str:
    return f"CREATE TABLE IF NOT EXISTS {table}{on_cluster} (\n{columns}\n)\nENGINE = {engine}\n{clauses}"
