"""The supervisor of one attempt on this machine: a process of its own that outlives the worker.

It needs only the standard library, and little of that, so that it starts quickly.

`python -I -S local_runner.py DIRECTORY` returns when the attempt runs or has ended; a detached copy of it stays until the end.
Provider and supervisor talk through files in the directory, each written once, whole or not at all. Whoever holds the lock on
`lock` is the supervisor; a claim that nobody holds the lock for is an attempt whose supervisor died.
"""

import ctypes
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypedDict

ORDER = "order.json"
"""What to run: an `Order`."""
LOCK = "lock"
CLAIM = "claimed"
"""Written before the first process starts: nobody starts the attempt again."""
RUNNING = "running.json"
NOTICES = "notice-*.json"
"""From the provider: a `Notice` each, by its number."""
KEPT = "kept-*.json"
"""From the provider: the notice of that number, and all before it, are taken back."""
RESIZES = "resize-*.json"
"""From the provider: a `Resize` each, by its number, which is that of a notice."""
FORCES = "force-*.json"
"""From the provider: those that leave by the notice with that number, for another size, are stopped at once."""
RESIZED = "resized-*.json"
"""A `Reached`: the replicas were those of the notice with that number, and those gone who were to leave by it."""
KILL = "kill.json"
"""From the provider: stop at once."""
WAKE = "wake"
"""A pipe by which the provider says that it wrote one of these."""
LEASE = "lease.json"
"""From the provider, for all attempts: a `Lease`; without it there is no end."""
LEASE_LOOK_SECONDS = 1.0
LEASE_IS_OVER = "the lease of its cluster is over"
RESULT = "result.json"
"""How it ended: an `Ending`."""

LOCK_SECONDS = 2.0
"""The provider holds the lock for moments only; a supervisor holds it until the attempt ends."""
LOCK_PAUSE_SECONDS = 0.02
REAP_PAUSE_SECONDS = 0.005
FOR_EVER = float("inf")
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class Anchor(TypedDict):
    """What clocks showed at one moment, and how many of the pool's seconds one of the wall's has.

    `pool` and `wall` are in seconds since 1970; `steady` is what nobody sets, in seconds since the `boot` of the machine.
    """

    pool: float
    wall: float
    steady: float
    boot: str | None
    speed: float


class Replica(TypedDict):
    """One process to start."""

    group: str
    index: int
    devices: list[int]
    milli: int
    environment: dict[str, str]


class Order(TypedDict):
    """One attempt."""

    attempt_id: str
    workload_id: str
    epoch: int
    digest: str
    command: list[str]
    replicas: list[Replica]
    anchor: Anchor
    leases: str
    """The directory in which the lease is."""


class Notice(TypedDict):
    """Send the signal, and kill what is left after these seconds on the wall; `at` is in the pool's time."""

    signal: str
    wall_seconds: float
    at: float


class Resize(Notice):
    """Go on with these replicas: start those that are missing, and let the others leave as after a notice."""

    replicas: list[Replica]


class Reached(TypedDict):
    """When a size was reached. Who leaves late does so after other notices: `after` is the last, and `place` counts them."""

    at: float
    after: int
    place: int


class Lease(TypedDict):
    """Until when attempts may run, in the pool's time, and what that was when it was said."""

    until: float
    anchor: Anchor


class Ending(NamedTuple):
    """The phase in which the attempt ended (see `activities.ports.Phase`); `at` is in the pool's time."""

    phase: str
    reason: str
    at: float
    exit_code: int | None = None


class Child(NamedTuple):
    """A started replica: its first process, and its keeper. Neither is reaped before the end, so that their ids stay theirs.

    The keeper is a process to which everything comes that the replica leaves behind, whatever its group, session and
    environment. It ends when nothing is left.
    """

    name: str
    first: int
    keeper: int

    def exit_code(self) -> int | None:
        """That of the first process, as `exit_code_of` says; none while anything of the replica runs."""
        return exit_code_of(os.waitid(os.P_PID, self.keeper, os.WEXITED | os.WNOHANG | os.WNOWAIT))

    def send(self, number: int) -> None:
        """Signal the replica with all processes of its group."""
        _send(self.first, number)


class CannotStartError(Exception):
    """A replica's command could not be started; says why."""


class WithoutSupervisorError(Exception):
    """The supervisor has died."""


def exit_code_of(seen: os.waitid_result | None) -> int | None:
    """0 to 255, a signal as 128 more than its number; none while it runs."""
    if seen is None:
        return None
    return seen.si_status if seen.si_code == os.CLD_EXITED else 128 + seen.si_status


def _send(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def pool_time(anchor: Anchor) -> float:
    """Now, in the pool's time, whatever is done to the wall's; where the machine was started anew, there is only that."""
    boot = boot_of_this_machine()
    is_same = boot is not None and anchor.get("boot") == boot
    passed = steady_time() - anchor["steady"] if is_same else time.time() - anchor["wall"]
    return anchor["pool"] + passed * anchor["speed"]


def steady_time() -> float:
    """Seconds since the machine was started, those in which it slept among them (Linux only)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


def boot_of_this_machine() -> str | None:
    """Which of the machine's starts was the last; none where it does not tell (Linux only)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def write(directory: Path, name: str, content: Mapping[str, Any]) -> None:
    """Write a file so that it is there whole or not at all, even after a power cut."""
    draft = directory / f".{name}.{os.getpid()}"
    with draft.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(directory / name)
    _sync(directory)


def read(directory: Path, name: str) -> Any:
    """What such a file says, or none when it is not there."""
    try:
        return json.loads((directory / name).read_bytes())
    except FileNotFoundError:
        return None


def lease_left(order: Order) -> float:
    """Seconds for which the attempt may run on, by this machine's steady clock; below zero when it may no more."""
    lease: Lease | None = read(Path(order["leases"]), LEASE) if "leases" in order else None
    if lease is None:
        return FOR_EVER
    anchor = lease.get("anchor", order["anchor"])
    return (lease["until"] - pool_time(anchor)) / anchor["speed"]


def notice_file(number: int) -> str:
    """The file of the notice with that number."""
    return NOTICES.replace("*", str(number))


def kept_file(number: int) -> str:
    """The file that takes the notice with that number back."""
    return KEPT.replace("*", str(number))


def numbers(directory: Path, files: str) -> list[int]:
    """The numbers of the files of this kind that are there, in order."""
    prefix, suffix = files.split("*")
    return sorted(int(path.name.removeprefix(prefix).removesuffix(suffix)) for path in directory.glob(files))


def notice_in_force(directory: Path) -> int | None:
    """The number of the last notice, unless it is taken back."""
    last = max(numbers(directory, NOTICES), default=0)
    return last if last > max(numbers(directory, KEPT), default=0) else None


def resize_file(number: int) -> str:
    """The file of the notice with that number, where it is for another size."""
    return RESIZES.replace("*", str(number))


def force_file(number: int) -> str:
    """The file that has those stopped at once who leave by it."""
    return FORCES.replace("*", str(number))


def resized_file(number: int) -> str:
    """The file that says when that was done."""
    return RESIZED.replace("*", str(number))


def size_in_force(directory: Path) -> int:
    """The number of the last notice for another size that is not taken back; 0 for the size that was ordered at first."""
    return max({*numbers(directory, RESIZES)} - {*numbers(directory, KEPT)}, default=0)


def size_reached(directory: Path) -> int:
    """The same of those that were carried out."""
    return max({*numbers(directory, RESIZED)} - {*numbers(directory, KEPT)}, default=0)


def unfinished(directory: Path) -> list[int]:
    """The numbers of the notices for another size that are not taken back, and were not carried out."""
    return sorted({*numbers(directory, RESIZES)} - {*numbers(directory, KEPT)} - {*numbers(directory, RESIZED)})


def size_before(directory: Path, number: int) -> int:
    """The number of the size that one with that number was to take the place of."""
    return max((size for size in {*numbers(directory, RESIZES)} - {*numbers(directory, KEPT)} if size < number), default=0)


def reached_after(directory: Path, number: int) -> int:
    """The number of the last notice when the size with that number was reached; by default it was itself the last one."""
    return int(read(directory, resized_file(number)).get("after", number))


def replicas_of(directory: Path, order: Order, size: int) -> list[Replica]:
    """The replicas of the size with that number."""
    replicas: list[Replica] = read(directory, resize_file(size))["replicas"] if size else order["replicas"]
    return replicas


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main(directory: Path) -> None:
    """Leave a supervisor behind, and wait until it has started the attempt or has nothing to do."""
    started, tell_started = os.pipe()
    if os.fork():
        os.close(tell_started)
        os.read(started, 1)
        os._exit(0)
    os.close(started)
    if _owns(directory):
        _supervise(directory, tell_started)


def _owns(directory: Path) -> bool:
    """Take the lock, which the system takes back when this process ends; false when another supervisor has it."""
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    give_up_at = time.monotonic() + LOCK_SECONDS
    while time.monotonic() < give_up_at:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_SECONDS)
            if (directory / CLAIM).exists():
                return False
        else:
            return True
    return False


def _supervise(directory: Path, tell_started: int) -> None:
    order: Order = read(directory, ORDER)
    if (directory / RESULT).exists() or (directory / CLAIM).exists():
        return
    wake = _open_wake(directory)  # before the first look for a notice, so that none is missed
    write(directory, CLAIM, {"supervisor": os.getpid()})
    _adopt_orphans()
    try:
        ending = _run(directory, order, wake, tell_started)
    finally:
        _end_descendants()
    write(directory, RESULT, ending._asdict())


def _open_wake(directory: Path) -> int:
    """The pipe on which both the provider and the end of a child are heard."""
    if not (directory / WAKE).exists():
        os.mkfifo(directory / WAKE, 0o600)
    wake = os.open(directory / WAKE, os.O_RDWR | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    return wake


def _run(directory: Path, order: Order, wake: int, tell_started: int) -> Ending:
    anchor = order["anchor"]
    if lease_left(order) <= 0:
        return Ending("lost", LEASE_IS_OVER, pool_time(anchor))
    if (directory / KILL).exists() or notice_in_force(directory) is not None:
        return Ending("cancelled", "stopped before it ran", pool_time(anchor))
    crew = Crew(directory, order)
    try:
        crew.follow()
        write(directory, RUNNING, {"at": pool_time(anchor)})
        with suppress(BrokenPipeError):  # nobody waits any more
            os.write(tell_started, b"!")  # keepers have it open as well, so that closing it would tell nothing
        return _until_it_ends(directory, crew, wake, order)
    except CannotStartError as error:
        return Ending("failed", str(error), pool_time(anchor))
    finally:
        crew.kill()


class Crew:
    """The replicas that run: those that the attempt is to have, and those that have notice to leave it."""

    def __init__(self, directory: Path, order: Order) -> None:
        self._directory, self._order = directory, order
        self._size = 0
        self.staying: dict[str, Child] = {}
        self._leaving: dict[int, dict[str, Child]] = {}  # by the size that has no place for them
        self._gone: list[Child] = []  # as none is reaped before the end
        self._kill_at: dict[int, float] = {}

    def follow(self) -> None:
        """Start whoever is missing in the size that is in force, let go who is too many, and write down what is reached.

        Raises:
            CannotStartError: the command could not be started.
        """
        if (size := size_in_force(self._directory)) != self._size:
            self._size = size
            self._let_go()
        self._see_who_has_left()
        wanted = {_name(replica): replica for replica in replicas_of(self._directory, self._order, size)}
        leaving = {name for its in self._leaving.values() for name in its}
        for name, replica in wanted.items():
            if name not in self.staying and name not in leaving:
                self.staying[name] = _start(self._directory, self._order["command"], replica)
        self._write_down_what_is_reached(is_whole=wanted.keys() == self.staying.keys())

    def _write_down_what_is_reached(self, *, is_whole: bool) -> None:
        open_sizes = set(unfinished(self._directory)) - self._leaving.keys()
        for number in sorted(size for size in open_sizes if size < self._size or (size == self._size and is_whole)):
            write(self._directory, resized_file(number), self._reached(number))

    def _reached(self, number: int) -> Reached:
        told = (*numbers(self._directory, NOTICES), *numbers(self._directory, KEPT), *numbers(self._directory, RESIZED), number)
        last, before = max(told), [reached_after(self._directory, other) for other in numbers(self._directory, RESIZED)]
        return Reached(at=pool_time(self._order["anchor"]), after=last, place=0 if last == number else before.count(last) + 1)

    def _let_go(self) -> None:
        """Give notice to those that the size has no place for."""
        wanted = {_name(replica) for replica in replicas_of(self._directory, self._order, self._size)}
        surplus = [self.staying.pop(name) for name in self.staying.keys() - wanted]
        if surplus:
            # The last that came: in the size before a growth that is taken back there is no word of how to leave.
            told: Resize = read(self._directory, resize_file(max(numbers(self._directory, RESIZES))))
            self._leaving[self._size] = self._leaving.get(self._size, {}) | {child.name: child for child in surplus}
            self._kill_at[self._size] = time.monotonic() + told["wall_seconds"]
            for child in surplus:
                child.send(signal.Signals[told["signal"]])

    def _see_who_has_left(self) -> None:
        """Take out those of whom nothing is left; force them when their grace is over."""
        for size, its in list(self._leaving.items()):
            if time.monotonic() >= self._kill_at[size] or (self._directory / force_file(size)).exists():
                self._kill_at[size] = FOR_EVER  # their end is heard of
                for child in its.values():
                    child.send(signal.SIGKILL)
            for child in [child for child in its.values() if child.exit_code() is not None]:
                self._gone.append(its.pop(child.name))
            if not its:
                del self._leaving[size], self._kill_at[size]

    @property
    def look_at(self) -> float:
        """When, by the monotonic clock, who leaves is to be forced."""
        return min(self._kill_at.values(), default=FOR_EVER)

    def everybody(self) -> list[Child]:
        """All that may still run."""
        return [*self.staying.values(), *(child for its in self._leaving.values() for child in its.values())]

    def kill(self) -> None:
        """Stop all at once."""
        for child in self.everybody():
            child.send(signal.SIGKILL)


def _name(replica: Replica) -> str:
    return f"{replica['group']}-{replica['index']}"


def _start(directory: Path, command: Sequence[str], replica: Replica) -> Child:
    """Leave a keeper behind that has started the replica."""
    told, tell = os.pipe()
    supervisor, keeper = os.getpid(), os.fork()
    if not keeper:
        _keep(directory, command, replica, supervisor, tell)
    os.close(tell)
    with os.fdopen(told) as report:
        said = report.read()
    if not said.isdigit():
        raise CannotStartError(said or f"cannot start {command[0]}: its keeper has died")
    return Child(_name(replica), int(said), keeper)


def _keep(directory: Path, command: Sequence[str], replica: Replica, supervisor: int, tell: int) -> NoReturn:
    """Be a keeper: it ends like the replica's first process, when nothing that came of the replica is left.

    It holds the supervisor's lock, so that nobody takes an attempt for lost before that, even if the supervisor dies.
    """
    first, code = None, 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, _lose_supervisor)
        _hear_of_the_end_of(supervisor, signal.SIGTERM)
        _adopt_orphans()
        process = _first_process(directory, command, replica)  # kept, for it reaps what it stands for when it is dropped
        first = process.pid
        os.write(tell, str(first).encode())
        os.close(tell)
        code = exit_code_of(os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)) or 0
    except CannotStartError as error:
        os.write(tell, str(error).encode())
    except WithoutSupervisorError:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            if first is not None:
                _send(first, signal.SIGKILL)
                _end_others(first)
        finally:
            os._exit(code)


def _lose_supervisor(*_: object) -> None:
    raise WithoutSupervisorError


def _first_process(directory: Path, command: Sequence[str], replica: Replica) -> subprocess.Popen[bytes]:
    name = _name(replica)
    with (directory / f"{name}.out").open("ab") as out, (directory / f"{name}.err").open("ab") as err:
        try:
            return subprocess.Popen(
                command,
                env=replica["environment"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - safe here, where there is one thread only
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise CannotStartError(f"cannot start {command[0]}: {reason}") from error


def _end_others(first: int) -> None:
    """Kill and reap all that a keeper has adopted, until there is nothing but the first process, which has ended."""
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    while others := [pid for pid in _own_children() if pid != first]:
        for pid in others:
            os.kill(pid, signal.SIGKILL)
        for pid in others:
            os.waitpid(pid, 0)


def _until_it_ends(directory: Path, crew: Crew, wake: int, order: Order) -> Ending:
    """Wait for the replicas; pass on each notice once; leave what still runs when its grace or lease is over to be killed."""
    anchor = order["anchor"]
    kill_at: float | None = None
    passed_on: int | None = None
    while True:
        codes = {child.name: child.exit_code() for child in crew.staying.values()}
        ending = _ending(codes, pool_time(anchor), noticed=kill_at is not None)
        if ending is not None:
            return ending
        if (directory / KILL).exists():
            return Ending("cancelled", "released", pool_time(anchor))
        if (left := lease_left(order)) <= 0:
            return Ending("lost", LEASE_IS_OVER, pool_time(anchor))
        notice = notice_in_force(directory)
        if notice is None:
            crew.follow()
        if notice != passed_on:
            passed_on, kill_at = notice, None if notice is None else _pass_on_notice(directory, notice, crew.everybody())
        if kill_at is not None and time.monotonic() >= kill_at:
            return Ending("cancelled", "stopped at the end of its grace", pool_time(anchor))
        _wait(wake, min(kill_at or FOR_EVER, crew.look_at, time.monotonic() + _until_next_look(left)))


def _until_next_look(left: float) -> float:
    """Seconds for which a lease need not be looked at: waiting stands still while the machine sleeps, and leases do not."""
    return left if left == FOR_EVER else min(left, LEASE_LOOK_SECONDS)


def _ending(codes: Mapping[str, int | None], at: float, *, noticed: bool) -> Ending | None:
    """The first failure ends the attempt; after a notice all replicas may stop as they like."""
    failed = next(((name, code) for name, code in codes.items() if code), None)
    is_over = None not in codes.values()
    if noticed:
        how = f" ({failed[0]}: exit code {failed[1]})" if failed else ""
        return Ending("cancelled", f"stopped after notice{how}", at) if is_over else None
    if failed:
        return Ending("failed", f"{failed[0]}: exit code {failed[1]}", at, failed[1])
    return Ending("succeeded", "", at, 0) if is_over else None


def _pass_on_notice(directory: Path, number: int, children: Sequence[Child]) -> float:
    """Send the signal of a notice, and say when what is left is to be killed."""
    notice: Notice = read(directory, notice_file(number))
    for child in children:
        child.send(signal.Signals[notice["signal"]])
    return time.monotonic() + notice["wall_seconds"]


def _wait(wake: int, until: float) -> None:
    seconds = None if until == FOR_EVER else max(0.0, until - time.monotonic())
    if select.select([wake], [], [], seconds)[0]:
        os.read(wake, 4096)


def _die_with(keeper: int) -> Callable[[], None]:
    """What a first process does before it becomes its command: ask to be killed when its keeper dies."""
    return lambda: _hear_of_the_end_of(keeper, signal.SIGKILL)


def _hear_of_the_end_of(parent: int, number: int) -> None:
    """Ask for a signal when the parent dies; where it has died before that, die as well (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)


def _adopt_orphans() -> None:
    """Let what the children leave behind come to this process, even what left their groups (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def _end_descendants() -> None:
    """Kill and reap until nothing that the attempt started is left."""
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            for pid in _own_children():
                os.kill(pid, signal.SIGKILL)
            time.sleep(REAP_PAUSE_SECONDS)


def _own_children() -> Iterator[int]:
    """Process ids, which stay theirs as long as nobody else reaps; none where there is no /proc."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue  # it ended meanwhile
        if int(parent) == os.getpid():
            yield int(stat.parent.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
