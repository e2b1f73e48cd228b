"""Loans are called back as far as their owners need it: nobody leaves for one who fits beside all others without that."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from random import Random

import pytest

from corral.api import WHOLE
from corral.policy import QuotaModel
from corral.reservation import Lending
from domain.decision import Start, StartAfter
from domain.pool.workload import Active
from domain.round import schedule
from tests.builders import NOON, a_booking, a_node, a_snapshot, by_model, nodes, seconds
from tests.domain.owners_and_guests import QUEUES, a_guest, an_owner, opened

GPUS = 4
WORLDS = 40
"""Worlds of each model and seed."""


def guests_on(id: str, random: Random) -> list[Active]:
    """Guests side by side until a node is full."""
    found, used = list[Active](), 0
    while used < GPUS:
        gpus = random.randint(1, GPUS - used)
        guest = a_guest(f"{id}-{used}", gpus, priority=random.randint(0, 2), preemptible=random.random() < 0.9)
        found.append(guest.on((a_node(id, gpus=GPUS, used=used), gpus)))
        used += gpus
    return found


def freed(gone: Sequence[Active], number: int) -> dict[str, int]:
    """What these leave on as many full nodes, by node."""
    free = dict.fromkeys((f"n{index}" for index in range(number)), 0)
    for share in chain.from_iterable(guest.placement.shares for guest in gone):
        free[share.node_id] += share.room.milli // WHOLE
    return free


@pytest.mark.parametrize("model", QuotaModel)
@pytest.mark.parametrize("seed", range(2))
def test_owners_get_what_is_lent_and_nobody_leaves_for_one_who_fits_beside_the_others(model: QuotaModel, seed: int) -> None:
    random = Random(seed)
    for _ in range(WORLDS):
        fleet = nodes(random.randint(1, 2), gpus=GPUS)
        running = [guest for node in fleet for guest in guests_on(node.id, random)]
        sizes = [random.randint(1, 3) for _ in range(random.randint(1, 2))]
        owners = [an_owner(f"o{at}", size, submitted_at=NOON - seconds(100 - at)) for at, size in enumerate(sizes)]
        night = opened(a_booking(accelerators=GPUS * len(fleet), opens_in=-60), *(node.id for node in fleet))
        booking = replace(night, spec=night.spec.model_copy(update={"lent": Lending.UNTIL_WANTED}))
        plan = schedule(a_snapshot(fleet, QUEUES, *running, *owners, policy=by_model(model), bookings=[booking]), NOON)
        starts = {each.workload_id: each for each in plan.decisions if isinstance(each, Start | StartAfter)}
        by_attempt = {guest.attempt_id: guest for guest in running}
        told = [(by_attempt[stop.attempt_id], stop.beneficiary) for stop in plan.stops]
        assert all(guest.spec.preemptible for guest, _ in told)
        left = freed([guest for guest, _ in told], len(fleet))
        for share in chain.from_iterable(each.placement.shares for each in starts.values()):
            left[share.node_id] -= share.room.milli // WHOLE
        assert min(left.values()) >= 0
        for at, size in enumerate(sizes):
            its = freed([guest for guest, owner in told if owner == f"o{at}"], len(fleet))
            place = {share.node_id: size for share in starts[f"o{at}"].placement.shares} if f"o{at}" in starts else {}
            without = {node: left[node] + place.get(node, 0) - its[node] for node in left}
            assert not any(its.values()) or min(without.values()) < 0 or size > max(without.values())
        if not starts:
            assert max(freed([guest for guest in running if guest.spec.preemptible], len(fleet)).values()) < min(sizes)
