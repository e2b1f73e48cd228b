"""Streams of work onto an empty fleet, placed one workload at a time, beside full scans for the same work on the same room.

Time is CPU time of the process with the garbage collector as it is, which also has its own figure; only what scans leave
behind is collected at once, and not in that time. Full scans get their nodes prepared (in order, or as arrays), which is not
counted for them.
"""

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, pairwise
from random import Random

from corral.api import WHOLE, QueueSpec, QuotaSpec, ReplicaGroup, Topology, WorkloadSpec, WorkloadTerms
from domain.facts import Facts
from domain.pool.workload import Waiting
from domain.quota_models.openings import best_candidate, open_ranks
from domain.snapshot import Snapshot
from domain.worlds.fragmentation import Mix
from domain.worlds.request import Request
from domain.worlds.world import World
from tests.benchmarks.figures import Figure, spread
from tests.benchmarks.pools import DEVICES, WIDTHS, a_fleet, a_spec, a_tree
from tests.benchmarks.scans import Rule, Scan, best_fit, fgd, need_of, plain_candidate, skus_of
from tests.builders import NOON

DEMAND = 1.1
"""Work arrives until it wants this part of the fleet."""

STRETCHES = 10
"""Into so many a stream is cut, so that others can have their turns in between."""

SCANNED = 3
"""So many workloads of each stretch are scanned for, which is slow."""

GANGS = ((2, 8), (3, 8), (5, 8), (8, 8), (3, 4), (6, 2), (12, 1))
"""Replicas, and accelerators of each; not all of them divide a rack, so that some is left over in many."""

AN_ACCELERATORS_CPU_MILLI, AN_ACCELERATORS_MEMORY_MIB = 8_000, 65_536


def a_single(random: Random, id: str) -> WorkloadSpec:
    """One replica of a share of a device, or of up to all devices of a node."""
    return a_spec(random, id, random.choice([width for width in WIDTHS if width <= DEVICES]))


def a_gang(random: Random, id: str, required: str | None = None) -> WorkloadSpec:
    """Several replicas, wherever there is room or in one domain of a level."""
    number, accelerators = random.choice(GANGS)
    group = ReplicaGroup(
        count=number,
        accelerators=accelerators,
        cpu_milli=AN_ACCELERATORS_CPU_MILLI * accelerators,
        memory_mib=AN_ACCELERATORS_MEMORY_MIB * accelerators,
    )
    return a_spec(random, id, DEVICES).model_copy(update={"groups": (group,), "topology": Topology(required=required)})


def a_gang_in_a_rack(random: Random, id: str) -> WorkloadSpec:
    """Several replicas in one rack."""
    return a_gang(random, id, "rack")


KINDS: Mapping[str, Callable[[Random, str], WorkloadSpec]] = {
    "single replicas": a_single,
    "gangs": a_gang,
    "gangs in one rack": a_gang_in_a_rack,
}


def arrivals(accelerators: int, kind: str, random: Random) -> Iterator[Waiting]:
    """Work for a fleet of this size, in the order in which it arrives."""
    wanted = 0.0
    for number in count():
        spec = KINDS[kind](random, f"w{number:07}")
        wanted += sum(group.milli * group.count for group in spec.groups)
        if wanted > DEMAND * accelerators * WHOLE:
            return
        yield Waiting(spec.id, spec, NOON)


def _generous(tree: Iterator[QueueSpec]) -> Iterator[QueueSpec]:
    """Queues that may borrow, each for itself, as much again as all own: room alone decides who is placed."""
    root, *others = tree
    owned = [quota for queue in others for quota in queue.quotas]
    totals = {quota.sku: sum(each.nominal for each in owned if each.sku == quota.sku) for quota in root.quotas}
    yield root.model_copy(update={"quotas": tuple(QuotaSpec(sku=sku, nominal=total) for sku, total in totals.items())})
    yield from others


class Collecting:
    """How much CPU time the garbage collector takes while this is entered."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = 0.0

    def __enter__(self) -> "Collecting":
        gc.callbacks.append(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._note)

    def _note(self, phase: str, _: Mapping[str, int]) -> None:
        now = time.process_time()
        self.seconds += now - self._since if phase == "stop" else 0
        self._since = now


class Tally:
    """Workloads that were tried, and the CPU seconds that it took."""

    def __init__(self) -> None:
        self.tries, self.seconds, self.collecting = 0, 0.0, 0.0

    @property
    def rate(self) -> float:
        """Tries per second."""
        return self.tries / max(self.seconds, 1e-9)

    def time(self, tries: int, work: Callable[[], object]) -> None:
        """Do and count so many tries."""
        with Collecting() as collecting:
            began = time.process_time()
            work()
            self.seconds += time.process_time() - began
        self.tries += tries
        self.collecting += collecting.seconds


class Stream:
    """A fleet that was empty, and the work that arrives on it."""

    def __init__(self, accelerators: int, kind: str, seed: int = 0) -> None:
        self.accelerators = accelerators
        self.arrivals = tuple(arrivals(accelerators, kind, Random(seed)))
        self.own, self.fullest = Tally(), Tally()
        self.plain, self.fgd, self.best_fit = Tally(), Tally(), Tally()
        self.placed = self.placed_milli = self.same = 0
        self.refused: Counter[str] = Counter()
        self._fleet = a_fleet(accelerators // DEVICES)
        snapshot = Snapshot(nodes=tuple(self._fleet), queues=tuple(_generous(a_tree(self._fleet))), waiting=())
        self._facts = Facts.of(snapshot, NOON)
        self._world = World.of(snapshot, self._facts.tree)
        self._mix = Mix.of(Counter(need_of(workload.spec.groups[0]) for workload in self.arrivals))

    def stretches(self, scanned: int = SCANNED) -> Iterator[None]:
        """Go on by one stretch each time; the first few workloads of each are scanned for before."""
        number = len(self.arrivals)
        for index in range(STRETCHES):
            ahead = self.arrivals[number * index // STRETCHES : number * (index + 1) // STRETCHES]
            if scanned:
                self._scan(ahead[:scanned])
                gc.collect()
            before = self.own.seconds
            self.own.time(len(ahead), partial(self._place, ahead))
            self.fullest.tries, self.fullest.seconds = len(ahead), self.own.seconds - before
            yield

    def _place(self, ahead: Sequence[Waiting]) -> None:
        world, facts = self._world, self._facts
        for workload in ahead:
            candidate = best_candidate(open_ranks(workload, facts), world)
            if candidate is None:
                self.refused[width_of(workload.spec)] += 1
                continue
            world = world.with_(workload.spec, candidate.placement)
            self.placed += 1
            self.placed_milli += candidate.layout.milli
        self._world = world

    def _scan(self, wanted: Sequence[Waiting]) -> None:
        """Look for room in a world apart: what is remembered of it must be of no help to the stream."""
        world = self._world.forked()
        for traits in world.classes:
            tuple(world.nodes([traits]))
        ranked = [open_ranks(workload, self._facts) for workload in wanted]
        found = []
        self.plain.time(len(wanted), lambda: found.extend([plain_candidate(ranks, world) for ranks in ranked]))
        own = [best_candidate(ranks, world) for ranks in ranked]
        self.same += sum((its and its.placement) == (mine and mine.placement) for its, mine in zip(found, own, strict=True))
        if all(group.count == 1 for workload in wanted for group in workload.spec.groups):
            asked = [[request for rank in ranks for request in rank] for ranks in ranked]
            for tally, rule in ((self.fgd, partial(fgd, self._mix, skus_of(self._fleet))), (self.best_fit, best_fit)):
                scan = Scan.of(self._fleet, world)
                tally.time(len(wanted), partial(_place_all, scan, asked, rule))


def _place_all(scan: Scan, asked: Sequence[Sequence[Request]], rule: Rule) -> None:
    for requests in asked:
        scan.place(requests, rule)


def width_of(spec: WorkloadTerms) -> str:
    """The class by which refusals are told apart."""
    group = spec.groups[0]
    return f"{group.accelerators:g}" if group.count == 1 else f"{group.count} x {group.accelerators:g}"


# What they come to

UNIT, TRIES = "placements per CPU-second", "tries per CPU-second"


def measure(kind: str, sizes: Sequence[int], rounds: int, scanned: int = SCANNED) -> Iterator[Figure]:
    """Streams of one kind on fleets of these sizes, a stretch of each in turn."""
    streams: dict[int, list[Stream]] = {size: [] for size in sizes}
    for seed in range(rounds):
        these = [Stream(size, kind, seed) for size in sizes]
        for _ in zip(*(stream.stretches(scanned) for stream in these), strict=True):
            pass
        for stream in these:
            streams[stream.accelerators].append(stream)
    for size in sizes:
        yield from _of_size(f"{kind} on {size:,} accelerators", streams[size])
    for small, large in pairwise(sizes):
        yield _beside(
            f"{kind} on {large:,} accelerators, beside {small:,}",
            [stream.own for stream in streams[large]],
            [stream.own for stream in streams[small]],
        )


def _of_size(name: str, streams: Sequence[Stream]) -> Iterator[Figure]:
    yield Figure(name, UNIT, spread([stream.placed / max(stream.own.seconds, 1e-9) for stream in streams]))
    yield Figure(f"{name}, the last tenth of all work", TRIES, spread([stream.fullest.rate for stream in streams]))
    collecting = [stream.own.collecting / max(stream.own.seconds, 1e-9) for stream in streams]
    yield Figure(f"{name}, time for collecting garbage", "parts of the CPU time", spread(collecting))
    allocated = [stream.placed_milli / (stream.accelerators * WHOLE) for stream in streams]
    yield Figure(f"{name}, allocated in the end", "parts of the fleet", spread(allocated))
    yield Figure(f"{name}, placed", "workloads", spread([stream.placed for stream in streams]))
    for width in sorted({width for stream in streams for width in stream.refused}):
        refused = spread([stream.refused[width] for stream in streams])
        yield Figure(f"{name}, refused of those that want {width}", "workloads", refused)
    if any(stream.plain.tries for stream in streams):
        own = [stream.own for stream in streams]
        yield _beside(f"{name}, beside the plain rules on prepared nodes", own, [stream.plain for stream in streams])
        same = [stream.same / max(1, stream.plain.tries) for stream in streams]
        yield Figure(f"{name}, places that the plain rules choose too", "parts of 1", spread(same))
    if any(stream.fgd.tries for stream in streams):
        yield _beside(f"{name}, beside a full scan by FGD", own, [stream.fgd for stream in streams])
        yield _beside(f"{name}, beside a full scan by best fit", own, [stream.best_fit for stream in streams])


def _beside(name: str, own: Sequence[Tally], others: Sequence[Tally]) -> Figure:
    return Figure(
        name,
        TRIES,
        spread([tally.rate for tally in own]),
        reference=spread([tally.rate for tally in others]),
        ratio=spread([tally.rate / other.rate for tally, other in zip(own, others, strict=True)]),
    )
