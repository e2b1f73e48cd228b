"""`python -m tests.benchmarks.fragmentation`: how full a fleet gets when pods arrive one by one and none leaves; JSON lines.

The experiment of "Beware of Fragmentation" (Weng et al., USENIX ATC 2023) on traces in its format, with the default rule and,
from their formulas, those of the paper beside it.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from corral.api import WHOLE
from corral.cli.problems import InvalidInput
from domain.placement.layout import lay_out
from domain.pool.fleet import Node, Room
from domain.pool.stock import Atlas, NodeRoom, Stock
from domain.worlds.fragmentation import (
    IMPOSSIBLE,
    NO_DEVICE,
    Integers,
    Losses,
    Mix,
    Need,
    Needs,
    Rooms,
    fits,
    fragmentation,
)
from domain.worlds.outlook import OUTLOOK, IdleFleet, Outlook, rooms_of
from domain.worlds.request import NO_TERMS, NO_TOPOLOGY, Gang, Shape, Terms
from tests.benchmarks.traces import read_nodes, read_order, read_pods, read_ties

ARRIVED = (100, 130)
"""At how much demand, in per cent of capacity, allocation is told."""

MOST_CPU_MILLI, MOST_GPU_MILLI = 128_000, 8_000
"""The largest node, by which best fit makes cpu and accelerators comparable."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """The idle fleet, nodes in the order that decides ties; what the base list needs; and who arrives, in order."""

    rooms: Rooms
    skus: tuple[str, ...]
    base: Mapping[Need, int]
    needs: tuple[Need, ...]
    arrivals: tuple[int, ...]
    """Places in `needs`."""

    @classmethod
    def read(cls, nodes: Path, pods: Path, order: Path, ties: Path) -> "Experiment":
        """From a node list and a pod list, names of pods as they arrive, and the numbers of nodes.

        Raises:
            InvalidInput: something is wrong with one of the files.
        """
        listed, demand = read_nodes(nodes), read_pods(pods)
        names, ranks = read_order(order, demand), read_ties(ties, listed)
        fleet = sorted(listed, key=lambda node: (ranks[node.name], node.name))
        skus = tuple(sorted({node.sku for node in fleet}))
        most = max(node.devices for node in fleet)
        rooms = Rooms(
            np.array([[WHOLE * (device < node.devices) for device in range(most)] for node in fleet], np.int64),
            np.array([node.cpu_milli for node in fleet], np.int64),
            np.array([node.memory_mib for node in fleet], np.int64),
            np.array([skus.index(node.sku) for node in fleet], np.int64),
        )
        needs = tuple(sorted({demand[name] for name in names}))
        places = {need: place for place, need in enumerate(needs)}
        return cls(rooms, skus, Counter(demand.values()), needs, tuple(places[demand[name]] for name in names))


def kind_of(need: Need) -> str:
    """The class by which refusals are told apart."""
    if not need.milli:
        return "no accelerator"
    return f"{need.devices} whole" if need.devices else "share of one"


Score = Callable[[Needs, Rooms], Losses]
"""What a replica of each need costs on each node, and on which device of it; less is better."""


def best_fit(_: Experiment) -> Score:
    """The node on which least is left, cpu and accelerators each by the largest node; there the fullest device."""
    return _best_fit


def _best_fit(wanted: Needs, rooms: Rooms) -> Losses:
    cpu = (rooms.cpu_milli - wanted.cpu_milli[:, None]) / MOST_CPU_MILLI
    gpu = (rooms.devices.sum(axis=1) - wanted.milli[:, None]) / MOST_GPU_MILLI
    scores = ((1 - (cpu * 0.5 + gpu * 0.5)) * 100).astype(np.int64)
    enough = np.where(rooms.devices >= wanted.milli[:, None, None], rooms.devices, IMPOSSIBLE)
    is_share = (wanted.milli > 0) & (wanted.devices == 0)
    return Losses(
        np.where(fits(wanted, rooms), -scores, IMPOSSIBLE), np.where(is_share[:, None], enough.argmin(axis=2), NO_DEVICE)
    )


def fgd(experiment: Experiment) -> Score:
    """The node and device on which fragmentation grows least, as a sigmoid in whole per cent."""
    return partial(_fgd, Mix.of(experiment.base), experiment.skus)


def _fgd(mix: Mix, skus: Sequence[str], wanted: Needs, rooms: Rooms) -> Losses:
    """One node at a time."""
    columns = [_fgd_on(mix, skus, wanted, rooms.row(index)) for index in range(len(rooms.skus))]
    return Losses(np.stack([costs for costs, _ in columns], axis=1), np.stack([devices for _, devices in columns], axis=1))


def _fgd_on(mix: Mix, skus: Sequence[str], wanted: Needs, room: Rooms) -> tuple[Integers, Integers]:
    """Try every need on every device of a node, and compare the fragmentation before and after."""
    costs = np.full(len(wanted.milli), IMPOSSIBLE)
    chosen = np.full(len(wanted.milli), NO_DEVICE)
    (free,) = room.devices
    options = [
        (index, device) for index in np.flatnonzero(fits(wanted, room)[:, 0]) for device in _devices(wanted.milli[index], free)
    ]
    if not options:
        return costs, chosen
    indices, devices = np.array(options).T
    after = Rooms(
        np.array([taken(free, int(wanted.milli[index]), device) for index, device in options]),
        room.cpu_milli - wanted.cpu_milli[indices],
        room.memory_mib - wanted.memory_mib[indices],
        np.repeat(room.skus, len(options)),
    )
    growth = fragmentation(mix, after, skus) - fragmentation(mix, room, skus)
    scores = (100 / (1 + np.exp(growth / WHOLE))).astype(np.int64)
    for index, device, score in zip(indices, devices, scores, strict=True):
        if -score < costs[index]:
            costs[index], chosen[index] = -score, device
    return costs, chosen


def _devices(milli: int, free: Integers) -> list[int]:
    """Every device with room for a share, the first of equal ones; for whole devices and for none there is no choice."""
    if milli == 0 or milli >= WHOLE:
        return [NO_DEVICE]
    values = free.tolist()
    return [device for device, value in enumerate(values) if value >= milli and value not in values[:device]]


def taken(free: Integers, milli: int, device: int) -> Integers:
    """The devices without a share of one, or without the first whole ones."""
    left = free.copy()
    if device != NO_DEVICE:
        left[device] -= milli
    else:
        left[np.flatnonzero(free == WHOLE)[: milli // WHOLE]] = 0
    return left


SCORES: Mapping[str, Callable[[Experiment], Score]] = {"bestfit": best_fit, "fgd": fgd}


class Fleet:
    """Nodes as they fill up, with what each need costs on each of them; only what changed is scored again."""

    def __init__(self, experiment: Experiment, score: Score) -> None:
        idle = experiment.rooms
        self.rooms = Rooms(idle.devices.copy(), idle.cpu_milli.copy(), idle.memory_mib.copy(), idle.skus)
        self._needs = experiment.needs
        self._wanted = Needs.of(experiment.needs, experiment.skus)
        self._score = score
        rows = np.column_stack((idle.devices, idle.cpu_milli, idle.memory_mib, idle.skus))
        _, first, same = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        kinds = [score(self._wanted, idle.row(int(index))) for index in first]
        self._costs = np.concatenate([each.costs for each in kinds], axis=1)[:, same]
        self._devices = np.concatenate([each.devices for each in kinds], axis=1)[:, same]

    def place(self, place: int) -> bool:
        """Put one replica where it costs least, on the first of equal nodes; gives whether it found room."""
        node = int(self._costs[place].argmin())
        if self._costs[place, node] == IMPOSSIBLE:
            return False
        need, rooms = self._needs[place], self.rooms
        rooms.devices[node] = taken(rooms.devices[node], need.milli, int(self._devices[place, node]))
        rooms.cpu_milli[node] -= need.cpu_milli
        rooms.memory_mib[node] -= need.memory_mib
        scored = self._score(self._wanted, rooms.row(node))
        self._costs[:, node], self._devices[:, node] = scored.costs[:, 0], scored.devices[:, 0]
        return True


class Pool:
    """The same fleet as Corral has it, filled by the rules that place work in a live pool."""

    def __init__(self, experiment: Experiment) -> None:
        nodes = [_node(experiment, index) for index in range(len(experiment.rooms.skus))]
        atlas = Atlas(nodes)
        needs = experiment.needs
        sizes = [(need.milli, need.cpu_milli, need.memory_mib) for need in needs]
        atlas.remembered[OUTLOOK] = Outlook.prepared(IdleFleet.of(nodes), Mix.of(experiment.base), sizes)
        self._stock = Stock.of((NodeRoom.of(node, node.total) for node in nodes), atlas)
        self._gangs = [Gang((_shape(need),), NO_TOPOLOGY) for need in needs]
        self._width, self._skus = experiment.rooms.devices.shape[1], experiment.skus

    def place(self, place: int) -> bool:
        """Put one replica where the default policy would; gives whether it found room."""
        layout = lay_out(self._gangs[place], self._stock)
        if layout is None:
            return False
        self._stock = self._stock.with_rooms((entry.node.id, entry.room) for entry in layout.left)
        return True

    @property
    def rooms(self) -> Rooms:
        """What is free by now, by node."""
        skus = {sku: place for place, sku in enumerate(self._skus)}
        entries = self._stock.entries(range(len(self._stock)))
        return rooms_of([(entry.node.sku, entry.room) for entry in entries], skus, self._width)


def _node(experiment: Experiment, index: int) -> Node:
    """A node of the experiment, named by its place in the order that decides ties."""
    idle = experiment.rooms
    devices = tuple(int(milli) for milli in idle.devices[index] if milli)
    total = Room(devices, int(idle.cpu_milli[index]), int(idle.memory_mib[index]))
    return Node(f"{index:06}", "trace", "here", "here", experiment.skus[idle.skus[index]], (), total, total)


def _shape(need: Need) -> Shape:
    terms = Terms(skus=need.skus) if need.skus else NO_TERMS
    return Shape("main", need.milli, need.cpu_milli, need.memory_mib, 1, 1, terms)


def pool(experiment: Experiment, policy: str) -> "Fleet | Pool":
    """An idle fleet under a policy."""
    return Fleet(experiment, SCORES[policy](experiment)) if policy in SCORES else Pool(experiment)


POLICIES = ("corral", *SCORES)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy came to; amounts are per cent of capacity, `fragmentation_percent` of what is idle at the end."""

    policy: str
    allocated_percent: Mapping[int, float]
    fragmentation_percent: float
    idle_accelerators: float
    placed: int
    refused: int
    refused_by_class: Mapping[str, int]
    placements_per_cpu_second: float
    peak_memory_mib: float


def run(experiment: Experiment, policy: str) -> Outcome:
    """Let everybody arrive once."""
    began = time.process_time()
    fleet = pool(experiment, policy)
    placed = np.array([fleet.place(place) for place in experiment.arrivals])
    seconds = time.process_time() - began
    milli = np.array([experiment.needs[place].milli for place in experiment.arrivals])
    capacity = int(experiment.rooms.devices.sum())
    arrived = np.floor(100 * milli.cumsum() / capacity + 0.5).astype(np.int64)
    so_far = (milli * placed).cumsum() / capacity
    idle = int(fleet.rooms.devices.sum())
    unused = float(fragmentation(Mix.of(experiment.base), fleet.rooms, experiment.skus).sum())
    refused = Counter(
        kind_of(experiment.needs[place]) for place, found in zip(experiment.arrivals, placed, strict=True) if not found
    )
    return Outcome(
        policy=policy,
        allocated_percent={
            percent: round(100 * float(so_far[arrived == percent].mean()), 3)
            for percent in ARRIVED
            if (arrived == percent).any()
        },
        fragmentation_percent=round(100 * unused / max(1, idle), 2),
        idle_accelerators=idle / WHOLE,
        placed=int(placed.sum()),
        refused=refused.total(),
        refused_by_class=dict(sorted(refused.items())),
        placements_per_cpu_second=round(int(placed.sum()) / max(seconds, 1e-9)),
        peak_memory_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    )


def outcomes(experiment: Experiment, policies: Sequence[str]) -> Iterator[Outcome]:
    """Each policy in a process of its own, one after the other, so that peaks of memory do not mix."""
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning, max_tasks_per_child=1) as processes:
        for policy in policies:
            yield processes.submit(run, experiment, policy).result()


def main() -> None:
    """Measure, and print each policy's outcome when it is there."""
    parser = argparse.ArgumentParser(description="How full a fleet gets when pods arrive one by one and none leaves.")
    parser.add_argument("--nodes", type=Path, required=True, help="nodes: sn, cpu_milli, memory_mib, gpu, model")
    parser.add_argument(
        "--pods", type=Path, required=True, help="pods: name, cpu_milli, memory_mib, num_gpu, gpu_milli, gpu_spec"
    )
    parser.add_argument("--order", type=Path, required=True, help="names of pods as they arrive; a name may come again")
    parser.add_argument("--ties", type=Path, required=True, help="NUMBER-NODE, one a line; the least wins a tie")
    parser.add_argument("--policy", nargs="+", choices=POLICIES, default=list(POLICIES))
    given = parser.parse_args()
    try:
        experiment = Experiment.read(given.nodes, given.pods, given.order, given.ties)
    except InvalidInput as error:
        raise SystemExit(str(error)) from error
    for outcome in outcomes(experiment, given.policy):
        print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    main()
