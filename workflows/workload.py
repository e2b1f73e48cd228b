"""The life of one workload: admit, wait, bind, run, stop, release."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Container
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from pydantic import ValidationError

    from activities.adjusting import Adjusting
    from activities.admission import Admission
    from activities.answers import Adjusted, Adjustment, AdmissionOrder, AttemptKey, Standing
    from activities.placement import Placement
    from corral import wire
    from corral.api import (
        Acknowledgement,
        Cancel,
        Checkpointed,
        Demand,
        Explanation,
        ExtendRuntime,
        Hold,
        Moment,
        Release,
        Reprioritize,
        Resize,
        Retarget,
        State,
        Told,
        ToldDemand,
        WakeUp,
        WorkloadResult,
        WorkloadSpec,
        WorkloadStatus,
    )
    from domain.pool.lifecycle import AT_ONCE, ON_ITS_WAY_OUT, objection
    from workflows.beginnings import begun_by_anybody
    from workflows.contracts import HandOver, Signal
    from workflows.messages import message
    from workflows.policies import HEARTBEAT, ONE_CALL, UNTIL_IT_WORKS, knows_all, quick

LOOK_AGAIN = timedelta(minutes=10)
"""A workload that waits looks at the record that often, in case a signal was lost."""

MOST_MOMENTS = 20
"""So many changes of state a workflow remembers by itself."""

LEAVES_WHEN_LONG = "leaves-when-long"
"""A run that is long enough ends when it has answered, even where what it was asked has changed nothing."""

BEGINS_ANEW = "begins-anew"
"""Work that the record does not know any more, for that was restored from an older backup, is admitted once more."""

RUNS = frozenset({State.STARTING, State.RUNNING, State.RESIZING})
ON_ITS_WAY = frozenset({State.RESERVED, State.STARTING, State.RUNNING})


@workflow.defn(name=wire.LIFECYCLE)
@begun_by_anybody
class WorkloadLifecycle:
    """Does what the record says comes next, until the workload has ended. The newest standing decides."""

    @workflow.init
    def __init__(self, spec: Any = None, hand_over: HandOver | None = None) -> None:
        """Take the spec as it came: admission checks it, so that a bad one is an answer rather than a failed task."""
        self._spec = spec
        self._workload = workflow.info().workflow_id.removeprefix(wire.workload_workflow_id(""))
        self._standing = hand_over.standing if hand_over else None
        self._noticed = (hand_over.noticed_epoch, hand_over.noticed, hand_over.urged) if hand_over else (0, 0, False)
        self._kept = (hand_over.noticed_epoch, hand_over.kept) if hand_over else (0, 0)
        self._since = hand_over.since if hand_over and hand_over.since else workflow.now()
        self._history: deque[Moment] = deque(hand_over.history if hand_over else (), MOST_MOMENTS)
        self._why_cancelled = hand_over.why_cancelled if hand_over else ""
        self._wakes: WakeUp | None = None
        self._is_woken = False
        self._is_long = False
        self._shown: State | None = None
        self._admission: asyncio.Task[Standing] | None = None

    @workflow.run
    async def run(self, spec: Any = None, hand_over: HandOver | None = None) -> WorkloadResult:
        """Drive the workload to its end; cancelled, give back everything that it has first."""
        try:
            if self._standing is None:
                self._admission = asyncio.create_task(self._admit())
                self._learn(await asyncio.shield(self._admission))
            await self._drive()
        except BaseException as error:
            if not is_cancelled_exception(error):
                raise
            await asyncio.shield(asyncio.create_task(self._wind_down()))
            raise
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._result()

    async def _drive(self) -> None:
        while not self._now.state.is_terminal:
            if self._is_long:
                await self._go_on_in_a_new_run()
            noticed, kept = self._noticed, self._kept
            match self._now.state:
                case State.RESERVED:
                    is_done = await self._at_provider(Placement.bind, f"bind {self._now.place}", ON_ITS_WAY)
                case State.RESIZING | State.STOPPING if self._noticed < (*self._notice, self._now.leave in AT_ONCE):
                    self._noticed = (*self._notice, self._now.leave in AT_ONCE)
                    verb = "stop" if self._now.state is State.STOPPING else "resize"
                    is_done = await self._at_provider(Placement.stop, f"{verb} {self._now.place}", ON_ITS_WAY_OUT)
                case State.STARTING | State.RUNNING if self._now.notice and self._kept < self._notice:
                    self._kept = self._notice
                    is_done = await self._at_provider(Placement.keep, f"keep {self._now.place}", ON_ITS_WAY)
                case _:
                    self._show()
                    is_done = await self._news()
            if not is_done:
                self._noticed, self._kept = noticed, kept  # the next run makes the call
        self._show()

    async def _admit(self) -> Standing:
        order = AdmissionOrder(self._workload, self._spec, workflow.info().workflow_id)
        return await quick(Admission.admit, [order], "admit")

    async def _at_provider(self, step: Callable[..., Awaitable[Standing]], summary: str, meant_for: Container[State]) -> bool:
        """Make a call to a provider; give it up when the attempt is meant to be in another state by now.

        A provider that is gone would otherwise keep a workload that was cancelled, or that has capacity elsewhere. Answers
        whether nothing of it is left to do: where this run is long enough, the next one makes the call.
        """
        provider, epoch = self._now.provider, self._now.epoch
        assert provider is not None, "a workload with capacity has a provider"
        call = workflow.start_activity_method(
            step,
            args=[AttemptKey(self._workload, epoch)],
            task_queue=wire.provider_task_queue(provider),
            start_to_close_timeout=ONE_CALL,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=UNTIL_IT_WORKS,
            summary=summary,
        )
        try:
            await workflow.wait_condition(
                lambda: call.done() or self._now.epoch != epoch or self._now.state not in meant_for or self._is_long
            )
        except asyncio.CancelledError:
            await _give_up(call)
            raise
        if call.done():
            await self._learn_from(call)
            return True
        is_over = self._now.epoch != epoch or self._now.state not in meant_for
        await _give_up(call)
        return is_over

    async def _news(self) -> bool:
        """Wait until the workload stands differently; where its time is limited, until that is over."""
        if workflow.info().is_continue_as_new_suggested():
            await self._go_on_in_a_new_run()
        known = self._now
        runs, looks = known.state in RUNS, known.state not in {State.STARTING, State.RUNNING}
        limits = [known.runtime_left if runs else None, LOOK_AGAIN.total_seconds() if looks else None]
        limit = min((seconds for seconds in limits if seconds is not None), default=None)
        self._wakes = _wake_up(limit, runs=not looks)
        try:
            await workflow.wait_condition(
                lambda: self._now.version > known.version or self._is_long or self._is_woken,
                timeout=None if limit is None else timedelta(seconds=limit),
            )
        except TimeoutError:
            await (self._expire() if runs else self._look())
        finally:
            self._wakes = None
        if self._is_woken:
            self._is_woken = False
            await self._look()
        return True

    async def _go_on_in_a_new_run(self) -> None:
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(args=[self._spec, self._hand_over()])

    async def _expire(self) -> None:
        await self._look()
        left = self._now.runtime_left
        if left is not None and left < 1:
            await self._adjust_unless_over("expire", Adjustment(self._workload, key=f"epoch-{self._now.epoch}"))

    async def _look(self) -> bool:
        """Learn how the workload stands; answers whether the record knows it."""
        standing = await quick(Adjusting.standing, [self._workload], "look again")
        if standing is not None:
            self._learn(standing)
        elif workflow.patched(BEGINS_ANEW):
            await self._begin_anew()
        return standing is not None

    async def _learn_from(self, call: Awaitable[Standing]) -> None:
        try:
            self._learn(await call)
        except ActivityError as error:
            if not _is_not_found(error) or not workflow.patched(BEGINS_ANEW):
                raise
            if await self._look():
                raise  # it is something else that is not there

    async def _begin_anew(self) -> None:
        standing = await self._admit()
        self._standing, self._noticed, self._kept = None, (0, 0, False), (0, 0)
        self._learn(standing)

    async def _wind_down(self) -> None:
        """Cancel the workload, whatever step it is in, see it gone, and answer whoever has asked for something else."""
        if self._admission is not None:
            self._learn(await self._admission)
        if not self._now.state.is_terminal:
            asked = Adjustment(self._workload, key="workflow-cancelled", reason="its workflow was cancelled")
            await self._adjust_unless_over("cancel", asked)
        await self._drive()
        await workflow.wait_condition(workflow.all_handlers_finished)

    @property
    def _now(self) -> Standing:
        assert self._standing is not None, "nothing is asked of a workload before it has been admitted"
        return self._standing

    @property
    def _notice(self) -> tuple[int, int]:
        """The last notice to leave: its attempt by its epoch, and its number."""
        return self._now.epoch, self._now.notice

    def _hand_over(self) -> HandOver:
        epoch, noticed, urged = self._noticed
        kept = self._kept[1] if self._kept[0] == epoch else 0
        return HandOver(self._now, epoch, noticed, urged, kept, self._since, tuple(self._history), self._why_cancelled)

    def _learn(self, standing: Standing) -> None:
        if self._standing is None or standing.version >= self._standing.version:
            if self._standing is None or standing.state is not self._standing.state:
                self._since = workflow.now()
                self._history.append(Moment(at=self._since, state=standing.state, message=standing.message or standing.place))
            self._standing = standing

    def _show(self) -> None:
        """Let operators see state, place and reason in the Temporal UI; attributes only when the state has changed."""
        now = self._now
        workflow.set_current_details(_details(now))
        if now.state is self._shown:
            return
        self._shown = now.state
        updates: list[SearchAttributeUpdate[Any]] = [wire.STATE.value_set(now.state)]
        if now.region and now.sku:
            updates += [wire.REGION.value_set(now.region), wire.SKU.value_set(now.sku)]
        workflow.upsert_search_attributes(updates)

    def _result(self) -> WorkloadResult:
        state, message = self._now.state, self._now.message
        if state is State.CANCELLED:
            message = f"cancelled: {self._why_cancelled}" if self._why_cancelled else "cancelled"
        return WorkloadResult(id=self._workload, state=state, exit_code=self._now.exit_code, message=message)

    def _measure(self) -> None:
        """Take note when this run is long enough: what it waits for may be long in coming, and it is asked things meanwhile."""
        is_suggested = not self._is_long and workflow.info().is_continue_as_new_suggested()
        self._is_long = self._is_long or (is_suggested and workflow.patched(LEAVES_WHEN_LONG))

    # Signals

    @message(Signal.STANDING)
    def stands(self, standing: Standing) -> None:
        """The record says that this is so; an older or repeated saying changes nothing."""
        self._learn(standing)
        self._measure()

    @message(wire.Telling.WAKE)
    def wake(self) -> None:
        """Look at the record at once, in case it says something that nobody has told."""
        self._is_woken = True
        self._measure()

    @message(wire.Telling.DEMAND)
    async def told_demand(self, told: ToldDemand) -> None:
        """Let the wanted size follow demand; nobody waits for an answer."""
        await self._told("demand", told, demand=told.demand.value, at=told.demand.at)

    @message(wire.Telling.CHECKPOINTED)
    async def told_checkpointed(self, told: Told) -> None:
        """Take note that the work is saved; nobody waits for an answer."""
        await self._told("checkpointed", told)

    async def _told(self, verb: str, told: Told, **asked: Any) -> None:
        """Do a change if it can be done: whoever does not wait for an answer hears of no objection either."""
        await workflow.wait_condition(lambda: self._standing is not None)
        if objection(verb, self._workload, self._now.state) is None:
            try:
                await self._adjust(verb, Adjustment(self._workload, key=told.key, **asked))
            except (ApplicationError, ActivityError) as error:
                workflow.logger.info("%s was told in vain: %s", verb, error)
        self._measure()

    # Updates

    @workflow.update(name=wire.Update.CANCEL)
    async def cancel(self, change: Cancel) -> Acknowledgement:
        """End the workload, whatever it is doing."""
        done = await self._change("cancel", reason=change.reason)
        self._why_cancelled = self._why_cancelled or change.reason
        return done

    @workflow.update(name=wire.Update.HOLD)
    async def hold(self, change: Hold) -> Acknowledgement:
        """Take the workload out of the line until it is released."""
        return await self._change("hold", reason=change.reason)

    @workflow.update(name=wire.Update.RELEASE)
    async def release(self, change: Release) -> Acknowledgement:
        """Put a held workload back in line."""
        return await self._change("release")

    @workflow.update(name=wire.Update.RESIZE)
    async def resize(self, change: Resize) -> Acknowledgement:
        """Change the size of a workload that has not been started, or of an endpoint."""
        return await self._change("resize", group=change.group, count=change.count, minimum=change.minimum)

    @workflow.update(name=wire.Update.DEMAND)
    async def demand(self, change: Demand) -> Acknowledgement:
        """Let the wanted size follow demand."""
        return await self._change("demand", demand=change.value, at=change.at, requests=change.requests, bad=change.bad)

    @workflow.update(name=wire.Update.CHECKPOINTED)
    async def checkpointed(self, change: Checkpointed) -> Acknowledgement:
        """Take note that the work is saved; what has notice to leave is stopped without waiting for the end of its grace."""
        return await self._change("checkpointed")

    @workflow.update(name=wire.Update.REPRIORITIZE)
    async def reprioritize(self, change: Reprioritize) -> Acknowledgement:
        """Change the workload's order inside its tier and queue."""
        return await self._change("reprioritize", priority=change.priority)

    @workflow.update(name=wire.Update.RETARGET)
    async def retarget(self, change: Retarget) -> Acknowledgement:
        """Accept other targets from now on."""
        return await self._change("retarget", targets=change.targets, move=change.move)

    @workflow.update(name=wire.Update.EXTEND)
    async def extend(self, change: ExtendRuntime) -> Acknowledgement:
        """Let it run longer in all."""
        return await self._change("extend", seconds=change.seconds)

    @cancel.validator
    def _may_cancel(self, change: Cancel) -> None:
        self._require("cancel")

    @hold.validator
    def _may_hold(self, change: Hold) -> None:
        self._require("hold")

    @release.validator
    def _may_release(self, change: Release) -> None:
        self._require("release")

    @resize.validator
    def _may_resize(self, change: Resize) -> None:
        self._require("resize")

    @demand.validator
    def _may_be_told_demand(self, change: Demand) -> None:
        self._require("demand")

    @checkpointed.validator
    def _may_be_checkpointed(self, change: Checkpointed) -> None:
        self._require("checkpointed")

    @reprioritize.validator
    def _may_reprioritize(self, change: Reprioritize) -> None:
        self._require("reprioritize")

    @retarget.validator
    def _may_retarget(self, change: Retarget) -> None:
        self._require("retarget")

    @extend.validator
    def _may_extend(self, change: ExtendRuntime) -> None:
        self._require("extend")

    def _require(self, verb: str) -> None:
        if not knows_all():
            return  # the record refuses it, unless it has done it before
        state = self._standing.state if self._standing else State.SUBMITTED
        if problem := objection(verb, self._workload, state):
            raise ApplicationError(problem, type=wire.Failure.NOT_ALLOWED, non_retryable=True)

    async def _change(self, verb: str, **asked: Any) -> Acknowledgement:
        await workflow.wait_condition(lambda: self._standing is not None)
        self._require(verb)  # what admission refused is not in the record
        update = workflow.current_update_info()
        assert update is not None, "changes are asked for by updates"
        try:
            adjusted = await self._adjust(verb, Adjustment(self._workload, key=update.id, **asked))
        except Exception:  # not `finally`: what a stopped worker leaves is closed outside of its workflow
            self._measure()
            raise
        self._measure()
        return Acknowledgement(state=adjusted.standing.state, message=adjusted.message)

    async def _adjust(self, verb: str, asked: Adjustment) -> Adjusted:
        try:
            adjusted = await quick(Adjusting.apply, [verb, asked], verb)
        except ActivityError as error:
            # The record's answer, such as "not in this state", is the answer to whoever asked.
            raise error.cause if isinstance(error.cause, ApplicationError) else error from None
        self._learn(adjusted.standing)
        return adjusted

    async def _adjust_unless_over(self, verb: str, asked: Adjustment) -> None:
        """Do a change that nobody needs when what it is about has come to its end meanwhile."""
        try:
            await self._adjust(verb, asked)
        except ApplicationError as error:
            if error.type != wire.Failure.NOT_ALLOWED:
                raise
            await self._look()

    # Queries

    @workflow.query(name=wire.Query.STATUS)
    def status(self) -> WorkloadStatus:
        """The last known status, from the workflow alone; of a spec that cannot be read, little is known."""
        try:
            spec = WorkloadSpec.model_validate(self._spec)
        except ValidationError:
            spec = WorkloadSpec.model_construct(id=self._workload, queue="")
        now = self._standing
        return WorkloadStatus(
            id=self._workload,
            queue=spec.queue,
            tier=spec.tier,
            priority=spec.priority,
            state=now.state if now else State.SUBMITTED,
            epoch=now.epoch if now else 0,
            submitted_at=workflow.info().workflow_start_time,
            since=self._since,
            explanation=self.explanation(),
            outcome=now.outcome if now else None,
            exit_code=now.exit_code if now else None,
        )

    @workflow.query(name=wire.Query.EXPLANATION)
    def explanation(self) -> Explanation | None:
        """Why the workload waits or was refused, as last told."""
        now = self._standing
        if now is None or now.reason is None:
            return None
        return Explanation(reason=now.reason, message=now.message, fixes=now.fixes, fix_search=now.fix_search)

    @workflow.query(name=wire.Query.HISTORY)
    def history(self) -> list[Moment]:
        """The last changes of state, oldest first."""
        return list(self._history)

    @workflow.query(name=wire.Query.NEXT_WAKE_UP)
    def next_wake_up(self) -> WakeUp | None:
        """When the workflow next does something by itself; none where it waits for others alone."""
        return self._wakes


async def _give_up(call: "asyncio.Task[Standing]") -> None:
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


def _is_not_found(error: ActivityError) -> bool:
    return isinstance(error.cause, ApplicationError) and error.cause.type == wire.Failure.NOT_FOUND


def _wake_up(seconds: float | None, *, runs: bool) -> WakeUp | None:
    if seconds is None:
        return None
    why = "its maximum runtime may be over" if runs else "looks at the record, in case a signal was lost"
    return WakeUp(at=workflow.now() + timedelta(seconds=seconds), why=why)


def _details(now: Standing) -> str:
    """State, place and reason as Markdown."""
    lines = [f"**{now.state}**" + (f" on {now.place}" if now.place else "")]
    lines += [f"on its way out: {now.leave}"] if now.leave else []
    lines += [f"goes on with {now.next_place}"] if now.next_place else []
    lines += [f"{now.reason}: {now.message}"] if now.reason else []
    lines += ["would start it:\n" + "\n".join(f"- {fix.message}" for fix in now.fixes)] if now.fixes else []
    lines += [f"attempt {now.epoch}"] if now.epoch else []
    return "\n\n".join(lines)
