"""Leaving: what there is once some of those who run have left, found from what there was when others had."""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from domain.pool.fleet import Amount, Room
from domain.pool.stock import NodeRoom
from domain.quota_models.cohorts.places import place
from domain.quota_models.cohorts.setting import Runner
from domain.worlds.request import Request
from domain.worlds.world import World

State = TypeVar("State")
Change = Callable[[State, Sequence[Runner]], State]


class Without(Generic[State]):
    """Something without those who have left: who is asked about next differs little from who was asked about last."""

    def __init__(self, state: State, leave: Change[State], stay: Change[State]) -> None:
        self._state, self._leave, self._stay = state, leave, stay
        self._gone: dict[str, Runner] = {}

    def __call__(self, leaving: Sequence[Runner]) -> State:
        """What there is once exactly these have left."""
        now = {runner.active.attempt_id: runner for runner in leaving}
        if left := [runner for id, runner in now.items() if id not in self._gone]:
            self._state = self._leave(self._state, left)
        if back := [runner for id, runner in self._gone.items() if id not in now]:
            self._state = self._stay(self._state, back)
        self._gone = now
        return self._state


class RoomWithout:
    """Whether nodes have room for a gang once some have left; quota is not looked at.

    Who is on the way out has made room already.
    """

    def __init__(self, request: Request, skus: Mapping[str, str], later: World) -> None:
        self._request, self._skus = request, skus
        tally = _Tally(request, later)
        self._most = Without(tally, _Tally.leave, _Tally.stay)
        self._world = Without(later, _world_without, _world_with)

    def __call__(self, leaving: Sequence[Runner]) -> bool:
        """Whether there is a place for it."""
        return self._most(leaving).could_take() and place(self._request, self._skus, self._world(leaving)) is not None


def _world_without(world: World, left: Sequence[Runner]) -> World:
    return world.without(runner.active for runner in left if not runner.is_leaving)


def _world_with(world: World, back: Sequence[Runner]) -> World:
    for runner in back:
        if not runner.is_leaving:
            world = world.with_(runner.active.spec, runner.active.placement)
    return world


class _Tally:
    """What is free, in thousandths, and for how many replicas of one size that would do at the very most."""

    def __init__(self, request: Request, world: World) -> None:
        gang, stocks = request.gang, world.classes.values()
        self._needs, self._number, self._rooms = gang.minimum_milli, gang.minimum_replicas, world.rooms
        self._size = gang.largest if len({shape.milli for shape in gang.shapes}) == 1 else 0
        spare = [stock.column("spare", _spare_of) for stock in stocks]
        self._in_all = sum(int(each.sum()) for each in spare)
        self._replicas = sum(int((each // self._size).sum()) for each in spare) if self._size else 0
        self._changed: dict[str, Room] = {}
        """What nodes have that somebody has left."""

    def leave(self, left: Sequence[Runner]) -> "_Tally":
        """The same without these."""
        return self._change(left, 1)

    def stay(self, back: Sequence[Runner]) -> "_Tally":
        """The same with these."""
        return self._change(back, -1)

    def could_take(self) -> bool:
        """A cheap necessary condition: enough in all, and for replicas of one size enough of them, node by node."""
        return self._in_all >= self._needs and (not self._size or self._replicas >= self._number)

    def _change(self, runners: Sequence[Runner], sign: int) -> "_Tally":
        for runner in runners:
            for share in () if runner.is_leaving else runner.active.placement.shares:
                before = self._changed.get(share.node_id) or self._rooms.get(share.node_id)
                if before is not None and len(before.devices) == len(share.room.devices):
                    after = self._changed[share.node_id] = before + share.room if sign > 0 else before - share.room
                    self._count(_spare(before), _spare(after))
        return self

    def _count(self, before: Amount, after: Amount) -> None:
        self._in_all += after - before
        if self._size:
            self._replicas += after // self._size - before // self._size


def _spare_of(entry: NodeRoom) -> Amount:
    return _spare(entry.room)


def _spare(room: Room) -> Amount:
    """What there is for somebody who comes: devices of which more was taken than they have take nothing from others."""
    return sum(milli for milli in room.devices if milli > 0)
