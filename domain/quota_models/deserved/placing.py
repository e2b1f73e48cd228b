"""Placing: room for the next chunk of a job, wherever it may go or beside what it has."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import replace

from domain.placement.draft import assign, capacity
from domain.placement.feasibility import sift
from domain.placement.layout import Candidate, best_on
from domain.placement.scoring import choice, options
from domain.pool.fleet import NodeShare, Placement
from domain.pool.parts import ReplicaKey, counts_of, only
from domain.pool.workload import Active
from domain.quota_models.beside import finishing, near
from domain.quota_models.deserved.jobs import Chunk, Job, gang_of, minimums
from domain.quota_models.deserved.setting import Setting
from domain.quota_models.openings import Ranks, best_candidate
from domain.worlds.request import NO_TOPOLOGY, Gang, Request
from domain.worlds.world import Nodes, Supply, World


def begin(job: Job, world: World) -> Candidate | None:
    """The best place for the minimum of a job that has nothing, under the first target that has any.

    What it needs over all groups are more replicas of the first ones, or of those that there is room for.
    """
    fewest = job.spec.minimum_replicas or 0
    ranks = Ranks([_exactly(request, minimums(request.gang, fewest)) for request in rank] for rank in job.ranks)
    found = best_candidate(ranks, world)
    if found is not None or not fewest or (most := best_candidate(Ranks(job.ranks), world)) is None:
        return found
    request, placed = job.request(most.placement), counts_of(most.placement)
    assert request is not None, "a place answers one of the requests"
    there = request.gang.sized({shape.name: placed[shape.name] for shape in request.gang.shapes})
    return best_candidate(Ranks([[_exactly(request, minimums(there, fewest))]]), world)


def _exactly(request: Request, chunk: Chunk) -> Request:
    return replace(request, gang=gang_of(request, chunk))


def place(
    job: Job, chunk: Chunk, beside: Placement | None, world: World, setting: Setting, among: Container[str] | None = None
) -> Placement | None:
    """The best place for a chunk: beside what the job keeps, in the supply that it runs in, or anywhere when it never ran.

    Only the job's first target is tried; with `among`, only these nodes.
    """
    home = beside or (job.active.placement if job.active else None)
    request = job.request(home)
    if request is None:
        return None
    asked = replace(request, gang=finishing(gang_of(request, chunk), request.gang, beside))
    if home is None and among is None:
        candidate = best_candidate(Ranks([[asked]]), world)
    else:
        candidates = list(_candidates(asked, request.gang, home, beside, world, setting, among))
        candidate = min(candidates, key=lambda candidate: choice(candidate, world), default=None)
    return candidate.placement if candidate else None


def _candidates(
    request: Request,
    whole: Gang,
    home: Placement | None,
    beside: Placement | None,
    world: World,
    setting: Setting,
    among: Container[str] | None,
) -> Iterator[Candidate]:
    home_supply = Supply(home.provider, home.region, home.sku) if home else None
    for supply, classes in sift(request, world).classes.items():
        if home_supply in {None, supply}:

            def place(nodes: Nodes, supply: Supply = supply) -> Candidate | None:
                found = near(nodes, request.gang, whole, beside, setting.nodes)
                if among is not None:
                    found = tuple(entry for entry in found if entry.node.id in among)
                return best_on(request, supply, found, world.usage, world.policy.goals.topology)

            yield from options(request.spec, request.gang, classes, world, place)


class Idle:
    """Which nodes have idle room at one moment; it remembers its answers, and lives as long as one search."""

    def __init__(self, world: World) -> None:
        self._rooms = world.rooms
        self._found: dict[tuple[tuple[int, int, int], ...], frozenset[str]] = {}

    def nodes_for(self, gang: Gang) -> frozenset[str]:
        """The nodes with room for one replica of each group."""
        sizes = tuple((shape.milli, shape.cpu_milli, shape.memory_mib) for shape in gang.shapes)
        if sizes not in self._found:
            fits = (id for id, room in self._rooms.items() if all(capacity(room, shape, 1) for shape in gang.shapes))
            self._found[sizes] = frozenset(fits)
        return self._found[sizes]


def soonest(job: Job, chunk: Chunk, beside: Placement | None, later: World, idle: Idle, setting: Setting) -> Placement | None:
    """A place on what is or becomes free, on nodes with idle room for such replicas before others (KAI, `nodeavailability`).

    Where a topology is asked for, that decides instead.
    """
    request = job.request(beside or (job.active.placement if job.active else None))
    gang = gang_of(request, chunk) if request else None
    if gang is not None and not _asks_for_topology(gang) and (ready := idle.nodes_for(gang)):
        found = place(job, chunk, beside, later, setting, ready)
        if found is not None:
            return found
    return place(job, chunk, beside, later, setting)


def promised(world: World, job: Job, placement: Placement, *, is_part: bool = False) -> World:
    """The world once the placement is taken, of what is free or else of what becomes free."""
    return world.promising(job.spec, placement, (), is_part=is_part)


def _asks_for_topology(gang: Gang) -> bool:
    return any(unit.topology != NO_TOPOLOGY for unit in gang.units(each_alone=False))


def reseated(placement: Placement, job: Job, world: World) -> Placement | None:
    """The same replicas on the same nodes, with the devices that this world has free; none where they do not fit."""
    request = job.request(placement)
    shapes = {shape.name: shape for shape in request.gang.shapes} if request else {}
    shares = []
    for share in placement.shares:
        room, replicas = world.rooms[share.node_id], []
        for replica in share.replicas:
            shape = shapes.get(replica.group)
            if shape is None or not capacity(room, shape, 1):
                return None
            room, (seated,) = assign(room, shape, range(replica.index, replica.index + 1))
            replicas.append(seated)
        shares.append(replace(share, room=world.rooms[share.node_id] - room, replicas=tuple(replicas)))
    return replace(placement, shares=tuple(shares))


def part_of(job: Job, placement: Placement, keys: Iterable[ReplicaKey]) -> Active:
    """Some replicas of a running job, as if they were an attempt of their own: what leaves when they do."""
    if job.active is None:
        raise ValueError(f"{job.id} does not run: nothing can be taken from it")
    return replace(job.active, placement=only(placement, job.spec, keys))


def nodes_of(placement: Placement, keys: Iterable[ReplicaKey]) -> set[str]:
    """The nodes that these replicas sit on."""
    wanted = set(keys)
    return {share.node_id for share in placement.shares if _holds(share, wanted)}


def _holds(share: NodeShare, wanted: set[ReplicaKey]) -> bool:
    return any((replica.group, replica.index) in wanted for replica in share.replicas)
