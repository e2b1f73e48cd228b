"""What changed since a reader looked last: transactions are in sequence, and rows say which one changed them."""

from collections.abc import Callable
from datetime import datetime
from typing import Generic, NamedTuple, Protocol, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.pool.versions import Versions

Value = TypeVar("Value")


class Moment(NamedTuple):
    """Up to where a reader knows the record.

    A transaction's number is given out when it begins to write, long before others see what it wrote, so that "higher than
    the highest I saw" would miss those that were under way. `oldest` is the oldest transaction that was: whatever it or a
    later one changes has to be read (again), and whatever an earlier one changed has been seen.

    A server that was started at another time may have lost what was read, and give the same numbers out once more.
    """

    server: datetime
    removals: int
    oldest: int

    def since(self, earlier: "Moment | None") -> int:
        """From which transaction on to read what is not known; 0, before all of them, where nothing can be relied on."""
        if earlier is None or self.removals < 0 or (self.server, self.removals) != (earlier.server, earlier.removals):
            return 0
        return earlier.oldest


_MOMENT = text("""
    SELECT pg_postmaster_start_time() AS server, coalesce((SELECT removals FROM pools WHERE name = :pool), -1) AS removals,
           pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest""")


async def moment(connection: AsyncConnection, pool: str) -> Moment:
    """The moment of the transaction's snapshot."""
    return Moment(*(await connection.execute(_MOMENT, {"pool": pool})).one())


class _Changed(Protocol):
    """A row that says which transaction changed it last."""

    @property
    def id(self) -> str: ...

    @property
    def changed(self) -> int: ...


Row = TypeVar("Row", bound=_Changed)


class Followed(Generic[Value]):
    """Values by key of which every version is handed out: whoever knows an earlier one need only look at what changed."""

    def __init__(self) -> None:
        self._last = Versions[Value]()
        self._changes: dict[str, Value | None] = {}

    def get(self, key: str) -> Value | None:
        """The value there, if there is one."""
        return self._changes[key] if key in self._changes else self._last.get(key)

    def put(self, key: str, value: Value) -> None:
        """Keep a value; of two that are equal the one that is known already."""
        if self.get(key) != value:
            self._changes[key] = value

    def drop(self, key: str) -> None:
        """Keep nothing there any more."""
        if self.get(key) is not None:
            self._changes[key] = None

    def now(self) -> Versions[Value]:
        """All as they are."""
        if self._changes:
            self._last, self._changes = self._last.with_(self._changes), {}
        return self._last


class Kept(Generic[Value]):
    """Values by key, handed out in the order of their keys; the same tuple again until something changes."""

    def __init__(self) -> None:
        self.by_key: dict[str, Value] = {}
        self._keys: list[str] = []
        self._new: list[str] = []
        self._values: tuple[Value, ...] | None = ()

    def put(self, key: str, value: Value) -> None:
        """Keep a value; of two that are equal the one that is known already."""
        known = self.by_key.get(key)
        if known is None:
            self._new.append(key)
        elif known == value:
            return
        self.by_key[key] = value
        self._values = None

    def drop(self, key: str) -> None:
        """Keep nothing there any more."""
        if self.by_key.pop(key, None) is not None:
            self._values = None

    def change(self, key: str, change: Callable[[Value], Value]) -> None:
        """Change a value, where there is one."""
        if key in self.by_key:
            self.put(key, change(self.by_key[key]))

    def values(self) -> tuple[Value, ...]:
        """All values in order."""
        if self._values is None:
            if self._new or len(self._keys) > len(self.by_key):
                # Once each, and nearly in order already, which makes sorting cheap.
                known = dict.fromkeys(key for keys in (self._keys, self._new) for key in keys if key in self.by_key)
                self._keys, self._new = sorted(known), []
            self._values = tuple([self.by_key[key] for key in self._keys])
        return self._values
