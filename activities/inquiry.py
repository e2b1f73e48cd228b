"""Inquiry: what services ask of the record, and the queues, data and policies that owners write into it."""

import logging

from temporalio import activity

from activities.advice import searched
from activities.errors import final_failures, writable
from activities.ports import NotFound, Store
from corral.api import (
    Acknowledgement,
    Catalogue,
    ClusterStatus,
    DatasetStatus,
    FleetStatus,
    LostCluster,
    NodePoolStatus,
    NodeStatus,
    OrderRecord,
    ProvisioningStatus,
    QueueStatus,
    QueueTree,
    Reason,
    RoundStatus,
    State,
    WorkloadEvent,
    WorkloadFilter,
    WorkloadStatus,
)
from corral.policy import PolicyAnswer, PolicyOrder, PolicyRecord
from corral.reservation import ReservationStatus
from corral.wire import Inquiry as Name
from domain.advice.fixes import explained_now, for_tenant
from domain.explanation.refusals import with_nearest_queues
from domain.steps.loans import told_of_its_loan

log = logging.getLogger(__name__)

HAS_ITS_PLACE = frozenset({State.RESERVED, State.STARTING, State.RUNNING})


class Inquiry:
    """Activities that services run by themselves, without a workflow."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @activity.defn(name=Name.STATUS)
    async def status(self, workload: str) -> WorkloadStatus:
        """One workload."""
        with final_failures():
            status = await self._store.status(workload)
            if status is None:
                raise NotFound(f"there is no workload {workload!r}")
            return status

    @activity.defn(name=Name.EXPLAIN)
    async def explain(self, workload: str, names: bool) -> WorkloadStatus:
        """One workload; one that waits with its reason and its fixes as of now, one that runs on a loan with that.

        Others are named only if asked for.
        """
        status = await self.status(workload)
        if names and status.explanation is not None and status.explanation.reason is Reason.UNKNOWN_QUEUE:
            known = [queue.name for queue in await self._store.queues()]
            named = with_nearest_queues(status.explanation, status.queue, known)
            return status.model_copy(update={"explanation": named})
        if status.state not in {State.WAITING, *HAS_ITS_PLACE}:
            return status
        snapshot, now = await self._store.look()
        if status.state in HAS_ITS_PLACE:
            loan = told_of_its_loan(workload, snapshot, now)
            return status if loan is None else status.model_copy(update={"explanation": loan})
        if all(waiting.id != workload for waiting in snapshot.waiting):
            return status
        try:
            explanation = await searched(lambda go_on: explained_now(workload, snapshot, now, go_on=go_on))
        except Exception:  # what the last round said is an answer too
            log.exception("could not find out what would start workload %s", workload, extra={"workload": workload})
            return status
        if explanation is None:
            return status
        fixes = explanation.fixes if names else tuple(map(for_tenant, explanation.fixes))
        return status.model_copy(update={"explanation": explanation.model_copy(update={"fixes": fixes})})

    @activity.defn(name=Name.WORKLOADS)
    async def workloads(self, which: WorkloadFilter) -> list[WorkloadStatus]:
        """Workloads that match, newest first."""
        return await self._store.workloads(which)

    @activity.defn(name=Name.EVENTS)
    async def events(self, workload: str, after: int) -> list[WorkloadEvent]:
        """A workload's history after an event, oldest first."""
        await self.status(workload)
        return await self._store.events(workload, after)

    @activity.defn(name=Name.CHANGE)
    async def change(self, workload: str, verb: str, key: str) -> list[Acknowledgement]:
        """What was done for whoever asked for a change by that key; nothing where nobody has."""
        answer = await self._store.done(verb, workload, writable(key))
        return [] if answer is None else [Acknowledgement(state=answer.standing.state, message=answer.message)]

    @activity.defn(name=Name.QUEUES)
    async def queues(self) -> list[QueueStatus]:
        """All queues with their use."""
        return await self._store.queues()

    @activity.defn(name=Name.FLEET)
    async def fleet(self) -> list[FleetStatus]:
        """The supply by provider, region and SKU."""
        return await self._store.fleet()

    @activity.defn(name=Name.NODES)
    async def nodes(self) -> list[NodeStatus]:
        """All nodes as last observed."""
        return await self._store.nodes()

    @activity.defn(name=Name.CLUSTERS)
    async def clusters(self) -> list[ClusterStatus]:
        """All clusters: whether they answer, since when, and why that is believed."""
        return await self._store.clusters()

    @activity.defn(name=Name.DECLARE_LOST)
    async def declare_lost(self, order: LostCluster) -> list[ClusterStatus]:
        """Believe a person that nothing runs in a suspect cluster; answers with all clusters."""
        with final_failures():
            await self._store.declare_lost(order)
        return await self._store.clusters()

    @activity.defn(name=Name.NODE_POOLS)
    async def node_pools(self) -> list[NodePoolStatus]:
        """What providers can add, and how far each pool is from what is wanted of it."""
        return await self._store.node_pools()

    @activity.defn(name=Name.PROVISIONINGS)
    async def provisionings(self, limit: int) -> list[ProvisioningStatus]:
        """The newest orders for nodes, those under way first."""
        return await self._store.provisionings(limit)

    @activity.defn(name=Name.ROUNDS)
    async def rounds(self, limit: int) -> list[RoundStatus]:
        """The newest rounds that changed something, the last one first."""
        return await self._store.rounds(limit)

    @activity.defn(name=Name.APPLY_QUEUES)
    async def apply_queues(self, tree: QueueTree) -> list[QueueStatus]:
        """Make the queues what the tree says, whole or not at all."""
        with final_failures():
            return await self._store.apply_queues(tree)

    @activity.defn(name=Name.DATASETS)
    async def datasets(self) -> list[DatasetStatus]:
        """All datasets, and the names that workloads read though no dataset has them."""
        return await self._store.datasets()

    @activity.defn(name=Name.APPLY_DATASETS)
    async def apply_datasets(self, catalogue: Catalogue) -> list[DatasetStatus]:
        """Make the datasets what the catalogue says."""
        return await self._store.apply_datasets(catalogue)

    @activity.defn(name=Name.RESERVATIONS)
    async def reservations(self, reservation: str | None) -> list[ReservationStatus]:
        """All reservations, or the one of that id."""
        with final_failures():
            found = await self._store.reservations(reservation)
            if reservation is not None and not found:
                raise NotFound(f"there is no reservation {reservation!r}; `corral reservation list` lists them")
            return found

    @activity.defn(name=Name.ORDERS)
    async def orders(self, subject: str | None, limit: int) -> list[OrderRecord]:
        """The newest orders that were signed."""
        return await self._store.orders(subject, limit)

    @activity.defn(name=Name.POLICIES)
    async def policies(self, limit: int) -> list[PolicyRecord]:
        """The policies of the pool, the one in force first."""
        return await self._store.policies(limit)

    @activity.defn(name=Name.APPLY_POLICY)
    async def apply_policy(self, order: PolicyOrder) -> PolicyAnswer:
        """Put a policy in force, whole or not at all."""
        return await self._store.apply_policy(order)
