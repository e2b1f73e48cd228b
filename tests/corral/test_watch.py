"""Watching shows what changes, and ends when nothing can change any more."""

import json
import os
import sys

import pytest

from corral.api import State
from corral.cli.session import changes
from tests.corral.fakes import A_RUNNING_WORKLOAD, A_WAITING_WORKLOAD, AN_ENDED_WORKLOAD, FakeCorral, run

WATCH = ("--watch", "--interval", "0.05")


def test_status_is_told_once_for_each_change_until_the_end() -> None:
    corral = FakeCorral(A_WAITING_WORKLOAD, A_WAITING_WORKLOAD, A_RUNNING_WORKLOAD, AN_ENDED_WORKLOAD)
    result = run(corral, "status", "w", *WATCH, "-o", "json")
    assert result.exit_code == 0
    assert [json.loads(line)["state"] for line in result.stdout.splitlines()] == ["waiting", "running", "succeeded"]
    assert len(corral.asked) == 4


def test_explain_ends_too() -> None:
    result = run(FakeCorral(A_WAITING_WORKLOAD, AN_ENDED_WORKLOAD), "explain", "w", *WATCH, "-o", "json")
    assert [json.loads(line) is None for line in result.stdout.splitlines()] == [False, True]


def test_yaml_is_a_document_for_each_change() -> None:
    result = run(FakeCorral(A_WAITING_WORKLOAD, AN_ENDED_WORKLOAD), "status", "w", *WATCH, "-o", "yaml")
    assert result.stdout.count("---\n") == 2


def test_tables_follow_each_other_in_a_pipe() -> None:
    result = run(FakeCorral(A_WAITING_WORKLOAD, AN_ENDED_WORKLOAD), "status", "w", *WATCH)
    assert result.stdout.count("Workload") == 2
    assert "\x1b" not in result.stdout


def test_a_table_is_redrawn_in_place_on_a_terminal() -> None:
    result = run(FakeCorral(A_WAITING_WORKLOAD, AN_ENDED_WORKLOAD), "status", "w", *WATCH, terminal=True)
    assert result.exit_code == 0
    assert "\x1b[1A" in result.stdout


def test_a_list_is_watched_until_somebody_or_something_stops_it() -> None:
    result = run(FakeCorral(A_WAITING_WORKLOAD, AN_ENDED_WORKLOAD), "list", *WATCH, "-o", "json")
    assert (result.exit_code, result.stderr) == (5, "nobody answers any more\n")
    assert [json.loads(line)[0]["state"] for line in result.stdout.splitlines()] == [State.WAITING, State.SUCCEEDED]


async def test_nobody_is_asked_any_more_when_whoever_read_the_answers_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    answers = iter(range(9))

    async def ask() -> int:
        return next(answers)

    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        watched = changes(ask, 0, lambda _: False)
        assert [await anext(watched), await anext(watched)] == [0, 1]
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            await anext(watched)
    assert next(answers) == 2


def test_each_event_is_told_once_until_the_end() -> None:
    corral = FakeCorral(A_WAITING_WORKLOAD, AN_ENDED_WORKLOAD)
    result = run(corral, "events", "w", *WATCH, "-o", "json")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [1, 2]
    assert corral.asked[-1] == ("events", "w", 2)


def test_lines_of_events_stand_below_each_other() -> None:
    header, first, second = run(FakeCorral(AN_ENDED_WORKLOAD), "events", "w", *WATCH).stdout.splitlines()
    assert header.index("KIND") == first.index("submitted") == second.index("waiting")
