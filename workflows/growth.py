"""The growth of a pool's fleet: nodes are ordered and given back as work needs them, whatever happens to the workers."""

import asyncio
from collections.abc import Sequence

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.answers import FleetStep
    from activities.growing import Growing
    from corral import wire
    from workflows.beginnings import begun_by_anybody
    from workflows.policies import A_FEW_CALLS, A_STRETCH, HEARTBEAT, ONE_CALL, STRETCH_SECONDS, TWICE_OR_SO, UNTIL_IT_WORKS


@workflow.defn(name=wire.GROWTH)
@begun_by_anybody
class FleetGrowth:
    """Plans for ever, and has providers asked. A step that fails is part of the next plan as well: nothing is kept here."""

    @workflow.run
    async def run(self) -> None:
        """Go on until the history is long enough to be begun anew."""
        while not workflow.info().is_continue_as_new_suggested():
            steps = await workflow.execute_activity_method(
                Growing.keep_planning,
                STRETCH_SECONDS,
                start_to_close_timeout=A_STRETCH,
                heartbeat_timeout=HEARTBEAT,
                retry_policy=UNTIL_IT_WORKS,
                summary="plan which nodes to order and to give back",
            )
            if steps:
                workflow.set_current_details(await self._carry_out(steps))
        workflow.continue_as_new()

    async def _carry_out(self, steps: Sequence[FleetStep]) -> str:
        said = await asyncio.gather(*(self._ask(step) for step in steps))
        return "\n\n".join(f"{step.provider}: {step.in_words}: {answer}" for step, answer in zip(steps, said, strict=True))

    async def _ask(self, step: FleetStep) -> str:
        """Ask a provider; one that does not answer holds up nobody else for long."""
        try:
            return await workflow.execute_activity_method(
                Growing.carry_out,
                step,
                task_queue=wire.provider_task_queue(step.provider),
                start_to_close_timeout=ONE_CALL,
                schedule_to_close_timeout=A_FEW_CALLS,
                heartbeat_timeout=HEARTBEAT,
                retry_policy=TWICE_OR_SO,
                summary=step.in_words,
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return str(error.cause or error)
