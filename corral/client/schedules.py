"""Operations that are ordered again and again, and the mandates that were signed for them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleDescription,
    ScheduleHandle,
    SchedulePolicy,
)
from temporalio.client import ScheduleSpec as TimesOfSchedule
from temporalio.service import RPCError, RPCStatusCode

from corral import wire
from corral.api import EvacuationOrder
from corral.client.connection import Connection
from corral.client.errors import ANSWER_WITHIN, Conflict, Invalid, NotFound, plain_errors
from corral.rollout import RolloutOrder
from corral.schedule import MandateStatus, Revocation, ScheduleSpec, ScheduleStatus

_NOT_TOLD = {"pool", wire.DIGEST_MEMO}


class Schedules(Connection):
    """Keeps schedules in Temporal, and mandates in the record."""

    async def schedule(self, spec: ScheduleSpec) -> list[ScheduleStatus]:
        """Let Temporal order an operation at each time of a schedule, unless the last one of it is still under way.

        Where commands are signed, whoever signs this has signed for all of its times until it ends. The same id with the same
        spec is the same schedule.

        Raises:
            Conflict: the id belongs to another schedule, or this one was revoked.
            Invalid: Temporal does not take its times, none of them ever comes, or its end is not one that can be signed.
            Forbidden: it is not signed by somebody who may order what it orders.
        """
        if spec.pool not in {None, self._pool}:
            raise Invalid(f"pool: {spec.pool!r} is not the pool of this connection; expected {self._pool!r}, or nothing")
        spec = spec.model_copy(update={"pool": self._pool})
        async with plain_errors():
            handle, is_new = await self._create_schedule(spec)
            try:
                if is_new:
                    _comes(spec, await handle.describe())
                await self._ask(wire.Inquiry.MANDATE, spec, list[MandateStatus])
            except BaseException:
                if is_new:
                    await handle.delete()
                raise
            known = await handle.describe()
            return [_scheduled(spec.id, await known.memo(), known)]

    async def _create_schedule(self, spec: ScheduleSpec) -> tuple[ScheduleHandle, bool]:
        """The schedule, and whether it was not there before."""
        action = ScheduleActionStartWorkflow(
            wire.RECURRING,
            spec,
            id=f"recurring/{spec.id}",
            task_queue=wire.pool_task_queue(self._pool),
            static_summary=f"{spec.subject}, {spec.cron} {spec.time_zone}"[:200],
            priority=wire.STEERS,
        )
        times = TimesOfSchedule(cron_expressions=[spec.cron], time_zone_name=spec.time_zone, end_at=spec.until)
        try:
            handle = await self._temporal.create_schedule(
                wire.schedule_id(spec.id),
                Schedule(action, times, SchedulePolicy(catchup_window=timedelta(seconds=spec.late_seconds))),
                memo=_facts(spec),
                rpc_timeout=ANSWER_WITHIN,
            )
        except ScheduleAlreadyRunningError:
            return await self._same_schedule(spec), False
        except RPCError as error:
            if error.status is RPCStatusCode.INVALID_ARGUMENT:
                field = "time_zone" if "time zone" in error.message.lower() else "cron"
                raise Invalid(f"{field}: {error.message}") from error
            raise
        return handle, True

    async def _same_schedule(self, spec: ScheduleSpec) -> ScheduleHandle:
        """The schedule of that id, if it is the same."""
        handle = self._temporal.get_schedule_handle(wire.schedule_id(spec.id))
        if await (await handle.describe()).memo_value(wire.DIGEST_MEMO, default=None) != spec.digest:
            raise Conflict(
                f"id: {spec.id!r} belongs to another schedule; give this one an id of its own, or remove the other first "
                f"(`corral schedule remove {spec.id}`)"
            )
        return handle

    async def schedules(self) -> list[ScheduleStatus]:
        """List the schedules of the pool. Temporal may take some seconds to list what is new."""
        prefix, found = wire.schedule_id(""), []
        async with plain_errors():
            async for each in await self._temporal.list_schedules():
                facts = await each.memo()
                if each.id.startswith(prefix) and facts.get("pool") == self._pool:
                    found.append(await self._look_at(each.id.removeprefix(prefix), facts))
        return sorted((status for status in found if status), key=lambda status: status.id)

    async def _look_at(self, id: str, facts: Mapping[str, str]) -> ScheduleStatus | None:
        """How one stands that was listed; none of one that has been removed since."""
        try:
            return _scheduled(id, facts, await self._temporal.get_schedule_handle(wire.schedule_id(id)).describe())
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise

    async def unschedule(self, id: str) -> list[ScheduleStatus]:
        """Remove a schedule, and revoke what was signed for it; what it has ordered goes on. Answers with it as it was.

        Raises:
            NotFound: there is no such schedule.
            Forbidden: it is not signed by somebody who may revoke.
        """
        handle = self._temporal.get_schedule_handle(wire.schedule_id(id))
        async with plain_errors(missing=f"there is no schedule {id!r}; `corral schedule list` lists them"):
            known = await handle.describe()
            await self.revoke(Revocation(schedule=id, reason="its schedule was removed"))
            await handle.delete()
            return [_scheduled(id, await known.memo(), known)]

    async def order_now(self, id: str, *, who: str, reason: str = "") -> EvacuationOrder | RolloutOrder:
        """What a schedule orders, to be ordered out of turn (`evacuate`, `roll_out`) by whoever signs that; nothing is changed.

        Whoever signs gets it only as long as it is what was signed for the schedule and not revoked.

        Raises:
            NotFound: there is no such schedule.
            Conflict: what Temporal has as that schedule is not what was signed, or is revoked.
        """
        missing = f"there is no schedule {id!r}; `corral schedule list` lists them"
        async with plain_errors(missing=missing):
            action = (await self._temporal.get_schedule_handle(wire.schedule_id(id)).describe()).schedule.action
            assert isinstance(action, ScheduleActionStartWorkflow), "schedules start workflows"
            spec: ScheduleSpec = (await self._temporal.data_converter.decode(action.args, [ScheduleSpec]))[0]
        if spec.pool != self._pool or spec.id != id:
            raise NotFound(missing)
        if self._signs and not any(each.id == spec.mandate and not each.revoked_at for each in await self.mandates(1_000)):
            raise Conflict(
                f"{id}: no mandate that is in force says what Temporal has as this schedule; see `corral schedule mandates`, "
                f"or remove the schedule and create it again"
            )
        return spec.order_now(datetime.now(UTC), who=who, reason=reason)

    async def mandates(self, limit: int = 100) -> list[MandateStatus]:
        """List what was signed for schedules, the newest first."""
        return await self._ask(wire.Inquiry.MANDATES, limit, list[MandateStatus])

    async def revoke(self, order: Revocation) -> list[MandateStatus]:
        """Take back a mandate, or those of a schedule: nothing is ordered by it from now on; what it has ordered goes on.

        Raises:
            NotFound: there is no such mandate.
            Forbidden: it is not signed by somebody who may revoke.
        """
        return await self._ask(wire.Inquiry.REVOKE_MANDATE, order, list[MandateStatus])


def _facts(spec: ScheduleSpec) -> Mapping[str, str]:
    """What Temporal shall tell of a schedule."""
    told = spec.model_dump(mode="json", include={"cron", "time_zone", "who", "reason", "until", "pool"}, exclude_none=True)
    mandate = {"mandate": spec.mandate} if spec.until else {}
    return {**told, "subject": spec.subject, wire.DIGEST_MEMO: spec.digest, **mandate}


def _comes(spec: ScheduleSpec, known: ScheduleDescription) -> None:
    """Refuse a schedule that Temporal finds no time for."""
    if not known.info.next_action_times:
        end = f" before {spec.until.isoformat(timespec='seconds')}, its end" if spec.until else ""
        raise Invalid(
            f"cron: no time of {spec.cron!r} ever comes in {spec.time_zone}{end}; expected days that there are, such as"
            " '0 20 28 2 *' (20:00 on 28 February), and an end that is later"
        )


def _scheduled(id: str, facts: Mapping[str, str], known: ScheduleDescription) -> ScheduleStatus:
    info = known.info
    return ScheduleStatus.model_validate(
        {
            **{name: value for name, value in facts.items() if name not in _NOT_TOLD},
            "id": id,
            "next_at": next(iter(info.next_action_times), None),
            "last_at": info.recent_actions[-1].started_at if info.recent_actions else None,
            "ordered": info.num_actions,
            "left_out": info.num_actions_skipped_overlap,
            "missed": info.num_actions_missed_catchup_window,
        }
    )
