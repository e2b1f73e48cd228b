"""Hard constraints: where a request may go at all, and what can never run."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import product

from corral.api import Explanation, Reason, Target, WorkloadTerms
from corral.policy import QuotaModel, TopologyProfile
from domain.decision import Rejection
from domain.explanation.finding import Finding
from domain.explanation.refusals import never_fits_quota, never_within_budget, no_matching_capacity, unknown_queue
from domain.facts import Facts
from domain.placement.layout import has_room, most_on_one, why_no_room
from domain.pool.bookings import Engagement
from domain.pool.fleet import Health
from domain.pool.workload import Waiting, length_of
from domain.quota.budgets import Balance, beyond_unspent, called
from domain.worlds.law import Case
from domain.worlds.request import Gang, Request, requests
from domain.worlds.world import Nodes, Supply, Traits, World

Rule = Callable[[WorkloadTerms, Target, Traits], bool]
Filter = tuple[Rule, Reason]


def accepts_sku(spec: WorkloadTerms, target: Target, traits: Traits) -> bool:
    """The node's SKU is one that the target names, and that at least one of the groups takes."""
    sku = traits.supply.sku
    return (not target.skus or sku in target.skus) and any(not group.skus or sku in group.skus for group in spec.groups)


def accepts_region(spec: WorkloadTerms, target: Target, traits: Traits) -> bool:
    """The node's region is one that the target names."""
    return not target.regions or traits.supply.region in target.regions


def accepts_provider(spec: WorkloadTerms, target: Target, traits: Traits) -> bool:
    """The node's provider is one that the target names."""
    return not target.providers or traits.supply.provider in target.providers


def accepts_capacity_type(spec: WorkloadTerms, target: Target, traits: Traits) -> bool:
    """The node is bought in a way that the target names."""
    return not target.capacity_types or traits.capacity_type in target.capacity_types


def tolerates_taints(spec: WorkloadTerms, target: Target, traits: Traits) -> bool:
    """The workload, or at least one of its groups, tolerates every taint of the node."""
    return not traits.taints or any(set(traits.taints) <= {*spec.tolerations, *group.tolerations} for group in spec.groups)


def is_there(spec: WorkloadTerms, target: Target, traits: Traits) -> bool:
    """The node exists."""
    return traits.health.is_there


def is_ready(spec: WorkloadTerms, target: Target, traits: Traits) -> bool:
    """The node may be given work."""
    return traits.health is Health.READY


def is_ready_soon(spec: WorkloadTerms, target: Target, traits: Traits) -> bool:
    """The node may be given work, or may be once it has come."""
    return traits.health in {Health.READY, Health.COMING}


LASTING_FILTERS: tuple[Filter, ...] = (
    (accepts_sku, Reason.SKU_NOT_ACCEPTED),
    (accepts_region, Reason.REGION_NOT_ACCEPTED),
    (accepts_provider, Reason.PROVIDER_NOT_ACCEPTED),
    (accepts_capacity_type, Reason.CAPACITY_TYPE_NOT_ACCEPTED),
    (tolerates_taints, Reason.TAINT_NOT_TOLERATED),
)
"""Rules whose answer stays while the fleet, the spec and the policy stay: they decide what can never run."""

LASTING_REASONS = frozenset({*(reason for _, reason in LASTING_FILTERS), Reason.FORBIDDEN_BY_POLICY})

PASSING_FILTERS: tuple[Filter, ...] = ((is_there, Reason.NODE_NOT_THERE), (is_ready, Reason.NODE_NOT_READY))
"""Rules that a node may break today and keep tomorrow. Candidates meet them last."""

ARRIVAL_FILTERS: tuple[Filter, ...] = ((is_ready_soon, Reason.NODE_NOT_READY),)
"""The same once all nodes that are on their way have come."""


@dataclass(frozen=True, slots=True)
class Sifted:
    """What the filters left of the fleet, by supply; and, when asked, what they took away."""

    classes: Mapping[Supply, Sequence[Traits]]
    refused: Sequence[tuple[Traits, Rejection]]
    request: Request
    world: World

    @property
    def findings(self) -> list[Finding]:
        """What every class of nodes that is left out says to the request."""
        return [
            Finding(rejection, self.request, traits.supply, len(self.world.classes[traits]))
            for traits, rejection in self.refused
        ]


def sift(request: Request, world: World, passing: Sequence[Filter] = PASSING_FILTERS) -> Sifted:
    """Ask every filter about every class of like nodes: what the request accepts, what the policy permits, what is ready.

    No decision changes the answer, so that it is remembered for all who ask for the same.
    """
    spec = request.spec
    who = (spec.tenant, spec.queue) if world.law.articles else None
    closed = world.closed_to(request) if passing else frozenset()
    ahead = frozenset(each for each in closed if world.now is not None and world.now < each.opens_at)
    asked = request.target, spec.groups, spec.tolerations
    objects = ("sift", passing, who, closed, ahead, *map(id, asked))
    if (seen := world.at_a_glance.get(objects)) is None:
        groups = tuple([(group.skus, group.tolerations) for group in spec.groups])
        key = "sift", passing, request.target, spec.tolerations, who, groups, closed, ahead
        if (answer := world.remembered.get(key)) is None:
            answer = world.remembered[key] = _sifted(request, world, passing, closed)
        seen = world.at_a_glance[objects] = answer, asked  # who holds them is sure that nothing else gets their ids
    (passed, refused), _ = seen
    return Sifted(passed, refused, request, world)


def _sifted(
    request: Request, world: World, passing: Sequence[Filter], closed: Set[Engagement]
) -> tuple[dict[Supply, list[Traits]], list[tuple[Traits, Rejection]]]:
    """The classes that pass every filter, by supply, and what the others are refused for."""
    passed, refused = dict[Supply, list[Traits]](), list[tuple[Traits, Rejection]]()
    for traits in world.classes:
        if (rejection := _rejection(request, traits, world, passing, closed)) is None:
            passed.setdefault(traits.supply, []).append(traits)
        else:
            refused.append((traits, rejection))
    return passed, refused


def _rejection(
    request: Request, traits: Traits, world: World, passing: Sequence[Filter], closed: Set[Engagement]
) -> Rejection | None:
    return (
        _first_no(request, traits, LASTING_FILTERS, str(traits.supply))
        or _forbidden(request, traits, world)
        or _first_no(request, traits, passing, traits.health)
        or _kept_for_others(traits, world, closed)
    )


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to answer a request: nodes in one region of a provider, with the SKU of each group settled.

    The request is for these SKUs alone; the supply has that of the first group.
    """

    request: Request
    supply: Supply
    classes: Sequence[Traits]


def offers(request: Request, sifted: Sifted) -> list[Offer]:
    """Every supply by itself; where groups name SKUs of their own, every region with one SKU for each group.

    Groups that accept the same SKUs get the same one.
    """
    if not request.gang.names_skus:
        return [Offer(request, supply, classes) for supply, classes in sifted.classes.items()]
    places: dict[tuple[str, str], dict[str, Sequence[Traits]]] = {}
    for supply, classes in sifted.classes.items():
        places.setdefault((supply.provider, supply.region), {})[supply.sku] = classes
    return [offer for place, by_sku in places.items() for offer in _settled(request, place, by_sku)]


def _settled(request: Request, place: tuple[str, str], by_sku: Mapping[str, Sequence[Traits]]) -> Iterator[Offer]:
    shapes = request.gang.shapes
    named = dict.fromkeys(shape.terms.skus for shape in shapes)
    for picked in product(*([sku for sku in skus or by_sku if sku in by_sku] for skus in named)):
        chosen = dict(zip(named, picked, strict=True))
        gang = request.gang.pinned({shape.name: chosen[shape.terms.skus] for shape in shapes})
        classes = [traits for sku in dict.fromkeys(picked) for traits in by_sku[sku]]
        yield Offer(replace(request, gang=gang), Supply(*place, chosen[shapes[0].terms.skus]), classes)


def unanswered(request: Request, sifted: Sifted, world: World) -> list[Finding]:
    """What to say of supplies that pass every filter and yet are in no offer: their region lacks a SKU that a group needs."""
    offered = {(offer.supply.provider, offer.supply.region) for offer in offers(request, sifted)}
    return [
        Finding(Rejection(str(supply), Reason.SKU_NOT_ACCEPTED), request, supply, len(world.nodes(classes)))
        for supply, classes in sifted.classes.items()
        if (supply.provider, supply.region) not in offered
    ]


def _first_no(request: Request, traits: Traits, filters: Sequence[Filter], candidate: str) -> Rejection | None:
    reason = next((reason for rule, reason in filters if not rule(request.spec, request.target, traits)), None)
    return None if reason is None else Rejection(candidate, reason)


def _forbidden(request: Request, traits: Traits, world: World) -> Rejection | None:
    """The article of the policy that keeps the workload from such nodes; the candidate of the rejection is its path."""
    if not world.law.articles:
        return None
    article = world.law.breach(case_of(request.spec, traits, world))
    return None if article is None else Rejection(article.where, Reason.FORBIDDEN_BY_POLICY)


def _kept_for_others(traits: Traits, world: World, closed: Set[Engagement]) -> Rejection | None:
    """The first of what such nodes are kept for that keeps the workload from them, needing 1 while that is ahead.

    The candidate says what it is, and when.
    """
    kept = next((each for each in traits.engagements if each in closed), None)
    if kept is None:
        return None
    lent = f", lent while it is not wanted to work that may be preempted and leaves within {kept.notice_seconds} s"
    what = f"{kept.in_words}{lent}" if kept.lends else kept.in_words
    return Rejection(what, Reason.KEPT_FOR_OTHERS, needs=int(world.now is not None and world.now < kept.opens_at))


def case_of(spec: WorkloadTerms, traits: Traits, world: World) -> Case:
    """What the law is asked about a workload and such nodes."""
    provider, region, sku = traits.supply
    queues = world.usage.tree.paths.get(spec.queue, (spec.queue,))
    return Case(spec.tenant, queues, sku, region, provider, traits.capacity_type)


def why_never(workload: Waiting, facts: Facts) -> Explanation | None:
    """Why the workload can never run as it stands, or none when it could on an idle and healthy fleet.

    An empty fleet, or one of which a part has never been observed, proves nothing.
    """
    queue = workload.spec.queue
    if queue not in facts.tree.paths:
        return unknown_queue(queue, facts.now)
    if not facts.complete or _groups_could_part(workload, facts):
        return None
    profile = facts.policy.goals.topology
    findings: list[Finding] = []
    fitting: list[tuple[Request, Supply]] = []
    unpaid: list[Rejection] = []
    for request in requests(workload):
        sifted = sift(request, facts.idle, passing=())
        findings += [*sifted.findings, *unanswered(request, sifted, facts.idle)]
        for offer in offers(request, sifted):
            nodes, gang = facts.idle.nodes(offer.classes), offer.request.gang
            if not has_room(gang if gang.fewest else gang.at_minimum(), nodes, profile):
                findings.append(Finding(why_never_room(gang, nodes, profile), offer.request, offer.supply, len(nodes)))
            elif (beyond := _beyond_quota(offer, facts)) is not None:
                fitting.append(beyond)
            elif (budget := _beyond_budgets(offer, facts)) is not None:
                unpaid.append(budget)
            else:
                return None
    if unpaid:
        return never_within_budget(unpaid, facts.now)
    if fitting:
        return never_fits_quota(fitting, facts.widest, facts.now)
    return no_matching_capacity(findings, facts.idle, facts.now)


def _groups_could_part(workload: Waiting, facts: Facts) -> bool:
    """Whether each group by itself could run somewhere, where the quota model gives every group a SKU of its own."""
    if facts.policy.rank.quota_model is not QuotaModel.COHORTS or len(workload.spec.groups) == 1:
        return False
    return any(
        all(_could_run(replace(request, gang=replace(request.gang, shapes=(shape,))), facts) for shape in request.gang.shapes)
        for request in requests(workload)
    )


def _could_run(request: Request, facts: Facts) -> bool:
    idle, profile = facts.idle, facts.policy.goals.topology
    return any(
        has_room(offer.request.gang.at_minimum(), idle.nodes(offer.classes), profile)
        and _beyond_quota(offer, facts) is None
        and _beyond_budgets(offer, facts) is None
        for offer in offers(request, sift(request, idle, passing=()))
    )


def why_never_room(gang: Gang, idle: Nodes, profile: TopologyProfile) -> Rejection:
    """Why idle nodes could not take the gang's minimum: one replica exceeds every node, or all of them together the rest."""
    if gang.largest > (most := most_on_one(idle)):
        return Rejection("", Reason.NODE_TOO_SMALL, gang.largest, most)
    return why_no_room(gang, idle, profile)


def _beyond_quota(offer: Offer, facts: Facts) -> tuple[Request, Supply] | None:
    """The groups, and their supply, that exceed all that the queue could ever have; none where none do."""
    request, supply = offer.request, offer.supply
    for sku, needed in request.gang.least_by_sku(supply.sku).items():
        if needed > facts.widest.ceiling_of(request.spec, sku):
            return replace(request, gang=request.gang.on(sku, supply.sku)), supply._replace(sku=sku)
    return None


def _beyond_budgets(offer: Offer, facts: Facts) -> Rejection | None:
    """The first hard budget that would be too small even if nothing were spent of it; at the price of the cheapest nodes."""
    spec, milli = offer.request.spec, offer.request.gang.minimum_milli
    if not any(budget.hard for queue in facts.tree.paths[spec.queue] for budget in facts.queues[queue].budgets):
        return None
    cheapest = min((entry.node.price for entry in facts.idle.nodes(offer.classes)), default=0)
    for queue in facts.tree.paths[spec.queue]:
        for budget in facts.queues[queue].budgets:
            if budget.hard and (found := beyond_unspent(budget, milli, milli * cheapest, length_of(spec))) is not None:
                needs, most = (Balance(budget, each).thousandths(each) for each in found)
                return Rejection(called(queue, budget), Reason.BUDGET_EXHAUSTED, needs, most)
    return None
