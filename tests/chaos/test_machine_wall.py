"""A clock that is set shows so everywhere in Corral's code; tried in a process of its own, for it stays set."""

import subprocess
import sys

TRIAL = """
from datetime import UTC, datetime
import time
from tests.chaos.machine_wall import MachineWall
from activities.providers import local_runner
from corral import signing
from worker.clock import PoolClock, this_machines_wall

real = datetime.now
wall = MachineWall.installed()
for ahead in (3600.0, -3600.0, 0.0):
    wall.ahead = ahead
    anchor = {"pool": 0.0, "wall": real(UTC).timestamp(), "speed": 1.0}
    shown = (this_machines_wall().timestamp(), PoolClock().now().timestamp(), time.time(), time.time_ns() / 1e9)
    shown += (local_runner.pool_time(anchor) + anchor["wall"], signing.time.time())
    for seconds in shown:
        assert abs(seconds - real(UTC).timestamp() - ahead) < 60, (ahead, seconds)
from worker import clock
assert isinstance(real(UTC), clock.datetime)
"""


def test_all_of_corral_sees_a_clock_that_is_set() -> None:
    tried = subprocess.run([sys.executable, "-c", TRIAL], check=False, capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr
