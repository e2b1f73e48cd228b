"""The reconciler of a provider: watches it for ever, and carries out what operators order for its nodes."""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.inventory import Inventory
    from activities.leasing import Leasing
    from corral import wire
    from corral.api import Cordon, NodeStatus
    from workflows.beginnings import begun_by_anybody
    from workflows.policies import A_STRETCH, HEARTBEAT, ONE_CALL, STRETCH_SECONDS, UNTIL_IT_WORKS

LEASES = "leases"
"""The patch since which a reconciler keeps leases."""


@workflow.defn(name=wire.PROVIDER)
@begun_by_anybody
class ProviderReconcile:
    """Keeps the record true to one provider: its nodes, what it runs, what it has lost, and which of its clusters answer."""

    def __init__(self) -> None:
        self._stretch = ""
        self._clusters = ""

    @workflow.run
    async def run(self, provider: str) -> None:
        """Watch, and keep the leases, until the history is long enough to be begun anew."""
        keeping = asyncio.create_task(self._keep_leases(provider)) if workflow.patched(LEASES) else None
        await self._watch(provider)
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(provider)

    async def _watch(self, provider: str) -> None:
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
            self._stretch = f"{events} events in the last stretch"
            self._show()

    async def _keep_leases(self, provider: str) -> None:
        """Keep on, also while the provider cannot be watched: what does not answer is to be found out."""
        while True:
            self._clusters = await workflow.execute_activity_method(
                Leasing.keep,
                args=[provider, STRETCH_SECONDS],
                task_queue=wire.provider_task_queue(provider),
                start_to_close_timeout=A_STRETCH,
                heartbeat_timeout=HEARTBEAT,
                retry_policy=UNTIL_IT_WORKS,
                summary=f"keep the leases of {provider}",
            )
            self._show()

    def _show(self) -> None:
        """Let operators see what its clusters are in the Temporal UI."""
        workflow.set_current_details("\n\n".join(filter(None, (self._clusters, self._stretch))))

    @workflow.update(name=wire.CORDON)
    async def cordon(self, order: Cordon) -> list[NodeStatus]:
        """Cordon, drain or uncordon nodes."""
        provider = workflow.info().workflow_id.removeprefix(wire.provider_workflow_id(""))
        update = workflow.current_update_info()
        assert update is not None, "nodes are ordered about by updates"
        try:
            return await workflow.execute_activity_method(
                Inventory.cordon,
                args=[provider, order, update.id],
                task_queue=wire.provider_task_queue(provider),
                start_to_close_timeout=ONE_CALL,
                retry_policy=UNTIL_IT_WORKS,
                summary=f"{order.action} {order.place or f'{len(order.nodes)} nodes'}: {order.reason[:80]}",
            )
        except ActivityError as error:
            raise error.cause if isinstance(error.cause, ApplicationError) else error from None

    @cordon.validator
    def _may_cordon(self, order: Cordon) -> None:
        """Refuse what is no order before it is taken: what cannot be carried out would fail the workflow."""
