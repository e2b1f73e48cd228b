"""Rules about strata 2 and 3: promises that cannot be kept, and limits that hide behind others."""

from collections.abc import Iterator
from itertools import pairwise

from corral.policy import DisruptionBudget, QuotaModel
from domain.lint.documents import Complaint, Documents
from domain.pool.standing import TIERS

CONTROL_SECONDS = 3_600
"""The window over which guarantees are kept."""


def tiers_out_of_order(documents: Documents) -> Iterator[Complaint]:
    """A lower tier is promised more than a higher one, though it gives way to it."""
    tiers = documents.policy.rank.tiers
    for higher, lower in pairwise(TIERS):
        if tiers[lower].guarantee > tiers[higher].guarantee:
            yield Complaint(
                f"rank.tiers.{lower}.guarantee",
                f"{lower} is promised {tiers[lower].guarantee:g}, more than {higher} ({tiers[higher].guarantee:g})",
                f"expected at most {tiers[higher].guarantee:g}",
            )


def nothing_may_stop(documents: Documents) -> Iterator[Complaint]:
    """Preemption is on, and a limit lets nothing at all be stopped."""
    policy = documents.policy
    if not policy.rank.preemption:
        return
    for at, budget in enumerate(policy.limits.disruption_budgets):
        if budget.stops == 0 and budget.queue is None and budget.tier is None:
            yield Complaint(
                f"limits.disruption_budgets[{at}].stops",
                "allows no stop of any work, and rank.preemption is true",
                "expected at least 1, or a queue or tier that it selects, or rank.preemption: false",
            )
    if policy.limits.maximum_preemptions == 0:
        yield Complaint(
            "limits.maximum_preemptions",
            "makes no workload a victim, and rank.preemption is true",
            "expected at least 1, or rank.preemption: false",
        )
    disruption = policy.rank.disruption
    if policy.rank.quota_model is QuotaModel.RANKED and not (disruption.shrink or disruption.migrate or disruption.stop):
        yield Complaint(
            "rank.disruption",
            "allows nothing to be done to running work, and rank.preemption is true",
            "expected at least one of shrink, migrate and stop, or rank.preemption: false",
        )


def promise_without_means(documents: Documents) -> Iterator[Complaint]:
    """A tier is guaranteed a share of its time that the policy gives no means to keep (`semantics.md` 5, over one hour)."""
    rank = documents.policy.rank
    for tier in TIERS:
        promised = rank.tiers[tier]
        field = f"rank.tiers.{tier}.guarantee"
        if promised.guarantee and not rank.preemption:
            message = f"{tier} is promised {promised.guarantee:g}, and nothing is stopped for it (rank.preemption is false)"
            yield Complaint(field, message, "expected 0, or rank.preemption: true")
        elif promised.preemption_delay_seconds > (1 - promised.guarantee) * CONTROL_SECONDS:
            delay = f"preemption_delay_seconds {promised.preemption_delay_seconds}"
            message = f"{tier} is promised {promised.guarantee:g} of every hour, of which {delay} alone may take more away"
            yield Complaint(field, message, f"expected at most {1 - promised.preemption_delay_seconds / CONTROL_SECONDS:.2f}")


def promise_shorter_than_stopping(documents: Documents) -> Iterator[Complaint]:
    """Capacity is promised for less time than work may take to leave it: the promise ends, and others are asked next."""
    policy = documents.policy
    steps = 2 * policy.stop_seconds
    if policy.rank.preemption and policy.hold_seconds <= steps:
        yield Complaint(
            "hold_seconds",
            f"promises end {policy.hold_seconds} seconds after a grace, before work has left that is stopped by force",
            f"expected more than {steps}, twice stop_seconds",
        )


def shadowed_budget(documents: Documents) -> Iterator[Complaint]:
    """A disruption budget never binds, because one that selects at least as much allows no more."""
    budgets = list(enumerate(documents.policy.limits.disruption_budgets))
    for at, budget in budgets:
        for other_at, other in budgets:
            if _shadows(other, budget, documents) and (not _shadows(budget, other, documents) or other_at < at):
                yield Complaint(
                    f"limits.disruption_budgets[{at}]",
                    f"never binds: limits.disruption_budgets[{other_at}] selects the same work or more, and allows no more",
                    "leave it out, or allow less",
                )
                break


def _shadows(wide: DisruptionBudget, narrow: DisruptionBudget, documents: Documents) -> bool:
    if wide is narrow:
        return False
    covers_queue = wide.queue is None or (narrow.queue is not None and wide.queue in documents.path(narrow.queue))
    covers_tier = wide.tier is None or wide.tier == narrow.tier
    return covers_queue and covers_tier and wide.stops <= narrow.stops and wide.period_seconds >= narrow.period_seconds
