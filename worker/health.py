"""`python -m worker.health` answers containers by its exit code: does the worker of this host ask Temporal for workflows?"""

import asyncio
import sys

from worker.settings import SettingsError, load_settings
from worker.temporal_server import Lookout


async def is_healthy() -> bool:
    """Whether a worker of this host, whatever its process id, polls the pool's task queue."""
    return await Lookout(load_settings()).sees()


if __name__ == "__main__":
    try:
        sys.exit(0 if asyncio.run(is_healthy()) else 1)
    except SettingsError as error:
        sys.exit(str(error))
