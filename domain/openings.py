"""Openings: whether a workload may be considered now, what it may ask for, and the best place for that."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from corral.api import Explanation, StopPolicy
from domain import explanation
from domain.facts import Facts
from domain.feasibility import offers, sift
from domain.placement import Candidate, best_on
from domain.request import Request, ranked, requests
from domain.scoring import choice, options, variants
from domain.workload import Waiting
from domain.world import World


def why_not_yet(workload: Waiting, facts: Facts) -> Explanation | None:
    """What keeps the workload from being considered at all, before any capacity is looked at."""
    spec, now = workload.spec, facts.now
    if not facts.idle.rooms:
        return explanation.empty_fleet(now)
    for queue in facts.tree.paths[spec.queue]:
        if (stop := facts.queues[queue].stop) is not StopPolicy.OPEN:
            return explanation.queue_stopped(queue, stop, now)
    if spec.earliest_start is not None and now < spec.earliest_start:
        return explanation.too_early(spec.earliest_start, now)
    if now < (opens_at := min(request.opens_at for request in requests(workload))):
        return explanation.waiting_for_relaxation(opens_at, (), now)
    return None


def open_ranks(workload: Waiting, facts: Facts) -> list[Sequence[Request]]:
    """The requests under targets that are open by now, by rank."""
    return ranked([request for request in requests(workload) if request.opens_at <= facts.now])


def best_candidate(ranks: Iterable[Sequence[Request]], world: World) -> Candidate | None:
    """The best placement of the first rank of targets that has any."""
    for rank in ranks:
        tried = (variant for request in rank for variant in variants(request, world))
        candidates = [candidate for variant in tried for candidate in _places(variant, world)]
        if candidates:
            return min(candidates, key=lambda candidate: choice(candidate, world))
    return None


def _places(request: Request, world: World) -> Iterator[Candidate]:
    """The placements of a request that compete, on every supply."""
    profile = world.policy.goals.topology
    for offer in offers(request, sift(request, world)):
        place = partial(best_on, offer.request, offer.supply, usage=world.usage, profile=profile)
        yield from options(request.spec, offer.request.gang, offer.classes, world, place)
