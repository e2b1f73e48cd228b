"""Reasons: why work waits, in the world in which a round ends; worked out once for all who would be told the same."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from corral.api import Explanation
from domain.explanation.answers import is_same, no_room, waiting_for_nodes, waiting_for_relaxation, waiting_for_victims
from domain.explanation.finding import Finding, dominant
from domain.facts import Facts
from domain.placement.feasibility import ARRIVAL_FILTERS, LASTING_REASONS, offers, sift, unanswered
from domain.placement.layout import why_no_devices, why_not_on, without_limits
from domain.placement.outline import devices_alone
from domain.pool.nodepools import Provisioning
from domain.pool.workload import Waiting
from domain.quota_models.openings import fits_somewhere, open_ranks, why_not_yet
from domain.worlds.request import Gang, Request, form, requests
from domain.worlds.world import Supply, Traits, World


@dataclass(slots=True)
class Reasons:
    """Lives while a round explains. `later` is the world once all who have notice have left."""

    world: World
    later: World
    facts: Facts
    _said: dict[Hashable, Explanation] = field(default_factory=dict)
    _lacking: dict[tuple[Gang, int], bool] = field(default_factory=dict)
    _same: dict[tuple[int, int], bool] = field(default_factory=dict)

    def why(self, workload: Waiting) -> Explanation:
        """Why a workload waits: `why_waits`, of one of those of whom that is the same."""
        if (gate := why_not_yet(workload, self.facts)) is not None:
            return gate
        case = self._case(workload)
        if (known := self._said.get(case)) is None:
            known = self._said[case] = why_waits(workload, self.world, self.later, self.facts)
        return known

    def is_news(self, said: Explanation | None, says: Explanation) -> bool:
        """Whether who was told the one (none: nothing yet) learns something from the other; others keep both meanwhile."""
        if said is None:
            return True
        if (known := self._same.get(both := (id(said), id(says)))) is None:
            known = self._same[both] = is_same(said, says)
        return not known

    def _case(self, workload: Waiting) -> Hashable:
        """All that a workload's reason follows from, but for what holds of everybody."""
        ranks, now = open_ranks(workload, self.facts), self.facts.now
        fits = self.later is not self.world and fits_somewhere(ranks, self.later)
        if self.facts.arrivals and not fits:
            return workload.id
        delays = form(workload).delays
        closed = min((each.opens_at for each in requests(workload) if each.opens_at > now), default=None) if delays else None
        return fits, closed, *[self._asked(request) for rank in ranks for request in rank]

    def _asked(self, request: Request) -> Hashable:
        """All that supplies look at in a request and tell of it.

        Mostly that is no more than how many devices it needs on which nodes: whose it is counts where quota may refuse it,
        and all else that it needs where devices are not what it lacks. Where a budget or each group's own SKUs count, nobody
        is like it.
        """
        gang, spec, usage = request.gang, request.spec, self.world.usage
        if gang.names_skus or (usage.tree.balances and usage.tree.balances_of(spec.queue)):
            return request.id, request.index
        classes = sift(request, self.world).classes  # the world keeps it, so that nothing else gets its id
        is_short = any(
            gang.minimum_milli > usage.room(spec.queue, sku, preemptible=spec.preemptible)
            for sku in {supply.sku for supply in classes}
        )
        whose = (spec.queue, spec.preemptible, spec.user) if is_short or usage.tree.user_limits else None
        devices = devices_alone(gang)
        return id(classes), request.index, whose, devices if self._lack_devices(devices, classes) else gang

    def _lack_devices(self, gang: Gang, classes: Mapping[Supply, Sequence[Traits]]) -> bool:
        """Whether devices are what a gang that needs nothing else lacks in every supply."""
        if (known := self._lacking.get(asked := (gang, id(classes)))) is None:
            every = (without_limits(self.world.nodes(its)) for its in classes.values())
            known = self._lacking[asked] = all(why_no_devices(gang, nodes) is not None for nodes in every)
        return known


def why_waits(workload: Waiting, world: World, later: World, facts: Facts) -> Explanation:
    """The gate that is closed, the leaving work that is waited for, or the rule that stopped the nearest candidate."""
    if (gate := why_not_yet(workload, facts)) is not None:
        return gate
    ranks, findings = open_ranks(workload, facts), findings_about(workload, world, facts)
    if later is not world and fits_somewhere(ranks, later):
        return waiting_for_victims(findings, facts.now)
    if facts.arrivals and fits_somewhere(ranks, later, ARRIVAL_FILTERS):
        return waiting_for_nodes(_awaited(ranks, later, facts), findings, facts.now)
    closed = [request.opens_at for request in requests(workload) if request.opens_at > facts.now]
    if closed and dominant(findings).rejection.reason in LASTING_REASONS:
        return waiting_for_relaxation(min(closed), findings, facts.now)
    return no_room(findings, facts.now, is_complete=facts.complete)


def why_awaits(workload: Waiting, world: World, facts: Facts) -> Explanation:
    """What others will leave is kept for the workload: what keeps it from starting before."""
    return waiting_for_victims(findings_about(workload, world, facts), facts.now)


def _awaited(ranks: Iterable[Iterable[Request]], world: World, facts: Facts) -> list[Provisioning]:
    """The nodes on their way that any of the requests accepts."""
    accepted = {supply for rank in ranks for request in rank for supply in sift(request, world, ARRIVAL_FILTERS).classes}
    nodes = ((arrival, arrival.pool.node) for arrival in facts.arrivals)
    return [arrival for arrival, node in nodes if (node.provider, node.region, node.sku) in accepted]


def findings_about(workload: Waiting, world: World, facts: Facts) -> list[Finding]:
    """What every supply says to all requests of a workload that are open."""
    return [finding for rank in open_ranks(workload, facts) for request in rank for finding in findings_of(request, world)]


def findings_of(request: Request, world: World) -> list[Finding]:
    """What every supply says to a request that fits nowhere."""
    sifted, profile = sift(request, world), world.policy.goals.topology
    answers = []
    for offer in offers(request, sifted):
        nodes = world.nodes(offer.classes)
        rejection = why_not_on(offer.request, offer.supply, nodes, world.usage, profile)
        answers.append(Finding(rejection, offer.request, offer.supply, len(nodes)))
    return [*sifted.findings, *unanswered(request, sifted, world), *answers]
