"""What is particular to real processes: nothing runs twice, nothing is left behind, nothing dies with the worker."""

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

from activities.ports import ErrorClass, LaunchSpec, Phase, ProviderError, ReplicaPlace
from activities.providers import local_runner
from activities.providers.local import LocalNode, LocalProvider
from activities.providers.local_attempts import file_name
from domain.pool.fleet import Replica
from tests.activities.providers.worlds import DEVICES, FastClock, an_order, ended, stop_all, until


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[LocalProvider]:
    opened = a_provider(tmp_path)
    try:
        yield opened
    finally:
        await stop_all(opened)
        await opened.aclose()


def a_provider(directory: Path, clock: FastClock | None = None) -> LocalProvider:
    return LocalProvider(directory, LocalNode(accelerators=DEVICES), clock or FastClock())


def a_script(script: str, attempt: str = "attempt-1", *, replicas: int = 1, devices: tuple[int, ...] = ()) -> LaunchSpec:
    """Replicas that run a shell script, each with the same devices."""
    places = tuple(ReplicaPlace("local", Replica("main", index, devices), milli=0) for index in range(replicas))
    return replace(an_order(attempt), places=places, command=("sh", "-c", script))


def output(directory: Path, replica: int = 0, attempt: str = "attempt-1") -> str:
    return (directory / "attempts" / file_name(attempt) / f"main-{replica}.out").read_text()


def processes_of(directory: Path) -> list[psutil.Process]:
    """Live processes of attempts under a directory, supervisors included."""
    return [process for process in psutil.process_iter() if _is_of(process, str(directory))]


def _is_of(process: psutil.Process, directory: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return directory in process.environ().get("CORRAL_DIRECTORY", "") or directory in " ".join(process.cmdline())
    except psutil.Error:
        return False


async def nothing_is_left(directory: Path) -> None:
    async def is_empty() -> bool:
        return not processes_of(directory)

    await until(is_empty)


async def test_a_process_sees_who_it_is_and_what_it_has(
    tmp_path: Path, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "hidden")
    order = replace(a_script("env", devices=(0, 3)), environment={"COLOUR": "red", "CORRAL_EPOCH": "forged"})

    await provider.launch(order)
    await ended(provider, "attempt-1")

    environment = dict(line.split("=", 1) for line in output(tmp_path).splitlines())
    assert (
        environment.items()
        >= {
            "CORRAL_WORKLOAD": "workload-1",
            "CORRAL_ATTEMPT": "attempt-1",
            "CORRAL_EPOCH": "1",
            "CORRAL_GROUP": "main",
            "CORRAL_REPLICA": "0",
            "CORRAL_DEVICES": "0,3",
            "CUDA_VISIBLE_DEVICES": "0,3",
            "COLOUR": "red",
        }.items()
    )
    assert "SECRET_OF_THE_WORKER" not in environment


async def test_each_replica_is_a_process(tmp_path: Path, provider: LocalProvider) -> None:
    await provider.launch(a_script("echo $CORRAL_REPLICA", replicas=3))

    assert (await ended(provider, "attempt-1")).phase is Phase.SUCCEEDED
    assert [output(tmp_path, index) for index in range(3)] == ["0\n", "1\n", "2\n"]


async def test_one_failing_replica_ends_the_others(tmp_path: Path, provider: LocalProvider) -> None:
    await provider.launch(a_script("test $CORRAL_REPLICA = 1 && exit 4; sleep 300", replicas=3))

    end = await ended(provider, "attempt-1")

    assert (end.phase, end.exit_code, end.reason) == (Phase.FAILED, 4, "main-1: exit code 4")
    await nothing_is_left(tmp_path)


async def test_a_process_that_is_killed_fails_with_its_signal(provider: LocalProvider) -> None:
    await provider.launch(a_script("kill -9 $$"))

    assert (await ended(provider, "attempt-1")).exit_code == 128 + signal.SIGKILL


async def test_an_empty_command_is_invalid(provider: LocalProvider) -> None:
    with pytest.raises(ProviderError, match="has no command") as raised:
        await provider.launch(replace(an_order(node="local"), command=()))

    assert raised.value.kind is ErrorClass.INVALID_SPEC


@pytest.mark.parametrize(("command", "reason"), [("/no/such/program", "No such file"), ("/etc/passwd", "Permission denied")])
async def test_a_command_that_cannot_be_started_fails_with_a_plain_reason(
    provider: LocalProvider, command: str, reason: str
) -> None:
    observation = await provider.launch(replace(an_order(node="local"), command=(command,)))

    assert (observation.phase, observation.started_at) == (Phase.FAILED, None)
    assert observation.reason.startswith(f"cannot start {command}: {reason}")


async def test_an_unknown_signal_is_invalid(provider: LocalProvider) -> None:
    with pytest.raises(ProviderError, match="SIGNONSENSE"):
        await provider.preempt("attempt-1", 1, notice=1, signal="SIGNONSENSE", grace_seconds=1)


async def test_the_notice_is_the_signal_that_was_asked_for(tmp_path: Path, provider: LocalProvider) -> None:
    await provider.launch(a_script("trap 'echo saved; exit 0' USR1; echo ready; while true; do sleep 0.05; done"))
    await until(lambda: _says(tmp_path, "ready"))

    await provider.preempt("attempt-1", 1, notice=1, signal="SIGUSR1", grace_seconds=30)
    end = await ended(provider, "attempt-1")

    assert (end.phase, end.reason) == (Phase.CANCELLED, "stopped after notice")
    assert output(tmp_path) == "ready\nsaved\n"


async def test_the_grace_is_the_pools_time(tmp_path: Path) -> None:
    provider = a_provider(tmp_path, FastClock(speed=100))
    try:
        await provider.launch(a_script("trap '' TERM; echo ready; while true; do sleep 0.05; done"))
        await until(lambda: _says(tmp_path, "ready"))
        await provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=60)
        end = await ended(provider, "attempt-1")
    finally:
        await stop_all(provider)

    assert end.reason == "stopped at the end of its grace"


async def test_an_attempt_launched_many_times_at_once_runs_once(tmp_path: Path, provider: LocalProvider) -> None:
    other = a_provider(tmp_path)
    order = a_script(f"echo $$ >> {tmp_path}/starts; sleep 300")

    await asyncio.gather(*(each.launch(order) for each in (provider, other) * 5))
    await until(lambda: _has_begun(tmp_path))
    await asyncio.sleep(0.2)

    assert len((tmp_path / "starts").read_text().split()) == 1


async def test_nothing_is_left_after_a_release_not_even_what_left_its_group(tmp_path: Path, provider: LocalProvider) -> None:
    await provider.launch(a_script("trap '' TERM; sleep 300 & setsid sleep 300 & echo ready; wait"))
    await until(lambda: _says(tmp_path, "ready"))

    await provider.release("attempt-1", 1)
    await ended(provider, "attempt-1")

    await nothing_is_left(tmp_path)


async def test_nothing_is_left_when_the_work_leaves_daemons_behind(tmp_path: Path, provider: LocalProvider) -> None:
    await provider.launch(a_script("sleep 300 & setsid sleep 300 & exit 0"))

    assert (await ended(provider, "attempt-1")).phase is Phase.SUCCEEDED
    await nothing_is_left(tmp_path)


HIDES = "(env -i setsid sh -c 'echo $$ > {0}/hidden-$0; exec sleep 300' $CORRAL_REPLICA &); echo ready; exec sleep 300"
"""Leaves a daemon behind that has neither its group nor its session, nor anything of its environment; writes its id down."""


async def hidden(directory: Path, replica: int) -> psutil.Process:
    """The daemon that a replica has left behind."""
    path = directory / f"hidden-{replica}"

    async def is_there() -> bool:
        return path.exists() and path.read_text().endswith("\n")

    await until(is_there)
    return psutil.Process(int(path.read_text()))


async def test_of_a_replica_that_has_left_nothing_runs_however_well_it_hides_and_others_keep_what_they_hide(
    tmp_path: Path, provider: LocalProvider
) -> None:
    order = a_script(HIDES.format(tmp_path), replicas=2)
    await provider.launch(order)
    stays, goes = await hidden(tmp_path, 0), await hidden(tmp_path, 1)
    await provider.resize(replace(order, places=order.places[:1], grace_seconds=300), notice=1)

    async def is_resized() -> bool:
        return (await provider.status(["attempt-1"]))["attempt-1"].resized == 1

    await until(is_resized)
    assert (stays.is_running(), goes.is_running()) == (True, False)
    await provider.release("attempt-1", 1)
    await ended(provider, "attempt-1")
    assert not stays.is_running()


async def test_what_hides_is_gone_before_an_attempt_is_lost_whose_supervisor_dies(
    tmp_path: Path, provider: LocalProvider
) -> None:
    await provider.launch(a_script(HIDES.format(tmp_path)))
    daemon = await hidden(tmp_path, 0)
    claim = json.loads((tmp_path / "attempts" / file_name("attempt-1") / "claimed").read_text())
    os.kill(claim["supervisor"], signal.SIGKILL)
    assert (await ended(provider, "attempt-1")).phase is Phase.LOST
    assert not daemon.is_running()


@pytest.mark.parametrize("is_known", [True, False])
async def test_work_whose_directory_is_deleted_has_ended_when_it_is_released(
    tmp_path: Path, provider: LocalProvider, *, is_known: bool
) -> None:
    await provider.launch(a_script(HIDES.format(tmp_path), replicas=2))
    daemons = [await hidden(tmp_path, replica) for replica in range(2)]
    shutil.rmtree(tmp_path / "attempts" / file_name("attempt-1"))
    asked = provider if is_known else a_provider(tmp_path)
    assert (await asked.snapshot()).attempts == ()

    await asked.release("attempt-1", 1)

    assert not any(daemon.is_running() for daemon in daemons)
    assert not processes_of(tmp_path)
    with pytest.raises(ProviderError) as refused:
        await asked.launch(a_script("exit 0"))
    assert refused.value.kind is ErrorClass.FENCED


async def test_what_is_left_of_a_deleted_directory_hides_no_other_work(tmp_path: Path, provider: LocalProvider) -> None:
    await provider.launch(a_script("exit 0"))
    remnant = tmp_path / "attempts" / file_name("attempt-2")
    remnant.mkdir()
    (remnant / "lock").touch()
    (remnant / "claimed").touch()
    opened = a_provider(tmp_path)
    await ended(opened, "attempt-1")

    assert [seen.attempt_id for seen in (await opened.snapshot()).attempts] == ["attempt-1"]

    await opened.release("attempt-2", 1)
    assert not remnant.exists()


async def test_the_worker_has_no_zombies(tmp_path: Path, provider: LocalProvider) -> None:
    await provider.launch(a_script("exit 0"))
    await ended(provider, "attempt-1")

    await until(_has_no_zombies)


LAUNCHES = """
import asyncio, os, sys
from pathlib import Path
from tests.activities.providers.test_local import a_provider, a_script
asyncio.run(a_provider(Path(sys.argv[1])).launch(a_script(f"until [ -e {sys.argv[1]}/go ]; do sleep 0.05; done; exit 5")))
os.killpg(os.getpgid(0), 9)
"""


async def test_work_goes_on_when_its_worker_is_killed(tmp_path: Path, provider: LocalProvider) -> None:
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", LAUNCHES, str(tmp_path), start_new_session=True)
    assert await worker.wait() == -signal.SIGKILL
    assert (await provider.status(["attempt-1"]))["attempt-1"].phase is Phase.RUNNING
    (tmp_path / "go").touch()

    assert (await ended(provider, "attempt-1")).exit_code == 5


async def test_a_launch_that_was_cut_short_is_completed_by_the_next(
    tmp_path: Path, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _launch_cut_short(provider, monkeypatch)
    assert (await provider.status(["attempt-1"]))["attempt-1"].phase is Phase.STARTING

    await provider.launch(a_script("exit 0"))

    assert (await ended(provider, "attempt-1")).phase is Phase.SUCCEEDED


@pytest.mark.parametrize("stop", ["release", "preempt"])
async def test_a_launch_that_was_cut_short_can_be_stopped(
    provider: LocalProvider, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    await _launch_cut_short(provider, monkeypatch)

    if stop == "release":
        await provider.release("attempt-1", 1)
    else:
        await provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=300)

    end = (await provider.status(["attempt-1"]))["attempt-1"]
    assert (end.phase, end.reason) == (Phase.CANCELLED, "stopped before it ran")


async def test_an_attempt_whose_supervisor_dies_is_lost_with_all_its_processes(tmp_path: Path, provider: LocalProvider) -> None:
    await provider.launch(a_script("sleep 300 & setsid sleep 300 & echo ready; wait", replicas=2))
    await until(lambda: _says(tmp_path, "ready"))
    claim = json.loads((tmp_path / "attempts" / file_name("attempt-1") / "claimed").read_text())

    os.kill(claim["supervisor"], signal.SIGKILL)
    end = await ended(provider, "attempt-1")

    assert (end.phase, end.reason) == (Phase.LOST, "its supervisor died")
    await nothing_is_left(tmp_path)
    assert (await provider.launch(a_script("sleep 300 & setsid sleep 300 & echo ready; wait", replicas=2))) == end


async def test_strange_names_stay_within_the_directory(tmp_path: Path, provider: LocalProvider) -> None:
    await provider.launch(a_script("exit 0", attempt="../../workload/1 #2"))

    assert (await ended(provider, "../../workload/1 #2")).phase is Phase.SUCCEEDED
    assert len(list((tmp_path / "attempts").iterdir())) == 1


async def _launch_cut_short(provider: LocalProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the worker had died between the order and the start of the supervisor."""
    with monkeypatch.context() as patch:
        patch.setattr("activities.providers.local_attempts.LocalAttempt.start", lambda _: None)
        await provider.launch(a_script("exit 0"))


async def _has_begun(directory: Path) -> bool:
    path = directory / "starts"
    return path.exists()


async def _has_no_zombies() -> bool:
    return all(child.status() != psutil.STATUS_ZOMBIE for child in psutil.Process().children())


async def _says(directory: Path, word: str) -> bool:
    path = directory / "attempts" / file_name("attempt-1") / "main-0.out"
    return path.exists() and word in path.read_text()


# The clock of the machine


@pytest.fixture
def wall_is_set(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """To tell work that starts from now on of a wall clock from which the machine's has jumped by so many seconds."""
    real = time.time

    def be_set(by: float) -> None:
        monkeypatch.setattr(time, "time", lambda: real() - by)

    return be_set


async def leased(provider: LocalProvider, clock: FastClock, seconds: float) -> None:
    assert await provider.renew({"local/local": clock.now() + timedelta(seconds=seconds)}) == {"local/local"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a clock that nobody sets and that says since when it goes")
@pytest.mark.parametrize("by", [36_000, -36_000])
async def test_a_wall_clock_that_is_set_neither_ends_nor_prolongs_a_lease(
    tmp_path: Path, provider: LocalProvider, wall_is_set: Callable[[float], None], by: float
) -> None:
    clock = FastClock()
    wall_is_set(by)
    await leased(provider, clock, 3_600)
    ends = tmp_path / "ends"
    await provider.launch(a_script(f"until [ -e {ends} ]; do sleep 0.05; done"))
    order = local_runner.read(tmp_path / "attempts" / file_name("attempt-1"), local_runner.ORDER)
    wall_is_set(0)

    assert 0 < local_runner.lease_left(order) <= 3_600
    assert abs(local_runner.pool_time(order["anchor"]) - clock.now().timestamp()) < 3_600
    ends.touch()
    assert (await ended(provider, "attempt-1")).phase is Phase.SUCCEEDED


@pytest.mark.skipif(sys.platform != "linux", reason="likewise")
async def test_a_wall_clock_that_is_set_back_keeps_nothing_alive(
    provider: LocalProvider, wall_is_set: Callable[[float], None]
) -> None:
    clock = FastClock()
    wall_is_set(-36_000)
    await provider.launch(a_script("sleep 600"))
    await leased(provider, clock, 0.3)

    end = await ended(provider, "attempt-1")
    assert (end.phase, end.reason) == (Phase.LOST, local_runner.LEASE_IS_OVER)


async def test_after_a_new_start_of_the_machine_there_is_only_its_wall_clock(tmp_path: Path, provider: LocalProvider) -> None:
    await leased(provider, FastClock(), 3_600)
    lease = local_runner.read(tmp_path, local_runner.LEASE)
    before = lease["anchor"] | {"boot": "another", "steady": 1e9}
    assert abs(local_runner.pool_time(before) - time.time()) < 600


@dataclass
class SetClock(FastClock):
    """The pool's time, which can be set."""

    ahead: float = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead)


async def test_a_lease_that_is_sent_again_lasts_as_long_as_the_pools_clock_says_now(tmp_path: Path) -> None:
    clock = SetClock()
    provider, over = a_provider(tmp_path, clock), clock.now() + timedelta(seconds=600)
    await provider.launch(a_script("exit 0"))
    order = local_runner.read(tmp_path / "attempts" / file_name("attempt-1"), local_runner.ORDER)
    for ahead, least, most in ((0, 0, 600), (-3_600, 3_600, 4_200)):
        clock.ahead = ahead
        await provider.renew({"local/local": over})
        assert least < local_runner.lease_left(order) <= most
    await provider.aclose()
