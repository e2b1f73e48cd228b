"""Hard constraints: where a request may go at all, and what can never run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from corral.api import Explanation, Reason, Target, WorkloadSpec
from domain.decision import Rejection
from domain.explanation import Finding, never_fits_quota, no_matching_capacity, unknown_queue
from domain.facts import Facts
from domain.fleet import Health
from domain.placement import lay_out, most_on_one, why_no_room
from domain.request import Gang, Request, requests
from domain.workload import Waiting
from domain.world import Nodes, Supply, Traits, World

Rule = Callable[[WorkloadSpec, Target, Traits], bool]


def accepts_sku(spec: WorkloadSpec, target: Target, traits: Traits) -> bool:
    """The node's SKU is one that the target names."""
    return not target.skus or traits.supply.sku in target.skus


def accepts_region(spec: WorkloadSpec, target: Target, traits: Traits) -> bool:
    """The node's region is one that the target names."""
    return not target.regions or traits.supply.region in target.regions


def accepts_provider(spec: WorkloadSpec, target: Target, traits: Traits) -> bool:
    """The node's provider is one that the target names."""
    return not target.providers or traits.supply.provider in target.providers


def accepts_capacity_type(spec: WorkloadSpec, target: Target, traits: Traits) -> bool:
    """The node is bought in a way that the target names."""
    return not target.capacity_types or traits.capacity_type in target.capacity_types


def tolerates_taints(spec: WorkloadSpec, target: Target, traits: Traits) -> bool:
    """The workload tolerates every taint of the node."""
    return not traits.taints or set(traits.taints) <= set(spec.tolerations)


def is_ready(spec: WorkloadSpec, target: Target, traits: Traits) -> bool:
    """The node may be given work."""
    return traits.health is Health.READY


LASTING_FILTERS: tuple[tuple[Rule, Reason], ...] = (
    (accepts_sku, Reason.SKU_NOT_ACCEPTED),
    (accepts_region, Reason.REGION_NOT_ACCEPTED),
    (accepts_provider, Reason.PROVIDER_NOT_ACCEPTED),
    (accepts_capacity_type, Reason.CAPACITY_TYPE_NOT_ACCEPTED),
    (tolerates_taints, Reason.TAINT_NOT_TOLERATED),
)
"""Rules whose answer stays while the fleet and the spec stay: they decide what can never run."""

LASTING_REASONS = frozenset(reason for _, reason in LASTING_FILTERS)

FILTERS = (*LASTING_FILTERS, (is_ready, Reason.NODE_NOT_READY))
"""All rules, in the order in which a candidate meets them."""


@dataclass(frozen=True, slots=True)
class Sifted:
    """What the filters left of the fleet, by supply, and what they took away."""

    classes: Mapping[Supply, Sequence[Traits]]
    findings: Sequence[Finding]


def sift(request: Request, world: World, filters: Sequence[tuple[Rule, Reason]] = FILTERS) -> Sifted:
    """Ask every filter about every class of like nodes."""
    passed: dict[Supply, list[Traits]] = {}
    findings = []
    for traits, nodes in world.classes.items():
        reason = _first_no(request, traits, filters)
        if reason is None:
            passed.setdefault(traits.supply, []).append(traits)
        else:
            findings.append(Finding(Rejection(str(traits.supply), reason), request, traits.supply, len(nodes)))
    return Sifted(passed, findings)


def _first_no(request: Request, traits: Traits, filters: Sequence[tuple[Rule, Reason]]) -> Reason | None:
    return next((reason for rule, reason in filters if not rule(request.spec, request.target, traits)), None)


def why_never(workload: Waiting, facts: Facts) -> Explanation | None:
    """Why the workload can never run as it stands, or none when it could on an idle and healthy fleet.

    An empty fleet, or one of which a part has never been observed, proves nothing.
    """
    queue = workload.spec.queue
    if queue not in facts.tree.paths:
        return unknown_queue(queue, facts.tree.paths, facts.now)
    if not facts.complete:
        return None
    findings: list[Finding] = []
    fitting: list[tuple[Request, Supply]] = []
    for request in requests(workload):
        sifted = sift(request, facts.idle, LASTING_FILTERS)
        findings += sifted.findings
        for supply, classes in sifted.classes.items():
            nodes = facts.idle.nodes(classes)
            if lay_out(request.gang.at_minimum(), nodes) is None:
                findings.append(Finding(why_never_room(request.gang, nodes), request, supply, len(nodes)))
            elif _could_have_quota(request, supply, facts):
                return None
            else:
                fitting.append((request, supply))
    if fitting:
        return never_fits_quota(fitting, facts.widest, facts.now)
    return no_matching_capacity(findings, facts.idle, facts.now)


def why_never_room(gang: Gang, idle: Nodes) -> Rejection:
    """Why idle nodes could not take the gang's minimum: one replica exceeds every node, or all of them together the rest."""
    if gang.largest > (most := most_on_one(idle)):
        return Rejection("", Reason.NODE_TOO_SMALL, gang.largest, most)
    return why_no_room(gang, idle)


def _could_have_quota(request: Request, supply: Supply, facts: Facts) -> bool:
    ceiling = facts.widest.ceiling(request.spec.queue, supply.sku, preemptible=request.spec.preemptible)
    return request.gang.minimum_milli <= ceiling
