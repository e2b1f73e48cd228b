"""The life of one reservation: window after window, each opened and closed by a timer, until there is none any more."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.answers import ReservationChange, ReservationOrder, ReservationStanding
    from activities.reserving import Reserving
    from corral import wire
    from corral.api import Cancel
    from corral.reservation import Extend, ReservationAnswer, ReservationState
    from workflows.beginnings import begun_by_anybody
    from workflows.policies import knows_all, quick

LOOK_AGAIN = timedelta(days=1)
"""It looks at the record that often at least: a round may have let a flexible window begin at another time."""

WINDOWS_A_RUN = 100
"""After so many windows a recurring reservation goes on in a new run, whose history is short."""


@workflow.defn(name=wire.RESERVATION)
@begun_by_anybody
class ReservationLifecycle:
    """Keeps the time for a reservation; what is kept for it, and who has to leave, is decided by rounds."""

    @workflow.init
    def __init__(self, spec: Any = None, known: ReservationStanding | None = None) -> None:
        """Take the spec as it came, so that a bad one is an answer rather than a failed task."""
        self._spec = spec
        self._reservation = workflow.info().workflow_id.removeprefix(wire.reservation_workflow_id(""))
        self._standing = known
        self._before = known.windows if known else 1
        self._heard = 0

    @workflow.run
    async def run(self, spec: Any = None, known: ReservationStanding | None = None) -> ReservationAnswer:
        """Go from window to window; cancelled, keep nothing any more first."""
        try:
            if self._standing is None:
                order = ReservationOrder(self._reservation, self._spec, workflow.info().workflow_id)
                self._learn(await quick(Reserving.reserve, [order], "reserve"))
            while not self._now.state.is_over:
                await self._until_due()
        except BaseException as error:
            if not is_cancelled_exception(error):
                raise
            await asyncio.shield(asyncio.create_task(self._give_up()))
            raise
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._answer()

    async def _until_due(self) -> None:
        """Wait until time or somebody changes something, and do what is due then."""
        workflow.set_current_details(_details(self._now))
        if workflow.info().is_continue_as_new_suggested() or self._now.windows - self._before >= WINDOWS_A_RUN:
            await workflow.wait_condition(workflow.all_handlers_finished)
            workflow.continue_as_new(args=[self._spec, self._now])
        heard, left = self._heard, timedelta(seconds=self._now.next_in or 0)
        try:
            await workflow.wait_condition(lambda: self._heard != heard, timeout=min(left, LOOK_AGAIN))
        except TimeoutError:
            self._learn(await quick(Reserving.advance, [self._reservation], "look what is due"))

    async def _give_up(self) -> None:
        if not (self._standing and self._standing.state.is_over):
            change = ReservationChange(self._reservation, "workflow-cancelled", reason="its workflow was cancelled")
            try:
                self._learn(await quick(Reserving.cancel, [change], "cancel"))
            except (ApplicationError, ActivityError) as error:
                cause = error.cause if isinstance(error, ActivityError) else error
                if not isinstance(cause, ApplicationError) or cause.type != wire.Failure.NOT_FOUND:
                    raise
        # What was never written down has no answer for whoever waits for one.
        await workflow.wait_condition(lambda: self._standing is None or workflow.all_handlers_finished())

    @property
    def _now(self) -> ReservationStanding:
        assert self._standing is not None, "nothing is asked of a reservation before it has been written down"
        return self._standing

    def _learn(self, standing: ReservationStanding) -> None:
        self._standing = standing
        self._heard += 1

    def _answer(self) -> ReservationAnswer:
        now = self._now
        message = now.message if now.state is ReservationState.REFUSED else _details(now)
        return ReservationAnswer(state=now.state, closes_at=now.closes_at, message=message)

    # Updates

    @workflow.update(name=wire.ReservationUpdate.CONFIRM)
    async def confirm(self) -> ReservationAnswer:
        """Answer how the reservation stands as soon as it has been written down, or refused."""
        await workflow.wait_condition(lambda: self._standing is not None)
        return self._answer()

    @workflow.update(name=wire.ReservationUpdate.EXTEND)
    async def extend(self, change: Extend) -> ReservationAnswer:
        """Let the present or next window end later."""
        return await self._change(Reserving.extend, "extend", seconds=change.seconds)

    @workflow.update(name=wire.ReservationUpdate.CANCEL)
    async def cancel(self, change: Cancel) -> ReservationAnswer:
        """Keep nothing any more; work that uses what was kept runs on."""
        return await self._change(Reserving.cancel, "cancel", reason=change.reason)

    @extend.validator
    def _may_extend(self, change: Extend) -> None:
        self._require("extend")

    @cancel.validator
    def _may_cancel(self, change: Cancel) -> None:
        self._require("cancel")

    def _require(self, verb: str) -> None:
        if knows_all() and self._standing is not None and self._standing.state.is_over:
            problem = f"{verb}: reservation {self._reservation!r} is {self._standing.state}; it has to be planned or open"
            raise ApplicationError(problem, type=wire.Failure.NOT_ALLOWED, non_retryable=True)

    async def _change(self, step: Callable[..., Awaitable[ReservationStanding]], verb: str, **asked: Any) -> ReservationAnswer:
        await workflow.wait_condition(lambda: self._standing is not None)
        self._require(verb)
        update = workflow.current_update_info()
        assert update is not None, "changes are asked for by updates"
        try:
            self._learn(await quick(step, [ReservationChange(self._reservation, update.id, **asked)], verb))
        except ActivityError as error:
            raise error.cause if isinstance(error.cause, ApplicationError) else error from None
        return self._answer()

    # Queries

    @workflow.query(name=wire.Query.STATUS)
    def status(self) -> ReservationAnswer | None:
        """How it stands as far as the workflow has heard; none before it has been written down."""
        return None if self._standing is None else self._answer()


def _details(now: ReservationStanding) -> str:
    """State and window in words."""
    if now.opens_at is None or now.closes_at is None:
        return f"{now.state}: {now.message}" if now.message else str(now.state)
    window = f"{now.state}, window {now.windows}: {now.opens_at.isoformat()} to {now.closes_at.isoformat()}"
    return f"{window}; {now.missing:g} accelerators are missing: {now.message}" if now.missing else window
