"""Capacity for a window."""

from functools import partial

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from corral import wire
from corral.api import Cancel
from corral.client.connection import Connection, Kept, request_id
from corral.client.errors import Conflict, Invalid, Unreachable, has_ended
from corral.reservation import Extend, ReservationAnswer, ReservationSpec, ReservationState, ReservationStatus


class Reservations(Connection):
    """Reserves capacity, changes what is reserved, and tells of it."""

    async def reserve(self, spec: ReservationSpec) -> ReservationAnswer:
        """Reserve capacity, or nodes for maintenance. The same id with the same spec is the same reservation.

        Raises:
            Conflict: the id belongs to another reservation that is not over.
            Invalid: it makes no sense, or its windows are over; the message says what was expected.
        """
        async with self._answered_by(wire.reservation_workflow_id(spec.id), f"there is no reservation {spec.id!r}"):
            handle = await begin_reservation(self._temporal, self._pool, spec)
            if await (await handle.describe()).memo_value(wire.DIGEST_MEMO, default=None) != spec.digest:
                raise Conflict(
                    f"id: {spec.id!r} belongs to another reservation; make this one under an id of its own, "
                    f"or see the other with `corral reservation show {spec.id}`"
                )
            answer = await self._confirmed(handle)
        if answer.state is ReservationState.REFUSED:
            raise Invalid(answer.message)
        return answer

    async def _confirmed(self, handle: WorkflowHandle[object, ReservationAnswer]) -> ReservationAnswer:
        """How a reservation stands once it has been written down; one that is over by then says so as its result."""
        try:
            return await self._update(handle.id, wire.ReservationUpdate.CONFIRM, ReservationAnswer)
        except (RPCError, WorkflowUpdateFailedError) as error:
            if not has_ended(error):
                raise
        try:
            return await handle.result()
        except WorkflowFailureError as failure:
            raise Unreachable(f"{handle.id.replace('/', ' ')!r} was ended before it was kept; ask again") from failure

    async def reservations(self) -> list[ReservationStatus]:
        """List the reservations; those that are not over first."""
        return await self._ask(wire.Inquiry.RESERVATIONS, [None], list[ReservationStatus])

    async def reservation(self, reservation: str) -> ReservationStatus:
        """Tell of one reservation: its window, what is kept for it, and what it missed.

        Raises:
            NotFound: there is no such reservation.
        """
        (found,) = await self._ask(wire.Inquiry.RESERVATIONS, reservation, list[ReservationStatus])
        return found

    async def extend_reservation(self, reservation: str, seconds: int, *, key: str | None = None) -> ReservationAnswer:
        """Let the present or next window end so many seconds later; `key` makes repeating the call safe.

        Raises:
            NotFound: there is no such reservation that is not over.
        """
        update = wire.ReservationUpdate.EXTEND
        change = Extend(seconds=seconds)
        return await self._change_kept(self._kept(reservation), update, change, request_id(update, key), ReservationAnswer)

    async def cancel_reservation(self, reservation: str, reason: str = "", *, key: str | None = None) -> ReservationAnswer:
        """Keep nothing for a reservation any more; work that uses what was kept runs on.

        Raises:
            NotFound: there is no such reservation that is not over.
        """
        update = wire.ReservationUpdate.CANCEL
        change = Cancel(reason=reason)
        return await self._change_kept(self._kept(reservation), update, change, request_id(update, key), ReservationAnswer)

    def _kept(self, reservation: str) -> Kept:
        missing = f"there is no reservation {reservation!r} that is not over; `corral reservation list` lists them"
        return Kept(wire.reservation_workflow_id(reservation), partial(self._is_not_over, reservation), missing)

    async def _is_not_over(self, reservation: str) -> bool:
        return not (await self.reservation(reservation)).state.is_over


async def begin_reservation(temporal: Client, pool: str, spec: ReservationSpec) -> WorkflowHandle[object, ReservationAnswer]:
    """Start the workflow of a reservation, unless one of its id runs."""
    return await temporal.start_workflow(
        wire.RESERVATION,
        spec,
        id=wire.reservation_workflow_id(spec.id),
        task_queue=wire.pool_task_queue(pool),
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        static_summary=spec.summary,
        memo={wire.DIGEST_MEMO: spec.digest},
        priority=wire.STEERS,
        result_type=ReservationAnswer,
    )
