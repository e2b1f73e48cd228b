"""The record of the simulated world: what was done to it, in one SQLite file that any number of processes share."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS change (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS change_by_subject ON change (subject);
CREATE TABLE IF NOT EXISTS workload (
    workload_id TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    attempt_id TEXT NOT NULL,
    saved_seconds REAL NOT NULL
) WITHOUT ROWID;
"""
BUSY_SECONDS = 10.0


class Kind(StrEnum):
    """What can be done to the simulated world."""

    LAUNCHED = "launched"
    NOTICED = "noticed"
    RESIZED = "resized"
    KEPT = "kept"
    RELEASED = "released"
    FORGOTTEN = "forgotten"
    NODE_LOST = "node-lost"
    NODE_RECOVERED = "node-recovered"
    CLUSTER_CUT = "cluster-cut"
    CLUSTER_JOINED = "cluster-joined"
    LEASED = "leased"
    """`at` is from when on the cluster has had a lease without a break, the body until when it has one."""

    ORDERED = "ordered"
    ABANDONED = "abandoned"
    NODE_REMOVED = "node-removed"


FENCES = (Kind.RELEASED, Kind.FORGOTTEN)
"""After one of these an attempt is never launched again."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was done; `subject` is an attempt, a node or an order, `at` seconds since 1970 in the pool's time."""

    sequence: int
    at: float
    kind: Kind
    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class Progress:
    """A workload's latest attempt, its epoch, and the seconds of work that earlier attempts had saved."""

    epoch: int
    attempt_id: str
    saved_seconds: float


class Records:
    """Changes in the order in which they were made, and each workload's latest attempt."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(SCHEMA)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Changes made within are recorded together or, after an exception, not at all; other writers wait."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def since(self, sequence: int) -> list[Change]:
        """What was done after that change; attempts that are forgotten by now need no telling from the beginning."""
        rows = self._connection.execute(
            "SELECT sequence, at, kind, subject, body FROM change"
            " WHERE sequence > ?1 AND (?1 > 0 OR kind <> ?2) ORDER BY sequence",
            (sequence, Kind.FORGOTTEN),
        )
        return [Change(number, at, Kind(kind), subject, body) for number, at, kind, subject, body in rows]

    def append(self, at: float, kind: Kind, subject: str, body: str = "") -> None:
        """Record one change."""
        self._connection.execute("INSERT INTO change (at, kind, subject, body) VALUES (?, ?, ?, ?)", (at, kind, subject, body))

    def lease(self, cluster: str, since: float, until: float) -> None:
        """Record that a cluster has a lease, in the place of one that was not so long."""
        self._connection.execute("DELETE FROM change WHERE subject = ? AND kind = ? AND at = ?", (cluster, Kind.LEASED, since))
        self.append(since, Kind.LEASED, cluster, repr(until))

    def is_fenced(self, attempt_id: str) -> bool:
        """The attempt was released or forgotten."""
        row = self._connection.execute(
            "SELECT 1 FROM change WHERE subject = ? AND kind IN (?, ?) LIMIT 1", (attempt_id, *FENCES)
        ).fetchone()
        return row is not None

    def forget(self, at: float, attempt_id: str) -> None:
        """Replace all that was done to an attempt by the one word that it is forgotten."""
        self._connection.execute("DELETE FROM change WHERE subject = ?", (attempt_id,))
        self.append(at, Kind.FORGOTTEN, attempt_id)

    def progress(self, workload_id: str) -> Progress | None:
        """How far a workload had come when its latest attempt was launched or forgotten."""
        row = self._connection.execute(
            "SELECT epoch, attempt_id, saved_seconds FROM workload WHERE workload_id = ?", (workload_id,)
        ).fetchone()
        return None if row is None else Progress(*row)

    def note_progress(self, workload_id: str, progress: Progress) -> None:
        """Write down how far a workload has come."""
        self._connection.execute(
            "INSERT OR REPLACE INTO workload (workload_id, epoch, attempt_id, saved_seconds) VALUES (?, ?, ?, ?)",
            (workload_id, progress.epoch, progress.attempt_id, progress.saved_seconds),
        )

    def close(self) -> None:
        """Close the file; the record stays."""
        self._connection.close()
