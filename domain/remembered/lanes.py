"""Lanes: who waits, by kind and the oldest in front, kept from round to round; a round looks at the head of each."""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime

from corral.api import Explanation
from domain.pool.roll import Roll
from domain.pool.versions import Versions, by_name
from domain.pool.workload import Waiting
from domain.worlds.request import Kind, Kinds

MANY = 16
"""As a part of a lane: when one in so many comes at once, the lane is sorted anew."""


class Lane:
    """Work of one kind, the oldest in front; nothing but its `Lanes` changes it, and that between two rounds."""

    __slots__ = ("_told", "kind", "members")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.members: list[Waiting] = []
        self._told: dict[int, tuple[Explanation | None, dict[str, None]]] = {}

    @property
    def told(self) -> Collection[tuple[Explanation | None, Collection[str]]]:
        """Who was told what (none: nothing yet), by workload id; one entry for all who were told the same."""
        return self._told.values()

    def join(self, come: list[Waiting]) -> None:
        """Some more."""
        if len(come) * MANY > len(self.members):
            self.members = sorted([*self.members, *come], key=age)
        else:
            for workload in come:
                insort(self.members, workload, key=age)

    def leave(self, gone: list[Waiting]) -> None:
        """Some less."""
        if len(gone) * MANY > len(self.members):
            ids = {workload.id for workload in gone}
            self.members = [each for each in self.members if each.id not in ids]
        else:
            for workload in gone:
                del self.members[bisect_left(self.members, age(workload), key=age)]

    def tell(self, workload: str, said: Explanation | None) -> None:
        """Note what somebody was told."""
        self._told.setdefault(id(said), (said, {}))[1][workload] = None

    def untell(self, workload: str, said: Explanation | None) -> None:
        """Forget it."""
        _, those = self._told[id(said)]
        del those[workload]
        if not those:
            del self._told[id(said)]


class Backlog(Collection[Waiting]):
    """Who waits, in lanes, but for those who have been dealt with; it lives inside one round."""

    def __init__(
        self,
        lanes: Mapping[Kind, Lane],
        lane_of: Mapping[str, Lane],
        by_id: Mapping[str, Waiting],
        newcomers: Collection[Waiting] = (),
        gone: frozenset[str] = frozenset(),
    ) -> None:
        self._lanes, self._lane_of, self._gone = lanes, lane_of, gone
        self._missing = Counter(lane_of[workload].kind for workload in gone)
        self.by_id = by_id
        """Everybody, also those who have been dealt with."""
        self.newcomers = newcomers
        """Those whom no round has considered yet."""

    def __len__(self) -> int:
        return sum(len(lane.members) for lane in self._lanes.values()) - len(self._gone)

    def __iter__(self) -> Iterator[Waiting]:
        """By workload id."""
        everybody = (workload for lane in self._lanes.values() for workload in self.of(lane))
        return iter(sorted(everybody, key=lambda workload: workload.id))

    def __contains__(self, workload: object) -> bool:
        return isinstance(workload, Waiting) and self.has(workload.id) and self.by_id[workload.id] is workload

    def has(self, workload: str) -> bool:
        """Whether the workload is one of them."""
        return workload in self._lane_of and workload not in self._gone

    def without(self, workloads: Iterable[str]) -> "Backlog":
        """The others."""
        more = self._gone.union(workloads)
        if len(more) == len(self._gone):
            return self
        return Backlog(self._lanes, self._lane_of, self.by_id, self.newcomers, more)

    @property
    def lanes(self) -> list[Lane]:
        """Lanes in which anybody is left."""
        return [lane for lane in self._lanes.values() if self.number(lane)]

    def number(self, lane: Lane) -> int:
        """How many are left in a lane."""
        return len(lane.members) - self._missing[lane.kind]

    def of(self, lane: Lane) -> Iterator[Waiting]:
        """Who is left in a lane, the oldest first."""
        return (workload for workload in lane.members if workload.id not in self._gone)

    def first(self, lane: Lane) -> Waiting:
        """The oldest who is left in a lane in which anybody is."""
        return next(self.of(lane))


class Lanes:
    """Keeps the lanes of everybody who waits by who came, who went, and who may be of another kind by now."""

    def __init__(self) -> None:
        self._roll = Roll[Waiting]()
        self._lanes: dict[Kind, Lane] = {}
        self._lane_of: dict[str, Lane] = {}
        self._newcomers: dict[str, Waiting] = {}
        self._told = Versions[Explanation]()

    def take(
        self, waiting: Collection[Waiting], told: Versions[Explanation], kinds: Kinds, kind: Callable[[Waiting], Kind]
    ) -> Backlog:
        """These and nobody else, who have been told that; `kinds` knows whose kind is to be asked for again."""
        here = by_name(lambda workload: workload.id, waiting)
        gone, come = self._roll.take(waiting)
        self._hear(told)
        unsure = {id: here[id] for id in kinds.taken_back() if id in self._lane_of and id in here}
        moved = unsure | {each.id: each for each in gone}
        left = [(workload, self._lane_of.pop(workload.id)) for workload in moved.values()]
        self._change(left, Lane.leave, Lane.untell)
        joined = {each.id: each for each in come} | {id: here[id] for id in moved if id in here}
        self._change([(each, self._lane(each, kind)) for each in joined.values()], Lane.join, Lane.tell)
        for workload in moved:
            self._newcomers.pop(workload, None)
        self._newcomers.update((each.id, each) for each in joined.values() if each.is_new)
        return Backlog(self._lanes, self._lane_of, here, tuple(self._newcomers.values()))

    def _lane(self, workload: Waiting, kind: Callable[[Waiting], Kind]) -> Lane:
        if (lane := self._lanes.get(its := kind(workload))) is None:
            lane = self._lanes[its] = Lane(its)
        self._lane_of[workload.id] = lane
        return lane

    def _change(
        self,
        work: Iterable[tuple[Waiting, Lane]],
        change: Callable[[Lane, list[Waiting]], None],
        note: Callable[[Lane, str, Explanation | None], None],
    ) -> None:
        by_lane: dict[Lane, list[Waiting]] = {}
        for workload, lane in work:
            by_lane.setdefault(lane, []).append(workload)
            note(lane, workload.id, self._told.get(workload.id))
        for lane, those in by_lane.items():
            change(lane, those)
            if not lane.members:
                del self._lanes[lane.kind]

    def _hear(self, told: Versions[Explanation]) -> None:
        """Know what everybody has been told by now."""
        news = told.since(self._told)
        if news is None:
            before, self._told = self._told, told
            for workload, lane in self._lane_of.items():
                lane.untell(workload, before.get(workload))
                lane.tell(workload, told.get(workload))
            return
        self._told = told
        for workload, change in news.items():
            if workload in self._lane_of:
                self._lane_of[workload].untell(workload, change.before)
                self._lane_of[workload].tell(workload, change.now)


def age(workload: Waiting) -> tuple[datetime, str]:
    """Who came first, and of those who came together the first by id."""
    return workload.submitted_at, workload.id
