"""Parts of a placement: single replicas taken out of it, put back, or added."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count

from corral.api import WHOLE, ReplicaGroup, WorkloadTerms
from domain.pool.fleet import NodeShare, Placement, Replica, Room

ReplicaKey = tuple[str, int]
"""A replica of a placement: its group and its index there."""


def keys_of(placement: Placement) -> list[ReplicaKey]:
    """All replicas, by group and index."""
    return sorted((replica.group, replica.index) for share in placement.shares for replica in share.replicas)


def counts_of(placement: Placement | None) -> Counter[str]:
    """Replicas by group; none have nothing."""
    return Counter(group for group, _ in keys_of(placement)) if placement else Counter()


def replicas_at(shares: Iterable[NodeShare]) -> set[tuple[str, Replica]]:
    """All replicas, each with its node: of two sets the smaller one is of what may go on as some of the larger."""
    return {(share.node_id, replica) for share in shares for replica in share.replicas}


def only(placement: Placement, spec: WorkloadTerms, keys: Iterable[ReplicaKey]) -> Placement:
    """The part of the placement that these replicas have."""
    wanted = set(keys)
    if len(wanted) == placement.replicas:
        return placement
    groups = {group.name: group for group in spec.groups}
    shares = []
    for share in placement.shares:
        kept = tuple(replica for replica in share.replicas if (replica.group, replica.index) in wanted)
        if kept:
            shares.append(replace(share, room=_room(share, kept, groups), replicas=kept))
    return replace(placement, shares=tuple(shares))


def _room(share: NodeShare, kept: Sequence[Replica], groups: Mapping[str, ReplicaGroup]) -> Room:
    devices = [0] * len(share.room.devices)
    cpu_milli = memory_mib = 0
    for replica in kept:
        group = groups[replica.group]
        cpu_milli, memory_mib = cpu_milli + group.cpu_milli, memory_mib + group.memory_mib
        for device in replica.devices:
            devices[device] += min(group.milli, WHOLE)
    return Room(tuple(devices), cpu_milli, memory_mib, len(kept))


def less(placement: Placement, spec: WorkloadTerms, keys: Iterable[ReplicaKey]) -> Placement | None:
    """The placement without these replicas, or none when nothing is left."""
    gone = set(keys)
    kept = [key for key in keys_of(placement) if key not in gone]
    return only(placement, spec, kept) if kept else None


def plus(placement: Placement | None, part: Placement, taken: Collection[ReplicaKey] = ()) -> Placement:
    """The placement with a part added, whose replicas get the first numbers that are free in their groups, and not `taken`."""
    if placement is None:
        return part
    shares = {share.node_id: share for share in placement.shares}
    for share in _renumbered(placement, part, taken).shares:
        if (mine := shares.get(share.node_id)) is not None:
            share = replace(mine, room=mine.room + share.room, replicas=(*mine.replicas, *share.replicas))  # noqa: PLW2901
        shares[share.node_id] = share
    return replace(placement, shares=tuple(shares[node_id] for node_id in sorted(shares)))


def _renumbered(placement: Placement, part: Placement, taken: Collection[ReplicaKey]) -> Placement:
    used = {*keys_of(placement), *taken}
    free = {group: (index for index in count() if (group, index) not in used) for group, _ in keys_of(part)}
    shares = [
        replace(share, replicas=tuple(replace(replica, index=next(free[replica.group])) for replica in share.replicas))
        for share in part.shares
    ]
    return replace(part, shares=tuple(shares))


def spots_of(placement: Placement) -> Counter[tuple[str, str]]:
    """Replicas by node and group: two placements with the same spots differ in nothing that matters."""
    return Counter((share.node_id, replica.group) for share in placement.shares for replica in share.replicas)
