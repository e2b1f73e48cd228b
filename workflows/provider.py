"""The reconciler of a provider: watches it for ever, and carries out what operators order for its nodes."""

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.inventory import Inventory
    from corral import wire
    from corral.api import Cordon, NodeStatus
    from workflows.policies import A_STRETCH, HEARTBEAT, ONE_CALL, STRETCH_SECONDS, UNTIL_IT_WORKS


@workflow.defn(name=wire.PROVIDER)
class ProviderReconcile:
    """Keeps the record true to one provider: its nodes, what it runs, and what it has lost."""

    @workflow.run
    async def run(self, provider: str) -> None:
        """Watch until the history is long enough to be begun anew."""
        while not workflow.info().is_continue_as_new_suggested():
            events = await workflow.execute_activity_method(
                Inventory.watch,
                args=[provider, STRETCH_SECONDS],
                task_queue=wire.provider_task_queue(provider),
                start_to_close_timeout=A_STRETCH,
                heartbeat_timeout=HEARTBEAT,
                retry_policy=UNTIL_IT_WORKS,
                summary=f"watch {provider}",
            )
            workflow.set_current_details(f"{events} events in the last stretch")
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(provider)

    @workflow.update(name=wire.CORDON)
    async def cordon(self, order: Cordon) -> list[NodeStatus]:
        """Cordon, drain or uncordon nodes."""
        provider = workflow.info().workflow_id.removeprefix(wire.provider_workflow_id(""))
        try:
            return await workflow.execute_activity_method(
                Inventory.cordon,
                args=[provider, order],
                task_queue=wire.provider_task_queue(provider),
                start_to_close_timeout=ONE_CALL,
                retry_policy=UNTIL_IT_WORKS,
                summary=f"{order.action} {order.place or f'{len(order.nodes)} nodes'}: {order.reason[:80]}",
            )
        except ActivityError as error:
            raise error.cause if isinstance(error.cause, ApplicationError) else error from None
