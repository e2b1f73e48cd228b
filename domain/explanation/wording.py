"""Wording: each "no" of a rule as a sentence for a person."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from corral.api import WHOLE, Reason, Spread
from domain.explanation.finding import Finding
from domain.pool.fleet import Amount, Health
from domain.worlds.request import Gang, Request, told_in_replicas
from domain.worlds.world import Supply


def amount(milli: Amount) -> str:
    """Thousandths as a number of accelerators."""
    return f"{milli / WHOLE:g}"


def moment(at: datetime) -> str:
    """A time as tables show it, such as `2026-01-31T08:00:00Z`."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def asked(gang: Gang, sku: str) -> str:
    """The gang's minimum in words, such as `16 whole b200 (2 replicas of 8)`."""
    milli, replicas = gang.minimum_milli, gang.minimum_replicas
    if not milli:
        return f"{so_many_replicas(replicas)} without accelerators"
    sizes = {shape.milli for shape in gang.shapes}
    if len(sizes) > 1:
        return f"{amount(milli)} {sku} ({replicas} replicas in {len(gang.shapes)} groups)"
    if (size := sizes.pop()) < WHOLE:
        share = f"{amount(size)} of a {sku}"
        return share if replicas == 1 else f"{replicas} times {share}"
    return f"{amount(milli)} whole {sku}" + (
        f" ({replicas} replicas of {amount(size)})" if replicas > 1 and size > WHOLE else ""
    )


def so_many_replicas(number: int) -> str:
    """How many replicas, in words."""
    return "1 replica" if number == 1 else f"{number} replicas"


def place_name(supply: Supply) -> str:
    """Where a supply is."""
    return f"{supply.provider} {supply.region}"


def _span(gang: Gang) -> str:
    """What the gang must fit in beside its topology."""
    return "on one node" if gang.is_single else "in one region"


def _too_few_accelerators(finding: Finding) -> str:
    gang = finding.request.gang
    return (
        f"needs {asked(gang, finding.supply.sku)} {_span(gang)}; the most free in one is {amount(finding.rejection.has)}"
        f" ({place_name(finding.supply)})"
    )


def _too_little_cpu_or_memory(finding: Finding) -> str:
    return (
        f"needs cpu and memory for {so_many_replicas(finding.rejection.needs)} beside their accelerators; the most that fit in"
        f" one region is {finding.rejection.has} ({place_name(finding.supply)})"
    )


def node_too_small(finding: Finding) -> str:
    """No node of the supply is as large as a replica."""
    return (
        f"one replica needs {amount(finding.rejection.needs)} {finding.supply.sku} on one node; the largest node has"
        f" {amount(finding.rejection.has)} ({place_name(finding.supply)})"
    )


def _domain_too_small(finding: Finding) -> str:
    so = "so" if finding.request.gang.part_with(finding.rejection.group).topology.slice_level else "in one"
    return f"needs {in_one_domain(finding)}; the most that fit {so} is {_fitting(finding)} ({place_name(finding.supply)})"


def _fitting(finding: Finding) -> str:
    """For how much of what must sit together there is room."""
    unit, has = finding.request.gang.at_minimum().part_with(finding.rejection.group), finding.rejection.has
    return f"{has} of {so_many_replicas(finding.rejection.needs)}" if told_in_replicas(unit.shapes) else amount(has)


def in_one_domain(finding: Finding) -> str:
    """What must sit together, and in what: `16 whole b200 (16 replicas) in one block, 4 at a time in one rack`."""
    unit = finding.request.gang.part_with(finding.rejection.group)
    together, topology = asked(unit, finding.supply.sku), unit.topology
    whole = f" in one {topology.required}" if topology.required else ""
    slices = f"{topology.slice_size} at a time in one {topology.slice_level}" if topology.slice_level else ""
    return f"{together}{whole}{',' if whole and slices else ''}{' ' if slices else ''}{slices}"


def _too_few_domains(finding: Finding) -> str:
    return f"needs {apart(finding)}; there is room for {finding.rejection.has} of them so ({place_name(finding.supply)})"


def apart(finding: Finding) -> str:
    """How many replicas must keep what distance: `8 replicas, at most 2 of a group in one rack`."""
    spread = _spread(finding)
    return f"{so_many_replicas(finding.rejection.needs)}, at most {spread.maximum} of a group in one {spread.level}"


def _spread(finding: Finding) -> Spread:
    gang, level = finding.request.gang, finding.rejection.candidate
    asked_for = (gang.part_with(finding.rejection.group).topology, *(shape.terms.topology for shape in gang.shapes))
    spreads = [topology.spread for topology in asked_for if topology is not None and topology.spread is not None]
    return next(spread for spread in spreads if spread.level == level)


def _no_more_replicas(finding: Finding) -> str:
    return (
        f"needs nodes that take {so_many_replicas(finding.rejection.needs)}; beside what runs there they take"
        f" {finding.rejection.has} ({place_name(finding.supply)})"
    )


def not_selected(finding: Finding) -> str:
    """A group of the gang may use none of the nodes."""
    return (
        f"group {finding.rejection.group} may use none of the nodes with {finding.supply.sku} in"
        f" {place_name(finding.supply)}: see the SKUs, the nodes and the tolerations that it names"
    )


def _short_of_quota(finding: Finding) -> str:
    rejection, spec = finding.rejection, finding.request.spec
    kind = "has" if spec.preemptible else "has, for work that may not be preempted,"
    return (
        f"needs quota for {asked(finding.request.gang, finding.supply.sku)};"
        f" queue {rejection.candidate} {kind} room for {amount(rejection.has)}"
    )


def _borrowing_limit(finding: Finding) -> str:
    rejection = finding.rejection
    return (
        f"needs quota for {asked(finding.request.gang, finding.supply.sku)};"
        f" the borrowing limit leaves queue {rejection.candidate} {amount(rejection.has)}"
    )


def _cap(finding: Finding) -> str:
    rejection = finding.rejection
    return (
        f"needs quota for {asked(finding.request.gang, finding.supply.sku)};"
        f" the cap of {rejection.candidate} leaves {amount(rejection.has)}"
    )


def _user_limit(finding: Finding) -> str:
    rejection = finding.rejection
    needs = asked(finding.request.gang, finding.supply.sku)
    return (
        f"needs {needs}; the limit of {user_of(finding.request)} in queue {rejection.candidate} leaves {amount(rejection.has)}"
    )


def _user_running_limit(finding: Finding) -> str:
    return f"{user_of(finding.request)} runs as many workloads in queue {finding.rejection.candidate} as its limit allows"


def _budget(finding: Finding) -> str:
    rejection = finding.rejection
    left = f"{amount(rejection.has)} is left of the budget of {rejection.candidate}"
    return (
        f"{left}; it would use up {amount(rejection.needs)}"
        if rejection.needs > rejection.has
        else f"{left}; nothing new starts"
    )


def user_of(request: Request) -> str:
    """Whose limit counts."""
    return f"user {user}" if (user := request.spec.user) else "work that names no user"


def _not_ready(finding: Finding) -> str:
    would_be = f"no ready node is acceptable; {finding.supply.sku} in {place_name(finding.supply)} would be, once ready"
    return would_be + _UNHEARD.get(finding.rejection.candidate, "")


_UNHEARD: Mapping[str, str] = {
    Health.SUSPECT: ": its nodes are suspect, `corral fleet nodes` and `corral clusters` say why",
    Health.LOST: ": its cluster is lost, `corral clusters` says since when",
}


def _not_there(finding: Finding) -> str:
    return f"no node that is there is acceptable; {finding.supply.sku} in {place_name(finding.supply)} could be added"


def _kept_for_others(finding: Finding) -> str:
    nodes = "1 node is" if finding.nodes == 1 else f"{finding.nodes} nodes are"
    kept = f"{nodes} kept for {finding.rejection.candidate} ({finding.supply.sku} in {place_name(finding.supply)})"
    before = "; until then lent to work that ends before, or that may be preempted and has some time left"
    return f"{kept}{before if finding.rejection.needs else ''}"


def forbidden(finding: Finding) -> str:
    """A hard constraint of the policy says no."""
    spec = finding.request.spec
    whose = f"tenant {spec.tenant}" if spec.tenant else f"queue {spec.queue}"
    return (
        f"the policy keeps work of {whose} from {finding.supply.sku} in {place_name(finding.supply)}"
        f" ({finding.rejection.candidate})"
    )


def _tainted(finding: Finding) -> str:
    return f"{finding.supply.sku} nodes in {place_name(finding.supply)} have a taint that is not tolerated"


def _capacity_type(finding: Finding) -> str:
    wanted = ", ".join(finding.request.target.capacity_types)
    return f"{finding.supply.sku} in {place_name(finding.supply)} is not bought as {wanted}"


def _provider(finding: Finding) -> str:
    return f"{finding.supply.sku} of provider {finding.supply.provider} is not accepted"


def _region(finding: Finding) -> str:
    return f"{finding.supply.sku} in region {finding.supply.region} is not accepted"


def _sku(finding: Finding) -> str:
    return f"{finding.supply.sku} is not accepted"


SENTENCES: Mapping[Reason, Callable[[Finding], str]] = {
    Reason.TOO_FEW_DOMAINS: _too_few_domains,
    Reason.TOPOLOGY_DOMAIN_TOO_SMALL: _domain_too_small,
    Reason.NODES_TAKE_NO_MORE_REPLICAS: _no_more_replicas,
    Reason.NODE_NOT_SELECTED: not_selected,
    Reason.NOT_ENOUGH_FREE_CPU_OR_MEMORY: _too_little_cpu_or_memory,
    Reason.NOT_ENOUGH_FREE_ACCELERATORS: _too_few_accelerators,
    Reason.NODE_TOO_SMALL: node_too_small,
    Reason.BORROWING_LIMIT_REACHED: _borrowing_limit,
    Reason.QUEUE_CAP_REACHED: _cap,
    Reason.WAITING_FOR_QUOTA: _short_of_quota,
    Reason.USER_LIMIT_REACHED: _user_limit,
    Reason.USER_RUNNING_LIMIT_REACHED: _user_running_limit,
    Reason.BUDGET_EXHAUSTED: _budget,
    Reason.NODE_NOT_READY: _not_ready,
    Reason.NODE_NOT_THERE: _not_there,
    Reason.KEPT_FOR_OTHERS: _kept_for_others,
    Reason.FORBIDDEN_BY_POLICY: forbidden,
    Reason.TAINT_NOT_TOLERATED: _tainted,
    Reason.CAPACITY_TYPE_NOT_ACCEPTED: _capacity_type,
    Reason.PROVIDER_NOT_ACCEPTED: _provider,
    Reason.REGION_NOT_ACCEPTED: _region,
    Reason.SKU_NOT_ACCEPTED: _sku,
}


def sentence(finding: Finding) -> str:
    """What a finding says."""
    return SENTENCES[finding.rejection.reason](finding)
