"""Enforcing: running work leaves queues that are above their cap, as after it was lowered, and nobody takes its place."""

from collections.abc import Iterator
from datetime import datetime

from domain.pool.fleet import Amount
from domain.pool.parts import ReplicaKey, only
from domain.pool.standing import Standing
from domain.quota.tree import QuotaTree
from domain.quota_models.deserved.jobs import Job, next_to_evict
from domain.quota_models.deserved.plan import Draft
from domain.quota_models.deserved.protection import candidate


def enforce(draft: Draft) -> None:
    """Take back what queues have above their caps, the widest first, and never more than that (YuniKorn, `quota_preemptor.go`).

    What a parent has too much is divided among its children in proportion to what they have above their nominal. Whoever is
    larger than what is still to be taken stays, so a queue may remain above its cap.
    """
    tree = draft.setting.facts.tree
    for node in sorted(tree.paths, key=lambda node: (len(tree.paths[node]), node)):
        for name in draft.setting.books.names:
            cap = tree.standings[node, name].quota.cap
            used = draft.stage.world.usage.use(node, name).total
            if cap is not None and used > cap:
                for queue, excess in _by_queue(node, name, used - cap, draft):
                    _take(queue, name, excess, draft)


def _by_queue(node: str, name: str, excess: Amount, draft: Draft) -> Iterator[tuple[str, Amount]]:
    """What each queue below a node has to give of its excess."""
    children = _children(node, draft.setting.facts.tree)
    if not children:
        yield node, excess
        return
    usage, books = draft.stage.world.usage, draft.setting.books
    spare = {child: max(0, usage.use(child, name).total - (books.deserved(child, name) or 0)) for child in children}
    for child in children:
        if spare[child]:
            yield from _by_queue(child, name, excess * spare[child] // sum(spare.values()), draft)


def _children(node: str, tree: QuotaTree) -> list[str]:
    return sorted(child for child, path in tree.paths.items() if path[1:2] == (node,))


def _take(queue: str, name: str, excess: Amount, draft: Draft) -> None:
    """Stop work of a queue, or shrink it, as long as it is no more than the excess."""
    for job in sorted((job for job in draft.running() if job.queue == queue), key=lambda job: _hardship(job, draft)):
        while (keys := _loss(job, draft)) and (amount := _amount(job, keys, name, draft)) <= excess:
            draft.cut(job, keys)
            excess -= amount


def _loss(job: Job, draft: Draft) -> tuple[ReplicaKey, ...]:
    """What the job would lose next; nothing while it is protected or once it has nothing left."""
    placement = draft.stage.placed.get(job.id)
    if placement is None or (found := candidate(job, job, draft.stage, draft.setting)) is None:
        return ()
    keys = next_to_evict(job, placement)
    return () if found.protected and len(keys) == placement.replicas else keys


def _amount(job: Job, keys: tuple[ReplicaKey, ...], name: str, draft: Draft) -> Amount:
    part = only(draft.stage.placed[job.id], job.spec, keys)
    return draft.setting.books.named(part.by_sku).get(name, 0)


def _hardship(job: Job, draft: Draft) -> tuple[Standing, float, Amount, str]:
    """Lowest tier and priority, then youngest by the hour, then smallest."""
    hour: datetime = job.submitted_at.replace(minute=0, second=0, microsecond=0)
    return job.standing, -hour.timestamp(), draft.stage.placed[job.id].milli, job.id
