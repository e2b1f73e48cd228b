"""Comparing what became of a case with what is expected, up to what the source does not tell apart."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from tests.conformance.cases import Admit, Case, Place
from tests.conformance.running import Outcome, Spot

Key = TypeVar("Key")
Shape = Counter[tuple[str, int, int, int]]
"""How many domains there are of each kind: group, accelerators in the domain, replicas there before, replicas now."""


def differences(case: Case, outcome: Outcome) -> list[str]:
    """What differs, in words; nothing where the case passes."""
    checks = (
        check_admitted,
        check_pending,
        check_preempted,
        check_shrunk_and_grown,
        check_moved,
        check_running,
        check_final_placement,
    )
    return [*outcome.complaints, *(difference for check in checks for difference in check(case, outcome))]


def check_admitted(case: Case, outcome: Outcome) -> Iterator[str]:
    """Whoever is asserted to start does, with as many replicas, where the source says."""
    for admit in case.expect.admitted:
        got = outcome.admitted.get(admit.id)
        if got is None:
            if admit.asserted:
                yield f"{admit.id} does not start"
            continue
        yield from _counts_differ(case, admit, outcome)
        if admit.placement:
            yield from _placement_differs(case, admit.id, admit.placement, outcome)
        if admit.victims is not None and case.horizon != "steady-state" and len(got.victims) != admit.victims:
            yield f"{admit.id} has {len(got.victims)} victims, expected {admit.victims}"


def _counts_differ(case: Case, admit: Admit, outcome: Outcome) -> Iterator[str]:
    got = _by(outcome.admitted[admit.id].spots, lambda spot: spot[0])
    for group, count in admit.counts.items():
        if got[group] != count:
            yield f"{admit.id} starts with {got[group]} of {group}, expected {count}"


def check_pending(case: Case, outcome: Outcome) -> Iterator[str]:
    """Whoever is asserted to wait does."""
    if case.expect.pending_asserted:
        yield from (f"{id} starts, expected to wait" for id in case.expect.pending if id in outcome.admitted)


def check_preempted(case: Case, outcome: Outcome) -> Iterator[str]:
    """Exactly the expected victims leave, up to workloads that differ in nothing."""
    expected, got = _alike(case, case.expect.preempted), _alike(case, outcome.preempted)
    if expected != got:
        yield f"preempted {sorted(outcome.preempted)}, expected {sorted(case.expect.preempted)}"


def check_shrunk_and_grown(case: Case, outcome: Outcome) -> Iterator[str]:
    """Exactly the expected workloads have fewer or more replicas than before."""
    for word, expected, got in (
        ("shrunk", case.expect.shrunk, outcome.shrunk),
        ("grown", case.expect.grown, outcome.grown),
    ):
        if dict(expected) != dict(got):
            yield f"{word} {dict(got)}, expected {dict(expected)}"
    for id, groups in case.expect.evicted_groups.items():
        before, after = (_by(spots.get(id, {}), lambda spot: spot[0]) for spots in (outcome.before, outcome.spots))
        taken = sorted((before - after).keys())
        if taken != sorted(groups):
            yield f"{id} loses replicas of {taken}, expected {sorted(groups)}"


def check_moved(case: Case, outcome: Outcome) -> Iterator[str]:
    """Exactly the expected workloads run elsewhere than before, of those of which the source says where they run."""
    placed = case.expect.final_placement.keys() | set(case.expect.moved)
    unsaid = set(case.expect.running) - placed
    expected, got = _alike(case, case.expect.moved), _alike(case, outcome.moved - unsaid)
    if expected != got:
        yield f"moved {sorted(outcome.moved)}, expected {sorted(case.expect.moved)}"


def check_running(case: Case, outcome: Outcome) -> Iterator[str]:
    """Whoever must keep running does; swaps within a set of alike ones are judged by who is preempted."""
    swappable = {id for alike in case.expect.interchangeable for id in alike}
    yield from (f"{id} no longer runs" for id in case.expect.running if id not in outcome.spots and id not in swappable)


def check_final_placement(case: Case, outcome: Outcome) -> Iterator[str]:
    """Whoever is asserted to be somewhere at the end is there."""
    for id, places in case.expect.final_placement.items():
        if id in outcome.spots:
            yield from _placement_differs(case, id, places, outcome)


def _placement_differs(case: Case, id: str, expected: Iterable[Place], outcome: Outcome) -> Iterator[str]:
    """SKUs must be the same; nodes only up to domains that were alike, as the source breaks ties by name."""
    places, got = list(expected), outcome.spots[id]
    wanted = Counter[tuple[str, str]]()
    for place in places:
        wanted[place.group, place.sku] += place.count
    if wanted != (skus := _by(got, lambda spot: (spot[0], spot[1]))):
        yield f"{id} has {dict(skus)}, expected {dict(wanted)}"
    elif all(place.node is not None for place in places):
        spots = Counter[Spot]()
        for place in places:
            spots[place.group, place.sku, str(place.node)] += place.count
        if _shapes(case, spots, outcome) != _shapes(case, got, outcome):
            yield f"{id} is on {_shown(got)}, expected {_shown(spots)}"
    elif all(place.domain for place in places):
        yield from _domains_differ(case, id, places, got)


def _domains_differ(case: Case, id: str, places: list[Place], got: Mapping[Spot, int]) -> Iterator[str]:
    """Replicas per domain, without the domains' names."""
    nodes = {node.id: node for node in case.nodes}
    levels = sorted({level for place in places for level in place.domain})
    wanted = Counter[tuple[str, ...]]()
    for place in places:
        wanted[(place.group, *(place.domain.get(level, "") for level in levels))] += place.count
    found = _by(got, lambda spot: (spot[0], *(_domain(nodes[spot[2]], level) for level in levels)))
    if _without_names(wanted) != _without_names(found):
        yield f"{id} is in {dict(found)}, expected {dict(wanted)}"


def _domain(node: object, level: str) -> str:
    topology: dict[str, str] = getattr(node, "topology", {})
    labels: dict[str, str] = getattr(node, "labels", {})
    return topology.get(level) or labels.get(level, "")


def _without_names(counts: Mapping[tuple[str, ...], int]) -> Counter[tuple[str, int]]:
    return Counter((key[0], count) for key, count in counts.items())


def _shapes(case: Case, spots: Mapping[Spot, int], outcome: Outcome) -> list[Shape]:
    """Replicas per domain at every level, nodes last, where a domain is known only by its size and what was free in it."""
    used: Counter[str] = Counter()
    for placed in outcome.before.values():
        for (_, _, node_id), count in placed.items():
            used[node_id] += count
    paths = {node.id: [*(node.topology.get(level, "") for level in case.fleet.topology_levels), node.id] for node in case.nodes}
    shapes = []
    for depth in range(1, len(case.fleet.topology_levels) + 2):
        sizes: Counter[tuple[str, ...]] = Counter()
        busy: Counter[tuple[str, ...]] = Counter()
        for node in case.nodes:
            sizes[tuple(paths[node.id][:depth])] += int(node.gpus - node.foreign_gpus)
            busy[tuple(paths[node.id][:depth])] += used[node.id]
        counts: Counter[tuple[str, tuple[str, ...]]] = Counter()
        for (group, _, node_id), count in spots.items():
            counts[group, tuple(paths[node_id][:depth])] += count
        shapes.append(Counter((group, sizes[path], busy[path], count) for (group, path), count in counts.items()))
    return shapes


def _by(spots: Mapping[Spot, int], key: Callable[[Spot], Key]) -> Counter[Key]:
    counts: Counter[Key] = Counter()
    for spot, count in spots.items():
        counts[key(spot)] += count
    return counts


def _alike(case: Case, ids: Iterable[str]) -> Counter[str]:
    """The ids, with one name for all workloads that differ in nothing."""
    names = {id: alike[0] for alike in case.expect.interchangeable for id in alike}
    return Counter(names.get(id, id) for id in ids)


def _shown(spots: Mapping[Spot, int]) -> str:
    return ", ".join(f"{group}x{count}@{node}" for (group, _, node), count in sorted(spots.items()))
