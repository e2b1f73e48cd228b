"""An agent: this machine's processes as a provider of its own, by a clock of its own, behind a socket.

`python -m tests.activities.partition.agent DIRECTORY CLUSTER HOST PORT SKEW`: its clock is so many seconds behind.
"""

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from activities.providers.local import LocalNode, LocalProvider
from tests.activities.partition.wire import serve


@dataclass(frozen=True)
class SlowClock:
    """The wall's time, `behind` by so many seconds."""

    behind: float

    def now(self) -> datetime:
        return datetime.now(UTC) - timedelta(seconds=self.behind)

    def wall_seconds(self, pool_seconds: float) -> float:
        return pool_seconds


if __name__ == "__main__":
    directory, cluster, host, port, behind = sys.argv[1:]
    node = LocalNode(name=cluster, region="lab", cluster=cluster, sku="h100", cpu_milli=1000, memory_mib=1000)
    provider = LocalProvider(Path(directory), node, SlowClock(float(behind)), name=cluster)
    asyncio.run(serve(provider, host, int(port)))
