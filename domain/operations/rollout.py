"""Roll-outs: what a change of policy or queues would do to everybody, and what has changed since that was said."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from corral.api import WHOLE, QueueTree
from corral.policy import LintFinding
from corral.rollout import Change, Effect, EffectKind, Surroundings, WhatIf, digest_of
from domain.decision import Decision, Plan, Refuse, Start, StartAfter, Wait
from domain.facts import Facts
from domain.isolation import schedule_around
from domain.lint.change import what_speaks_against
from domain.lint.rules import lint
from domain.operations.approval import why_rollout
from domain.pool.fleet import Health
from domain.pool.workload import Active, Waiting
from domain.quota.tree import check_tree, merged
from domain.remembered.attained import counted
from domain.snapshot import Snapshot
from domain.worlds.world import World

TOKEN_CHARACTERS = 16
NAMED = 5
"""Workloads that a sentence names."""


def changed(change: Change, snapshot: Snapshot) -> Snapshot:
    """The pool with the change in force."""
    if change.policy is not None:
        return replace(snapshot, policy=change.policy)
    assert change.queues is not None, "a change is one of the two"
    return replace(snapshot, queues=merged(change.queues, snapshot.queues).queues)


def against(change: Change, snapshot: Snapshot, now: datetime) -> tuple[LintFinding, ...]:
    """Everything that is wrong with the change for this pool.

    Raises:
        domain.quota.tree.QuotaError: the queues form no tree.
    """
    if change.policy is not None:
        return what_speaks_against(snapshot, change.policy, now)
    queues = changed(change, snapshot).queues
    check_tree(QueueTree.model_construct(queues=queues))
    return lint(snapshot.policy, queues)


def what_if(change: Change, snapshot: Snapshot, now: datetime) -> WhatIf:
    """What the change would do in the next round, beside what that round would do without it.

    Raises:
        domain.quota.tree.QuotaError: the queues form no tree.
    """
    findings = against(change, snapshot, now)
    is_refused = any(finding.refuses for finding in findings)
    effects = () if is_refused else tuple(_effects(snapshot, changed(change, snapshot), now))
    around = surroundings(snapshot)
    found = WhatIf(token="", surroundings=around, findings=findings, effects=effects)
    token = digest_of([change.digest, around.model_dump(mode="json"), found.hurt])[:TOKEN_CHARACTERS]
    needs = why_rollout(found, snapshot.policy.approvals)
    return found.model_copy(update={"token": token, "needs": needs})


def surroundings(snapshot: Snapshot) -> Surroundings:
    """What a what-if rests on, but for the work, whose comings and goings show in who is hurt."""
    supply: Counter[str] = Counter()
    for node in snapshot.nodes:
        usable = node.total.milli // WHOLE if node.health is Health.READY else 0
        supply[f"{node.provider}/{node.region} {node.sku}"] += usable
    return Surroundings(
        policy=f"{snapshot.policy.name} ({snapshot.policy.digest[:12]})",
        queues={queue.name: digest_of(queue.model_dump(mode="json"))[:12] for queue in snapshot.queues},
        supply=dict(supply),
    )


def what_changed(before: Surroundings, hurt_before: Iterable[str], after: WhatIf) -> list[str]:
    """Why a what-if is not so any more, in words; nothing where it is, or where fewer are worse off than it said."""
    now, said = after.surroundings, []
    if before.policy != now.policy:
        said.append(f"the policy in force is {now.policy} and was {before.policy}")
    edited = sorted(
        name for name in before.queues.keys() | now.queues.keys() if before.queues.get(name) != now.queues.get(name)
    )
    if edited:
        said.append(f"queues were edited: {named(edited)}")
    for place in sorted(before.supply.keys() | now.supply.keys()):
        is_now, was = now.supply.get(place, 0), before.supply.get(place, 0)
        if is_now != was:
            said.append(f"{is_now} accelerators of {place} take work and were {was}")
    if more := sorted(set(after.hurt) - set(hurt_before)):
        said.append(f"it would now do more harm: {named(more)}")
    return said


def named(names: Sequence[str]) -> str:
    """The first few of them, and how many more there are."""
    return f"{', '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''}"


# What it does


def _effects(before: Snapshot, after: Snapshot, now: datetime) -> Iterator[Effect]:
    plan_before, plan_after = schedule_around(before, now)[0], schedule_around(after, now)[0]
    facts_before, facts_after = Facts.of(counted(before, now), now), Facts.of(counted(after, now), now)
    yield from _refused(plan_before, plan_after, after)
    yield from _who_leaves(plan_before, plan_after, after)
    yield from _protection(facts_before, facts_after)
    yield from _over_cap(before, after, facts_before, facts_after)
    yield from _who_starts(plan_before, plan_after, after)


def _refused(before: Plan, after: Plan, snapshot: Snapshot) -> Iterator[Effect]:
    known = {each.workload_id for each in before.decisions if isinstance(each, Refuse)}
    waiting = _by_id(snapshot)
    for each in after.decisions:
        if isinstance(each, Refuse) and each.workload_id not in known:
            yield _effect(EffectKind.REFUSED, waiting[each.workload_id], each.explanation.message)


def _who_leaves(before: Plan, after: Plan, snapshot: Snapshot) -> Iterator[Effect]:
    leaving_before, leaving = _leaving(before), _leaving(after)
    moving_before, moving = ({each.attempt_id for each in plan.reshapes} for plan in (before, after))
    for active in sorted(snapshot.active, key=lambda active: active.id):
        attempt = active.attempt_id
        if attempt in leaving and attempt not in leaving_before:
            yield _effect(EffectKind.LEAVES, active, leaving[attempt])
        elif attempt in leaving_before and attempt not in leaving:
            yield _effect(EffectKind.STAYS, active, f"would otherwise leave: {leaving_before[attempt]}")
        elif attempt in moving - moving_before:
            yield _effect(EffectKind.MOVES, active, "goes on elsewhere, or in another size")


def _leaving(plan: Plan) -> dict[str, str]:
    """Why attempts would have to leave, by attempt id."""
    victims = {victim: f"makes room for {beneficiary}" for victim, beneficiary in plan.preempts}
    return victims | {stop.attempt_id: stop.why or stop.reason for stop in plan.stops}


def _who_starts(before: Plan, after: Plan, snapshot: Snapshot) -> Iterator[Effect]:
    started, waiting = {id for id, each in _decided(before).items() if isinstance(each, Start | StartAfter)}, _by_id(snapshot)
    for id, decision in sorted(_decided(after).items()):
        match decision:
            case Start() if id not in started:
                yield _effect(EffectKind.STARTS, waiting[id], "on free capacity")
            case StartAfter(victims=victims) if id not in started:
                yield _effect(EffectKind.STARTS, waiting[id], f"when {len(victims)} others have left")
            case Wait(explanation=why) if id in started:
                yield _effect(EffectKind.WAITS, waiting[id], f"would otherwise start: {why.message}")


def _decided(plan: Plan) -> dict[str, Decision]:
    return {decision.workload_id: decision for decision in plan.decisions}


def _by_id(snapshot: Snapshot) -> dict[str, Waiting]:
    return {workload.id: workload for workload in snapshot.waiting}


@dataclass(frozen=True, slots=True)
class _Shield:
    """What keeps running work where it is: the nominal quota of its queue, a promise, a time that it has at least."""

    in_quota: bool
    guarantee: float
    minimum_seconds: float

    @classmethod
    def of(cls, active: Active, facts: Facts) -> "_Shield":
        protection, rank = facts.protection, facts.policy.rank
        queue = facts.queues.get(active.spec.queue)
        least = max(rank.tiers[active.spec.tier].minimum_runtime_seconds, queue.minimum_runtime_seconds if queue else 0)
        guarantee = rank.tiers[protection.runs_as(active)].guarantee
        return cls(not protection.is_over_quota(active), guarantee, least if rank.preemption else float("inf"))

    def lost_in(self, other: "_Shield") -> str:
        """What the other lacks of it, in words."""
        lost = ["its queue's nominal quota covers it no more"] if self.in_quota and not other.in_quota else []
        if other.guarantee < self.guarantee:
            lost.append(f"its guarantee falls from {self.guarantee:g} to {other.guarantee:g}")
        if other.minimum_seconds < self.minimum_seconds:
            was = "for ever" if self.minimum_seconds == float("inf") else f"for {self.minimum_seconds:g} s"
            lost.append(f"it may be stopped after {other.minimum_seconds:g} s, and was safe {was}")
        return "; ".join(lost)


def _protection(before: Facts, after: Facts) -> Iterator[Effect]:
    for active in sorted(after.active.values(), key=lambda active: active.id):
        was, becomes = _Shield.of(active, before), _Shield.of(active, after)
        if lost := was.lost_in(becomes):
            yield _effect(EffectKind.LOSES_PROTECTION, active, lost)
        elif becomes.lost_in(was):
            yield _effect(EffectKind.GAINS_PROTECTION, active, f"without it: {becomes.lost_in(was)}")


def _over_cap(before: Snapshot, after: Snapshot, facts_before: Facts, facts_after: Facts) -> Iterator[Effect]:
    known = {(queue, name) for queue, name, _, _ in _beyond(before, facts_before)}
    for queue, name, used, cap in _beyond(after, facts_after):
        if (queue, name) not in known:
            message = f"uses {used / WHOLE:g} {name}, and its cap is {cap / WHOLE:g}"
            yield Effect(kind=EffectKind.OVER_CAP, queue=queue, accelerators=(used - cap) / WHOLE, message=message)


def _beyond(snapshot: Snapshot, facts: Facts) -> Iterator[tuple[str, str, int, int]]:
    usage = World.of(snapshot, facts.tree).usage
    for (queue, name), standing in sorted(facts.tree.standings.items()):
        cap, used = standing.quota.cap, usage.use(queue, name).total
        if cap is not None and used > cap:
            yield queue, name, used, cap


def _effect(kind: EffectKind, work: Active | Waiting, message: str) -> Effect:
    spec = work.spec
    milli = work.milli if isinstance(work, Active) else sum(group.milli * group.count for group in work.groups())
    return Effect(kind=kind, workload=work.id, queue=spec.queue, tier=spec.tier, accelerators=milli / WHOLE, message=message)
