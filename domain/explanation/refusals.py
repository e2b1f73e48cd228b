"""Refusals of what can never run: what was asked, what exists, what to do."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from fractions import Fraction

from corral.api import WHOLE, Explanation, Reason
from domain.decision import Rejection
from domain.explanation.answers import evidence
from domain.explanation.finding import Finding, dominant
from domain.explanation.wording import (
    _fitting,
    amount,
    apart,
    asked,
    forbidden,
    in_one_domain,
    node_too_small,
    not_selected,
    place_name,
    so_many_replicas,
    user_of,
)
from domain.pool.workload import Waiting
from domain.quota.tree import QuotaTree
from domain.worlds.request import Request
from domain.worlds.world import Supply, World

MOST_NAMES = 3


def unknown_queue(queue: str, as_of: datetime) -> Explanation:
    """The workload names a queue that does not exist; which others there are is not for everybody to know."""
    message = f"queue {queue} does not exist; check its name, ask an operator which queue is yours, or have {queue} defined"
    return Explanation(reason=Reason.UNKNOWN_QUEUE, message=message, as_of=as_of)


def with_nearest_queues(explanation: Explanation, queue: str, known: Iterable[str]) -> Explanation:
    """The same for an operator, who may know the queues whose names are nearest."""
    names = sorted(set(known))
    nearest = get_close_matches(queue, names, n=MOST_NAMES, cutoff=0.5)
    hint = f"its name is most like those of {', '.join(nearest)}" if nearest else f"none of the {len(names)} has a name like it"
    return explanation.model_copy(update={"message": f"{explanation.message}; {hint}"})


def cannot_be_guaranteed(workload: Waiting, amount_sold: Fraction, left: Fraction, as_of: datetime) -> Explanation:
    """The promise of the workload's tier could not be kept beside those that were made before."""
    message = (
        f"the promise of tier {workload.spec.tier} takes {float(amount_sold) / WHOLE:g} accelerators that are there whatever"
        f" fails; {float(max(Fraction(0), left)) / WHOLE:g} are not promised yet;"
        " submit it as basic or a lower tier, ask for less, or add capacity"
    )
    return Explanation(reason=Reason.GUARANTEE_CANNOT_BE_KEPT, message=message, as_of=as_of)


def no_matching_capacity(findings: Sequence[Finding], idle: World, as_of: datetime) -> Explanation:
    """No node of the fleet could ever take the workload, whatever becomes free."""
    nearest = dominant(findings)
    message = IMPOSSIBLE[nearest.rejection.reason](nearest, idle)
    return Explanation(
        reason=Reason.NO_MATCHING_CAPACITY, message=message, evidence=evidence(findings, when_idle=True), as_of=as_of
    )


def never_fits_quota(fitting: Sequence[tuple[Request, Supply]], widest: QuotaTree, as_of: datetime) -> Explanation:
    """The workload exceeds what its queue could have if nobody else used anything."""
    ceilings = {
        (widest.ceiling_of(request.spec, supply.sku), supply.sku, request.index or 0): (request) for request, supply in fitting
    }
    (most, sku, _), request = min(ceilings.items(), key=lambda item: (item[1].gang.minimum_milli - item[0][0], item[0][1:]))
    queue = request.spec.queue
    own = "" if request.spec.preemptible else " as work that may not be preempted"
    own += f" for {user_of(request)}" if widest.limits_on(request.spec) else ""
    has = f"could never have more than {amount(max(0, most))}{own}" if widest.has_quota(queue, sku) else "has no quota for it"
    message = f"asks for {asked(request.gang, sku)}; queue {queue} {has}; ask for less, use another queue or raise its quota"
    return Explanation(reason=Reason.NEVER_WITHIN_QUOTA, message=message, as_of=as_of)


def never_within_budget(unpaid: Iterable[Rejection], as_of: datetime) -> Explanation:
    """The workload would use up more than a hard budget ever has."""
    nearest = min(unpaid, key=lambda each: (each.needs - each.has, each.candidate))
    message = (
        f"would use up {amount(nearest.needs)} of the budget of {nearest.candidate}, which never has more than"
        f" {amount(nearest.has)} for one workload; ask for less or for a shorter time, use another queue or raise the budget"
        if nearest.needs
        else f"the budget of {nearest.candidate} has nothing to use up; use another queue or raise the budget"
    )
    return Explanation(reason=Reason.NEVER_WITHIN_QUOTA, message=message, as_of=as_of)


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names))) or "none"


def _never_enough(finding: Finding, idle: World) -> str:
    return (
        f"asks for {asked(finding.request.gang, finding.supply.sku)} in one region; the largest has room for"
        f" {amount(finding.rejection.has)} when idle ({place_name(finding.supply)}); ask for less, or add a target"
    )


def _never_on_one_node(finding: Finding, idle: World) -> str:
    return f"{node_too_small(finding)}; use smaller replicas, or add a target"


def _never_in_one_domain(finding: Finding, idle: World) -> str:
    supply, needs = finding.supply, in_one_domain(finding)
    topology = finding.request.gang.part_with(finding.rejection.group).topology
    for level in (topology.required, topology.slice_level):
        if level is not None and (levels := _levels_instead(level, supply, idle)):
            return f"asks for {needs}; its nodes know no such level, but {levels}; correct the required level"
    return (
        f"asks for {needs}; the largest has room for {_fitting(finding)} when idle"
        f" ({place_name(supply)}); ask for less, or require a wider level"
    )


def _never_apart(finding: Finding, idle: World) -> str:
    supply, needs = finding.supply, apart(finding)
    if levels := _levels_instead(finding.rejection.candidate, supply, idle):
        return f"asks for {needs}; its nodes know no such level, but {levels}; correct the level of the spread"
    return (
        f"asks for {needs}; there is room for {finding.rejection.has} of them so when idle ({place_name(supply)});"
        " ask for fewer, or let more of them sit in one"
    )


def _levels_instead(level: str, supply: Supply, idle: World) -> str:
    """The levels that nodes of a supply know, where none of them knows this one; else nothing."""
    nodes = [entry.node for traits, found in idle.classes.items() if traits.supply == supply for entry in found]
    return "" if any(node.domain(level) for node in nodes) else _list(name for node in nodes for name, _ in node.topology)


def _never_so_many_replicas(finding: Finding, idle: World) -> str:
    return (
        f"asks for {so_many_replicas(finding.rejection.needs)}; idle nodes take {finding.rejection.has} in one region"
        f" ({place_name(finding.supply)}); ask for fewer and larger replicas, or add a target"
    )


def _never_selected(finding: Finding, idle: World) -> str:
    return f"{not_selected(finding)}; correct them, or add a target"


def _never_enough_cpu_or_memory(finding: Finding, idle: World) -> str:
    return (
        f"asks for {so_many_replicas(finding.rejection.needs)}; idle nodes have cpu and memory for {finding.rejection.has} in"
        f" one region ({place_name(finding.supply)}); ask for less cpu or memory per replica, or add a target"
    )


def _never_tolerated(finding: Finding, idle: World) -> str:
    taints = {taint for traits in idle.classes if traits.supply == finding.supply for taint in traits.taints}
    return (
        f"every acceptable node has a taint that is not tolerated ({_list(taints)}); add it to tolerations,"
        " if the work may run there"
    )


def _never_permitted(finding: Finding, idle: World) -> str:
    return f"{forbidden(finding)}; add a target that it permits, or have the policy changed"


def _never_accepted(
    what: str, accepted: Callable[[Request], Iterable[str]], existing: Callable[[Finding, World], Iterable[str]]
) -> Callable[[Finding, World], str]:
    def sentence(finding: Finding, idle: World) -> str:
        return (
            f"asks for {what} {_list(accepted(finding.request))}; the fleet has {_list(existing(finding, idle))};"
            f" correct the {what} or add a target"
        )

    return sentence


IMPOSSIBLE: Mapping[Reason, Callable[[Finding, World], str]] = {
    Reason.TOO_FEW_DOMAINS: _never_apart,
    Reason.TOPOLOGY_DOMAIN_TOO_SMALL: _never_in_one_domain,
    Reason.NODES_TAKE_NO_MORE_REPLICAS: _never_so_many_replicas,
    Reason.NODE_NOT_SELECTED: _never_selected,
    Reason.NODE_TOO_SMALL: _never_on_one_node,
    Reason.NOT_ENOUGH_FREE_CPU_OR_MEMORY: _never_enough_cpu_or_memory,
    Reason.NOT_ENOUGH_FREE_ACCELERATORS: _never_enough,
    Reason.FORBIDDEN_BY_POLICY: _never_permitted,
    Reason.TAINT_NOT_TOLERATED: _never_tolerated,
    Reason.CAPACITY_TYPE_NOT_ACCEPTED: _never_accepted(
        "capacity type",
        lambda request: request.target.capacity_types,
        lambda finding, idle: (traits.capacity_type for traits in idle.classes if traits.supply == finding.supply),
    ),
    Reason.PROVIDER_NOT_ACCEPTED: _never_accepted(
        "provider",
        lambda request: request.target.providers,
        lambda finding, idle: (
            traits.supply.provider
            for traits in idle.classes
            if (traits.supply.sku, traits.supply.region) == (finding.supply.sku, finding.supply.region)
        ),
    ),
    Reason.REGION_NOT_ACCEPTED: _never_accepted(
        "region",
        lambda request: request.target.regions,
        lambda finding, idle: (traits.supply.region for traits in idle.classes if traits.supply.sku == finding.supply.sku),
    ),
    Reason.SKU_NOT_ACCEPTED: _never_accepted(
        "SKU", lambda request: request.target.skus, lambda finding, idle: (traits.supply.sku for traits in idle.classes)
    ),
}
