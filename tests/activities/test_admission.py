"""Admission: what is refused before anything is written, and how that is said."""

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

from activities.admission import Admission
from activities.answers import AdmissionOrder
from corral.api import Reason, State
from tests.activities.fakes import Crew
from tests.activities.store.pool import Pool, a_spec, a_view

A_MEGABYTE = "x" * 1_000_000

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a field that nobody knows": ({"colour": "red"}, "colour: 'red' - Extra inputs are not permitted"),
    "a field with a name of a megabyte": ({A_MEGABYTE: 1}, f"{'x' * 60}: 1 - Extra inputs"),
    "a count of words": ({"groups": [{"count": "two"}]}, "groups.0.count: 'two' - Input should be a valid integer"),
    "a negative count": ({"groups": [{"count": -1}]}, "groups.0.count: -1 - Input should be greater than or equal to 1"),
    "no replica at all": ({"groups": []}, "groups: [] - "),
    "a count beyond all measure": ({"groups": [{"count": 10**300}]}, "groups.0.count: 1000000"),
    "more digits than Python prints": ({"priority": 10**5_000}, "priority: "),
    "accelerators that are not a number": ({"groups": [{"accelerators": float("nan")}]}, "groups.0.accelerators"),
    "a third of an accelerator": ({"groups": [{"accelerators": 1 / 3}]}, "a whole number of thousandths"),
    "one and a half accelerators": ({"groups": [{"accelerators": 1.5}]}, "more than one accelerator is a whole number"),
    "more at least than at most": ({"groups": [{"count": 1, "minimum": 2}]}, "minimum 2 exceeds count 1"),
    "more over all groups than there are": ({"minimum_replicas": 2}, "minimum_replicas 2 exceeds the 1 replicas"),
    "true for a number": ({"priority": True}, "priority: True - "),
    "a name of a megabyte": ({"queue": A_MEGABYTE}, f"queue: '{'x' * 59}... - String should match pattern"),
    "a name of another alphabet": ({"queue": "Forschung"}, "queue: 'Forschung' - String should match pattern"),
    "a name with a line break": ({"queue": "research\n"}, "queue: 'research\\n' - String should match pattern"),
    "an empty queue": ({"queue": ""}, "queue: '' - "),
    "no queue": ({"queue": None}, "queue: None - "),
    "a tier that nobody sells": ({"tier": "gold"}, "tier: 'gold' - Input should be 'premium', 'standard' or 'basic'"),
    "a time without a zone": ({"earliest_start": "2030-01-01T00:00:00"}, "earliest_start"),
    "a command with a zero byte": ({"command": ["run", "a\0b"]}, "command.1: 'a\\x00b' - "),
    "a variable with a zero byte": ({"environment": {"A\0B": "x"}}, "environment.A\0B"),
    "a value with a zero byte": ({"parameters": {"a": "\0"}}, "parameters.a: '\\x00' - "),
    "half a character": ({"command": ["\ud800"]}, "command.0: '\\ud800' - "),
    "a signal that is none": ({"checkpoint": {"signal": "KILL"}}, "checkpoint.signal: 'KILL' - "),
    "an array of gangs": ({"tasks": 3, "groups": [{"count": 2}]}, "an array (tasks) has one replica group with count 1"),
    "groups of one name": ({"groups": [{"name": "a"}, {"name": "a"}]}, "each replica group needs a name of its own"),
}


@pytest.mark.parametrize("what", BAD)
async def test_a_spec_that_makes_no_sense_is_refused_with_field_value_and_expectation(pool: Pool, what: str) -> None:
    changes, problem = BAD[what]
    standing = await _admit(pool, {"id": "w", "queue": "research"} | changes)
    assert (standing.state, standing.reason, standing.version) == (State.REFUSED, Reason.INVALID_SPEC, 0)
    assert problem in standing.message
    assert len(standing.message) < 1_000
    assert await pool.sql("SELECT * FROM workloads") == []


@pytest.mark.parametrize("spec", [None, [], "w", 7, {}, {"id": "w"}, {"queue": "research"}])
async def test_what_is_no_spec_at_all_is_refused(pool: Pool, spec: object) -> None:
    standing = await _admit(pool, spec)
    assert standing.reason is Reason.INVALID_SPEC
    assert await pool.sql("SELECT * FROM workloads") == []


async def test_a_spec_of_another_id_than_its_workflow_is_refused(pool: Pool) -> None:
    standing = await _admit(pool, {"id": "other", "queue": "research"})
    assert standing.message == "id: 'other' differs from the id of its workflow, 'w'"
    assert standing.workload == "w"


async def test_work_whose_workflow_has_an_id_by_which_nobody_finds_it_is_refused(pool: Pool) -> None:
    await pool.gets(a_view())
    spec = a_spec("w", gpus=1).model_dump(mode="json")
    admission = Admission(pool.store, Crew(pool).courier)
    refused = await admission.admit(AdmissionOrder("w", spec, "w"))
    assert (refused.state, refused.reason) == (State.REFUSED, Reason.INVALID_SPEC)
    assert refused.message == "its workflow has the id 'w', by which nobody finds it; start it as 'workload/w'"
    assert await pool.sql("SELECT * FROM workloads") == []
    assert (await admission.admit(AdmissionOrder("w", spec, "workload/w"))).state is State.RESERVED


async def test_all_problems_of_a_spec_are_named_at_once(pool: Pool) -> None:
    standing = await _admit(pool, {"id": "w", "queue": "Q", "priority": 1.5, "tier": 3})
    assert [problem.split(":")[0] for problem in standing.message.split("; ")] == ["queue", "tier", "priority"]


async def test_odd_but_possible_specs_are_decided_about(pool: Pool) -> None:
    await pool.gets(a_view())
    odd: list[dict[str, Any]] = [
        {"earliest_start": "9999-12-31T23:59:59-14:00"},
        {"earliest_start": "0001-01-01T00:00:00+14:00"},
        {"command": ["🐎" * 500, "", "'; DROP TABLE workloads; --"]},
        {"groups": [{"count": 10_000, "accelerators": 1_024, "cpu_milli": 10**7, "memory_mib": 10**9}] * 1},
        {"groups": [{"accelerators": 0}]},
        {"groups": [{"accelerators": 0.001}]},
        {"targets": [{"after_seconds": 31_622_400}]},
        {"tasks": 10_000},
        {"environment": {"": "", "a=b": "%s"}},
    ]
    admission = Admission(pool.store, Crew(pool).courier)
    orders = [AdmissionOrder(f"w{n}", {"id": f"w{n}", "queue": "research"} | spec) for n, spec in enumerate(odd)]
    standings = await asyncio.gather(*(admission.admit(order) for order in orders))
    assert all(standing.version > 0 for standing in standings)
    await pool.plan()
    pool.clock.move(100)
    await pool.plan()
    assert await pool.findings() == {}


async def test_who_arrives_together_shares_one_round(pool: Pool) -> None:
    await pool.gets(a_view())
    admission = Admission(pool.store, Crew(pool).courier)
    specs = [a_spec(f"w{number}", gpus=1) for number in range(5)]
    orders = [AdmissionOrder(spec.id, spec.model_dump(mode="json")) for spec in specs]
    standings = await asyncio.gather(*(admission.admit(order) for order in orders))
    assert [standing.state for standing in standings] == [State.RESERVED] * 5
    assert [row["considered"] for row in await pool.sql("SELECT considered FROM rounds")] == [5]


async def test_each_is_written_down_with_the_trace_in_which_it_was_submitted(pool: Pool) -> None:
    await pool.gets(a_view())
    traces: dict[str, str | None] = {"traced": "00-trace-01", "other": "00-other-01", "untraced": None}
    here: ContextVar[str | None] = ContextVar("here")
    admission = Admission(pool.store, Crew(pool).courier, here.get)

    async def submits(id: str) -> None:
        here.set(traces[id])
        await admission.admit(AdmissionOrder(id, a_spec(id, gpus=1).model_dump(mode="json")))

    await asyncio.gather(*map(submits, traces))
    assert {row["id"]: row["trace"] for row in await pool.sql("SELECT id, trace FROM workloads")} == traces


async def test_two_specs_of_one_id_that_arrive_together_are_not_mixed_up(pool: Pool) -> None:
    await pool.gets(a_view())
    admission = Admission(pool.store, Crew(pool).courier)
    orders = [AdmissionOrder("w", a_spec("w", gpus=gpus).model_dump(mode="json")) for gpus in (1, 2, 1)]
    standings = await asyncio.gather(*(admission.admit(order) for order in orders))
    assert [standing.reason for standing in standings] == [None, Reason.ID_CONFLICT, None]
    assert await pool.used() == 1_000


async def test_victims_of_an_arrival_are_told(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("victim"))
    await pool.runs("victim")
    crew = Crew(pool)
    spec = a_spec("urgent", priority=9)
    await Admission(pool.store, crew.courier).admit(AdmissionOrder("urgent", spec.model_dump(mode="json")))
    await crew.delivered()
    assert [(standing.workload, standing.state) for standing in crew.workloads.told] == [("victim", State.STOPPING)]


async def _admit(pool: Pool, spec: object) -> Any:
    return await Admission(pool.store, Crew(pool).courier).admit(AdmissionOrder("w", spec))
