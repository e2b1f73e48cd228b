"""What may happen to a pool between two rounds that no round decided."""

from dataclasses import replace
from random import Random

from corral.policy import QuotaModel
from domain.pool.fleet import Health
from domain.snapshot import Snapshot
from tests.builders import by_model


def some(random: Random, number: int) -> int:
    return random.randrange(number) if number else 0


def a_change(snapshot: Snapshot, random: Random) -> Snapshot:
    """The pool after something has happened to it that no round decided."""
    happenings = (_somebody_went, _a_node_failed, _a_node_went, _a_queue_was_edited, _everybody_may_wait, _the_policy_changed)
    return random.choice(happenings)(snapshot, random)


def _somebody_went(snapshot: Snapshot, random: Random) -> Snapshot:
    active, waiting = list(snapshot.active), list(snapshot.waiting)
    del active[some(random, len(active)) :], waiting[some(random, len(waiting)) :]
    return replace(snapshot, active=tuple(active), waiting=tuple(waiting))


def _a_node_failed(snapshot: Snapshot, random: Random) -> Snapshot:
    at = some(random, len(snapshot.nodes))
    nodes = [replace(node, health=Health.LOST) if at == place else node for place, node in enumerate(snapshot.nodes)]
    return replace(snapshot, nodes=tuple(nodes))


def _a_node_went(snapshot: Snapshot, random: Random) -> Snapshot:
    at = some(random, len(snapshot.nodes))
    return replace(snapshot, nodes=(*snapshot.nodes[:at], *snapshot.nodes[at + 1 :]))


def _a_queue_was_edited(snapshot: Snapshot, random: Random) -> Snapshot:
    at = some(random, len(snapshot.queues))
    edited = snapshot.queues[at].model_copy(update={"weight": 7, "quotas": snapshot.queues[at].quotas[:1]})
    return replace(snapshot, queues=(*snapshot.queues[:at], edited, *snapshot.queues[at + 1 :]))


def _everybody_may_wait(snapshot: Snapshot, random: Random) -> Snapshot:
    """Only some have a turn."""
    at = some(random, len(snapshot.waiting))
    return replace(snapshot, waiting=snapshot.waiting[:at], bystanders=(*snapshot.bystanders, *snapshot.waiting[at:]))


def _the_policy_changed(snapshot: Snapshot, random: Random) -> Snapshot:
    """To another one and back, among others."""
    policy = by_model(random.choice(list(QuotaModel)))
    goals = policy.goals.model_copy(update={"fragmentation": random.choice((0.0, policy.goals.fragmentation))})
    return replace(snapshot, policy=policy.model_copy(update={"goals": goals}))
