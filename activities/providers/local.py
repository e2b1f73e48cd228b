"""A provider that runs workloads as processes on this machine."""

import asyncio
import fcntl
import os
import shutil
import signal as signals
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field, StrictInt

from activities.ports import (
    Beat,
    Capability,
    Clock,
    ErrorClass,
    Event,
    LaunchSpec,
    NodeView,
    Observation,
    ProviderError,
    ProviderSnapshot,
    ReplicaPlace,
)
from activities.providers import local_runner
from activities.providers.local_attempts import (
    DIRECTORY_VARIABLE,
    LAST_SEQUENCE,
    LocalAttempt,
    end_strays,
    file_name,
    is_attempt,
)
from activities.providers.local_runner import KILL, LEASE, ORDER, Anchor, Lease, Notice, Order, Replica, Resize
from corral.api import MAXIMUM_ACCELERATORS_PER_REPLICA, WHOLE, CapacityType, Identifier, Model, ShortName

POLL_SECONDS = 0.075
BEAT_SECONDS = 0.5

INHERITED_VARIABLES = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
"""What a workload gets of the worker's environment; the rest may hold secrets."""


def _own_cpu_milli() -> int:
    return (os.cpu_count() or 1) * 1000


def _own_memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


class LocalNode(Model):
    """This machine, as one node. The devices are taken at their word: they may be real, or only numbers."""

    name: str = "local"
    region: Identifier = "local"
    cluster: Identifier = "local"
    sku: Identifier = "local"
    accelerators: Annotated[StrictInt, Field(ge=0, le=MAXIMUM_ACCELERATORS_PER_REPLICA)] = 1
    cpu_milli: Annotated[StrictInt, Field(ge=0)] = Field(default_factory=_own_cpu_milli)
    memory_mib: Annotated[StrictInt, Field(ge=0)] = Field(default_factory=_own_memory_mib)
    capacity_type: CapacityType = CapacityType.RESERVED
    price: Annotated[StrictInt, Field(ge=0)] = 0
    labels: Mapping[ShortName, ShortName] = {}
    maximum_replicas: Annotated[StrictInt, Field(ge=0)] | None = None

    def view(self) -> NodeView:
        """The node as the port shows it."""
        topology = (("region", self.region), ("cluster", self.cluster))
        labels = tuple(sorted(self.labels.items()))
        return NodeView(topology=topology, labels=labels, **self.model_dump(exclude={"labels"}))


class LocalProvider:
    """Runs each replica of an attempt as a process, under a supervisor that outlives the worker (see `local_runner`).

    A process sees who it is and what it has in `CORRAL_WORKLOAD`, `CORRAL_ATTEMPT`, `CORRAL_EPOCH`, `CORRAL_GROUP`,
    `CORRAL_REPLICA`, `CORRAL_DEVICES` (such as `0,3`) and `CORRAL_DIRECTORY`, where its output is; it works in the directory
    in which the worker was started. After a notice every end is `CANCELLED`, for the provider cannot know whether the work was
    done. The first replica that fails ends the others at once. A replica ends as a whole with its first process: whatever it
    left in the background is killed (Linux only). Cpu and memory are not enforced.
    """

    capabilities = Capability.GANG | Capability.SIGNAL | Capability.WATCH | Capability.NATIVE_DEDUP

    def __init__(self, directory: Path, node: LocalNode, clock: Clock, *, name: str = "local") -> None:
        self.name = name
        self._node = node.view()
        self._clock = clock
        self._directory = directory.absolute()
        for part in ("attempts", "fences", "workloads"):
            (self._directory / part).mkdir(parents=True, exist_ok=True)
        self._seen: dict[str, LocalAttempt] = {}
        self._is_closed = False

    async def snapshot(self) -> ProviderSnapshot:
        """The node and all attempts that are not yet forgotten, ended ones included."""
        attempts = await asyncio.to_thread(self._observe_all)
        return ProviderSnapshot((self._node,), attempts, True, self._clock.now())

    def watch(self) -> AsyncIterator[Event]:
        """What changes from this call on, with a `Beat` twice a second; ends when the provider is closed."""
        return self._tell({file_name(seen.attempt_id): seen.sequence for seen in self._observe_all()})

    async def launch(self, order: LaunchSpec) -> Observation:
        """Start an attempt on exactly these devices; the same order again gives the same attempt.

        Raises:
            ProviderError: as the port says. A command that cannot be started is no error but a failed attempt.
        """
        if not order.command:
            raise ProviderError(ErrorClass.INVALID_SPEC, f"workload {order.workload_id} has no command to run")
        _check_signal(order.signal)
        return await asyncio.to_thread(self._launch, order)

    async def renew(self, leases: Mapping[str, datetime | None]) -> frozenset[str]:
        """Let what runs here run until a time; its supervisors read it from a file `lease.json`."""
        if self._node.place not in leases:
            return frozenset()
        await asyncio.to_thread(self._renew, leases[self._node.place])
        return frozenset({self._node.place})

    async def status(self, attempts: Collection[str]) -> Mapping[str, Observation]:
        """The attempts that the provider knows; one that is absent never started or is forgotten."""
        return await asyncio.to_thread(self._status, attempts)

    async def preempt(self, attempt_id: str, epoch: int, *, notice: int, signal: str, grace_seconds: int) -> None:
        """Send the signal once for each notice to all replicas, and kill them when the grace is over.

        Raises:
            ProviderError: `INVALID_SPEC` when this machine has no such signal.
        """
        _check_signal(signal)
        await asyncio.to_thread(self._preempt, attempt_id, notice, signal, self._clock.wall_seconds(grace_seconds))

    async def keep(self, attempt_id: str, epoch: int, *, notice: int) -> None:
        """Let what has not stopped run on; processes see it by a file `kept-N.json` in their directory."""
        await asyncio.to_thread(self._keep, attempt_id, notice)

    async def resize(self, order: LaunchSpec, *, notice: int, at_once: bool = False) -> None:
        """Let an attempt go on with these replicas: others get the signal, and are killed when the grace is over.

        Raises:
            ProviderError: as the port says. A replica that cannot be started is no error but fails the attempt.
        """
        _check_signal(order.signal)
        await asyncio.to_thread(self._resize, order, notice, self._clock.wall_seconds(order.grace_seconds))
        if at_once:
            await asyncio.to_thread(self._force, order.attempt_id, notice)

    async def release(self, attempt_id: str, epoch: int) -> None:
        """Kill the attempt and never start it again, even if its launch arrives later; idempotent."""
        await asyncio.to_thread(self._release, attempt_id)

    async def forget(self, attempts: Collection[str]) -> None:
        """Delete the directories of ended attempts, output included; a later launch of one is fenced."""
        await asyncio.to_thread(self._forget, attempts)

    async def aclose(self) -> None:
        """End the watches; what runs, runs on."""
        self._is_closed = True

    async def _tell(self, told: dict[str, int]) -> AsyncIterator[Event]:
        beat_at = time.monotonic()
        while not self._is_closed:
            for observation in await asyncio.to_thread(self._news, told):
                yield observation
            if time.monotonic() >= beat_at:
                yield Beat(self._clock.now())
                beat_at = time.monotonic() + BEAT_SECONDS
            await asyncio.sleep(POLL_SECONDS)

    def _news(self, told: dict[str, int]) -> list[Observation]:
        """What has not been told, and is now."""
        news: list[Observation] = []
        with self._alone():
            for attempt in self._attempts():
                last = told.get(attempt.directory.name, 0)
                if last < LAST_SEQUENCE:
                    history = attempt.history()
                    news += (seen for seen in history if seen.sequence > last)
                    told[attempt.directory.name] = history[-1].sequence
        return news

    def _observe_all(self) -> tuple[Observation, ...]:
        with self._alone():
            return tuple(attempt.observe() for attempt in self._attempts())

    def _launch(self, order: LaunchSpec) -> Observation:
        with self._alone():
            attempt = self._known(order)
            if attempt is None:
                self._refuse_unless_leased()
                self._refuse_unless_free(order.places)
                attempt = self._create(order)
        if not attempt.is_claimed and not attempt.is_over:
            attempt.start()
        return attempt.observe()

    def _renew(self, until: datetime | None) -> None:
        with self._alone():
            known = self._lease
            if until is not None and until > self._clock.now() and until.timestamp() >= (known or 0.0):
                # The same again says how long that is from now on, also where the pool's clock was set meanwhile.
                local_runner.write(self._directory, LEASE, Lease(until=until.timestamp(), anchor=self._anchor()))
                if known is None:
                    for attempt in self._attempts():
                        attempt.wake()

    @property
    def _lease(self) -> float | None:
        """Until when work may run here, in the pool's time; none if there never was a lease."""
        lease = local_runner.read(self._directory, LEASE)
        return None if lease is None else float(lease["until"])

    def _refuse_unless_leased(self) -> None:
        if (until := self._lease) is not None and until <= self._clock.now().timestamp():
            raise ProviderError(ErrorClass.UNAVAILABLE, f"{self._node.place} has no lease in force, and starts nothing")

    def _known(self, order: LaunchSpec) -> LocalAttempt | None:
        """The attempt, if the order was carried out before; raises when it may not be carried out any more."""
        if self._fence(order.attempt_id).exists():
            raise ProviderError(ErrorClass.FENCED, f"attempt {order.attempt_id} was released")
        attempt = self._find(order.attempt_id)
        if attempt is not None and attempt.order["digest"] != order.digest:
            raise ProviderError(ErrorClass.CONFLICT, f"attempt {order.attempt_id} was launched with another order")
        latest = local_runner.read(self._directory / "workloads", file_name(order.workload_id))
        if latest is not None and latest["epoch"] > order.epoch:
            message = f"workload {order.workload_id} is at epoch {latest['epoch']}, past {order.epoch}"
            raise ProviderError(ErrorClass.FENCED, message)
        return attempt

    def _refuse_unless_free(self, places: Collection[ReplicaPlace], beside: str | None = None) -> None:
        """Check that there is room for the places, whatever the attempt has `beside` which they are."""
        used = [0] * self._node.accelerators
        for attempt in self._attempts():
            if attempt.order["attempt_id"] != beside and not attempt.observe().phase.is_over:
                for replica in attempt.replicas:
                    for device in replica["devices"]:
                        used[device] += replica["milli"]
        for place in places:
            if place.node != self._node.name:
                raise ProviderError(ErrorClass.NO_CAPACITY, f"node {place.node} is not known")
            for device in place.replica.devices:
                if not 0 <= device < len(used):
                    raise ProviderError(ErrorClass.NO_CAPACITY, f"node {place.node} has no device {device}")
                used[device] += place.milli
                if used[device] > WHOLE:
                    raise ProviderError(ErrorClass.NO_CAPACITY, f"device {device} of node {place.node} is taken")

    def _create(self, order: LaunchSpec) -> LocalAttempt:
        """Write the attempt's directory, which is there with its order or not at all."""
        directory = self._directory_of(order.attempt_id)
        draft = self._directory / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        local_runner.write(draft, ORDER, self._written(order, directory))
        local_runner.write(self._directory / "workloads", file_name(order.workload_id), {"epoch": order.epoch})
        draft.rename(directory)
        return LocalAttempt(directory)

    def _written(self, order: LaunchSpec, directory: Path) -> Order:
        inherited = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
        common = inherited | dict(order.environment) | _identity(order) | {DIRECTORY_VARIABLE: str(directory)}
        return Order(
            attempt_id=order.attempt_id,
            workload_id=order.workload_id,
            epoch=order.epoch,
            digest=order.digest,
            command=list(order.command),
            replicas=[_replica(place, common) for place in order.places],
            anchor=self._anchor(),
            leases=str(self._directory),
        )

    def _anchor(self) -> Anchor:
        return Anchor(
            pool=self._clock.now().timestamp(),
            wall=time.time(),
            steady=local_runner.steady_time(),
            boot=local_runner.boot_of_this_machine(),
            speed=1 / self._clock.wall_seconds(1),
        )

    def _status(self, attempts: Collection[str]) -> dict[str, Observation]:
        with self._alone():
            found = {attempt_id: self._find(attempt_id) for attempt_id in attempts}
            return {attempt_id: attempt.observe() for attempt_id, attempt in found.items() if attempt is not None}

    def _preempt(self, attempt_id: str, number: int, signal: str, wall_seconds: float) -> None:
        notice = Notice(signal=signal, wall_seconds=wall_seconds, at=self._clock.now().timestamp())
        with self._alone():
            attempt = self._find(attempt_id)
            if attempt is not None and number > attempt.last_notice:
                self._stop(attempt_id, local_runner.notice_file(number), notice)

    def _resize(self, order: LaunchSpec, number: int, wall_seconds: float) -> None:
        with self._alone():
            attempt = self._find(order.attempt_id)
            if attempt is None or attempt.observe().phase.is_over or number <= attempt.last_notice:
                return
            self._refuse_unless_free(order.places, beside=order.attempt_id)
            replicas = self._written(order, attempt.directory)["replicas"]
            told = Resize(signal=order.signal, wall_seconds=wall_seconds, at=self._clock.now().timestamp(), replicas=replicas)
            attempt.tell(local_runner.resize_file(number), told)

    def _force(self, attempt_id: str, number: int) -> None:
        """Stop those at once who leave by a notice for another size, if that is the last one."""
        with self._alone():
            attempt = self._find(attempt_id)
            if attempt is not None and number == attempt.last_notice:
                self._stop(attempt_id, local_runner.force_file(number), {"at": self._clock.now().timestamp()})

    def _keep(self, attempt_id: str, number: int) -> None:
        with self._alone():
            attempt = self._find(attempt_id)
            if attempt is not None and number >= attempt.last_notice:
                self._stop(attempt_id, local_runner.kept_file(number), {"at": self._clock.now().timestamp()})

    def _release(self, attempt_id: str) -> None:
        with self._alone():
            self._fence(attempt_id).touch()
            if self._find(attempt_id) is None:
                self._clear_away(self._directory_of(attempt_id))
            self._stop(attempt_id, KILL, {"at": self._clock.now().timestamp()})

    def _clear_away(self, directory: Path) -> None:
        """End what may run on of an attempt whose directory somebody has deleted, and leave nothing of that."""
        end_strays(directory)
        shutil.rmtree(directory, ignore_errors=True)
        self._seen.pop(directory.name, None)

    def _stop(self, attempt_id: str, how: str, told: Mapping[str, object]) -> None:
        attempt = self._find(attempt_id)
        if attempt is not None and not attempt.observe().phase.is_over:
            attempt.tell(how, told)
            attempt.observe()  # an attempt that no supervisor took in hand ends here

    def _forget(self, attempts: Collection[str]) -> None:
        forgotten = self._directory / "forgotten"
        with self._alone():
            forgotten.mkdir(exist_ok=True)  # a deletion cut short is finished by the next
            for attempt_id in attempts:
                attempt = self._find(attempt_id)
                if attempt is not None and attempt.is_over:
                    self._fence(attempt_id).touch()
                    self._seen.pop(attempt.directory.name, None)
                    attempt.directory.rename(forgotten / attempt.directory.name)
            shutil.rmtree(forgotten)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep out other threads and processes that decide about attempts here."""
        with (self._directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _attempts(self) -> list[LocalAttempt]:
        directories = (self._directory / "attempts").iterdir()
        return [self._attempt(directory.name) for directory in directories if is_attempt(directory)]

    def _find(self, attempt_id: str) -> LocalAttempt | None:
        directory = self._directory_of(attempt_id)
        return self._attempt(directory.name) if is_attempt(directory) else None

    def _attempt(self, name: str) -> LocalAttempt:
        if name not in self._seen:
            self._seen[name] = LocalAttempt(self._directory / "attempts" / name)
        return self._seen[name]

    def _directory_of(self, attempt_id: str) -> Path:
        return self._directory / "attempts" / file_name(attempt_id)

    def _fence(self, attempt_id: str) -> Path:
        return self._directory / "fences" / file_name(attempt_id)


def _identity(order: LaunchSpec) -> dict[str, str]:
    return {
        "CORRAL_WORKLOAD": order.workload_id,
        "CORRAL_ATTEMPT": order.attempt_id,
        "CORRAL_EPOCH": str(order.epoch),
    }


def _replica(place: ReplicaPlace, common: Mapping[str, str]) -> Replica:
    replica = place.replica
    devices = ",".join(map(str, replica.devices))
    own = {
        "CORRAL_GROUP": replica.group,
        "CORRAL_REPLICA": str(replica.index),
        "CORRAL_DEVICES": devices,
        "CUDA_VISIBLE_DEVICES": devices,
    }
    return Replica(
        group=replica.group,
        index=replica.index,
        devices=list(replica.devices),
        milli=place.milli,
        environment={**common, **own},
    )


def _check_signal(name: str) -> None:
    if name not in signals.Signals.__members__:
        raise ProviderError(ErrorClass.INVALID_SPEC, f"signal {name} is not known here; expected one such as SIGTERM")
