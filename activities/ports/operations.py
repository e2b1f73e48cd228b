"""What operators order that takes its time: evacuations and roll-outs."""

from typing import Protocol

from activities.answers import Notice
from corral.api import EvacuationOrder, EvacuationStatus, OperationChange, OperationStatus
from corral.rollout import Change, RolloutOrder, RolloutStatus, WhatIf
from corral.wire import Steering


class Operations(Protocol):
    """Takes evacuations and roll-outs as far as they may go."""

    async def evacuate(self, order: EvacuationOrder) -> tuple[EvacuationStatus, list[Notice]]:
        """Take an evacuation as far as it may go now: cordon its place, tell who is to leave next, note what is left.

        Its steps are a transaction each; whichever has been done already changes nothing.

        Raises:
            NotAllowed: the id belongs to another operation.
            NotFound: nothing of that name is there.
        """

    async def steer_evacuation(
        self, id: str, verb: Steering, change: OperationChange, key: str, order: EvacuationOrder | None = None
    ) -> EvacuationStatus:
        """Pause, resume, abort, approve or reject an evacuation, once a key; to ask for what is so already changes nothing.

        Given the order, one that has not begun is written down as aborted, whoever begins it later.

        Raises:
            NotAllowed: it is over, or its state or the person does not allow it.
            NotFound: there is no such evacuation.
        """

    async def evacuations(self, limit: int) -> list[EvacuationStatus]:
        """The newest evacuations, those under way first."""

    async def operations(self, id: str | None, limit: int) -> list[OperationStatus]:
        """The newest operations of all kinds, those under way first, or the one of that id."""

    async def remember_what_if(self, change: Change, found: WhatIf) -> None:
        """Keep what the token of a what-if stands for, for a day."""

    async def begin_rollout(self, order: RolloutOrder) -> RolloutStatus:
        """Write a roll-out down, and apply it if the pool is as its token has it and nobody has to approve it; once.

        Raises:
            NotAllowed: the id belongs to another operation, or the token to another change.
        """

    async def advance_rollout(self, id: str) -> RolloutStatus:
        """Do what is due of a roll-out: let it expire, look how it goes, take it back, or end it.

        Raises:
            NotFound: there is no such roll-out.
        """

    async def steer_rollout(
        self, id: str, verb: Steering, change: OperationChange, key: str, order: RolloutOrder | None = None
    ) -> RolloutStatus:
        """Approve, reject or abort a roll-out, once a key; to ask for what is so already changes nothing.

        Given the order, one that has not begun is written down as aborted, whoever begins it later.

        Raises:
            NotAllowed: it is over, or its state or the person does not allow it.
            NotFound: there is no such roll-out.
        """
