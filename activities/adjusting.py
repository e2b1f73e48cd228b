"""Adjusting: changes that somebody asks for, and the look-up that finds a change that went by."""

from temporalio import activity

from activities.answers import Adjusted, Adjustment, Standing
from activities.courier import Courier
from activities.errors import final_failures, writable
from activities.ports import Store


class Adjusting:
    """Changes to one workload in the record; its workflow carries out what they order."""

    def __init__(self, store: Store, courier: Courier) -> None:
        self._store = store
        self._courier = courier

    @activity.defn(name="adjusting.apply")
    async def apply(self, verb: str, asked: Adjustment) -> Adjusted:
        """Do a change once, whatever how often it is asked with the same key."""
        writable(asked.key)
        with final_failures():
            adjusted, notices = await self._store.adjust(verb, asked)
        self._courier.post(notices)
        return adjusted

    @activity.defn(name="adjusting.standing")
    async def standing(self, workload: str) -> Standing | None:
        """How a workload stands now, or none when the record does not know it."""
        return await self._store.standing(workload)
