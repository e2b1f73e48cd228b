"""Mandates in the record: written once, told as they stand, and revoked."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from activities.ports import NotAllowed, NotFound
from corral.api import PlaceKind
from corral.policy import PolicyOrder
from corral.schedule import RecurringEvacuation, Revocation, ScheduleSpec
from corral.signing import due, mandated
from domain.operations.mandates import BadMandate, Occasion
from tests.activities.store.pool import POOL, Pool

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def a_schedule(id: str = "patches", **more: Any) -> ScheduleSpec:
    place = RecurringEvacuation(kind=PlaceKind.CLUSTER, place="sim/eu/eu-1")
    said: dict[str, Any] = {"cron": "0 * * * *", "until": NOW + 30 * DAY, "pool": POOL, "reason": "patches", "who": "ada"}
    return ScheduleSpec(id=id, evacuate=place, **(said | more))


async def test_a_mandate_is_written_once_and_tells_who_signed_it_and_for_when_it_was_last_used(pool: Pool) -> None:
    spec = a_schedule()
    await pool.store.ordered("ada", mandated(spec), "run")
    first = await pool.store.mandate(spec, NOW)
    assert await pool.store.mandate(spec, NOW + DAY) == first
    assert (first.id, first.principal, first.signed_at, first.until) == (spec.mandate, "ada", NOW, spec.until)
    assert (first.subject, first.last_due_at) == ("evacuate cluster sim/eu/eu-1", None)
    await pool.store.ordered("ada", due(spec, NOW), "run", Occasion(spec.mandate, NOW))
    (status,) = await pool.store.mandates(10)
    assert status.last_due_at == NOW
    (order, _) = await pool.store.orders(None, 10)
    assert (order.principal, order.command, order.subject) == ("ada", "evacuate", "evacuation/patches-20300601-120000")
    assert (order.mandate, order.due_at) == (spec.mandate, NOW)


async def test_how_long_it_lasts_is_for_the_policy_in_force_to_say(pool: Pool) -> None:
    spec = a_schedule()
    await pool.store.mandate(spec, NOW)
    known = await pool.store.mandate_of(spec.mandate)
    assert known is not None
    assert (known.spec, known.signed_at, known.longest, known.revoked) == (spec, NOW, 90 * DAY, "")
    approvals = pool.policy.approvals.model_copy(update={"mandate_seconds": 86_400})
    strict = pool.policy.model_copy(update={"approvals": approvals})
    await pool.store.apply_policy(PolicyOrder(policy=strict, who="ada", why="strict"))
    known = await pool.store.mandate_of(spec.mandate)
    assert known is not None
    assert known.longest == DAY
    with pytest.raises(BadMandate, match="too far away"):
        await pool.store.mandate(a_schedule("other"), NOW)
    assert await pool.store.mandate_of(a_schedule("other").mandate) is None


async def test_a_revoked_mandate_says_so_and_is_not_signed_again(pool: Pool) -> None:
    spec, other = a_schedule(), a_schedule("other")
    for each in (spec, other):
        await pool.store.mandate(each, NOW)
    (status,) = await pool.store.revoke(Revocation(mandate=spec.mandate, who="ben", reason="too much"))
    assert (status.revoked_by, status.revoked_because) == ("ben", "too much")
    assert await pool.store.revoke(Revocation(schedule="patches", reason="removed")) == [status], "the first one counts"
    known = await pool.store.mandate_of(spec.mandate)
    assert known is not None
    assert known.revoked.endswith(" by ben: too much")
    with pytest.raises(NotAllowed, match=r"was revoked \(too much\); sign the schedule with another end"):
        await pool.store.mandate(spec, NOW)
    still = await pool.store.mandate_of(other.mandate)
    assert still is not None
    assert still.revoked == ""


async def test_what_is_not_there_is_told(pool: Pool) -> None:
    with pytest.raises(NotFound, match="there is no mandate 'nobodys'; `corral schedule mandates` lists them"):
        await pool.store.revoke(Revocation(mandate="nobodys", reason="x"))
    assert await pool.store.revoke(Revocation(schedule="nobodys", reason="x")) == []
    assert await pool.store.mandate_of("nobodys") is None
