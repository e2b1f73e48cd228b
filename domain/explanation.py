"""Explanations: many rejections summed up for a person, equal for equal situations."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from fractions import Fraction

from corral.api import WHOLE, Evidence, Explanation, Reason, Spread, StopPolicy
from domain.decision import Rejection
from domain.fleet import Amount, Health
from domain.nodepools import Provisioning
from domain.quota import QuotaTree
from domain.request import Gang, Request
from domain.workload import Waiting
from domain.world import Supply, World


@dataclass(frozen=True, slots=True)
class Finding:
    """What one supply answered to one request, and how many nodes that concerns."""

    rejection: Rejection
    request: Request
    supply: Supply
    nodes: int

    @property
    def shortage(self) -> int:
        """How much is missing, in the unit of the rejection."""
        return self.rejection.needs - self.rejection.has


FURTHEST_FIRST = (
    Reason.TOO_FEW_DOMAINS,
    Reason.TOPOLOGY_DOMAIN_TOO_SMALL,
    Reason.NODES_TAKE_NO_MORE_REPLICAS,
    Reason.NOT_ENOUGH_FREE_CPU_OR_MEMORY,
    Reason.NOT_ENOUGH_FREE_ACCELERATORS,
    Reason.NODE_TOO_SMALL,
    Reason.BORROWING_LIMIT_REACHED,
    Reason.QUEUE_CAP_REACHED,
    Reason.WAITING_FOR_QUOTA,
    Reason.USER_LIMIT_REACHED,
    Reason.USER_RUNNING_LIMIT_REACHED,
    Reason.BUDGET_EXHAUSTED,
    Reason.NODE_NOT_SELECTED,
    Reason.KEPT_FOR_OTHERS,
    Reason.NODE_NOT_READY,
    Reason.NODE_NOT_THERE,
    Reason.FORBIDDEN_BY_POLICY,
    Reason.TAINT_NOT_TOLERATED,
    Reason.CAPACITY_TYPE_NOT_ACCEPTED,
    Reason.PROVIDER_NOT_ACCEPTED,
    Reason.REGION_NOT_ACCEPTED,
    Reason.SKU_NOT_ACCEPTED,
)
"""The rules, from the last that a candidate meets to the first: the one that stopped whoever got furthest dominates."""

MOST_EVIDENCE = 8
MOST_NAMES = 3


def dominant(findings: Iterable[Finding]) -> Finding:
    """The finding that got furthest; among equals the one that is short by least."""
    return min(findings, key=_furthest)


def _furthest(finding: Finding) -> tuple[int, int, Supply, int]:
    reason = finding.rejection.reason
    return FURTHEST_FIRST.index(reason), finding.shortage, finding.supply, finding.request.index or 0


def evidence(findings: Iterable[Finding]) -> tuple[Evidence, ...]:
    """How many nodes each rule refused, the furthest rule first, with its nearest miss as the example."""
    by_reason: dict[Reason, list[Finding]] = {}
    for finding in findings:
        by_reason.setdefault(finding.rejection.reason, []).append(finding)
    rows = sorted(by_reason.items(), key=lambda item: FURTHEST_FIRST.index(item[0]))
    return tuple(
        Evidence(reason=reason, count=sum(finding.nodes for finding in found), example=_sentence(dominant(found)))
        for reason, found in rows[:MOST_EVIDENCE]
    )


def no_room(findings: Sequence[Finding], as_of: datetime, *, is_complete: bool = True) -> Explanation:
    """Why nothing fits now, among the targets that are open, and as far as the fleet is known, which need not be complete."""
    nearest = dominant(findings)
    reason = nearest.rejection.reason
    if reason in {Reason.NODE_NOT_READY, Reason.NODE_NOT_THERE}:
        reason = Reason.NO_READY_CAPACITY
    message = _sentence(nearest) if is_complete else f"{_sentence(nearest)}; {NOT_ALL_SEEN}"
    return Explanation(reason=reason, message=message, evidence=evidence(findings), as_of=as_of)


# Wording

NOT_ALL_SEEN = "not every provider has told yet what it has, and it is decided about again as soon as one does"


def is_same(said: Explanation, says: Explanation) -> bool:
    """Whether a workload that was told the one learns nothing from the other, but for advice and for when it was found."""
    return (said.reason, said.message, said.evidence) == (says.reason, says.message, says.evidence)


def amount(milli: Amount) -> str:
    """Thousandths as a number of accelerators."""
    return f"{milli / WHOLE:g}"


def asked(gang: Gang, sku: str) -> str:
    """The gang's minimum in words, such as `16 whole b200 (2 replicas of 8)`."""
    milli, replicas = gang.minimum_milli, gang.minimum_replicas
    if not milli:
        return f"{_replicas(replicas)} without accelerators"
    sizes = {shape.milli for shape in gang.shapes}
    if len(sizes) > 1:
        return f"{amount(milli)} {sku} ({replicas} replicas in {len(gang.shapes)} groups)"
    if (size := sizes.pop()) < WHOLE:
        share = f"{amount(size)} of a {sku}"
        return share if replicas == 1 else f"{replicas} times {share}"
    return f"{amount(milli)} whole {sku}" + (
        f" ({replicas} replicas of {amount(size)})" if replicas > 1 and size > WHOLE else ""
    )


def _replicas(number: int) -> str:
    return "1 replica" if number == 1 else f"{number} replicas"


def _place_name(supply: Supply) -> str:
    return f"{supply.provider} {supply.region}"


def _span(gang: Gang) -> str:
    """What the gang must fit in beside its topology."""
    return "on one node" if gang.is_single else "in one region"


def _too_few_accelerators(finding: Finding) -> str:
    gang = finding.request.gang
    return (
        f"needs {asked(gang, finding.supply.sku)} {_span(gang)}; the most free in one is {amount(finding.rejection.has)}"
        f" ({_place_name(finding.supply)})"
    )


def _too_little_cpu_or_memory(finding: Finding) -> str:
    return (
        f"needs cpu and memory for {_replicas(finding.rejection.needs)} beside their accelerators; the most that fit in one"
        f" region is {finding.rejection.has} ({_place_name(finding.supply)})"
    )


def _node_too_small(finding: Finding) -> str:
    return (
        f"one replica needs {amount(finding.rejection.needs)} {finding.supply.sku} on one node; the largest node has"
        f" {amount(finding.rejection.has)} ({_place_name(finding.supply)})"
    )


def _domain_too_small(finding: Finding) -> str:
    so = "so" if finding.request.gang.part_with(finding.rejection.group).topology.slice_level else "in one"
    return (
        f"needs {_in_one_domain(finding)}; the most that fit {so} is {amount(finding.rejection.has)}"
        f" ({_place_name(finding.supply)})"
    )


def _in_one_domain(finding: Finding) -> str:
    """What must sit together, and in what: `16 whole b200 (16 replicas) in one block, 4 at a time in one rack`."""
    unit = finding.request.gang.part_with(finding.rejection.group)
    together, topology = asked(unit, finding.supply.sku), unit.topology
    whole = f" in one {topology.required}" if topology.required else ""
    slices = f"{topology.slice_size} at a time in one {topology.slice_level}" if topology.slice_level else ""
    return f"{together}{whole}{',' if whole and slices else ''}{' ' if slices else ''}{slices}"


def _too_few_domains(finding: Finding) -> str:
    return f"needs {_apart(finding)}; there is room for {finding.rejection.has} of them so ({_place_name(finding.supply)})"


def _apart(finding: Finding) -> str:
    """How many replicas must keep what distance: `8 replicas, at most 2 of a group in one rack`."""
    spread = _spread(finding)
    return f"{_replicas(finding.rejection.needs)}, at most {spread.maximum} of a group in one {spread.level}"


def _spread(finding: Finding) -> Spread:
    gang, level = finding.request.gang, finding.rejection.candidate
    asked_for = (gang.part_with(finding.rejection.group).topology, *(shape.terms.topology for shape in gang.shapes))
    spreads = [topology.spread for topology in asked_for if topology is not None and topology.spread is not None]
    return next(spread for spread in spreads if spread.level == level)


def _no_more_replicas(finding: Finding) -> str:
    return (
        f"needs nodes that take {_replicas(finding.rejection.needs)}; beside what runs there they take"
        f" {finding.rejection.has} ({_place_name(finding.supply)})"
    )


def _not_selected(finding: Finding) -> str:
    return (
        f"group {finding.rejection.group} may use none of the nodes with {finding.supply.sku} in"
        f" {_place_name(finding.supply)}: see the SKUs, the nodes and the tolerations that it names"
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
    return f"needs {needs}; the limit of {_who(finding.request)} in queue {rejection.candidate} leaves {amount(rejection.has)}"


def _user_running_limit(finding: Finding) -> str:
    return f"{_who(finding.request)} runs as many workloads in queue {finding.rejection.candidate} as its limit allows"


def _budget(finding: Finding) -> str:
    rejection = finding.rejection
    left = f"{amount(rejection.has)} is left of the budget of {rejection.candidate}"
    return (
        f"{left}; it would use up {amount(rejection.needs)}"
        if rejection.needs > rejection.has
        else f"{left}; nothing new starts"
    )


def _who(request: Request) -> str:
    return f"user {user}" if (user := request.spec.user) else "work that names no user"


def _not_ready(finding: Finding) -> str:
    would_be = f"no ready node is acceptable; {finding.supply.sku} in {_place_name(finding.supply)} would be, once ready"
    return would_be + _UNHEARD.get(finding.rejection.candidate, "")


_UNHEARD: Mapping[str, str] = {
    Health.SUSPECT: ": its nodes are suspect, `corral fleet nodes` and `corral clusters` say why",
    Health.LOST: ": its cluster is lost, `corral clusters` says since when",
}


def _not_there(finding: Finding) -> str:
    return f"no node that is there is acceptable; {finding.supply.sku} in {_place_name(finding.supply)} could be added"


def _kept_for_others(finding: Finding) -> str:
    nodes = "1 node is" if finding.nodes == 1 else f"{finding.nodes} nodes are"
    kept = f"{nodes} kept for {finding.rejection.candidate} ({finding.supply.sku} in {_place_name(finding.supply)})"
    before = "; until then lent to work that ends before, or that may be preempted and has some time left"
    return f"{kept}{before if finding.rejection.needs else ''}"


def _forbidden(finding: Finding) -> str:
    spec = finding.request.spec
    whose = f"tenant {spec.tenant}" if spec.tenant else f"queue {spec.queue}"
    return (
        f"the policy keeps work of {whose} from {finding.supply.sku} in {_place_name(finding.supply)}"
        f" ({finding.rejection.candidate})"
    )


def _tainted(finding: Finding) -> str:
    return f"{finding.supply.sku} nodes in {_place_name(finding.supply)} have a taint that is not tolerated"


def _capacity_type(finding: Finding) -> str:
    wanted = ", ".join(finding.request.target.capacity_types)
    return f"{finding.supply.sku} in {_place_name(finding.supply)} is not bought as {wanted}"


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
    Reason.NODE_NOT_SELECTED: _not_selected,
    Reason.NOT_ENOUGH_FREE_CPU_OR_MEMORY: _too_little_cpu_or_memory,
    Reason.NOT_ENOUGH_FREE_ACCELERATORS: _too_few_accelerators,
    Reason.NODE_TOO_SMALL: _node_too_small,
    Reason.BORROWING_LIMIT_REACHED: _borrowing_limit,
    Reason.QUEUE_CAP_REACHED: _cap,
    Reason.WAITING_FOR_QUOTA: _short_of_quota,
    Reason.USER_LIMIT_REACHED: _user_limit,
    Reason.USER_RUNNING_LIMIT_REACHED: _user_running_limit,
    Reason.BUDGET_EXHAUSTED: _budget,
    Reason.NODE_NOT_READY: _not_ready,
    Reason.NODE_NOT_THERE: _not_there,
    Reason.KEPT_FOR_OTHERS: _kept_for_others,
    Reason.FORBIDDEN_BY_POLICY: _forbidden,
    Reason.TAINT_NOT_TOLERATED: _tainted,
    Reason.CAPACITY_TYPE_NOT_ACCEPTED: _capacity_type,
    Reason.PROVIDER_NOT_ACCEPTED: _provider,
    Reason.REGION_NOT_ACCEPTED: _region,
    Reason.SKU_NOT_ACCEPTED: _sku,
}


def _sentence(finding: Finding) -> str:
    return SENTENCES[finding.rejection.reason](finding)


# Waiting for something else than room


def empty_fleet(as_of: datetime) -> Explanation:
    """No node is known at all."""
    return Explanation(reason=Reason.NO_READY_CAPACITY, message="no node of the fleet is known yet", as_of=as_of)


def queue_stopped(queue: str, stop: StopPolicy, as_of: datetime) -> Explanation:
    """The queue, or a cohort above it, starts nothing new."""
    message = f"queue {queue} is stopped ({stop}); nothing new starts below it until it is open"
    return Explanation(reason=Reason.QUEUE_STOPPED, message=message, as_of=as_of)


def too_early(earliest_start: datetime, as_of: datetime) -> Explanation:
    """The workload's own earliest start is ahead."""
    message = f"asked to start no earlier than {earliest_start.isoformat()}"
    return Explanation(reason=Reason.NOT_YET_EARLIEST_START, message=message, as_of=as_of)


def waiting_for_relaxation(opens_at: datetime, findings: Sequence[Finding], as_of: datetime) -> Explanation:
    """Nothing of the fleet is acceptable yet, and more will be."""
    so_far = "nothing in the fleet matches the open targets" if findings else "no target is open yet"
    message = f"{so_far}; the next one opens at {opens_at.isoformat()}"
    return Explanation(reason=Reason.WAITING_FOR_RELAXATION, message=message, evidence=evidence(findings), as_of=as_of)


def waiting_for_victims(findings: Sequence[Finding], as_of: datetime) -> Explanation:
    """Enough becomes free when work that has had notice has left."""
    message = "enough room becomes free when work that has had notice to leave has left"
    return Explanation(reason=Reason.WAITING_FOR_VICTIMS, message=message, evidence=evidence(findings), as_of=as_of)


def waiting_for_nodes(arrivals: Iterable[Provisioning], findings: Sequence[Finding], as_of: datetime) -> Explanation:
    """It fits once nodes have come that are on their way."""
    said = "; ".join(arrival.in_words for arrival in arrivals)
    message = f"nodes are on their way ({said}), and it fits once they are there"
    return Explanation(reason=Reason.NODES_ON_THEIR_WAY, message=message, evidence=evidence(findings), as_of=as_of)


def behind_the_first(queue: str, as_of: datetime) -> Explanation:
    """It would start, but its queue starts work strictly in turn."""
    message = f"would start, but queue {queue} starts its work strictly in turn (strict-fifo) and the first of it still waits"
    return Explanation(reason=Reason.BEHIND_OTHERS_IN_QUEUE, message=message, as_of=as_of)


def behind_who_awaits(queue: str, as_of: datetime) -> Explanation:
    """It would start, on what work before it in its queue waits for."""
    message = f"would start, but on room that is kept for work before it in queue {queue}, which waits for others to leave"
    return Explanation(reason=Reason.BEHIND_OTHERS_IN_QUEUE, message=message, as_of=as_of)


def enough_for_one_round(limit: str, as_of: datetime) -> Explanation:
    """It would start, but not in this round."""
    message = f"this round has started as much as the policy allows in one (limits.{limit}); the next one follows at once"
    return Explanation(reason=Reason.ROUND_LIMIT_REACHED, message=message, as_of=as_of)


def left_for_the_next_round(as_of: datetime) -> Explanation:
    """The round failed about another workload, and was decided for some of those who wait."""
    message = "this round was cut short by a defect of Corral; it has its turn in the next one, which follows at once"
    return Explanation(reason=Reason.PENDING_EVALUATION, message=message, as_of=as_of)


def not_decidable(as_of: datetime) -> Explanation:
    """Deciding about it fails. What was raised may name anything, and is for those who read the worker's log."""
    message = (
        "Corral fails to decide about it, which is a defect of Corral; it is set aside, tried again now and then, and all"
        " others go on; tell an operator, who finds the error in the log of the worker under the workload's id"
    )
    return Explanation(reason=Reason.INTERNAL_ERROR, message=message, as_of=as_of)


# Refusals: what was asked, what exists, what to do


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


def nothing_is_stopped_for_it(gate: Rejection, until: datetime, as_of: datetime) -> Explanation:
    """Others would leave for the workload, if it had the right to that now."""
    why = {
        Reason.PREEMPTION_DELAYED: f"nothing is stopped for it before {until.isoformat()}",
        Reason.CRASH_LOOPING: f"its last {gate.has} attempts failed, so nothing is stopped for it",
    }[gate.reason]
    return Explanation(reason=gate.reason, message=f"others have what it needs; {why}", as_of=as_of)


def budget_spent(budgets: Iterable[int], as_of: datetime) -> Explanation:
    """Only disruption budgets (by their places in the policy) keep others from leaving for the workload."""
    fields = ", ".join(f"limits.disruption_budgets[{index}]" for index in budgets)
    message = f"others would leave for it, but no more may be stopped for now: {fields}"
    return Explanation(reason=Reason.DISRUPTION_BUDGET_SPENT, message=message, as_of=as_of)


def no_matching_capacity(findings: Sequence[Finding], idle: World, as_of: datetime) -> Explanation:
    """No node of the fleet could ever take the workload, whatever becomes free."""
    nearest = dominant(findings)
    message = IMPOSSIBLE[nearest.rejection.reason](nearest, idle)
    return Explanation(reason=Reason.NO_MATCHING_CAPACITY, message=message, evidence=evidence(findings), as_of=as_of)


def never_fits_quota(fitting: Sequence[tuple[Request, Supply]], widest: QuotaTree, as_of: datetime) -> Explanation:
    """The workload exceeds what its queue could have if nobody else used anything."""
    ceilings = {
        (widest.ceiling_of(request.spec, supply.sku), supply.sku, request.index or 0): (request) for request, supply in fitting
    }
    (most, sku, _), request = min(ceilings.items(), key=lambda item: (item[1].gang.minimum_milli - item[0][0], item[0][1:]))
    queue = request.spec.queue
    own = "" if request.spec.preemptible else " as work that may not be preempted"
    own += f" for {_who(request)}" if widest.limits_on(request.spec) else ""
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
        f" {amount(finding.rejection.has)} when idle ({_place_name(finding.supply)}); ask for less, or add a target"
    )


def _never_on_one_node(finding: Finding, idle: World) -> str:
    return f"{_node_too_small(finding)}; use smaller replicas, or add a target"


def _never_in_one_domain(finding: Finding, idle: World) -> str:
    supply, needs = finding.supply, _in_one_domain(finding)
    topology = finding.request.gang.part_with(finding.rejection.group).topology
    for level in (topology.required, topology.slice_level):
        if level is not None and (levels := _levels_instead(level, supply, idle)):
            return f"asks for {needs}; its nodes know no such level, but {levels}; correct the required level"
    return (
        f"asks for {needs}; the largest has room for {amount(finding.rejection.has)} when idle"
        f" ({_place_name(supply)}); ask for less, or require a wider level"
    )


def _never_apart(finding: Finding, idle: World) -> str:
    supply, needs = finding.supply, _apart(finding)
    if levels := _levels_instead(finding.rejection.candidate, supply, idle):
        return f"asks for {needs}; its nodes know no such level, but {levels}; correct the level of the spread"
    return (
        f"asks for {needs}; there is room for {finding.rejection.has} of them so when idle ({_place_name(supply)});"
        " ask for fewer, or let more of them sit in one"
    )


def _levels_instead(level: str, supply: Supply, idle: World) -> str:
    """The levels that nodes of a supply know, where none of them knows this one; else nothing."""
    nodes = [entry.node for traits, found in idle.classes.items() if traits.supply == supply for entry in found]
    return "" if any(node.domain(level) for node in nodes) else _list(name for node in nodes for name, _ in node.topology)


def _never_so_many_replicas(finding: Finding, idle: World) -> str:
    return (
        f"asks for {_replicas(finding.rejection.needs)}; idle nodes take {finding.rejection.has} in one region"
        f" ({_place_name(finding.supply)}); ask for fewer and larger replicas, or add a target"
    )


def _never_selected(finding: Finding, idle: World) -> str:
    return f"{_not_selected(finding)}; correct them, or add a target"


def _never_enough_cpu_or_memory(finding: Finding, idle: World) -> str:
    return (
        f"asks for {_replicas(finding.rejection.needs)}; idle nodes have cpu and memory for {finding.rejection.has} in one"
        f" region ({_place_name(finding.supply)}); ask for less cpu or memory per replica, or add a target"
    )


def _never_tolerated(finding: Finding, idle: World) -> str:
    taints = {taint for traits in idle.classes if traits.supply == finding.supply for taint in traits.taints}
    return (
        f"every acceptable node has a taint that is not tolerated ({_list(taints)}); add it to tolerations,"
        " if the work may run there"
    )


def _never_permitted(finding: Finding, idle: World) -> str:
    return f"{_forbidden(finding)}; add a target that it permits, or have the policy changed"


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
