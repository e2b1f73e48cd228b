"""Child processes that are started in order, started again when they die, and never outlive their supervisor."""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypedDict

import psutil

READY_SECONDS = 180.0
STARTS_PER_MINUTE = 5
FIRST_PAUSE_SECONDS = 0.2
PORT_IS_TAKEN = "address already in use"
DISK_IS_FULL = "no space left on device"
ROOM_AGAIN_AFTER_SECONDS = 15.0
"""What servers say, in capitals or not, that end for this reason."""
PORT_AGAIN_AFTER_SECONDS = (0.2, 0.4, 0.8, 1.6)
"""How long a server that found a port taken rests before each further try to start it."""
GLANCE_SECONDS = 0.05
LATER_BY_AT_MOST = 0.05
"""As a part of the time until a process is ready: so much later that may be seen. Each look is work for the server asked."""
LOCK_SECONDS = 30.0
"""How long children of a supervisor that was killed may take to end themselves."""
KILLED_SECONDS = 10.0
"""How long the system may take to end a process that was killed."""

PR_SET_PDEATHSIG = 1


class CannotStart(Exception):
    """A process cannot run; the message is for the person who started it, and says what to do."""


async def nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep alive.

    `prepare` runs before each start. `ready` gets the process's id and answers whether it can be used. Its output goes to the
    end of `log`. With `stop_signal` it ends in good order, and that is also what it gets when the supervisor is killed.
    `complains` tells lines of its output that say why it ends from others.
    `holds_lock` is for servers whose directory must not be used by another supervisor as long as they live.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    ready: Callable[[int], Awaitable[bool]]
    prepare: Callable[[], Awaitable[None]] = nothing
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0
    complains: Callable[[str], bool] = bool
    holds_lock: bool = True


def say_on_terminal(line: str) -> None:
    """Write a line for the person who watches."""
    print(line, file=sys.stderr, flush=True)


class Supervisor:
    """Children of one data directory, as an asynchronous context: on leaving it, they are stopped, the latest first.

    Children are in sessions of their own, so that Ctrl-C reaches the supervisor alone and it decides the order. To be used from
    the main thread: on Linux, the kernel stops the children when the thread that started them is gone.
    """

    def __init__(self, directory: Path, say: Callable[[str], None] = say_on_terminal) -> None:
        """Keep children of `directory`, which is made if it is missing, and tell `say` what a person should know."""
        self._directory = directory
        self._say = say
        self._kept: dict[str, _Kept] = {}
        self._lock: IO[str] | None = None

    async def __aenter__(self) -> Self:
        """Take the directory.

        Raises:
            CannotStart: another supervisor has it.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        self._lock = await _locked(self._directory)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything, and give the directory back."""
        await self.stop()
        if self._lock is not None:
            self._lock.close()

    async def start(self, *children: Child) -> None:
        """Start children together, and come back when all of them are ready.

        Raises:
            CannotStart: one of them ended at once, or was not ready in time.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for child in children:
                    self._kept[child.name] = kept = _Kept(child, self._lock, self._say)
                    group.create_task(kept.start())
        except BaseExceptionGroup as refused:
            raise refused.exceptions[0] from None

    def pid(self, name: str) -> int:
        """The process of a child; another one after each restart."""
        return self._kept[name].pid

    async def until_ready(self, name: str, *, after: int | None = None) -> None:
        """Come back when the child is ready, and is another process than `after`.

        Raises:
            CannotStart: it is not ready in time, or was given up.
        """
        await self._kept[name].until_ready(after)

    async def stop(self, name: str | None = None) -> None:
        """Stop one child, or all of them, the latest first."""
        for each in [name] if name else reversed([*self._kept]):
            if kept := self._kept.pop(each, None):
                await kept.stop()

    async def serve(self) -> None:
        """Keep the children alive until Ctrl-C, SIGTERM or SIGHUP.

        Raises:
            CannotStart: a child died too often and was given up.
        """
        told = asyncio.get_running_loop().create_task(_told_to_stop())
        keepers = [kept.keeper for kept in self._kept.values() if kept.keeper]
        done, _ = await asyncio.wait([told, *keepers], return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        for task in done:
            task.result()


class _Kept:
    """One child: its process, and the task that starts it again."""

    def __init__(self, child: Child, lock: IO[str] | None, say: Callable[[str], None]) -> None:
        self._child = child
        self._lock = lock
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._log_began = 0
        self.keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self._child.name} was never started"
        return self._process.pid

    async def start(self) -> None:
        await self._launch_where_ports_are_free()
        self.keeper = asyncio.create_task(self._keep(), name=f"keep {self._child.name}")

    async def _launch_where_ports_are_free(self) -> None:
        """Servers choose ports of their own besides those that they are given, and others may be faster to take one."""
        for pause in (*PORT_AGAIN_AFTER_SECONDS, None):
            await self._launch()
            try:
                await self.until_ready()
            except CannotStart:
                found_one_taken = self._ended() and any(PORT_IS_TAKEN in line.lower() for line in self._said())
                if pause is None or not found_one_taken:
                    raise
            else:
                return
            await asyncio.sleep(pause)

    async def until_ready(self, after: int | None = None) -> None:
        began = time.monotonic()
        while (waited := time.monotonic() - began) < READY_SECONDS:
            if self._ended() and not self.keeper:
                raise CannotStart(f"{self._child.name} did not start: {self._complaint()} (see {self._child.log})")
            if self.keeper and self.keeper.done():
                self.keeper.result()
            if self.pid != after and not self._ended() and await self._child.ready(self.pid):
                return
            await asyncio.sleep(max(GLANCE_SECONDS, waited * LATER_BY_AT_MOST))
        raise CannotStart(f"{self._child.name} was not ready within {READY_SECONDS:g} seconds (see {self._child.log})")

    async def stop(self) -> None:
        if self.keeper:
            self.keeper.cancel()
            await asyncio.gather(self.keeper, return_exceptions=True)
        if self._process is None or self._ended():
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(self._child.stop_signal)
        if not await self._ends_within(self._child.stop_seconds):
            self._say(f"{self._child.name} did not stop within {self._child.stop_seconds:g} seconds; killing it")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._ends_within(KILLED_SECONDS)

    async def _keep(self) -> None:
        """Start the process again whenever it ends, after a pause that doubles, until it has ended too often.

        What finds no room is waited for: a person has to make some, and starts nothing for that.
        """
        ends: deque[float] = deque(maxlen=STARTS_PER_MINUTE)
        while True:
            await self._ends_within(float("inf"))
            if any(DISK_IS_FULL in line.lower() for line in self._said()):
                pause = ROOM_AGAIN_AFTER_SECONDS
                self._say(f"{self._child.name} stopped: {self._complaint()}; make room, it is tried again in {pause:g} s")
            else:
                pause = self._pause_after(ends)
                self._say(f"{self._child.name} stopped unexpectedly ({self._how_it_ended()}); starting it again")
            await asyncio.sleep(pause)
            await self._launch()

    def _pause_after(self, ends: deque[float]) -> float:
        """Seconds to wait after one more end; `ends` holds the last few, in seconds of a monotonic clock."""
        now = time.monotonic()
        ends.append(now)
        recent = sum(end > now - 60 for end in ends)
        if recent == STARTS_PER_MINUTE:
            how = self._how_it_ended()
            raise CannotStart(
                f"{self._child.name} stopped {recent} times within a minute, lastly by {how}: {self._complaint()} "
                f"(see {self._child.log})"
            )
        return FIRST_PAUSE_SECONDS * float(2 ** (recent - 1))

    async def _launch(self) -> None:
        await self._child.prepare()
        self._log_began = self._child.log.stat().st_size if self._child.log.exists() else 0
        self._process = _spawn(self._child, self._lock)

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    async def _ends_within(self, seconds: float) -> bool:
        give_up = time.monotonic() + seconds
        while not self._ended():
            if time.monotonic() > give_up:
                return False
            await asyncio.sleep(GLANCE_SECONDS)
        return True

    def _how_it_ended(self) -> str:
        code = self._process.returncode if self._process else 0
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _complaint(self) -> str:
        """Why it ended, in one line, as far as it has said so."""
        lines = self._said()
        said = [line for line in lines if self._child.complains(line)] or lines
        return said[-1] if said else "it wrote nothing"

    def _said(self) -> list[str]:
        """The lines that it has written since it was last started."""
        with contextlib.suppress(OSError), self._child.log.open(errors="replace") as log:
            log.seek(self._log_began)
            return [line.strip() for line in log if line.strip()]
        return []


def _spawn(child: Child, lock: IO[str] | None) -> subprocess.Popen[bytes]:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children are started from the main thread: they are stopped when their thread ends")
    child.log.parent.mkdir(parents=True, exist_ok=True)
    with child.log.open("ab") as log:
        return subprocess.Popen(
            child.command,
            env={**os.environ, **child.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **as_user(child.user),
            pass_fds=[lock.fileno()] if lock and child.holds_lock else [],
            preexec_fn=_dies_with_us(child.stop_signal),  # noqa: PLW1509  there is no other way after the change of user
        )


class Identity(TypedDict, total=False):
    """As whom `subprocess` runs a process: nothing to stay who we are."""

    user: int
    group: int
    extra_groups: list[int]


def as_user(user: str | None) -> Identity:
    """Another user, without any group of ours; root alone can change to one."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _dies_with_us(stop_signal: signal.Signals) -> Callable[[], None] | None:
    """What asks Linux, in the new process, for a signal when we are gone, even by SIGKILL; other systems know no such thing."""
    if sys.platform != "linux":
        return None
    prctl, us = ctypes.CDLL(None, use_errno=True).prctl, os.getpid()

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, int(stop_signal))
        if os.getppid() != us:
            os._exit(1)

    return in_child


async def _locked(directory: Path) -> IO[str]:
    """The directory's lock, which children inherit: whoever has it knows that no process of another supervisor is left."""
    lock = (directory / "lock").open("a+")
    give_up = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _owner_lives(lock) or time.monotonic() > give_up:
                raise _taken(directory, lock) from None
            await asyncio.sleep(GLANCE_SECONDS)
        else:
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            return lock


def _owner_lives(lock: IO[str]) -> bool:
    lock.seek(0)
    owner = lock.read().strip()
    try:
        return owner.isdecimal() and psutil.Process(int(owner)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _taken(directory: Path, lock: IO[str]) -> CannotStart:
    lock.seek(0)
    owner = lock.read().strip() or "unknown"
    lock.close()
    return CannotStart(
        f"{directory} is in use by another Corral (process {owner}); "
        "stop that one, or set CORRAL_STATE_DIR to another directory"
    )


async def _told_to_stop() -> None:
    """Come back on Ctrl-C, SIGTERM or SIGHUP."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for each in signals:
        loop.add_signal_handler(each, told.set)
    try:
        await told.wait()
    finally:
        for each in signals:
            loop.remove_signal_handler(each)
