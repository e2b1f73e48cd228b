"""Reprieve: who has notice to leave and may stay, because the beneficiary is gone and nobody else needs it to go."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain

from corral.api import State
from corral.policy import QuotaModel
from domain.calendar.reservations import settled
from domain.decision import Keep
from domain.pool.bookings import closed_to, engagements
from domain.pool.fleet import Node, Room
from domain.pool.standing import standing
from domain.pool.workload import Active
from domain.quota.tree import QuotaTree
from domain.quota.usage import Usage
from domain.snapshot import Snapshot
from domain.worlds.world import with_uses


def reprieved(snapshot: Snapshot, now: datetime) -> tuple[Snapshot, tuple[Keep, ...]]:
    """Let those stay who leave for nobody any more, the highest in rank first; the snapshot in which they do.

    Room that was set aside for one to go on in another shape is given up. Nobody else has it before the next round. Whoever
    sits where somebody else has reserved so soon that it would have to be told again at once goes on leaving.
    """
    doomed = [active for active in snapshot.active if active.beneficiary is not None]
    there = {active.attempt_id for active in snapshot.active} if doomed else set()
    idle = [active for active in doomed if active.beneficiary not in there]
    if not idle:
        return snapshot, ()
    engaged = engagements(settled(snapshot, now).snapshot.bookings, snapshot.nodes)
    stays = [active for active in snapshot.active if not active.preempted and active.state is not State.STOPPING]
    nodes, tree = {node.id: node for node in snapshot.nodes}, _tree(snapshot, now)
    keeps: dict[str, Keep] = {}
    for victim in sorted(idle, key=_rank):
        others = [active for active in stays if active.id != victim.id]
        in_place = victim.staying()
        sits_on = [nodes[share.node_id] for share in victim.placement.shares if share.node_id in nodes]
        kept_for = chain.from_iterable(engaged.get(node.id, ()) for node in sits_on)
        may_stay = not closed_to(victim, kept_for, tree.paths, now, snapshot.policy.limits)
        if may_stay and _has_room([*others, in_place], sits_on) and _has_quota(victim, others, tree):
            stays = [*others, in_place]
            keeps[victim.attempt_id] = Keep(victim.attempt_id, victim.beneficiary or "")
    kept = {active.id: active for active in stays if active.attempt_id in keeps}
    active = [kept.get(each.id, each) for each in snapshot.active if each.id not in kept or each.attempt_id in keeps]
    return replace(snapshot, active=tuple(active)), tuple(keeps.values())


def _tree(snapshot: Snapshot, now: datetime) -> QuotaTree:
    policy = snapshot.policy
    common = policy.rank.quota_model is QuotaModel.DESERVED
    return QuotaTree.at(snapshot.queues, now, policy.limits.sku_classes, snapshot.spent, common=common)


def _rank(victim: Active) -> tuple[int, int, str]:
    tier, priority = standing(victim.spec.tier, victim.spec.priority)
    return -tier, -priority, victim.attempt_id


def _has_room(stays: Iterable[Active], nodes: Sequence[Node]) -> bool:
    """Whether these nodes hold all who stay or are promised room on them, when everybody else has left."""
    left = {node.id: replace(node.total, replicas=node.most_replicas) for node in nodes}
    for active in stays:
        for share in active.placement.shares:
            if share.node_id in left and len(left[share.node_id].devices) == len(share.room.devices):
                left[share.node_id] -= share.room
    return all(_is_enough(room) for room in left.values())


def _is_enough(room: Room) -> bool:
    return min((*room.devices, room.cpu_milli, room.memory_mib, room.replicas)) >= 0


def _has_quota(victim: Active, others: Sequence[Active], tree: QuotaTree) -> bool:
    """Whether quota covers it beside those who have come since it had notice; if none has, nobody used what it gave up."""
    since, root = victim.noticed_at, _root(victim, tree)
    if since is None or not any(other.held_at >= since and _root(other, tree) == root for other in others):
        return True
    usage = with_uses(Usage(tree), others)
    return all(usage.refusal(victim.spec, sku, milli) is None for sku, milli in victim.placement.by_sku.items())


def _root(active: Active, tree: QuotaTree) -> str | None:
    return tree.root(active.spec.queue) if active.spec.queue in tree.paths else None
