"""The example mix: the same each time, and as varied as it promises to be."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.api import SlaTier, State, WorkloadSpec
from worker.demo.mix import showcase
from worker.demo.scenario import Arrival, Verb

SCENARIO = showcase(Path("/somewhere"))
SPECS = [arrival.spec for arrival in SCENARIO.arrivals]
RUNNABLE = [arrival.spec for arrival in SCENARIO.arrivals if arrival.kind != "impossible"]


def accelerators(spec: WorkloadSpec) -> float:
    return sum(group.count * group.milli for group in spec.groups) / 1000


def ending(state: State) -> list[Arrival]:
    return [arrival for arrival in SCENARIO.arrivals if arrival.ends == {state}]


def test_the_mix_is_the_same_each_time() -> None:
    assert showcase(Path("/somewhere")) == SCENARIO
    assert showcase(Path("/somewhere"), seed=1) != SCENARIO


def test_there_are_300_with_an_id_each_in_the_order_of_their_arrival() -> None:
    assert len({spec.id for spec in SPECS}) == 300
    assert [arrival.at for arrival in SCENARIO.arrivals] == sorted(arrival.at for arrival in SCENARIO.arrivals)


def test_all_tiers_and_several_queues_are_there() -> None:
    tiers, queues = Counter(spec.tier for spec in SPECS), Counter(spec.queue for spec in SPECS)
    assert all(tiers[tier] >= 30 for tier in SlaTier)
    assert all(queues[queue] >= 10 for queue in ("research", "product", "interns", "tools"))


def test_gangs_reach_from_a_share_of_a_device_to_128() -> None:
    sizes = Counter(accelerators(spec) for spec in RUNNABLE if spec.tasks is None)
    assert min(sizes) == 0.25
    assert max(sizes) == 128
    assert {1, 2, 4, 8, 16, 32, 64} <= set(sizes)


@pytest.mark.parametrize(
    ("kind", "least", "has_it"),
    [
        ("fractional", 20, lambda spec: 0 < spec.groups[0].accelerators < 1),
        ("arrays", 5, lambda spec: spec.tasks is not None),
        ("elastic", 5, lambda spec: spec.groups[0].fewest < spec.groups[0].count),
        ("in one rack", 5, lambda spec: spec.topology.required == "rack"),
        ("preferring a block", 3, lambda spec: spec.topology.preferred == "block"),
        ("another count on another SKU", 20, lambda spec: any(target.count for target in spec.targets)),
        ("relaxing", 10, lambda spec: any(target.after_seconds for target in spec.targets)),
        ("in one region at first", 10, lambda spec: any(target.regions for target in spec.targets)),
        ("reading data", 50, lambda spec: bool(spec.datasets)),
        ("rather apart", 10, lambda spec: spec.topology.spread is not None),
        ("liking a network", 3, lambda spec: bool(spec.groups[0].affinities)),
        ("spot", 10, lambda spec: any(target.capacity_types for target in spec.targets)),
        ("real processes", 10, lambda spec: bool(spec.command)),
        ("of limited runtime", 1, lambda spec: spec.maximum_runtime_seconds is not None),
    ],
)
def test_every_kind_is_there(kind: str, least: int, has_it: Callable[[WorkloadSpec], bool]) -> None:
    assert sum(map(has_it, SPECS)) >= least, kind


def test_some_end_otherwise_than_well() -> None:
    assert len(ending(State.REFUSED)) == 8
    assert len(ending(State.FAILED)) == 3
    assert len(ending(State.CANCELLED)) == 2
    assert len(ending(State.SUCCEEDED)) == 287


def test_deeds_are_done_to_workloads_that_have_come_by_then() -> None:
    came = {arrival.spec.id: arrival.at for arrival in SCENARIO.arrivals}
    assert all(came[deed.workload] < deed.at for deed in SCENARIO.deeds if deed.workload)
    assert {deed.verb for deed in SCENARIO.deeds} == set(Verb)
    assert len({deed.key for deed in SCENARIO.deeds}) == len(SCENARIO.deeds)


def test_borrowers_fill_what_owners_come_back_for() -> None:
    """What makes preemption certain: before the owners come, more is asked of the H100s than there are."""
    h100s = sum(
        shape.count * shape.accelerators
        for entry in SCENARIO.fleet.providers
        if entry.kind == "simulated"
        for region in entry.regions
        for cluster in region.clusters
        for shape in cluster.nodes
        if shape.sku == "h100-80g"
    )
    filling = [arrival for arrival in SCENARIO.arrivals if arrival.kind in {"pretrain", "intern"}]
    owners = [arrival for arrival in SCENARIO.arrivals if arrival.kind == "flagship"]
    assert sum(accelerators(arrival.spec) for arrival in filling) >= h100s
    assert max(arrival.at for arrival in filling) < min(arrival.at for arrival in owners)
    last = max(arrival.at for arrival in owners)
    assert last < min(arrival.at + float(arrival.spec.parameters["runtime_seconds"]) for arrival in filling)
