"""The life of a roll-out: applied when it may be, watched for its time, and taken back when it does harm."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.rolling_out import RollingOut
    from corral import wire
    from corral.rollout import RolloutOrder, RolloutState, RolloutStatus, in_words
    from corral.wire import Steering
    from domain.operations.watching import objection
    from workflows.beginnings import begun_by_anybody
    from workflows.policies import A_STRETCH, HEARTBEAT, UNTIL_IT_WORKS
    from workflows.steering import Steered

LOOK_AGAIN = timedelta(days=1)
"""It looks at the record that often at least."""


@workflow.defn(name=wire.ROLLOUT)
@begun_by_anybody
class Rollout(Steered[RolloutOrder, RolloutStatus]):
    """Keeps the time for a roll-out. The record says how far it is."""

    @workflow.init
    def __init__(self, order: RolloutOrder) -> None:
        """Know nothing of how far it is: the record tells, in a later run as in the first."""
        super().__init__(order, RollingOut.steer, page)
        self._step: asyncio.Task[RolloutStatus] | None = None

    @workflow.run
    async def run(self, order: RolloutOrder) -> RolloutStatus:
        """Go from one moment at which something is due to the next; cancelled, abort."""
        try:
            await self._take(RollingOut.begin, self._order, f"begin with {order.change.subject}")
            while not self._now.state.is_over:
                await self._until_due()
        except BaseException as error:
            if not is_cancelled_exception(error):
                raise
            await asyncio.shield(asyncio.create_task(self._give_up()))
            raise
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._now

    async def _until_due(self) -> None:
        """Wait until time or somebody changes something, and do what is due then."""
        if workflow.info().is_continue_as_new_suggested():
            await workflow.wait_condition(workflow.all_handlers_finished)
            workflow.continue_as_new(self._order)
        known, left = self._now.version, timedelta(seconds=self._now.next_in or 0)
        try:
            await workflow.wait_condition(lambda: self._now.version != known, timeout=min(left, LOOK_AGAIN))
        except TimeoutError:
            await self._take(RollingOut.advance, self._order.id, "look how it goes")

    async def _take(self, step: Callable[..., Awaitable[RolloutStatus]], about: object, summary: str) -> None:
        """Take a step. Cancelled, it goes on: only what has been done to its end can be undone."""
        self._step = asyncio.create_task(
            workflow.execute_activity_method(
                step,
                about,
                start_to_close_timeout=A_STRETCH,
                heartbeat_timeout=HEARTBEAT,
                retry_policy=UNTIL_IT_WORKS,
                summary=summary,
            )
        )
        self._learn(await asyncio.shield(self._step))

    async def _give_up(self) -> None:
        if self._step is not None:
            self._learn(await self._step)
        await self._abort()
        await workflow.wait_condition(workflow.all_handlers_finished)

    @property
    def _now(self) -> RolloutStatus:
        assert self._status is not None, "nothing is asked of a roll-out before it has begun"
        return self._status

    def _why_not(self, verb: Steering, status: RolloutStatus) -> str | None:
        return objection(verb, self._order.id, status.state)


def page(status: RolloutStatus) -> str:
    """What operators read on the page of the workflow."""
    lines = [f"{status.state}: {status.subject}; {status.reason} ({status.who})"]
    if status.trail and (why := status.trail[-1].reason) != status.reason:
        lines.append(why)
    lines += [f"foreseen: {in_words(status.foreseen)}"] if status.foreseen else []
    if status.state is RolloutState.AWAITING and status.due_at:
        lines.append(f"{status.needs}, until {status.due_at.isoformat(timespec='seconds')}")
    if now := status.readings:
        lines.append(f"{now.waiting} of {now.live} workloads wait, {now.stops} stopped or moved within an hour")
    return "\n\n".join(lines)
