"""What owners and operators apply as a document: queues, datasets, the policy."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import data, policies, queues, views, watched
from activities.store.parts.transactions import Transactions, reading, writing
from activities.store.rows import Journal
from activities.store.snapshots import read_queues
from corral.api import Catalogue, DatasetStatus, OperationKind, QueueStatus, QueueTree
from corral.policy import PolicyAnswer, PolicyOrder, PolicyRecord
from domain.lint.change import what_speaks_against
from domain.operations.fields import of_policy, of_queues
from domain.snapshot import Snapshot


class Rules(Transactions):
    """Puts documents in force, whole or not at all."""

    datasets = reading(data.statuses)

    @writing
    async def apply_queues(self, connection: AsyncConnection, journal: Journal, tree: QueueTree) -> list[QueueStatus]:
        """Make the queues what the tree says.

        Raises:
            domain.quota.tree.QuotaError: the tree contradicts itself or the policy in force; nothing was changed.
        """
        # First, for it keeps roll-outs away until this is committed: what is edited is what is in force.
        await self._note_change(connection)
        policy, before = await self._policies.in_force(connection), await read_queues(connection)
        await queues.apply(connection, tree, policy, journal.now)
        after = await read_queues(connection)
        both = (lambda: of_queues(before), lambda: of_queues(after))
        await watched.edited(connection, OperationKind.QUEUES, self._pool, *both)
        return await views.queues(connection, journal.now, policy.limits.sku_classes)

    async def queues(self) -> list[QueueStatus]:
        """All queues with their use."""
        async with self._engine.connect() as connection:
            policy = await self._policies.in_force(connection)
            return await views.queues(connection, self._clock.now(), policy.limits.sku_classes)

    @writing
    async def apply_datasets(self, connection: AsyncConnection, journal: Journal, catalogue: Catalogue) -> list[DatasetStatus]:
        """Make the datasets what the catalogue says."""
        await data.apply(connection, catalogue)
        await self._note_change(connection)
        return await data.statuses(connection)

    async def apply_policy(self, order: PolicyOrder) -> PolicyAnswer:
        """Put a policy in force, unless something refuses it; one that is in force already is left as it is."""

        async def work(connection: AsyncConnection, snapshot: Snapshot, now: datetime) -> PolicyAnswer:
            findings = what_speaks_against(snapshot, order.policy, now)
            if any(finding.refuses for finding in findings):
                return PolicyAnswer(record=None, findings=findings)
            record = await self._policies.record(connection)
            if record is None or record.digest != order.policy.digest:
                both = (lambda: of_policy(snapshot.policy), lambda: of_policy(order.policy))
                await watched.edited(connection, OperationKind.POLICY, self._pool, *both)
                record = await policies.write(connection, self._pool, order, now)
                await self._note_change(connection)
            return PolicyAnswer(record=record, findings=findings)

        return await self._on_snapshot(work)

    async def policies(self, limit: int) -> list[PolicyRecord]:
        """The policies of the pool, the one in force first."""
        async with self._engine.connect() as connection:
            return await policies.history(connection, self._pool, limit)

    async def record_policy(self, why: str = "") -> None:
        """Write down the policy that is in force unasked, where none is, and one whose words have changed since again."""
        async with self._engine.begin() as connection:
            record = await self._policies.record(connection)
            if record is None:
                order = PolicyOrder(policy=self._policies.unwritten, why=why)
                await policies.write(connection, self._pool, order, self._clock.now())
            elif record.digest != record.policy.digest:
                order = PolicyOrder(policy=record.policy, why=f"version {record.version} in the words of a newer Corral")
                await policies.write(connection, self._pool, order, self._clock.now())
