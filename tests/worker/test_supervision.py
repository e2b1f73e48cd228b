import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.patience import PATIENCE_SECONDS
from worker import supervision
from worker.embedded import postgres_child
from worker.supervision import CannotStart, Child, Supervisor

FOREVER = "import os, time; print('up', os.getpid(), flush=True); time.sleep(600)"
FRAGILE = """
import os, pathlib, sys, time
print("up", os.getpid(), flush=True)
while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)
sys.exit(3)
"""
LACKS_ROOM = """
import os, pathlib, sys, time
print("up", os.getpid(), flush=True)
while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)
with pathlib.Path(sys.argv[2]).open("a") as notes: notes.write("x")
sys.exit("PANIC: could not write: No space left on device")
"""
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", os.getpid(), flush=True)
time.sleep(600)
"""
LACKS_A_PORT = """
import os, pathlib, sys, time
tries = pathlib.Path(sys.argv[1])
with tries.open("a") as notes: notes.write("x")
if tries.stat().st_size <= int(sys.argv[2]): sys.exit("bind: Address already in use")
print("up", os.getpid(), flush=True)
time.sleep(600)
"""
NOTES_ITS_END = """
import os, pathlib, signal, sys, time
def end(*_):
    with pathlib.Path(sys.argv[1]).open("a") as notes: notes.write(sys.argv[2] + " ")
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("up", os.getpid(), flush=True)
time.sleep(600)
"""


def a_child(directory: Path, program: str, *arguments: str, name: str = "child", stop_seconds: float = 10) -> Child:
    """Runs a Python program; it is ready when this process wrote `up`."""
    log = directory / f"{name}.log"

    async def wrote_up(pid: int) -> bool:
        return log.exists() and f"up {pid}\n" in log.read_text()

    return Child(name, (sys.executable, "-c", program, *arguments), log, wrote_up, stop_seconds=stop_seconds)


def silent(_: str) -> None:
    """Say nothing."""


async def test_a_child_that_dies_is_started_again_and_one_line_tells_it(tmp_path: Path) -> None:
    said: list[str] = []
    async with Supervisor(tmp_path, said.append) as supervisor:
        await supervisor.start(a_child(tmp_path, FOREVER))
        first = supervisor.pid("child")
        os.kill(first, signal.SIGKILL)
        await supervisor.until_ready("child", after=first)
        assert supervisor.pid("child") != first
    assert said == ["child stopped unexpectedly (signal 9); starting it again"]


async def test_a_child_that_dies_again_and_again_is_given_up(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, silent) as supervisor:
        await supervisor.start(a_child(tmp_path, FRAGILE, str(tmp_path / "over")))
        first = supervisor.pid("child")
        (tmp_path / "over").touch()
        given_up = r"child stopped 5 times within a minute, lastly by exit code 3: up [0-9]+ \(see .*child.log\)"
        with pytest.raises(CannotStart, match=given_up):
            await supervisor.serve()
        with pytest.raises(CannotStart, match=given_up):
            await supervisor.until_ready("child", after=first)


async def test_a_child_that_finds_no_room_is_started_when_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "ROOM_AGAIN_AFTER_SECONDS", 0.01)
    said, full, tries = list[str](), tmp_path / "full", tmp_path / "tries"
    async with Supervisor(tmp_path, said.append) as supervisor:
        await supervisor.start(a_child(tmp_path, LACKS_ROOM, str(full), str(tries)))
        first = supervisor.pid("child")
        full.touch()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not tries.exists() or tries.stat().st_size <= supervision.STARTS_PER_MINUTE:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        full.unlink()
        await supervisor.until_ready("child", after=first)
    assert set(said) == {
        "child stopped: PANIC: could not write: No space left on device; make room, it is tried again in 0.01 s"
    }


async def test_a_child_that_ends_at_once_is_refused_with_its_last_words(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, silent) as supervisor:
        with pytest.raises(CannotStart, match=r"child did not start: out of luck \(see .*child.log\)"):
            await supervisor.start(a_child(tmp_path, "print('out of luck'); exit(1)"), a_child(tmp_path, FOREVER, name="other"))


A_FULL_DISK = """
2026-11-27 19:18:28.420 UTC [9510] FATAL:  the database system is not yet accepting connections
2026-11-27 19:18:28.515 UTC [9507] FATAL:  could not write to file "pg_wal/xlogtemp.9507": No space left on device
2026-11-27 19:18:28.517 UTC [9495] LOG:  startup process (PID 9507) exited with exit code 1
2026-11-27 19:18:28.520 UTC [9521] FATAL:  the database system is shutting down
2026-11-27 19:18:28.522 UTC [9495] LOG:  database system is shut down
"""


def a_postgres_that(program: str, directory: Path) -> Child:
    """Ends as PostgreSQL would, and says why in its way."""

    async def never(_: int) -> bool:
        return False

    return replace(a_child(directory, program), ready=never, complains=postgres_child(directory, 1).complains)


async def test_a_postgres_that_ends_is_refused_with_what_it_ended_for(tmp_path: Path) -> None:
    child = a_postgres_that(f"print({A_FULL_DISK!r}); exit(1)", tmp_path)
    async with Supervisor(tmp_path, silent) as supervisor:
        with pytest.raises(CannotStart, match=r"child did not start: .* could not write to file .*: No space left on device"):
            await supervisor.start(child)


async def test_what_an_earlier_start_has_complained_about_is_not_told_of_a_later_one(tmp_path: Path) -> None:
    child = a_postgres_that("exit(1)", tmp_path)
    child.log.write_text(A_FULL_DISK)
    async with Supervisor(tmp_path, silent) as supervisor:
        with pytest.raises(CannotStart, match="child did not start: it wrote nothing"):
            await supervisor.start(child)


async def test_a_server_that_lost_a_port_to_another_is_started_again(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, silent) as supervisor:
        await supervisor.start(a_child(tmp_path, LACKS_A_PORT, str(tmp_path / "tries"), "2"))
        os.kill(supervisor.pid("child"), 0)
    assert (tmp_path / "tries").read_text() == "xxx"


async def test_a_server_whose_port_stays_taken_is_refused_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "PORT_AGAIN_AFTER_SECONDS", (0.0, 0.0))
    async with Supervisor(tmp_path, silent) as supervisor:
        with pytest.raises(CannotStart, match="child did not start: bind: Address already in use"):
            await supervisor.start(a_child(tmp_path, LACKS_A_PORT, str(tmp_path / "tries"), "9"))
    assert (tmp_path / "tries").read_text() == "xxx"


async def test_children_stop_in_good_order_the_latest_first(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    async with Supervisor(tmp_path, silent) as supervisor:
        for name in ("first", "second"):
            await supervisor.start(a_child(tmp_path, NOTES_ITS_END, str(notes), name, name=name))
    assert notes.read_text() == "second first "


async def test_a_child_that_will_not_stop_is_killed(tmp_path: Path) -> None:
    said: list[str] = []
    async with Supervisor(tmp_path, said.append) as supervisor:
        await supervisor.start(a_child(tmp_path, STUBBORN, stop_seconds=0.2))
        pid = supervisor.pid("child")
    assert said == ["child did not stop within 0.2 seconds; killing it"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_one_child_can_be_stopped_and_started_alone(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, silent) as supervisor:
        child = a_child(tmp_path, FOREVER)
        await supervisor.start(child, a_child(tmp_path, FOREVER, name="other"))
        other = supervisor.pid("other")
        await supervisor.stop("child")
        await supervisor.start(child)
        assert supervisor.pid("other") == other


async def test_a_signal_in_the_terminal_reaches_the_supervisor_alone(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, silent) as supervisor:
        await supervisor.start(a_child(tmp_path, FOREVER))
        assert os.getsid(supervisor.pid("child")) == supervisor.pid("child") != os.getsid(0)


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_serving_ends_when_told_to(tmp_path: Path, told: signal.Signals) -> None:
    async with Supervisor(tmp_path, silent) as supervisor:
        serving = asyncio.create_task(supervisor.serve())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        os.kill(os.getpid(), told)
        await serving


async def test_a_directory_has_one_supervisor_at_a_time(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, silent):
        with pytest.raises(CannotStart, match="in use by another Corral"):
            async with Supervisor(tmp_path, silent):
                pass
    async with Supervisor(tmp_path, silent):
        pass
