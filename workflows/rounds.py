"""The planner of a pool: one stretch of rounds after the other, for ever."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.rounds import Rounds
    from corral import wire
    from workflows.beginnings import begun_by_anybody
    from workflows.policies import A_STRETCH, HEARTBEAT, STRETCH_SECONDS, UNTIL_IT_WORKS


@workflow.defn(name=wire.ROUNDS)
@begun_by_anybody
class SchedulingRounds:
    """Two planners at once would be safe, and only cost time: a plan commits only on the world that it was made for."""

    @workflow.run
    async def run(self) -> None:
        """Plan until the history is long enough to be begun anew."""
        while not workflow.info().is_continue_as_new_suggested():
            done = await workflow.execute_activity_method(
                Rounds.keep_deciding,
                STRETCH_SECONDS,
                start_to_close_timeout=A_STRETCH,
                heartbeat_timeout=HEARTBEAT,
                retry_policy=UNTIL_IT_WORKS,
                summary="decide about who waits",
            )
            details = f"{done.rounds} rounds in the last stretch, {done.told} workloads told"
            workflow.set_current_details(f"{details}; the last plan: {done.quality}" if done.quality else details)
        workflow.continue_as_new()
