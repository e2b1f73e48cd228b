"""Reservations as they are asked for: what makes no sense is refused, and what is the same has the same digest."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from corral.reservation import Lending, Purpose, ReservationSpec


def a_spec(**fields: Any) -> ReservationSpec:
    given: dict[str, Any] = {"accelerators": 8, "sku": "h100", "queues": ("owner",), "start": datetime(2030, 6, 1, tzinfo=UTC)}
    return ReservationSpec(id="night", seconds=3600, **(given | fields))


def test_what_was_reserved_before_lending_was_a_choice_keeps_its_digest() -> None:
    assert a_spec().digest == "f4f5b89149fbd139945a03ba8507a6b71f7664ae6b35fec4fb833755f2b0317a"
    assert a_spec(lent=Lending.UNTIL_OPEN).digest == a_spec().digest


def test_how_it_is_lent_makes_another_reservation() -> None:
    wanted = {"lent": Lending.UNTIL_WANTED}
    assert len({a_spec().digest, a_spec(**wanted).digest, a_spec(**wanted, notice_seconds=60).digest}) == 3


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"notice_seconds": 60}, "notice_seconds: it bounds the notice of guests; say lent: until-wanted, or leave it out"),
        ({"lent": "always"}, "Input should be 'until-open' or 'until-wanted'"),
        ({"start": datetime(9999, 12, 31, 23, 59)}, "expected a year from 1970 to 8999"),
        ({"start": datetime(1, 1, 1)}, "expected a year from 1970 to 8999"),
        ({"queues": ()}, "capacity: say for whom, by queues, tenants or workloads"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_do(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        a_spec(**fields)


@pytest.mark.parametrize("fields", [{"lent": Lending.UNTIL_WANTED}, {"notice_seconds": 60}])
def test_nodes_in_maintenance_are_lent_to_nobody(fields: dict[str, Any]) -> None:
    given: dict[str, Any] = {"purpose": Purpose.MAINTENANCE, "nodes": ("n1",), "seconds": 60}
    with pytest.raises(ValidationError, match="maintenance: nobody works there; leave out lent and notice_seconds"):
        ReservationSpec(id="upkeep", start=datetime(2030, 6, 1, tzinfo=UTC), **given, **fields)
