"""Rules about stratum 1: scopes that leave nothing, and lists and names that other scopes make idle."""

from collections.abc import Iterator

from corral.api import QueueSpec
from corral.policy import Policy
from domain.lint.documents import Complaint, Documents, listed
from domain.lint.reach import Reach
from domain.worlds.law import Article, Case

Scope = tuple[str, str]


def nobody_can_run(documents: Documents) -> Iterator[Complaint]:
    """Whoever a scope speaks about, everything that it leaves is taken away by others: no work can ever run under it."""
    reach = Reach.of(documents)
    for kind, name in documents.law.articles:
        if reach.permitted(_cases((kind, name), reach)) is None:
            blame = reach.breaches(_cases((kind, name), reach))
            if kind in {"regions", "skus"} and all(where.startswith("constraints.platform.") for where in blame):
                continue  # closed on purpose: the scope is idle, and its lists are told of as such
            yield Complaint(
                _field(kind, name),
                f"no work can ever run under this scope: {listed(blame)} together leave nothing",
                "expected at least one SKU, region, provider and capacity type that all of them permit",
            )


def shadowed_list(documents: Documents) -> Iterator[Complaint]:
    """A list never decides, because wider scopes refuse all that it refuses."""
    reach = Reach.of(documents)
    for scope, articles in documents.law.articles.items():
        for article in articles:
            if reach.first_broken_by(article, _cases(scope, reach)) is None:
                wider = [where for where in reach.breaches(_broken_by(article, scope, reach)) if where != article.where]
                by = f"; {listed(wider)} refuse it all before" if wider else ""
                yield Complaint(article.where, f"refuses nothing that is not refused anyway{by}", "leave the list out")


def idle_name(documents: Documents) -> Iterator[Complaint]:
    """A list allows what a wider scope or a denial refuses: a scope can only tighten the ones around it."""
    reach = Reach.of(documents)
    for scope, articles in documents.law.articles.items():
        if reach.permitted(_cases(scope, reach)) is None:
            continue
        for article in articles:
            for index, name in enumerate(() if article.denies else article.names):
                cases = [case for case in _cases(scope, reach) if case.value(article.dimension) == name]
                if reach.permitted(cases) is None:
                    yield Complaint(
                        f"{article.where}[{index}]",
                        f"allows {name}, which {listed(reach.breaches(cases))} refuses; a scope only tightens those around it",
                        "leave the name out",
                    )


def never_with_its_quota(documents: Documents) -> Iterator[Complaint]:
    """The policy keeps a queue from every SKU that the queue has quota for."""
    reach = Reach.of(documents)
    classes = documents.policy.limits.sku_classes
    for index, queue in enumerate(documents.queues):
        skus = [sku for quota in queue.quotas for sku in classes.get(quota.sku, (quota.sku,))]
        if not skus or _is_cohort(queue, documents):
            continue
        path = documents.path(queue.name)
        if reach.permitted(reach.cases(queues=path, skus=skus)) is None:
            blame = listed(reach.breaches(reach.cases(queues=path, skus=skus)))
            yield Complaint(
                _field("queues", queue.name) if queue.name in documents.policy.constraints.queues else "constraints",
                f"queue {queue.name} has quota for {listed(skus)}, and {blame} refuse all of it (queues[{index}])",
                "expected a SKU with quota that the policy permits",
            )


def unknown_queue(documents: Documents) -> Iterator[Complaint]:
    """The policy speaks about a queue that the tree does not have."""
    if not documents.queues:
        return
    for field, queue in _named_queues(documents.policy):
        if queue not in documents.by_name:
            known = listed(tuple(sorted(documents.by_name)))
            yield Complaint(field, f"queue {queue} does not exist", f"expected one of {known}; define it, or leave this out")


def _named_queues(policy: Policy) -> Iterator[tuple[str, str]]:
    for queue in policy.constraints.queues:
        yield _field("queues", queue), queue
    for at, budget in enumerate(policy.limits.disruption_budgets):
        if budget.queue is not None:
            yield f"limits.disruption_budgets[{at}].queue", budget.queue
    for at, preference in enumerate(policy.goals.preferences):
        for number, queue in enumerate(preference.queues or ()):
            yield f"goals.preferences[{at}].queues[{number}]", queue


def _cases(scope: Scope, reach: Reach) -> Iterator[Case]:
    """The cases that a scope speaks about; those of no other queue."""
    kind, name = scope
    match kind:
        case "regions":
            return reach.cases(regions=(name,))
        case "skus":
            return reach.cases(skus=(name,))
        case "tenants":
            return reach.cases(tenants=(name,))
        case "queues":
            return reach.cases(queues=reach.documents.path(name))
        case _:
            return reach.cases()


def _broken_by(article: Article, scope: Scope, reach: Reach) -> Iterator[Case]:
    return (case for case in _cases(scope, reach) if not article.permits(case))


def _field(kind: str, name: str) -> str:
    return f"constraints.{kind}.{name}" if name else f"constraints.{kind}"


def _is_cohort(queue: QueueSpec, documents: Documents) -> bool:
    return any(other.parent == queue.name for other in documents.queues)
