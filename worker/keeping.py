"""Keeping: what has to have a workflow by the record has one, whoever has terminated it."""

import logging
from collections.abc import Iterable, Sequence

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from activities.store.migrations import Unusable
from activities.store.postgres import PostgresStore
from corral import wire
from corral.api import EvacuationOrder
from corral.client.operations import begin_operation
from corral.client.reservations import begin_reservation
from corral.reservation import ReservationSpec
from corral.rollout import RolloutOrder
from worker.reaching import why_unfit

RESERVATIONS_AT_ONCE = 50
"""So many are looked at each time, the next ones the next time: there may be thousands."""

log = logging.getLogger(__name__)


class Keeper:
    """Starts planner, reconcilers, and the workflows of operations and reservations that are not over, unless they run.

    A terminated workflow says nothing of what somebody wants: what was ordered goes on until that is over, or is aborted.
    """

    def __init__(self, client: Client, pool: str, store: PostgresStore, providers: Sequence[str]) -> None:
        self._client = client
        self._pool = pool
        self._store = store
        self._providers = providers
        self._seen = ""

    async def look(self) -> None:
        """Start what does not run; what cannot be done while a server is away is done the next time.

        Raises:
            Unusable: the record has been migrated to a version that this code cannot use.
        """
        try:
            await start_singletons(self._client, self._pool, self._providers)
            await self._store.require_usable()
            await self._go_on_operating(await self._store.orders_under_way())
            await self._go_on_reserving(await self._store.reservations_to_keep(self._seen, RESERVATIONS_AT_ONCE))
        except Unusable:
            raise
        except Exception as error:  # Temporal's, or any of those with which a database is away or not yet back
            said = why_unfit(error) or error or type(error).__name__
            log.warning("could not make sure that planner, reconcilers, operations and reservations run: %s", said)

    async def _go_on_operating(self, orders: Iterable[EvacuationOrder | RolloutOrder]) -> None:
        """Also those whose workflow has come to its end: a record that was restored from a backup says that they go on.

        One that has ended since the record was read finds that out, and ends again.
        """
        for order in orders:
            again = WorkflowIDReusePolicy.ALLOW_DUPLICATE
            await begin_operation(self._client, self._pool, order, WorkflowIDConflictPolicy.USE_EXISTING, again)

    async def _go_on_reserving(self, specs: Sequence[ReservationSpec]) -> None:
        for spec in specs:
            await begin_reservation(self._client, self._pool, spec)
        self._seen = specs[-1].id if len(specs) == RESERVATIONS_AT_ONCE else ""


async def start_singletons(client: Client, pool: str, providers: Iterable[str]) -> None:
    """Start the planners of rounds and of growth, and one reconciler a provider, unless they run already."""
    await _start_singleton(client, pool, wire.ROUNDS, (), wire.rounds_workflow_id(pool), f"plans the pool {pool}")
    summary = f"lets the fleet of the pool {pool} grow and shrink"
    await _start_singleton(client, pool, wire.GROWTH, (), wire.growth_workflow_id(pool), summary)
    for provider in providers:
        id, summary = wire.provider_workflow_id(provider), f"watches the provider {provider}"
        await _start_singleton(client, pool, wire.PROVIDER, (provider,), id, summary)


async def _start_singleton(client: Client, pool: str, kind: str, about: Sequence[str], id: str, summary: str) -> None:
    await client.start_workflow(
        kind,
        args=about,
        id=id,
        task_queue=wire.pool_task_queue(pool),
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        static_summary=summary,
        priority=wire.STEERS,
    )
