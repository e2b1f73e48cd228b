"""Orders that were signed, and what is to be known of their subjects to judge them."""

from activities.store import signed_orders
from activities.store.parts.transactions import Transactions, reading
from corral.signing import Command
from domain.operations.mandates import Occasion


class Signatures(Transactions):
    """Writes signed orders down, and tells of them."""

    orders = reading(signed_orders.listed)
    lines = reading(signed_orders.lines)
    whereabouts = reading(signed_orders.whereabouts)

    async def ordered(self, principal: str, command: Command, run: str, occasion: Occasion | None = None) -> str:
        """Write a signed order down, once, with its occasion if a schedule gives it; answers with the run it came in first."""
        name, subject, request = command.name, command.subject, command.request
        async with self._engine.begin() as connection:
            return await signed_orders.order(connection, principal, name, subject, request, run, occasion)

    async def is_ordered(self, principal: str | None, command: Command) -> bool:
        """Whether a signed order is written down; without a principal, whoever gave it."""
        async with self._engine.connect() as connection:
            return await signed_orders.is_ordered(connection, principal, command.name, command.subject, command.request)
