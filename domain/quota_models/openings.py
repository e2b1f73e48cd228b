"""Openings: whether a workload may be considered now, what it may ask for, and the best place for that."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

from corral.api import Explanation, StopPolicy
from domain.explanation.answers import empty_fleet, queue_stopped, too_early, waiting_for_relaxation
from domain.facts import Facts
from domain.placement.feasibility import PASSING_FILTERS, Filter, offers, sift
from domain.placement.layout import Candidate, best_within, fits_on, quota_for
from domain.placement.outline import Outline, outline
from domain.placement.scoring import choice, options, variants
from domain.placement.sieve import are_too_small
from domain.pool.fleet import Amount
from domain.pool.workload import Waiting, open_from
from domain.worlds.request import Request, form, ranked, requests
from domain.worlds.world import Supply, Traits, World


def why_not_yet(workload: Waiting, facts: Facts) -> Explanation | None:
    """What keeps the workload from being considered at all, before any capacity is looked at."""
    spec, now = workload.spec, facts.now
    if (key := ("shut", spec.queue)) not in facts.remembered:
        facts.remembered[key] = _why_shut(spec.queue, facts)
    shut: Explanation | None = facts.remembered[key]
    if shut is not None:
        return shut
    if spec.earliest_start is not None and now < spec.earliest_start:
        return too_early(spec.earliest_start, now)
    if delays := form(workload).delays:
        opens_at = open_from(workload.submitted_at, min(delays))
        if now < opens_at:
            return waiting_for_relaxation(opens_at, (), now)
    return None


def _why_shut(queue: str, facts: Facts) -> Explanation | None:
    """What keeps everybody in a queue from being considered."""
    if not facts.idle.rooms:
        return empty_fleet(facts.now)
    for name in facts.tree.paths[queue]:
        if (stop := facts.queues[name].stop) is not StopPolicy.OPEN:
            return queue_stopped(name, stop, facts.now)
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Needs:
    """What some requests cannot do without, and the nodes among which: one object for all that need the same of the same."""

    lots: Sequence[tuple[Outline, Mapping[Supply, Sequence[Traits]]]]

    def have_room(self, world: World) -> bool:
        """Whether any of the nodes are not surely too small; where they are, it is remembered until there is more room."""
        if world.room.refuses(self):
            return False
        for least, among in self.lots:
            for classes in among.values():
                if not are_too_small(least, tuple([world.classes[traits] for traits in classes])):
                    return True
        world.room.refuse(self)
        return False

    def have_quota(self, ranks: "Ranks", world: World) -> bool:
        """Whether any of the requests with these needs has quota for them where nodes are not surely too small."""
        usage = world.usage
        for request, (least, among) in zip(chain.from_iterable(ranks), self.lots, strict=True):
            allowed: dict[str, bool] = {}
            for supply, classes in among.items():
                if supply.sku not in allowed:
                    allowed[supply.sku] = usage.allowed(request.spec, supply.sku) >= request.gang.minimum_milli
                if allowed[supply.sku] and not are_too_small(least, tuple([world.classes[traits] for traits in classes])):
                    return True
        return False


class Ranks(tuple[Sequence[Request], ...]):
    """Requests of a workload, by rank, and what they need in the worlds that come of one."""

    _needs: tuple[object, Needs | None] | None = None

    def at_minimum(self) -> "Ranks":
        """The same requests with no more replicas than they cannot do without."""
        return Ranks([request.at_minimum() for request in rank] for rank in self)

    def may_have_room(self, world: World) -> bool:
        """Whether it is left open that any of the requests has room and quota; it is where groups name SKUs of their own."""
        if self._needs is None or self._needs[0] is not world.remembered:
            self._needs = world.remembered, self._needs_in(world)
        needs = self._needs[1]
        return needs is None or (needs.have_room(world) and needs.have_quota(self, world))

    def _needs_in(self, world: World) -> Needs | None:
        every = [request for rank in self for request in rank]
        if any(request.gang.names_skus for request in every):
            return None
        accepted = [sift(request, world).classes for request in every]
        key = "needs", *((outline(request.gang), id(classes)) for request, classes in zip(every, accepted, strict=True))
        if (known := world.remembered.get(key)) is None:
            lots = [(outline(request.gang), classes) for request, classes in zip(every, accepted, strict=True)]
            known = world.remembered[key] = Needs(lots)  # the views see to it that nothing else gets these ids
        needs: Needs = known
        return needs


@dataclass(frozen=True, slots=True)
class _Opened:
    """The same with the workload."""

    workload: Waiting
    ranks: Ranks


def open_ranks(workload: Waiting, facts: Facts) -> Ranks:
    """The requests under targets that are open by now, by rank; remembered, for who waits is asked again and again."""
    known = facts.remembered.get(key := ("open", workload.id))
    if not isinstance(known, _Opened) or known.workload is not workload:
        opened = [request for request in requests(workload) if request.opens_at <= facts.now]
        known = facts.remembered[key] = _Opened(workload, Ranks(ranked(opened)))
    return known.ranks


def best_candidate(ranks: Ranks, world: World) -> Candidate | None:
    """The best placement of the first rank of targets that has any."""
    if not ranks.may_have_room(world):
        return None
    for rank in ranks:
        candidates = [found for request in rank for variant in variants(request, world) for found in _places(variant, world)]
        if candidates:
            return candidates[0] if len(candidates) == 1 else min(candidates, key=lambda found: choice(found, world))
    return None


def fits_somewhere(ranks: Ranks, world: World, passing: Sequence[Filter] = PASSING_FILTERS) -> bool:
    """Whether there is a `best_candidate`, among nodes that pass these filters too."""
    if passing is PASSING_FILTERS and not ranks.may_have_room(world):
        return False
    usage, profile = world.usage, world.policy.goals.topology
    return any(
        fits_on(offer.request, offer.supply, world.nodes(offer.classes), usage, profile)
        for rank in ranks
        for request in rank
        for offer in offers(request, sift(request, world, passing))
    )


def _places(request: Request, world: World) -> Iterator[Candidate]:
    """The placements of a request that compete, on every supply for which it has quota."""
    profile, usage = world.policy.goals.topology, world.usage
    known: dict[str, dict[str, Amount] | None] = {}
    least: Outline | None = None
    for offer in offers(request, sift(request, world)):
        if least is None or offer.request is not request:
            least = outline(offer.request.gang)
        if are_too_small(least, tuple([world.classes[traits] for traits in offer.classes])):
            continue
        sku = offer.supply.sku
        if sku not in known or offer.request is not request:
            known[sku] = quota_for(offer.request, sku, usage)
        if (quota := known[sku]) is not None:
            place = partial(best_within, quota, offer.request, offer.supply, usage=usage, profile=profile)
            yield from options(request.spec, offer.request.gang, offer.classes, world, place)
