"""Commands are done for whoever signed them and may give them; what is forged, changed, old or used is refused."""

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.testing import WorkflowEnvironment

from activities.answers import Adjustment, AdmissionOrder, ReservationChange, ReservationOrder
from corral import wire
from corral.api import (
    Cancel,
    Catalogue,
    Checkpointed,
    Cordon,
    Dataset,
    Demand,
    EvacuationOrder,
    ExtendRuntime,
    Hold,
    LostCluster,
    Model,
    OperationChange,
    PlaceKind,
    QueueSpec,
    QueueTree,
    Release,
    Reprioritize,
    Resize,
    Retarget,
    State,
    Target,
)
from corral.cli.problems import InvalidInput
from corral.client import Corral, Forbidden
from corral.policy import Policy, PolicyOrder
from corral.reservation import Extend, ReservationSpec
from corral.rollout import Change, RolloutOrder
from corral.schedule import RecurringEvacuation, Revocation, ScheduleSpec
from corral.signing import HEADER, BadClaim, Command, Signer, begun, due, mandated, new_keys, read_claim, updated, verify
from corral.wire import Steering
from domain.operations.mandates import Mandate, Occasion
from domain.operations.roles import NEEDS
from tests.activities.store.pool import a_spec
from tests.workflows.scenarios import until_shown
from tests.workflows.stage import Stage, a_record, open_stage
from worker.clock import this_machines_wall
from worker.guarding import CHANGES, Guard, Guarded, asked_of
from worker.principals import Principals, PrincipalsFile
from workflows.steering import BY_ITSELF, CANCELLED

NOW = 1_800_000_000.0
HOUR = 3_600
ADA, BEN, EVE, OPS = (new_keys() for _ in range(4))
FILE = f"""principals:
  - {{name: ada, key: "{ADA[1]}", grants: [{{role: submit, queues: [research]}}]}}
  - {{name: ben, key: "{BEN[1]}", grants: [{{role: own, queues: [research]}}]}}
  - {{name: ops, key: "{OPS[1]}", grants: [{{role: operate}}]}}
"""
CANCEL = Command("cancel", "workload/w1", "r1", updated("cancel", "workload/w1", "r1", Cancel()).content)  # type: ignore[union-attr]


@dataclass
class Orders:
    """The record, as far as a guard knows it."""

    queue: str = "research"
    submitter: str | None = "ada"
    given: dict[tuple[str, Command], str] = field(default_factory=dict)
    occasions: list[Occasion] = field(default_factory=list)
    mandates: dict[str, Mandate] = field(default_factory=dict)

    async def lines(self, queues: Sequence[str]) -> list[list[str]]:
        return [[queue] for queue in queues]

    async def whereabouts(self, subject: str) -> tuple[Sequence[str], str | None]:
        return (self.queue,), self.submitter

    async def ordered(self, principal: str, command: Command, run: str, occasion: Occasion | None = None) -> str:
        if occasion is not None:
            self.occasions.append(occasion)
        return self.given.setdefault((principal, command), run)

    async def is_ordered(self, principal: str | None, command: Command) -> bool:
        return any(command == known and principal in {None, who} for who, known in self.given)

    async def mandate_of(self, id: str) -> Mandate | None:
        return self.mandates.get(id)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "principals.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def orders() -> Orders:
    return Orders()


@pytest.fixture
def guard(file: Path, orders: Orders) -> Guard:
    return Guard(PrincipalsFile(file).now, orders, HOUR, lambda: datetime.fromtimestamp(NOW, UTC))


def signed(who: str, key: tuple[str, str], command: Command = CANCEL, *, at: float = NOW) -> Payload:
    return Signer(who, key[0], lambda: at).sign(command)


async def told(guard: Guard, command: Command, header: Payload | None, run: str = "run-1") -> str:
    return await guard.objection(command, header, None, run) or ""


async def test_who_may_and_signs_is_obeyed_and_written_down(guard: Guard, orders: Orders) -> None:
    assert await told(guard, CANCEL, signed("ada", ADA)) == ""
    assert orders.given == {("ada", CANCEL): "run-1"}


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (None, "it is not signed; connect with a principal and its key"),
        (Payload(data=b"{}"), "its claim cannot be read"),
        (signed("eve", EVE), "there is no principal 'eve'"),
        (signed("ada", EVE), "its claim is not signed by the key of 'ada'"),
        (signed("ada", ADA, replace(CANCEL, subject="workload/w2")), "what is asked is not what was signed"),
        (signed("ada", ADA, replace(CANCEL, name="hold")), "what is asked is not what was signed"),
        (signed("ada", ADA, replace(CANCEL, request="r2")), "what is asked is not what was signed"),
        (signed("ada", ADA, replace(CANCEL, content="other")), "what is asked is not what was signed"),
        (signed("ada", ADA, at=NOW - HOUR - 1), "it was signed 3601 s ago, and counts for 3600 s; ask again"),
        (signed("ada", ADA, at=NOW + 90), "it was signed 90 s from now; set the clock of whoever signs"),
    ],
)
async def test_what_proves_nothing_is_refused_and_not_written_down(
    guard: Guard, orders: Orders, header: Payload | None, problem: str
) -> None:
    answer = await told(guard, CANCEL, header)
    assert answer.startswith("cancel: nobody does this to workload/w1 unasked: ")
    assert problem in answer
    assert orders.given == {}


@pytest.mark.parametrize("part", ["principal", "at", "signature"])
def test_no_part_of_a_claim_can_be_changed(part: str) -> None:
    claim = read_claim(signed("ada", ADA))
    verify(claim, ADA[1])
    other: Any = {"principal": "ben", "at": claim.at + 1, "signature": claim.signature[:-4] + "AAA="}[part]
    with pytest.raises(BadClaim):
        verify(replace(claim, **{part: other}), ADA[1])


async def test_what_was_begun_in_time_is_carried_on_however_late(guard: Guard, orders: Orders) -> None:
    orders.given["ada", CANCEL] = "run-1"
    assert await told(guard, CANCEL, signed("ada", ADA, at=NOW - 10 * HOUR)) == ""


async def test_repeating_a_change_is_harmless_and_repeating_an_order_in_another_run_is_refused(guard: Guard) -> None:
    assert await told(guard, CANCEL, signed("ada", ADA), "run-1") == ""
    assert await told(guard, CANCEL, signed("ada", ADA), "run-2") == "", "the record does it once"
    cordon, queues = Command("cordon", "provider/aws", "r1", "x"), Command("apply-queues", "pool", "r1", "x")
    for run in ("run-1", "run-2"):
        assert await told(guard, cordon, signed("ops", OPS, cordon), run) == "", "the record does it once"
    for _ in range(2):
        assert await told(guard, queues, signed("ops", OPS, queues), "run-1") == "", "an activity that is tried again"
    assert "this request was done before" in await told(guard, queues, signed("ops", OPS, queues), "run-2")


async def test_an_order_to_an_operation_is_of_its_request_and_repeating_that_is_harmless(guard: Guard) -> None:
    command, other = (asked_of("rolling_out.steer", ["o1", Steering.ABORT, BECAUSE, key], None, "k") for key in ("k", "other"))
    assert command is not None
    assert other is not None
    header = signed("ops", OPS, command)
    assert await told(guard, command, header, "run-1") == ""
    assert await told(guard, command, header, "run-2") == "", "the record does it once"
    assert "what is asked is not what was signed" in await told(guard, other, header)


async def test_measures_are_checked_and_not_written_down(guard: Guard, orders: Orders) -> None:
    demand = Command("demand", "workload/w1", "r1", "x")
    assert await told(guard, demand, signed("ada", ADA, demand)) == ""
    assert orders.given == {}
    orders.submitter = "somebody"
    assert "needs the role 'own'" in await told(guard, demand, signed("ada", ADA, demand))


def rewrite(file: Path, text: str) -> None:
    """Change the file, at a time of its own."""
    before = file.stat().st_mtime_ns
    file.write_text(text)
    os.utime(file, ns=(before + 1_000_000, before + 1_000_000))


async def test_who_is_taken_out_of_the_file_is_obeyed_no_more(guard: Guard, file: Path) -> None:
    assert await told(guard, CANCEL, signed("ada", ADA)) == ""
    rewrite(file, "\n".join(line for line in FILE.splitlines() if "ada" not in line))
    assert "there is no principal 'ada'" in await told(guard, CANCEL, signed("ada", ADA))


async def test_a_worker_may_begin_again_what_was_ordered_before(guard: Guard, orders: Orders) -> None:
    reserve = Command("reserve", "reservation/r1", "digest", "x")
    assert "it is not signed" in await told(guard, reserve, None)
    orders.given["ops", reserve] = "run-1"
    assert await told(guard, reserve, None, "run-2") == ""


# Both sides mean the same


SPEC = a_spec("w1", targets=(Target(skus=("h100",)),))
RESERVATION = ReservationSpec(
    id="r1", start=datetime(2030, 1, 1, tzinfo=UTC), seconds=60, accelerators=8, sku="h100", queues=("research",)
)
EVACUATION = EvacuationOrder(id="e1", kind=PlaceKind.REGION, place="aws/eu", reason="storm", who="ada")
ROLLOUT = RolloutOrder(id="o1", change=Change(policy=Policy(name="night")), reason="night", who="ada")
NODES = Cordon(action="drain", nodes=("n1",), reason="firmware")
BECAUSE = OperationChange(who="ada", reason="night")
HOURLY = ScheduleSpec(
    id="hourly",
    cron="0 * * * *",
    reason="patches",
    who="ops",
    until=datetime(2027, 2, 1, tzinfo=UTC),
    pool="main",
    evacuate=RecurringEvacuation(kind=PlaceKind.REGION, place="aws/eu"),
)
LAST_HOUR = datetime.fromtimestamp(NOW, UTC).replace(minute=0, second=0)
DOCUMENTS: dict[str, Model] = {
    wire.Inquiry.MANDATE: HOURLY,
    wire.Inquiry.REVOKE_MANDATE: Revocation(mandate="hourly-1", reason="ben has left"),
    wire.Inquiry.APPLY_QUEUES: QueueTree(queues=(QueueSpec(name="research"),)),
    wire.Inquiry.APPLY_DATASETS: Catalogue(datasets=(Dataset(name="corpus", size_gib=1, regions=()),)),
    wire.Inquiry.APPLY_POLICY: PolicyOrder(policy=Policy(name="ours"), who="ada", why="x"),
    wire.Inquiry.DECLARE_LOST: LostCluster(cluster="aws/eu/eu-1", reason="burnt down", who="ada"),
}
ASKED: dict[str, tuple[Model, dict[str, Any]]] = {
    "cancel": (Cancel(reason="typo"), {"reason": "typo"}),
    "hold": (Hold(), {}),
    "release": (Release(), {}),
    "resize": (Resize(count=4, minimum=2), {"count": 4, "minimum": 2}),
    "demand": (Demand(value=0), {"demand": 0.0}),
    "reprioritize": (Reprioritize(priority=0), {"priority": 0}),
    "retarget": (Retarget(targets=(Target(count=2),), move=True), {"targets": (Target(count=2),), "move": True}),
    "extend": (ExtendRuntime(seconds=60), {"seconds": 60}),
    "checkpointed": (Checkpointed(), {}),
}
SAME: list[tuple[str, Sequence[Any], Command | None]] = [
    (
        "admission.admit",
        [AdmissionOrder("w1", SPEC.model_dump(mode="json"))],
        begun(wire.LIFECYCLE, "workload/w1", SPEC.digest),
    ),
    (
        "reserving.reserve",
        [ReservationOrder("r1", RESERVATION.model_dump(mode="json"))],
        begun(wire.RESERVATION, "reservation/r1", RESERVATION.digest),
    ),
    (
        "reserving.extend",
        [ReservationChange("r1", "k", seconds=60)],
        updated("extend", "reservation/r1", "k", Extend(seconds=60)),
    ),
    (
        "reserving.cancel",
        [ReservationChange("r1", "k", reason="x")],
        updated("cancel", "reservation/r1", "k", Cancel(reason="x")),
    ),
    ("inventory.cordon", ["aws", NODES], updated("cordon", "provider/aws", "k", NODES)),
    ("inventory.cordon", ["aws", NODES, "k"], updated("cordon", "provider/aws", "k", NODES)),
    ("evacuating.keep_moving", [EVACUATION, 0, 1.0], begun(wire.EVACUATION, "evacuation/e1", EVACUATION.digest)),
    ("evacuating.steer", ["e1", Steering.PAUSE, BECAUSE, "k"], updated("pause", "evacuation/e1", "k", BECAUSE)),
    ("evacuating.steer", ["e1", Steering.ABORT, BECAUSE, "k", EVACUATION], updated("abort", "evacuation/e1", "k", BECAUSE)),
    ("rolling_out.begin", [ROLLOUT], begun(wire.ROLLOUT, "rollout/o1", ROLLOUT.digest)),
    ("rolling_out.steer", ["o1", Steering.APPROVE, BECAUSE, "k"], updated("approve", "rollout/o1", "k", BECAUSE)),
    ("rolling_out.steer", ["o1", Steering.ABORT, BECAUSE, "k"], updated("abort", "rollout/o1", "k", BECAUSE)),
    ("rolling_out.steer", ["o1", Steering.APPROVE, CANCELLED, "k"], updated("approve", "rollout/o1", "k", CANCELLED)),
    *(
        ("adjusting.apply", [verb, Adjustment("w1", "k", **fields)], updated(verb, "workload/w1", "k", change))
        for verb, (change, fields) in ASKED.items()
    ),
]


@pytest.mark.parametrize(("kind", "args", "command"), SAME, ids=lambda value: str(value)[:40])
def test_what_a_client_signs_is_what_the_worker_is_asked(kind: str, args: Sequence[Any], command: Command | None) -> None:
    assert command is not None
    assert asked_of(kind, args, None, "k") == command


def test_every_command_of_the_table_is_guarded() -> None:
    documents = [asked_of(kind, [document], "k", "") for kind, document in DOCUMENTS.items()]
    commands = [*(command for *_, command in SAME), *documents]
    assert {command.name for command in commands if command} == set(NEEDS)
    assert set(ASKED) == set(CHANGES) == set(wire.Update)


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("adjusting.apply", ["expire", Adjustment("w1", "epoch-1")]),
        ("adjusting.apply", ["cancel", Adjustment("w1", "workflow-cancelled")]),
        ("reserving.cancel", [ReservationChange("r1", "workflow-cancelled")]),
        ("evacuating.steer", ["e1", Steering.ABORT, CANCELLED, BY_ITSELF]),
        ("rolling_out.steer", ["o1", Steering.ABORT, CANCELLED, BY_ITSELF]),
        ("rolling_out.steer", ["o1", Steering.ABORT, CANCELLED, BY_ITSELF, ROLLOUT]),
        ("inquiry.status", ["w1"]),
        ("admission.admit", [AdmissionOrder("w1", {"id": 7})]),
    ],
)
def test_what_workflows_do_by_themselves_and_questions_need_no_signature(kind: str, args: Sequence[Any]) -> None:
    assert asked_of(kind, args, "k", "") is None


# What schedules order


@pytest.fixture
def signed_schedule(orders: Orders) -> Payload:
    """What a schedule presents each time: it is signed, and the record knows that."""
    command = mandated(HOURLY)
    orders.given["ops", command] = "run-1"
    orders.mandates[HOURLY.mandate] = Mandate(HOURLY, LAST_HOUR - timedelta(days=1), timedelta(days=90))
    return signed("ops", OPS, command, at=NOW - 24 * HOUR)


def out_of_turn(order: EvacuationOrder | RolloutOrder) -> Command:
    assert isinstance(order, EvacuationOrder)
    return begun(wire.EVACUATION, wire.evacuation_workflow_id(order.id), order.digest)


async def test_what_a_schedule_orders_is_done_out_of_turn_for_whoever_signs_that_and_may(guard: Guard, orders: Orders) -> None:
    command = out_of_turn(HOURLY.order_now(LAST_HOUR + timedelta(minutes=7), who="ops"))
    assert "it needs the role 'operate'" in await told(guard, command, signed("ada", ADA, command))
    assert await told(guard, command, signed("ops", OPS, command)) == ""
    assert (("ops", command) in orders.given, orders.occasions) == (True, [])


async def test_what_a_signed_schedule_orders_at_its_time_is_done_for_whoever_signed_it(
    guard: Guard, orders: Orders, signed_schedule: Payload
) -> None:
    assert await told(guard, due(HOURLY, LAST_HOUR), signed_schedule) == ""
    assert orders.occasions == [Occasion(HOURLY.mandate, LAST_HOUR)]
    assert ("ops", due(HOURLY, LAST_HOUR)) in orders.given


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (due(HOURLY, LAST_HOUR + timedelta(minutes=1)), "is no time of its schedule (0 * * * * UTC)"),
        (due(HOURLY, LAST_HOUR + timedelta(hours=1)), "is yet to come"),
        (due(HOURLY, LAST_HOUR - timedelta(hours=2)), "was more than 3600 s ago"),
        (due(HOURLY, LAST_HOUR - timedelta(hours=30)), "it was signed at"),
        (due(HOURLY.model_copy(update={"reason": "other"}), LAST_HOUR), "what is asked is not what was signed"),
        (due(HOURLY.model_copy(update={"id": "other"}), LAST_HOUR), "what is asked is not what was signed"),
        (begun(wire.EVACUATION, "evacuation/storm", "x"), "what is asked is not what was signed"),
        (out_of_turn(HOURLY.order_now(LAST_HOUR, who="ops")), "what is asked is not what was signed"),
        (begun(wire.LIFECYCLE, "workload/w1", "x"), "what is asked is not what was signed"),
        (CANCEL, "what is asked is not what was signed"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.subject,
)
async def test_what_a_schedule_presents_is_of_no_use_outside_of_it(
    guard: Guard, orders: Orders, signed_schedule: Payload, command: Command, problem: str
) -> None:
    before = dict(orders.given)
    assert problem in await told(guard, command, signed_schedule)
    assert orders.given == before


async def test_a_revoked_mandate_orders_nothing_more_and_what_it_has_ordered_goes_on(
    guard: Guard, orders: Orders, signed_schedule: Payload
) -> None:
    assert await told(guard, due(HOURLY, LAST_HOUR), signed_schedule) == ""
    revoked = replace(orders.mandates[HOURLY.mandate], revoked="it was revoked at noon by ben: too much")
    orders.mandates[HOURLY.mandate] = revoked
    assert await told(guard, due(HOURLY, LAST_HOUR), signed_schedule) == ""
    orders.given.pop(("ops", due(HOURLY, LAST_HOUR)))
    assert "it was revoked at noon by ben: too much" in await told(guard, due(HOURLY, LAST_HOUR), signed_schedule)


async def test_a_schedule_orders_nothing_once_its_signer_is_gone_has_another_key_or_lost_the_role(
    guard: Guard, file: Path, signed_schedule: Payload
) -> None:
    command = due(HOURLY, LAST_HOUR)
    rewrite(file, "\n".join(line for line in FILE.splitlines() if "ops" not in line))
    assert "there is no principal 'ops'" in await told(guard, command, signed_schedule)
    rewrite(file, FILE.replace(OPS[1], EVE[1]))
    assert "its claim is not signed by the key of 'ops'" in await told(guard, command, signed_schedule)
    rewrite(file, FILE.replace("{role: operate}", "{role: own, queues: [research, all]}"))
    assert "it needs the role 'operate'" in await told(guard, command, signed_schedule)


async def test_a_mandate_that_is_not_in_the_record_or_of_somebody_else_orders_nothing(
    guard: Guard, orders: Orders, signed_schedule: Payload
) -> None:
    command, stolen = due(HOURLY, LAST_HOUR), signed("ada", ADA, mandated(HOURLY))
    assert "there is no mandate" in await told(guard, command, stolen)
    orders.mandates.clear()
    assert "there is no mandate" in await told(guard, command, signed_schedule)


# The file


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("principals: [{name: ada, key: c2hvcnQ=}]", "the base64 of 32 bytes is expected; it is of 5"),
        (f'principals: [{{name: ada, key: "{ADA[1]}"}}, {{name: ada, key: "{BEN[1]}"}}]', "ada is there twice"),
        (f'principals: [{{name: a, key: "{ADA[1]}", grants: [{{role: own}}]}}]', "is granted on queues; expected at least one"),
        (f'principals: [{{name: a, key: "{ADA[1]}", grants: [{{role: operate, queues: [q]}}]}}]', "expected no queues"),
        (f'principals: [{{name: a, key: "{ADA[1]}", grants: [{{role: rule}}]}}]', "expected 'submit', 'own' or 'operate'"),
    ],
    ids=["a short key", "a name twice", "a role on nothing", "to operate a queue", "no role"],
)
def test_a_file_that_makes_no_sense_is_refused_with_line_and_field(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "principals.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as refused:
        PrincipalsFile(path)
    assert str(path) in str(refused.value)
    assert problem in str(refused.value)


def test_nobody_may_anything_by_an_empty_file() -> None:
    assert Principals(principals=()).named("ada") is None


# Through workflows


@pytest.fixture
async def guarded_stage(skipping: WorkflowEnvironment, file: Path, orders: Orders) -> AsyncIterator[Stage]:
    guard = Guard(PrincipalsFile(file).now, orders, HOUR, this_machines_wall)
    async with open_stage(skipping.client, name="guarded", interceptors=[Guarded(guard)]) as stage:
        yield stage


def as_principal(stage: Stage, who: str, key: tuple[str, str]) -> Corral:
    return Corral.signing(stage.client, Signer(who, key[0]), stage.name)


async def test_a_workload_is_submitted_and_changed_by_those_who_may(guarded_stage: Stage, orders: Orders) -> None:
    ada, ben, eve = (as_principal(guarded_stage, who, key) for who, key in (("ada", ADA), ("ben", BEN), ("eve", EVE)))
    record = a_record()
    guarded_stage.records[record.id], record.provider = record, guarded_stage.name
    await ada.submit(a_spec(record.id))
    await until_shown(guarded_stage, record, State.RUNNING)
    assert (await ada.hold(record.id, key="mine")).message == "done: hold"
    assert (await ada.hold(record.id, key="mine")).message == "done: hold"
    with pytest.raises(Forbidden, match=r"'ada' may not do this to workload/.*: it needs the role 'own' on queue research"):
        await ada.reprioritize(record.id, 5)
    assert (await ben.reprioritize(record.id, 5)).message == "done: reprioritize"
    with pytest.raises(Forbidden, match="there is no principal 'eve'"):
        await eve.cancel(record.id)
    with pytest.raises(Forbidden, match="it is not signed"):
        await Corral(guarded_stage.client, guarded_stage.name).cancel(record.id)
    assert record.calls.count("hold") == 1
    assert "cancel" not in record.calls
    assert {(who, command.name) for who, command in orders.given} == {
        ("ada", "submit"),
        ("ada", "hold"),
        ("ben", "reprioritize"),
    }
    await guarded_stage.tells(record.becomes(State.SUCCEEDED))
    assert (await ada.wait(record.id)).state is State.SUCCEEDED


async def test_a_workload_of_somebody_who_may_not_submit_ends_refused_and_says_why(guarded_stage: Stage) -> None:
    eve, record = as_principal(guarded_stage, "eve", EVE), a_record()
    guarded_stage.records[record.id] = record
    await eve.submit(a_spec(record.id))
    result = await eve.wait(record.id)
    assert result.state is State.REFUSED
    assert "submit: nobody does this" in result.message
    assert "there is no principal 'eve'" in result.message
    assert record.calls == []


async def test_a_signature_that_is_found_in_a_history_is_of_no_use_for_anything_else(guarded_stage: Stage) -> None:
    ada, record = as_principal(guarded_stage, "ada", ADA), a_record(State.WAITING)
    guarded_stage.records[record.id] = record
    await ada.submit(a_spec(record.id))
    await until_shown(guarded_stage, record, State.WAITING)
    handle = guarded_stage.client.get_workflow_handle(wire.workload_workflow_id(record.id))
    history = await handle.fetch_history()
    found = history.events[0].workflow_execution_started_event_attributes.header.fields[HEADER]
    assert read_claim(found).principal == "ada"

    class Thief(Signer):
        def __init__(self) -> None:
            pass

        def sign(self, command: Command) -> Payload:
            return found

    with pytest.raises(Forbidden, match="what is asked is not what was signed"):
        await Corral.signing(guarded_stage.client, Thief(), guarded_stage.name).cancel(record.id)
    await ada.cancel(record.id)
