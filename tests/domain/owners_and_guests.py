"""A scene: a queue for which nodes are kept, and another that uses them while they are lent."""

from dataclasses import replace
from typing import Any

import pytest

from corral.policy import QuotaModel
from domain.pool.bookings import Booking
from tests.builders import AWorkload, a_cohort, a_queue, a_workload, by_model

QUEUES = a_cohort(a_queue("owner", nominal=64), a_queue("guest", nominal=64))
HOUR = 3600
every_model = pytest.mark.parametrize("policy", [by_model(model) for model in QuotaModel], ids=list(QuotaModel))


def a_guest(id: str = "guest", gpus: int = 8, **fields: Any) -> AWorkload:
    return a_workload(id, queue="guest", gpus=gpus, **fields)


def an_owner(id: str = "own", gpus: int = 8, **fields: Any) -> AWorkload:
    return a_workload(id, queue="owner", gpus=gpus, **fields)


def on(booking: Booking, *nodes: str, is_open: bool = False) -> Booking:
    """The same where these nodes are chosen for it."""
    return replace(booking, nodes=nodes, is_open=is_open)


def opened(booking: Booking, *nodes: str) -> Booking:
    return on(booking, *nodes, is_open=True)
