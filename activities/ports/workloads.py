"""The workflows of the workloads."""

from collections.abc import Sequence
from typing import Protocol

from activities.answers import Notice


class Workloads(Protocol):
    """The workflows of the workloads."""

    async def tell(self, notice: Notice) -> None:
        """Tell a workload's workflow how it stands; success as well when that workflow has ended or never was."""

    async def have_ended(self, ids: Sequence[str]) -> list[str]:
        """Those of the workloads whose workflow has ended, or does not exist."""
