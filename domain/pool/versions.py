"""Versions: values by name as they were at one moment; the next moment costs what changes, however much there is."""

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Generic, NamedTuple, TypeVar, cast, overload

V = TypeVar("V")


class Change(NamedTuple, Generic[V]):
    """A value as it was and as it is; none where there was none, or is none any more."""

    before: V | None
    now: V | None


class Versions(Mapping[str, V], Generic[V]):
    """Values by name that never change; whoever wants others makes another version.

    All versions share one dictionary. It belongs to the one that was looked at last; each other knows what is different in
    it from a version that is nearer to that (the rerooting of H. Baker, "Shallow binding makes functional arrays fast",
    1991). Versions that one thread has are not for another; a copy is.
    """

    __slots__ = ("_differs", "_nearer", "_values")

    def __init__(self, values: Mapping[str, V] | Iterable[tuple[str, V]] = ()) -> None:
        self._values: dict[str, V] | None = dict(values)
        self._nearer: Versions[V] = self
        self._differs: Mapping[str, V | None] = {}

    def __getitem__(self, name: str) -> V:
        return self._here()[name]

    def __contains__(self, name: object) -> bool:
        return name in self._here()

    def __iter__(self) -> Iterator[str]:
        return iter(self._here())

    def __len__(self) -> int:
        return len(self._here())

    def with_(self, changes: Mapping[str, V | None]) -> "Versions[V]":
        """The version in which these names have these values, or none; the same where that changes nothing."""
        values = self._here()
        told = {name: value for name, value in changes.items() if values.get(name) is not value}
        if not told:
            return self
        other = Versions[V]()
        other._values = values
        self._lead_to(other, told)
        return other

    def since(self, earlier: "Versions[V]") -> Mapping[str, Change[V]] | None:
        """What is another object than it was in that version, or none where that is not known to be a version of the same."""
        values, at, before = self._here(), earlier, dict[str, V | None]()
        while at._values is None:
            for name, was in at._differs.items():
                before.setdefault(name, was)
            at = at._nearer
        if at is not self:
            return None
        now = {name: values.get(name) for name in before}
        return {name: Change(was, now[name]) for name, was in before.items() if was is not now[name]}

    def _here(self) -> dict[str, V]:
        """The dictionary, with the values of this version."""
        if self._values is not None:
            return self._values
        path, at = list[Versions[V]](), self
        while at._values is None:
            path.append(at)
            at = at._nearer
        for version in reversed(path):
            version._values = at._values
            at._lead_to(version, version._differs)
            version._nearer, version._differs, at = version, {}, version
        values = self._values
        assert values is not None
        return values

    def _lead_to(self, other: "Versions[V]", changes: Mapping[str, V | None]) -> None:
        """Give the dictionary to another version, in which these values are different."""
        values = self._values
        assert values is not None
        self._differs = {name: values.get(name) for name in changes}
        self._values, self._nearer = None, other
        for name, value in changes.items():
            if value is None:
                values.pop(name, None)
            else:
                values[name] = value


class Crowd(Sequence[V], Generic[V]):
    """The values of a version in the order of their names, which is found when somebody looks at all of them."""

    __slots__ = ("_ordered", "by_name")

    def __init__(self, by_name: Versions[V]) -> None:
        self.by_name = by_name
        self._ordered: tuple[V, ...] | None = None

    @overload
    def __getitem__(self, place: int) -> V: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[V, ...]: ...
    def __getitem__(self, place: int | slice) -> V | tuple[V, ...]:
        return self._all()[place]

    def __iter__(self) -> Iterator[V]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self.by_name)

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Crowd | tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._all())

    def _all(self) -> tuple[V, ...]:
        if self._ordered is None:
            self._ordered = tuple([value for _, value in sorted(self.by_name.items())])
        return self._ordered


def by_name(name: Callable[[V], str], *parts: Iterable[V]) -> Mapping[str, V]:
    """Everybody in these parts; of a crowd nobody is looked at."""
    crowd = next((part for part in parts if isinstance(part, Crowd)), None)
    others = {name(each): each for part in parts if part is not crowd for each in part}
    return others if crowd is None else ChainMap(others, cast(MutableMapping[str, V], crowd.by_name))
