"""Rules about knobs: settings that the rest of the documents makes meaningless."""

from collections.abc import Iterable, Iterator, Mapping

from corral.api import QueueSpec, QuotaSpec
from corral.policy import Action, DocumentKind, Policy, QuotaModel
from domain.lint.documents import Complaint, Documents, listed

RANKED, COHORTS, DESERVED = QuotaModel.RANKED, QuotaModel.COHORTS, QuotaModel.DESERVED

POLICY_KNOBS: Mapping[str, frozenset[QuotaModel]] = {
    "limits.starts_per_round": frozenset({RANKED, COHORTS}),
    "limits.starts_per_queue_and_round": frozenset({RANKED, COHORTS}),
    "rank.ageing_seconds_per_priority": frozenset({RANKED}),
    "rank.cohorts": frozenset({COHORTS}),
    "rank.deserved": frozenset({DESERVED}),
    "rank.disruption": frozenset({RANKED}),
    "goals.fragmentation": frozenset({RANKED}),
    "goals.improvement": frozenset({RANKED}),
    "goals.defragmentation": frozenset({RANKED}),
}
"""The models that read a part of the policy; every other part is read by all of them."""

QUEUE_KNOBS: Mapping[str, frozenset[QuotaModel]] = {
    "ordering": frozenset({RANKED, COHORTS}),
    "sku_order": frozenset({COHORTS, DESERVED}),
    "preemption": frozenset({COHORTS}),
    "fungibility": frozenset({COHORTS}),
    "priority": frozenset({DESERVED}),
    "minimum_runtime_seconds": frozenset({RANKED, DESERVED}),
    "reclaim_minimum_runtime_seconds": frozenset({RANKED, DESERVED}),
}
"""The models that read a field of a queue; every other field is read by all of them."""

QUOTA_KNOBS: Mapping[str, frozenset[QuotaModel]] = {"over_quota_weight": frozenset({DESERVED})}
"""The models that read a field of a quota."""


def setting_of_another_model(documents: Documents) -> Iterator[Complaint]:
    """The policy sets what only another quota model reads."""
    policy = documents.policy
    model = policy.rank.quota_model
    for path, models in POLICY_KNOBS.items():
        if model not in models and _differs(policy, path):
            yield Complaint(path, f"the quota model {model} does not read it", _remedy(models))


def queue_field_of_another_model(documents: Documents) -> Iterator[Complaint]:
    """A queue or a quota sets what only another quota model reads."""
    model = documents.policy.rank.quota_model
    for at, queue in enumerate(documents.queues):
        for field, models in _set(queue, QUEUE_KNOBS):
            yield from _ignored(f"queues[{at}].{field}", f"of queue {queue.name}", model, models)
        for number, quota in enumerate(queue.quotas):
            for field, models in _set(quota, QUOTA_KNOBS):
                yield from _ignored(f"queues[{at}].quotas[{number}].{field}", f"of queue {queue.name}", model, models)


def _ignored(field: str, whose: str, model: QuotaModel, models: frozenset[QuotaModel]) -> Iterator[Complaint]:
    if model not in models:
        message = f"{field.rpartition('.')[2]} {whose} has no effect: the quota model {model} does not read it"
        yield Complaint(field, message, _remedy(models), DocumentKind.QUEUES)


def _set(
    spec: QueueSpec | QuotaSpec, knobs: Mapping[str, frozenset[QuotaModel]]
) -> Iterable[tuple[str, frozenset[QuotaModel]]]:
    return (
        (field, models) for field, models in knobs.items() if getattr(spec, field) != type(spec).model_fields[field].default
    )


def _remedy(models: frozenset[QuotaModel]) -> str:
    return f"leave it out, or choose rank.quota_model: {listed(tuple(sorted(models)))}"


def _differs(policy: Policy, path: str) -> bool:
    return _at(policy, path) != _at(Policy(), path)


def _at(policy: Policy, path: str) -> object:
    value: object = policy
    for step in path.split("."):
        value = getattr(value, step)
    return value


def setting_of_a_closed_branch(documents: Documents) -> Iterator[Complaint]:
    """A setting of the model in force that another one of its settings leaves without effect."""
    policy, rank, limits = documents.policy, documents.policy.rank, documents.policy.limits
    actions, improves = set(rank.deserved.actions), policy.goals.improvement.work > 0
    moves_any = policy.goals.defragmentation.moves_at_once > 0
    is_unlimited = limits.starts_per_round is None and limits.starts_per_queue_and_round is None
    branches = (
        (COHORTS, "rank.cohorts.fair_preemption", rank.cohorts.fair_sharing, "fair_sharing is false"),
        (
            DESERVED,
            "rank.deserved.consolidated_workloads",
            Action.CONSOLIDATE in actions,
            "consolidate is not among the actions",
        ),
        (RANKED, "goals.improvement.nodes", improves, "work is 0"),
        (RANKED, "goals.improvement.worth", improves, "work is 0"),
        (RANKED, "goals.improvement", is_unlimited, "a round that may only start so many is not improved on"),
        (RANKED, "goals.defragmentation.horizon_seconds", moves_any, "moves_at_once is 0"),
        (RANKED, "goals.defragmentation.daily_share", moves_any, "moves_at_once is 0"),
        (RANKED, "goals.defragmentation", rank.disruption.migrate, "rank.disruption.migrate is false"),
        (DESERVED, "rank.deserved.scenarios", actions > {Action.ALLOCATE}, "allocate is the only action"),
    )
    for model, field, is_open, why in branches:
        if rank.quota_model is model and not is_open and _differs(policy, field):
            yield Complaint(field, f"has no effect: {why}", "leave it out, or change that")


def setting_of_preemption(documents: Documents) -> Iterator[Complaint]:
    """Preemption is off, and something is set that only bounds or protects from preemption."""
    policy, default = documents.policy, Policy()
    if policy.rank.preemption:
        return
    message = "has no effect: rank.preemption is false, so that nothing is stopped for other work"
    if policy.limits.disruption_budgets:
        yield Complaint("limits.disruption_budgets", message, "leave it out, or set rank.preemption: true")
    if policy.rank.quota_model is RANKED and policy.rank.disruption != default.rank.disruption:
        yield Complaint("rank.disruption", message, "leave it out, or set rank.preemption: true")
    if policy.rank.quota_model is RANKED and policy.goals.defragmentation != default.goals.defragmentation:
        yield Complaint("goals.defragmentation", message, "leave it out, or set rank.preemption: true")
    if policy.limits.maximum_preemptions != default.limits.maximum_preemptions:
        yield Complaint("limits.maximum_preemptions", message, "leave it out, or set rank.preemption: true")
    for at, queue in enumerate(documents.queues):
        if queue.minimum_runtime_seconds:
            field = f"queues[{at}].minimum_runtime_seconds"
            yield Complaint(field, f"of queue {queue.name} {message}", "leave it out", DocumentKind.QUEUES)


def weight_without_borrowing(documents: Documents) -> Iterator[Complaint]:
    """A queue has a weight, which divides what is lent, and can borrow nothing."""
    for at, queue in enumerate(documents.queues):
        if queue.weight != QueueSpec.model_fields["weight"].default and (why := _why_no_borrowing(queue, documents)):
            message = f"weight {queue.weight} of queue {queue.name} has no effect: {why}"
            yield Complaint(f"queues[{at}].weight", message, "leave it out, or let the queue borrow", DocumentKind.QUEUES)


def _why_no_borrowing(queue: QueueSpec, documents: Documents) -> str:
    rank = documents.policy.rank
    if rank.quota_model is COHORTS and not rank.cohorts.fair_sharing:
        return "rank.cohorts.fair_sharing is false"
    if rank.quota_model is DESERVED:
        return ""
    if queue.parent is None:
        return "nobody is above it to lend it anything"
    below = [each for each in documents.queues if queue.name in documents.path(each.name)]
    rows = [quota for each in below for quota in each.quotas]
    if rows and all(quota.borrowing_limit == 0 or quota.cap == quota.nominal for quota in queue.quotas or rows):
        return "it may not borrow of any SKU"
    return ""


def unused_class(documents: Documents) -> Iterator[Complaint]:
    """A class of SKUs that no quota names, or one that stands for nothing."""
    used = {quota.sku for queue in documents.queues for quota in queue.quotas}
    for name, skus in documents.policy.limits.sku_classes.items():
        field = f"limits.sku_classes.{name}"
        if not skus:
            yield Complaint(field, f"class {name} has no SKUs", "name some, or leave it out")
        elif documents.queues and name not in used:
            yield Complaint(field, f"no quota names the class {name}", "give a queue quota for it, or leave it out")
