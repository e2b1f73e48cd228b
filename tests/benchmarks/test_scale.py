"""The measurements of scale on tiny pools: that they run, that their lines are whole, and that what they measure is right."""

import json
from random import Random
from typing import Any

import pytest

from corral.api import State
from domain.decision import Refuse
from domain.pool.fleet import Room
from domain.pool.workload import Active
from domain.round import schedule
from domain.snapshot import Snapshot
from domain.worlds.request import form
from tests.benchmarks import scale
from tests.benchmarks.planning import all_different
from tests.benchmarks.pools import Size, a_pool
from tests.benchmarks.streams import KINDS, SCANNED, STRETCHES, Stream
from tests.benchmarks.turnover import a_little_later, carried_out
from tests.builders import NOON, seconds
from tests.properties import situations

POOL = a_pool(Size(512, waiting=60), seed=1)


def lines(*arguments: str) -> list[Any]:
    figures = scale.measure(scale.options_of(["--quick", *arguments]))
    return [json.loads(figure.as_json()) for figure in figures]


def test_every_line_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "in_a_child", lambda work: work())
    found = lines("--sizes", "96,192")
    assert len({line["name"] for line in found}) == len(found) > 0
    assert all(line["unit"] and line["value"]["count"] for line in found)


def test_memory_is_that_of_a_process_of_its_own() -> None:
    assert [line["unit"] for line in lines("--sizes", "128", "--parts", "memory")] == ["MiB", "MiB"]


def test_a_million_is_only_measured_where_it_is_asked_for() -> None:
    assert scale.options_of([]).sizes == scale.SIZES
    assert scale.options_of(["--sizes", "1000", "--million", "--rounds", "7"]) == scale.Options((1_000, scale.MILLION), 7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_stream_and_the_plain_rules_choose_the_same_places(kind: str) -> None:
    stream = Stream(256, kind)
    assert list(stream.stretches()) == [None] * STRETCHES
    assert stream.same == stream.plain.tries <= STRETCHES * SCANNED
    assert stream.placed + stream.refused.total() == len(stream.arrivals)


def free(pool: Snapshot) -> dict[str, tuple[tuple[int, ...], int, int]]:
    return {node.id: _amounts(node.free) for node in pool.nodes}


def _amounts(room: Room) -> tuple[tuple[int, ...], int, int]:
    return room.devices, room.cpu_milli, room.memory_mib


def by_attempt(pool: Snapshot) -> dict[str, Active]:
    return {active.attempt_id: active for active in pool.active}


def test_a_plan_is_carried_out_as_the_properties_have_it() -> None:
    plan = schedule(POOL, NOON)
    assert plan.starts
    assert plan.preempts
    ours, theirs = carried_out(POOL, plan, NOON), situations.carried_out(POOL, plan)
    refused = {each.workload_id for each in plan.decisions if isinstance(each, Refuse)}
    assert {each.id for each in ours.waiting} == {each.id for each in theirs.waiting} - refused
    assert by_attempt(ours) == by_attempt(theirs)
    assert free(ours) == free(theirs)


def test_what_does_not_change_stays_the_same_object() -> None:
    before = carried_out(POOL, schedule(POOL, NOON), NOON)
    after = a_little_later(before, NOON + seconds(1), Random(0), "new")
    left = by_attempt(before).keys() - by_attempt(after).keys()
    touched = {share.node_id for id in left for share in by_attempt(before)[id].placement.shares}
    old, nodes = by_attempt(before), {node.id: node for node in before.nodes}
    assert len(left) == 2
    assert {mine.id for mine in after.nodes if mine is not nodes[mine.id]} == touched
    assert all(
        active is old[active.attempt_id] or (old[active.attempt_id].state, active.state) == (State.RESERVING, State.RUNNING)
        for active in after.active
    )
    situations.check_room(after)
    schedule(after, NOON + seconds(1))


def test_all_can_be_different() -> None:
    pool = all_different(POOL, Random(0))
    assert len({id(form(workload)) for workload in POOL.waiting}) < len(POOL.waiting)
    assert len({id(form(workload)) for workload in pool.waiting}) == len(pool.waiting)
