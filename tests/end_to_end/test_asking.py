"""Whoever asks patiently has an answer in the end, or knows that there is none."""

from typing import cast

import pytest
from temporalio.client import Client

from corral.api import Acknowledgement, State
from corral.client import Conflict, Unreachable
from tests.end_to_end.asking import PatientCorral, patiently


class Busy(PatientCorral):
    """A pool that hears each call, and answers the third one."""

    def __init__(self) -> None:
        super().__init__(cast(Client, None))
        self.heard: list[tuple[str, str | None]] = []

    async def hold(self, workload: str, reason: str = "", *, key: str | None = None) -> Acknowledgement:
        self.heard.append((workload, key))
        if len(self.heard) < 3:
            raise Unreachable("no worker answers")
        return Acknowledgement(state=State.SUSPENDED, message="held")

    async def wake(self, workload: str) -> None:
        self.heard.append((workload, None))
        raise Conflict("no")


async def test_a_change_is_asked_for_again_as_the_same_one() -> None:
    busy = Busy()
    assert (await busy.hold("w1")).message == "held"
    assert len(busy.heard) == 3
    assert len(set(busy.heard)) == 1
    assert busy.heard[0][1], "it has a key"
    assert (await busy.hold("w1")).message == "held"
    assert busy.heard[3] != busy.heard[0], "another change has another key"


async def test_a_no_is_an_answer() -> None:
    busy = Busy()
    with pytest.raises(Conflict):
        await busy.wake("w1")
    assert busy.heard == [("w1", None)]


async def test_whoever_asks_patiently_gives_up_in_the_end() -> None:
    async def nobody_answers() -> None:
        raise Unreachable("no worker answers")

    with pytest.raises(AssertionError, match="no worker answers"):
        await patiently(nobody_answers, within=0)
