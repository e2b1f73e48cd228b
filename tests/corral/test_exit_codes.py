"""Scripts may rely on the exit codes, and people on a message without a traceback."""

import pytest
from typer.testing import CliRunner

from corral.api import State, WorkloadResult
from corral.cli.commands import app
from corral.cli.exits import MEANINGS, ExitCode
from corral.client import Conflict, CorralError, Forbidden, Invalid, NotFound, Unreachable
from tests.corral.fakes import FakeCorral, run

COMMANDS = [
    "list",
    "status w",
    "explain w",
    "events w",
    "cancel w",
    "hold w",
    "release w",
    "resize w --count 1",
    "demand w 1",
    "demand w 1 --no-answer",
    "checkpointed w",
    "extend w 1h",
    "wake w",
    "history w",
    "orders",
    "next-wake-up w",
    "reprioritize w 1",
    "wait w",
    "queue list",
    "data list",
    "fleet",
    "fleet nodes",
    "fleet pools",
    "fleet orders",
    "rounds",
    "cordon p n --reason r",
    "drain p n --reason r",
    "uncordon p n --reason r",
    "evacuate node p/n --reason r",
    "operations",
    "operations abort o --reason r",
]
ERRORS = [
    (CorralError("odd"), 1),
    (Invalid("bad"), 2),
    (NotFound("none"), 3),
    (Conflict("taken"), 4),
    (Unreachable("away"), 5),
    (Forbidden("not you"), 7),
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("error", "code"), ERRORS)
def test_each_error_has_its_code_and_is_told_in_one_line(command: str, error: CorralError, code: int) -> None:
    result = run(FakeCorral(error=error), *command.split())
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"{error}\n")


@pytest.mark.parametrize(("state", "code"), [(State.SUCCEEDED, 0), (State.FAILED, 6), (State.CANCELLED, 6), (State.REFUSED, 6)])
def test_wait_tells_by_its_code_how_the_workload_ended(state: State, code: int) -> None:
    corral = FakeCorral()
    corral.ends["w"] = WorkloadResult(id="w", state=state, message="so it was")
    result = run(corral, "wait", "w")
    assert result.exit_code == code
    assert "so it was" in result.stdout


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("list --limit 0", "limit: 0 is too small; expected at least 1"),
        ("list --queue Team", 'queue: "Team" is not acceptable; expected 1 to 100 lower-case letters'),
        ("list --state gone", "Invalid value for '--state': 'gone' is not one of"),
        ("list -o xml", "'xml' is not one of"),
        ("status Bad/Id", 'id: "Bad/Id" is not acceptable'),
        ("resize w", "Missing option '--count'"),
        ("resize w --count -3", "count: -3 is too small"),
        ("resize w --count 2 --minimum 20000", "minimum: 20000 is too large; expected at most 10000"),
        ("resize w --count many", "Invalid value for '--count': \"many\" is not a whole number"),
        ("demand w 1e13", "value: 10000000000000.0 is too large; expected at most 1000000000000.0"),
        ("demand w much", "Invalid value for 'VALUE': \"much\" is not a number"),
        ("extend w long", 'time: "long" is not a length of time; expected a whole number with s, m, h or d, such as 4h'),
        ("extend w 0s", "seconds: 0 is too small; expected at least 1"),
        ("retarget w /nowhere.yaml", "/nowhere.yaml: cannot be read: No such file or directory"),
        ("reprioritize w 1001", "priority: 1001 is too large; expected at most 1000"),
        ("events w --after -1", "Invalid value for '--after': \"-1\" is too small; expected at least 0"),
        ("drain p n", "Missing option '--reason'"),
        ("drain p --reason r", "Missing argument 'NODE'"),
        ("uncordon --reason r", "expected a provider and its nodes, or one of --cluster and --region"),
        ("uncordon p --reason r", "expected a provider and its nodes, or one of --cluster and --region"),
        ("uncordon p n --region p/r --reason r", "expected a provider and its nodes, or one of --cluster and --region"),
        ("uncordon --region r --reason r", 'place: "r" is not acceptable'),
        ("schedule create", "Missing argument 'FILE'"),
        ("schedule remove", "Missing argument 'ID'"),
        ("schedule create - --for ever", 'for: "ever" is not a length of time'),
        ("schedule create - --for 999999999d", 'for: "999999999d" is longer than any calendar'),
        ("schedule revoke m", "Missing option '--reason'"),
        ("schedule revoke M --reason r", 'id: "M" is not acceptable'),
        ("evacuate rack p/n --reason r", "'rack' is not one of"),
        ("evacuate node n --reason r", 'place: "n" is not acceptable; expected PROVIDER/REGION, PROVIDER/REGION/CLUSTER or'),
        ("evacuate node p/n --reason r --deadline soon", 'deadline: "soon" is not a length of time'),
        ("evacuate node p/n --reason r --at-once 0", "at_once: 0 is too small"),
        ("operations abort o", "Missing option '--reason'"),
        ("operations approve o", "Missing option '--reason'"),
        ("policy apply mine --reason r", "mine: neither a file nor a preset; the presets are default, kueue-like"),
        ("policy roll-out default", "Missing option '--reason'"),
        ("policy roll-out default --reason r --token t", 'token: "t" is not acceptable'),
        ("policy roll-out default --reason r --watch-for long", 'watch-for: "long" is not a length of time'),
        ("policy roll-out default --reason r --waiting-share 2", "waiting_share: 2.0 is too large; expected at most 1"),
        ("cancel w --reason " + "x" * 1001, "reason: has 1001 characters; expected at most 1000"),
        ("submit", "Missing argument 'FILE'"),
        ("sbmit", "No such command 'sbmit'"),
    ],
)
def test_wrong_usage_asks_nothing(command: str, complaint: str) -> None:
    corral = FakeCorral()
    result = run(corral, *command.split())
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert not corral.asked


@pytest.mark.parametrize(
    ("address", "code", "complaint"),
    [
        (
            "127.0.0.1:1",
            5,
            "no Temporal server answers at 127.0.0.1:1: Connection refused\n  is `make up` running, and are --address",
        ),
        (":", 2, '--address: ":" is not host:port'),
        ("127.0.0.1", 2, '--address: "127.0.0.1" is not host:port'),
        ("http://127.0.0.1:7233", 2, '--address: "http://127.0.0.1:7233" is not host:port'),
    ],
)
def test_a_server_that_is_not_there_is_told_with_its_address(address: str, code: int, complaint: str) -> None:
    result = CliRunner().invoke(app, ["list"], env={"CORRAL_TEMPORAL_ADDRESS": address})
    assert result.exit_code == code
    assert complaint in result.stderr


def test_events_of_nobody_are_not_an_empty_list() -> None:
    corral = FakeCorral()
    corral.events_told = []
    run(corral, "events", "nobody")
    assert corral.asked == [("events", "nobody", 0), ("status", "nobody")]


def test_every_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(ExitCode)
