"""The directory of one attempt on this machine, as the provider sees it."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from activities.ports import Observation, Phase
from activities.providers import local_runner
from activities.providers.local_runner import (
    CLAIM,
    KEPT,
    KILL,
    LOCK,
    NOTICES,
    ORDER,
    RESIZED,
    RESIZES,
    RESULT,
    RUNNING,
    WAKE,
    Ending,
    Order,
    Replica,
    kept_file,
    notice_file,
    notice_in_force,
    numbers,
    pool_time,
    replicas_of,
    resized_file,
    size_before,
    size_in_force,
    size_reached,
    unfinished,
)

DIRECTORY_VARIABLE = "CORRAL_DIRECTORY"
"""In the environment of every process of an attempt: its directory."""

STRAYS_SECONDS = 5.0

STARTING, STARTED, NOTICED = 1, 2, 1_000
"""Sequences: a start, then it runs, then each notice and, from `LATER` on, what came of it or of those before; with gaps."""
LATER = 1
KILLED, LAST_SEQUENCE = 10**9, 10**9 + 1


def file_name(identity: str) -> str:
    """A file name for any identity, different for different ones."""
    return "_" + quote(identity, safe="")


def is_attempt(directory: Path) -> bool:
    """It is there with its order; what is left of one that somebody has deleted is no attempt."""
    return (directory / ORDER).exists()


class LocalAttempt:
    """An attempt's files. Once written they do not change, so each is read once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._read: dict[str, Any] = {}
        self._history: tuple[Observation, ...] = ()

    @property
    def order(self) -> Order:
        """What was ordered."""
        order: Order = self._file(ORDER)
        return order

    @property
    def is_over(self) -> bool:
        """It has ended and its end is written down."""
        return self._file(RESULT) is not None

    @property
    def last_notice(self) -> int:
        """The number of the last notice that it was given, or that was taken back before it was given."""
        return max((number for kind in (NOTICES, RESIZES, KEPT) for number in numbers(self.directory, kind)), default=0)

    @property
    def is_claimed(self) -> bool:
        """A supervisor has, or had, it in hand."""
        return (self.directory / CLAIM).exists()

    @property
    def replicas(self) -> list[Replica]:
        """Those that it may have now: of the size that it reached last, of the one that it is to have, and of any between.

        As well as those that do not leave by a notice before.
        """
        reached = size_reached(self.directory)
        since = (number for number in numbers(self.directory, RESIZES) if number > reached)
        found = self._of_sizes({reached, size_in_force(self.directory), *since})
        for late in (number for number in unfinished(self.directory) if number < reached):
            stays = self._of_sizes({late})
            found |= {key: its for key, its in self._of_sizes({size_before(self.directory, late)}).items() if key not in stays}
        return list(found.values())

    def _of_sizes(self, sizes: Collection[int]) -> dict[tuple[str, int], Replica]:
        found = [replica for size in sorted(sizes) for replica in replicas_of(self.directory, self.order, size)]
        return {(replica["group"], replica["index"]): replica for replica in found}

    def observe(self) -> Observation:
        """What is seen of it now."""
        return self.history()[-1]

    def history(self) -> tuple[Observation, ...]:
        """One observation for each phase that it has entered so far, never empty."""
        if self._history:
            return self._history
        self._settle()
        history = self._observations()
        if history[-1].phase.is_over:
            self._history = history
        return history

    def start(self) -> None:
        """Start a supervisor and wait until it has started the attempt; it does nothing if another has it in hand."""
        with (self.directory / "supervisor.log").open("ab") as log:
            subprocess.run(
                [sys.executable, "-I", "-S", local_runner.__file__, str(self.directory)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                check=False,
            )

    def tell(self, name: str, content: Mapping[str, Any]) -> None:
        """Give the supervisor a notice or the order to kill, unless it has it."""
        if self._file(name) is None:
            local_runner.write(self.directory, name, content)
        self.wake()

    def wake(self) -> None:
        """Let the supervisor look what is so now."""
        try:
            pipe = os.open(self.directory / WAKE, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return  # no supervisor listens: one that comes looks for itself
        try:
            os.write(pipe, b"!")
        except BlockingIOError:
            pass  # it has enough to wake up by
        finally:
            os.close(pipe)

    def _observations(self) -> tuple[Observation, ...]:
        # The result is looked for first: what is written before it is then there as well.
        result = self._file(RESULT)
        ending = Ending(**result) if result else None
        running = self._file(RUNNING)
        seen = [self._observation(Phase.STARTING, STARTING, self.order["anchor"]["pool"])]
        if running:
            seen.append(self._observation(Phase.RUNNING, STARTED, running["at"]))
        told = sorted((turn for turn in self._turns() if ending is None or turn[2] <= ending.at), key=lambda turn: turn[1])
        seen += (self._observation(phase, sequence, at) for phase, sequence, at in told)
        if ending:
            seen.append(self._observation(Phase(ending.phase), LAST_SEQUENCE, ending.at, ending.reason, ending.exit_code))
        return tuple(seen)

    def _turns(self) -> Iterator[tuple[Phase, int, float]]:
        """What it was told about leaving: the phase that it then was in, its sequence, and when."""
        given, taken_back = numbers(self.directory, NOTICES), numbers(self.directory, KEPT)
        resized = numbers(self.directory, RESIZED)
        for number in sorted({*given, *resized}):
            if number in resized:
                yield Phase.RUNNING, self._reached_at(number), self._file(resized_file(number))["at"]
                continue
            yield Phase.STOPPING, NOTICED * number, self._file(notice_file(number))["at"]
            if number in taken_back:
                yield (
                    Phase.RUNNING if self._file(RUNNING) else Phase.STARTING,
                    NOTICED * number + LATER,
                    self._file(kept_file(number))["at"],
                )
        if kill := self._file(KILL):
            yield Phase.STOPPING, KILLED, kill["at"]

    def _observation(
        self, phase: Phase, sequence: int, at: float, reason: str = "", exit_code: int | None = None
    ) -> Observation:
        running = self._file(RUNNING) if phase is not Phase.STARTING else None
        reached = {number for number in numbers(self.directory, RESIZED) if self._reached_at(number) <= sequence}
        last, taken_back = max(reached, default=0), set(numbers(self.directory, KEPT))
        return Observation(
            attempt_id=self.order["attempt_id"],
            epoch=self.order["epoch"],
            phase=phase,
            sequence=sequence,
            at=_as_datetime(at),
            started_at=_as_datetime(running["at"]) if running else None,
            exit_code=exit_code,
            reason=reason,
            resized=last,
            remains=frozenset(n for n in numbers(self.directory, RESIZES) if n < last and n not in reached | taken_back),
        )

    def _reached_at(self, number: int) -> int:
        """The sequence with which a size was reached."""
        told = self._file(resized_file(number))
        place: int = told.get("place", 0)
        return NOTICED * int(told.get("after", number)) + (place and LATER + place)

    def _settle(self) -> None:
        """Write down the end of an attempt that no supervisor has in hand and none may take in hand any more."""
        lock = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self.is_over:
                self._write_end()
        except BlockingIOError:
            return
        finally:
            os.close(lock)

    def _write_end(self) -> None:
        now = pool_time(self.order["anchor"])
        if self.is_claimed:
            end_strays(self.directory)
            ending = Ending("lost", "its supervisor died", now)
        elif self._file(KILL) or notice_in_force(self.directory) is not None:
            ending = Ending("cancelled", "stopped before it ran", now)
        else:
            return
        local_runner.write(self.directory, RESULT, ending._asdict())

    def _file(self, name: str) -> Any:
        if name not in self._read:
            content = local_runner.read(self.directory, name)
            if content is None:
                return None
            self._read[name] = content
        return self._read[name]


def end_strays(directory: Path) -> None:
    """End what runs of an attempt that nobody can steer any more; only then is what it had free.

    With its supervisor, if that still runs, goes whatever its keepers look after, however well it hides.
    """
    _end([process for process in psutil.process_iter() if _supervises(process, directory)], signal.SIGTERM)
    _end([process for process in psutil.process_iter() if _belongs_to(process, directory)], signal.SIGKILL)


def _end(processes: Sequence[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    psutil.wait_procs(processes, timeout=STRAYS_SECONDS)


def _supervises(process: psutil.Process, directory: Path) -> bool:
    """Whether it is the supervisor, or one of its keepers."""
    try:
        return bool(process.cmdline()[-2:] == [local_runner.__file__, str(directory)])
    except psutil.Error:
        return False


def _belongs_to(process: psutil.Process, directory: Path) -> bool:
    try:
        return bool(process.environ().get(DIRECTORY_VARIABLE) == str(directory))
    except psutil.Error:
        return False


def _as_datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
