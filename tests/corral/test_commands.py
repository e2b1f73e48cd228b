"""Each command asks the right question, and writes the answer in each form."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic_core import to_jsonable_python
from ruamel.yaml import YAML

from corral.api import (
    Catalogue,
    Cordon,
    Dataset,
    Demand,
    EvacuationOrder,
    Fallen,
    FixSearch,
    Following,
    LostCluster,
    OperationChange,
    PlaceKind,
    QueueSpec,
    QueueTree,
    QuotaSpec,
    Resize,
    Retarget,
    SlaTier,
    State,
    Target,
    WorkloadFilter,
    WorkloadResult,
    WorkloadStatus,
)
from corral.cli.exits import ExitCode
from corral.client import Conflict, Invalid, Submission
from corral.policy import Policy
from corral.rollout import Change, Conditions, RolloutOrder
from corral.schedule import RecurringEvacuation, Revocation, ScheduleSpec
from corral.wire import Steering
from tests.corral.fakes import (
    A_RUNNING_WORKLOAD,
    A_WAITING_WORKLOAD,
    A_WAKE_UP,
    A_WHAT_IF,
    AN_ENDED_WORKLOAD,
    AN_OPERATION,
    CLUSTERS,
    DATASETS,
    DONE,
    EVENTS,
    FLEET,
    FORECAST,
    LONG_ID,
    MANDATES,
    MOMENTS,
    NODE_ORDERS,
    NODE_POOLS,
    NODES,
    NOON,
    ORDERS,
    OUT_OF_TURN,
    QUEUES,
    RESERVATIONS,
    RESERVED,
    ROUNDS,
    SCHEDULES,
    FakeCorral,
    run,
)

A_TREE = b"queues:\n  - name: team\n    quotas:\n      - {sku: h100, nominal: 8}\n"
THE_TREE = QueueTree(queues=(QueueSpec(name="team", quotas=(QuotaSpec(sku="h100", nominal=8),)),))
A_CATALOGUE = b"datasets:\n  - {name: corpus, size_gib: 2048.5, regions: [north]}\n"
THE_CATALOGUE = Catalogue(datasets=(Dataset(name="corpus", size_gib=2048.5, regions=("north",)),))
ACTIVE_BASIC = WorkloadFilter(queue="team", state=State.WAITING, tier=SlaTier.BASIC, active_only=True, limit=7)
ELSEWHERE = Retarget(targets=(Target(skus=("h100",), regions=("north",)),))
SMALLER = Resize(count=4, minimum=2, group="main")

SHORT = EvacuationOrder(id="heat", kind=PlaceKind.REGION, place="cloud/north", reason="hot", who="ada")
BY_ADA = OperationChange(who="ada", reason="x")
A_SCHEDULE = b"""
id: nightly
cron: 0 2 * * 0
reason: patches
who: ada
evacuate: {kind: cluster, place: cloud/north/c1}
"""
NIGHTLY = ScheduleSpec(
    id="nightly",
    cron="0 2 * * 0",
    reason="patches",
    who="ada",
    evacuate=RecurringEvacuation(kind=PlaceKind.CLUSTER, place="cloud/north/c1"),
)
LOST_CLUSTER = LostCluster(cluster="p/r/c", reason="x", who="ada")
BACK = Cordon(action="uncordon", kind=PlaceKind.REGION, place="p/r", reason="x")
ROLL_OUT = RolloutOrder(
    id="r",
    change=Change(policy=Policy()),
    token=A_WHAT_IF.token,
    reason="x",
    who="ada",
    watch_seconds=7_200,
    conditions=Conditions(waiting_share=0.5),
)
EDIT = RolloutOrder(
    id="q",
    change=Change(queues=THE_TREE),
    reason="x",
    who="ada",
    watch_seconds=0,
    conditions=Conditions(stops_per_hour=3),
)

CASES = [
    ("list", ("workloads", WorkloadFilter()), [A_WAITING_WORKLOAD, A_RUNNING_WORKLOAD]),
    (
        "list --queue team --state waiting --tier basic --active --limit 7",
        ("workloads", ACTIVE_BASIC),
        [A_WAITING_WORKLOAD, A_RUNNING_WORKLOAD],
    ),
    ("status waiting", ("status", "waiting"), A_WAITING_WORKLOAD),
    ("explain waiting", ("explained", "waiting", False), A_WAITING_WORKLOAD.explanation),
    ("explain waiting --names", ("explained", "waiting", True), A_WAITING_WORKLOAD.explanation),
    ("events waiting --after 1", ("events", "waiting", 1), EVENTS[1:]),
    ("cancel w --reason typo", ("cancel", "w", "typo"), DONE),
    ("hold w", ("hold", "w", ""), DONE),
    ("release w", ("release", "w"), DONE),
    ("resize w --count 4 --minimum 2 --group main", ("resize", "w", SMALLER), DONE),
    ("demand w 37.5", ("demand", "w", Demand(value=37.5)), DONE),
    ("demand w 37.5 --requests 9 --bad 2", ("demand", "w", Demand(value=37.5, requests=9, bad=2)), DONE),
    ("demand w 37.5 --no-answer", ("tell_demand", "w", Demand(value=37.5)), {"told": "yes"}),
    ("checkpointed w", ("checkpointed", "w"), DONE),
    ("checkpointed w --no-answer", ("tell_checkpointed", "w"), {"told": "yes"}),
    ("retarget w -", ("retarget", "w", ELSEWHERE), DONE),
    ("retarget w - --move", ("retarget", "w", ELSEWHERE.model_copy(update={"move": True})), DONE),
    ("extend w 2h", ("extend", "w", 7200), DONE),
    ("wake w", ("wake", "w"), {"told": "yes"}),
    ("orders --subject workload/w --limit 5", ("orders", "workload/w", 5), ORDERS),
    ("history w", ("history", "w"), MOMENTS),
    ("next-wake-up w", ("next_wake_up", "w"), A_WAKE_UP),
    ("next-wake-up quiet", ("next_wake_up", "quiet"), None),
    ("reprioritize w -5", ("reprioritize", "w", -5), DONE),
    ("wait w", ("wait", "w"), WorkloadResult(id="w", state=State.SUCCEEDED, exit_code=0)),
    ("submit -", ("submit", "train"), [Submission("train", created=True)]),
    ("queue list", ("queues",), QUEUES),
    ("queue show team", ("queues",), QUEUES[1]),
    ("queue apply -", ("apply_queues", THE_TREE), QUEUES),
    ("data list", ("datasets",), DATASETS),
    ("data apply -", ("apply_datasets", THE_CATALOGUE), DATASETS),
    ("fleet", ("fleet",), FLEET),
    ("fleet nodes", ("nodes",), NODES),
    ("clusters", ("clusters",), CLUSTERS),
    ("declare-lost p/r/c --reason x --by ada", ("declare_lost", LOST_CLUSTER), CLUSTERS),
    ("fleet pools", ("node_pools",), NODE_POOLS),
    ("fleet orders --limit 3", ("provisionings", 3), NODE_ORDERS),
    ("reservation list", ("reservations",), RESERVATIONS),
    ("reservation show night", ("reservation", "night"), RESERVATIONS[0]),
    ("reservation extend night --seconds 60", ("extend_reservation", "night", 60), RESERVED),
    ("reservation cancel night --reason x", ("cancel_reservation", "night", "x"), RESERVED),
    ("rounds --limit 1", ("rounds", 1), ROUNDS[:1]),
    ("cordon p n1 --reason x", ("cordon", "p", Cordon(action="cordon", nodes=("n1",), reason="x")), NODES),
    ("drain p n1 n2 --reason x", ("cordon", "p", Cordon(action="drain", nodes=("n1", "n2"), reason="x")), NODES),
    ("evacuate region cloud/north --id heat --reason hot --by ada --dry-run", ("foresee_evacuation", SHORT), FORECAST),
    ("operations --limit 5", ("operations", 5), [AN_OPERATION]),
    ("operations show heat", ("operation", "heat"), AN_OPERATION),
    *((f"operations {verb} heat --reason x --by ada", (verb, "heat", BY_ADA), AN_OPERATION) for verb in Steering),
    ("policy what-if default", ("what_if", Change(policy=Policy())), A_WHAT_IF),
    ("queue what-if -", ("what_if", Change(queues=THE_TREE)), A_WHAT_IF),
    (
        f"policy roll-out default --id r --reason x --by ada --token {A_WHAT_IF.token} --watch-for 2h --waiting-share 0.5",
        ("roll_out", ROLL_OUT),
        [Submission("r", created=True)],
    ),
    (
        "queue roll-out - --id q --reason x --by ada --yes --watch-for 0s --stops-per-hour 3",
        ("roll_out", EDIT),
        [Submission("q", created=True)],
    ),
    ("schedule create -", ("schedule", NIGHTLY), SCHEDULES),
    ("schedule list", ("schedules",), SCHEDULES),
    ("schedule remove nightly", ("unschedule", "nightly"), SCHEDULES),
    ("schedule mandates --limit 7", ("mandates", 7), MANDATES),
    (
        "schedule revoke nightly-1 --reason x --by ben",
        ("revoke", Revocation(mandate="nightly-1", who="ben", reason="x")),
        MANDATES,
    ),
    ("uncordon --region p/r --reason x", ("cordon", "p", BACK), NODES),
    ("uncordon p n1 --reason x", ("cordon", "p", Cordon(action="uncordon", nodes=("n1",), reason="x")), NODES),
]
TARGETS = b"targets:\n  - {skus: [h100], regions: [north]}\n"
GIVEN = {"retarget w -": TARGETS, "retarget w - --move": TARGETS} | {
    "submit -": b"id: train\nqueue: team\n",
    "data apply -": A_CATALOGUE,
    "schedule create -": A_SCHEDULE,
    **{command: A_TREE for command, _, _ in CASES if command.startswith("queue") and " - " in f"{command} "},
}


@pytest.mark.parametrize(("command", "question", "answer"), CASES)
def test_json_is_the_answer_itself(command: str, question: tuple[object, ...], answer: object) -> None:
    corral = FakeCorral()
    result = run(corral, *command.split(), "-o", "json", given=GIVEN.get(command, b""))
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == to_jsonable_python(answer)
    assert corral.asked == [question]


@pytest.mark.parametrize(("command", "question", "answer"), CASES)
def test_yaml_is_the_answer_itself_and_the_form_may_be_said_first(
    command: str, question: tuple[object, ...], answer: object
) -> None:
    corral = FakeCorral()
    result = run(corral, "-o", "yaml", *command.split(), given=GIVEN.get(command, b""))
    assert result.exit_code == 0
    data = YAML(typ="safe", pure=True).load(result.stdout)
    assert to_jsonable_python(data) == _with_times_as_yaml_reads_them(to_jsonable_python(answer))
    assert corral.asked == [question]


def _with_times_as_yaml_reads_them(data: object) -> object:
    return to_jsonable_python(YAML(typ="safe", pure=True).load(json.dumps(data)))


@pytest.mark.parametrize(("command", "question", "answer"), CASES)
def test_a_table_is_plain_text(command: str, question: tuple[object, ...], answer: object) -> None:
    corral = FakeCorral()
    result = run(corral, *command.split(), given=GIVEN.get(command, b""))
    assert result.exit_code == 0
    assert result.stdout.strip()
    assert "\x1b" not in result.stdout
    assert all(line == line.rstrip() for line in result.stdout.splitlines())
    assert corral.asked == [question]


def test_a_schedule_is_refused_where_the_field_stands_that_is_wrong() -> None:
    corral = FakeCorral(error=Invalid("cron: no time of it ever comes"))
    result = run(corral, "schedule", "create", "-", given=A_SCHEDULE)
    line = 1 + A_SCHEDULE.decode().partition("cron:")[0].count("\n")
    assert result.exit_code == 2
    assert re.fullmatch(rf"<stdin>:{line}:\d+: cron: no time of it ever comes\n", result.stderr)


def test_a_schedule_lasts_as_long_as_it_is_said_to() -> None:
    corral = FakeCorral()
    before = datetime.now(UTC).replace(microsecond=0)
    assert run(corral, "schedule", "create", "-", "--for", "30d", given=A_SCHEDULE).exit_code == 0
    ((_, spec),) = corral.asked
    assert isinstance(spec, ScheduleSpec)
    assert spec.until is not None
    assert before + timedelta(days=30) <= spec.until <= datetime.now(UTC) + timedelta(days=30)
    assert spec.model_copy(update={"until": None}) == NIGHTLY


def test_what_a_schedule_orders_is_ordered_out_of_turn_where_nobody_is_hurt_or_that_is_meant() -> None:
    corral = FakeCorral()
    asked = ("order_now", "nightly", "ben", "leak")
    refused = run(corral, "schedule", "trigger", "nightly", "--by", "ben", "--reason", "leak")
    assert (refused.exit_code, corral.asked) == (2, [asked, ("foresee_evacuation", OUT_OF_TURN)])
    assert "2 workloads on 2 nodes would have to leave cluster cloud/north/c1" in refused.stderr
    corral = FakeCorral()
    done = run(corral, "schedule", "trigger", "nightly", "--by", "ben", "--reason", "leak", "--yes")
    assert (done.exit_code, corral.asked[-1]) == (0, ("evacuate", OUT_OF_TURN))
    assert OUT_OF_TURN.id in done.stdout


def test_so_is_a_roll_out() -> None:
    corral = FakeCorral()
    corral.out_of_turn = EDIT
    refused = run(corral, "schedule", "trigger", "nightly")
    assert refused.exit_code == 2
    assert "nothing was changed: see who with `what-if`, or say --yes" in refused.stderr
    assert corral.asked[-1] == ("what_if", EDIT.change)
    assert run(corral, "schedule", "trigger", "nightly", "--yes").exit_code == 0
    corral.foreseen = A_WHAT_IF.model_copy(update={"effects": ()})
    assert run(corral, "schedule", "trigger", "nightly").exit_code == 0
    assert [each for each in corral.asked if each[0] == "roll_out"] == [("roll_out", EDIT)] * 2


def test_the_list_has_a_line_for_each_workload_and_cuts_no_id_off() -> None:
    header, waiting, running = run(FakeCorral(), "list").stdout.splitlines()
    assert header.split() == ["ID", "QUEUE", "TIER", "PRIO", "STATE", "SINCE", "WHERE", "REASON"]
    assert waiting.split() == [
        "waiting", "team", "standard", "5", "waiting", "2026-01-31T12:00:00Z", "-", "NotEnoughFreeAccelerators",
    ]  # fmt: skip
    assert running.startswith(LONG_ID)
    assert "cloud/north 8 h100" in running


def test_status_is_a_card_of_what_is_known() -> None:
    waiting, running = run(FakeCorral(), "status", "w").stdout, run(FakeCorral(A_RUNNING_WORKLOAD), "status", "w").stdout
    assert ["Position", "3"] in [line.split() for line in waiting.splitlines()]
    assert "Where" not in waiting
    assert "cloud/north/c1" in running
    assert "node-1 (1)" in running
    assert "Does not leave" not in running


@pytest.mark.parametrize(("since", "said"), [(NOON, "5, counts as -95 since 2026-01-31T12:00:00Z"), (None, "5, counts as -95")])
def test_what_a_priority_counts_as_that_has_fallen_is_said_beside_it(since: datetime | None, said: str) -> None:
    fallen = Fallen(counts_as=-95, after_seconds=86_400, since=since)
    low = A_WAITING_WORKLOAD.model_copy(update={"fallen": fallen})
    for command in ("status", "explain"):
        assert f"{said}: it has run for 24 h" in " ".join(run(FakeCorral(low), command, "w").stdout.split())
    assert "5 (-95)" in run(FakeCorral(low), "list").stdout


def test_status_says_which_nodes_an_endpoints_replicas_do_not_leave() -> None:
    stuck = A_RUNNING_WORKLOAD.model_copy(update={"remnants": {"node-7": 2}})
    lines = [line.split() for line in run(FakeCorral(stuck), "status", "w").stdout.splitlines()]
    assert ["Does", "not", "leave", "node-7", "(2)"] in lines
    assert json.loads(run(FakeCorral(stuck), "status", "w", "-o", "json").stdout)["remnants"] == {"node-7": 2}


def test_explain_shows_reason_message_evidence_and_when_that_was_so() -> None:
    lines = [line.split(maxsplit=2) for line in run(FakeCorral(), "explain", "w").stdout.splitlines()]
    assert ["Reason", "NotEnoughFreeAccelerators"] in lines
    assert ["Message", "needs", "8 free on one node, the fullest has 5"] in lines
    assert ["As", "of", "round 7, 2026-01-31T12:00:00Z"] in lines
    assert ["SkuNotAccepted", "12", "node-1 has a100"] in lines


def test_explain_shows_what_would_start_it_and_at_what_cost() -> None:
    lines = [line.split() for line in run(FakeCorral(), "explain", "w", "--names").stdout.splitlines()]
    assert ["wait", "5", "min", "$0.25", "-"] in lines
    assert ["stop", "1", "running", "workload", "$4.00", "guest"] in lines


@pytest.mark.parametrize(
    ("ended", "said"), [(FixSearch.COMPLETE, "none: no change that Corral tries"), (FixSearch.CUT_SHORT, "there may be some")]
)
def test_explain_says_so_when_no_change_was_found_that_would_start_it(ended: FixSearch, said: str) -> None:
    why = A_WAITING_WORKLOAD.explanation
    assert why is not None
    helpless = A_WAITING_WORKLOAD.model_copy(update={"explanation": why.model_copy(update={"fixes": (), "fix_search": ended})})
    assert said in " ".join(run(FakeCorral(helpless), "explain", "w").stdout.split())


def test_explain_says_so_when_there_is_nothing_to_explain() -> None:
    assert "neither waits nor was refused" in run(FakeCorral(A_RUNNING_WORKLOAD), "explain", "w").stdout
    assert run(FakeCorral(A_RUNNING_WORKLOAD), "explain", "w", "-o", "json").stdout == "null\n"


@pytest.mark.parametrize("command", ["status", "explain"])
def test_work_that_leaves_its_place_says_where_it_goes_on(command: str) -> None:
    assert A_RUNNING_WORKLOAD.where is not None
    smaller = A_RUNNING_WORKLOAD.where.model_copy(update={"cluster": "c2", "by_sku": {"h100": 4.0}})
    leaving = A_RUNNING_WORKLOAD.model_copy(update={"state": State.STOPPING, "next_where": smaller})
    lines = run(FakeCorral(leaving), command, "w").stdout.splitlines()
    assert ["Goes", "on", "cloud/north/c2", "with", "4", "h100"] in [line.split() for line in lines]


@pytest.mark.parametrize("status", [A_RUNNING_WORKLOAD, A_WAITING_WORKLOAD], ids=["runs", "waits"])
@pytest.mark.parametrize("command", ["status", "explain"])
def test_an_endpoint_says_since_when_its_demand_is_unknown_and_why(command: str, status: WorkloadStatus) -> None:
    known, unknown = Following(wanted=3), Following(wanted=3, stale_since=NOON, problem="no answer")
    endpoints = [status.model_copy(update={"following": each}) for each in (known, unknown)]
    shown = [run(FakeCorral(each), command, "w").stdout.splitlines() for each in endpoints]
    lines = [[line.split() for line in card] for card in shown]
    assert ["Wanted", "3"] in lines[0]
    assert ["Demand", "unknown", "since", "2026-01-31T12:00:00Z"] in lines[1]
    assert ["Problem", "no", "answer"] in lines[1]
    assert not [line for line in lines[0] if line[:1] in (["Demand"], ["Problem"])]


def test_nodes_show_what_they_say_of_themselves() -> None:
    line = run(FakeCorral(), "fleet", "nodes").stdout.splitlines()[1].split()
    assert line[-5:] == ["4", "-", "night", "disk=nvme", "-"]


def test_clusters_show_what_they_are_and_why() -> None:
    header, line = run(FakeCorral(), "clusters").stdout.splitlines()
    assert header.split()[:3] == ["CLUSTER", "STATE", "SINCE"]
    assert line.split()[:2] == ["cloud/north/c1", "suspect"]
    assert line.endswith("2  16  3  0  0  it has not answered for a while") or line.split()[-12:-7] == [
        "2",
        "16",
        "3",
        "0",
        "0",
    ]


def test_data_show_where_they_are_and_what_is_odd_about_them() -> None:
    header, corpus, typo, *_, warning = run(FakeCorral(), "data", "list").stdout.splitlines()
    assert header.split() == ["DATASET", "GIB", "REGIONS", "READERS"]
    assert corpus.split() == ["corpus", "2048.5", "north,", "south", "3"]
    assert typo.split() == ["typo", "-", "-", "1"]
    assert warning.split(None, 1) == ["typo", "is read, and is not in the catalogue"]


def test_what_others_wrote_cannot_command_the_terminal() -> None:
    result = run(FakeCorral(), "events", "w")
    assert "by \\x1b[31mteam\\nteam" in result.stdout


def test_a_terminal_gets_colours_and_folded_cells_but_whole_ids() -> None:
    result = run(FakeCorral(), "list", terminal=True)
    assert "\x1b[32m" in result.stdout
    assert "…" not in result.stdout


TERMS = ["weight", "3,", "sku", "order", "h100", ">", "a100,", "preemption", "within", "queue", "lower-priority"]


def test_a_queue_shows_what_it_was_given() -> None:
    shown = run(FakeCorral(), "queue", "show", "team").stdout.splitlines()
    facts = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in shown}
    assert (facts["Weight"], facts["Sku order"], facts["Preemption"]) == ("3", "h100 > a100", "within queue lower-priority")
    assert [line.split() for line in shown[-2:]] == [["SKU", "NOMINAL", "OVER", "QUOTA", "WEIGHT"], ["h100", "16", "2"]]


def test_a_queue_that_is_not_there_is_not_found() -> None:
    result = run(FakeCorral(), "queue", "show", "nobody")
    assert result.exit_code == ExitCode.NOT_FOUND
    assert "there is no queue 'nobody'" in result.stderr


def test_queues_and_fleet_show_amounts() -> None:
    queues, fleet = run(FakeCorral(), "queue", "list").stdout, run(FakeCorral(), "fleet").stdout
    assert queues.splitlines()[2].split() == ["team", "all", "hold", "4", "2", "h100", "16", "24.25", "8.25", "-", *TERMS]
    assert queues.splitlines()[-1].split(None, 1) == ["team", "h100 is over-committed by 8"]
    assert fleet.splitlines()[1].split() == ["cloud", "north", "h100", "2", "1", "16", "8.5", "7.5"]


def test_rounds_show_how_far_from_the_best_they_may_be() -> None:
    newest, older = run(FakeCorral(), "rounds").stdout.splitlines()[1:]
    said = "12 2026-01-31T12:00:00Z arrivals 9 4 1 30 40 25.0% exact, out-of-work 2 3 2.5 > 1 25.5 improve 20.0 turns 4.0"
    assert " ".join(newest.split()) == said
    assert older.split()[-9:-3] == ["-", "-", "-", "-", "0", "0"]


def test_all_workloads_of_all_files_are_submitted(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("# two\nid: one\nqueue: q\n---\nid: again\nqueue: q\n---\n")
    second.write_text("id: three\nqueue: q\nearliest_start: 2026-01-31T08:00:00Z\ngroups: [{accelerators: 0.25}]\n")
    corral = FakeCorral()
    result = run(corral, "submit", str(first), str(second))
    assert [spec.id for spec in corral.submitted] == ["one", "again", "three"]
    assert result.stdout.splitlines()[1:] == ["one    now", "again  before, with the same spec", "three  now"]


def test_a_refused_submission_ends_the_command_and_tells_what_was_submitted() -> None:
    corral = FakeCorral()
    corral.refused["two"] = Conflict("id: 'two' belongs to a workload with another spec")
    given = b"{id: one, queue: q}\n---\n{id: two, queue: q}\n---\n{id: three, queue: q}\n"
    result = run(corral, "submit", "-", "--wait", given=given)
    assert (result.exit_code, result.stderr) == (4, "<stdin>:3:2: id: 'two' belongs to a workload with another spec\n")
    assert result.stdout.splitlines()[1:] == ["one  now"]


def test_submit_can_wait_for_the_end() -> None:
    corral = FakeCorral()
    corral.ends["two"] = WorkloadResult(id="two", state=State.FAILED, exit_code=3, message="out of memory")
    result = run(corral, "submit", "-", "--wait", "-o", "json", given=b"{id: one, queue: q}\n---\n{id: two, queue: q}\n")
    assert result.exit_code == 6
    assert [end["state"] for end in json.loads(result.stdout)] == ["succeeded", "failed"]


def test_help_shows_the_exit_codes_and_completion() -> None:
    shown = run(FakeCorral(), "--help").stdout
    assert "  5  Corral did not answer" in shown
    assert "--show-completion" in shown


def test_the_version_is_told_without_a_connection() -> None:
    corral = FakeCorral()
    assert set(json.loads(run(corral, "version", "-o", "json").stdout)) == {"version"}
    assert not corral.asked


def test_reservations_are_made_and_shown_with_what_is_missing() -> None:
    corral = FakeCorral()
    given = b"{id: night, start: 2026-01-31T12:00:00Z, seconds: 3600, accelerators: 16, sku: h100, queues: [team]}"
    header, line = run(corral, "reserve", "-", given=given).stdout.splitlines()
    assert [question[0] for question in corral.asked] == ["reserve", "reservation"]
    assert header.split() == [
        "RESERVATION",
        "STATE",
        "OPENS",
        "CLOSES",
        "ASKED",
        "SKU",
        "FOR",
        "KEPT",
        "LENT",
        "MISSING",
        "MISSES",
        "CAUSE",
    ]
    assert line.split()[4:] == ["16", "h100", "team", "8", "4", "8", "1", "work", "of", "others", "is", "on", "cloud/node-2"]
    shown = run(corral, "reservation", "show", "night").stdout
    assert "FREQ=DAILY (UTC)" in shown
    assert "until-open; now 4, in all 2.0 accelerator-hours of open windows" in shown
    assert shown.splitlines()[-1].split(None, 3)[:3] == ["2026-01-31T12:00:00Z", "8", "-"]


def test_a_reservation_for_nobody_is_refused_where_it_stands() -> None:
    given = b"{id: night, start: 2026-01-31T12:00:00Z, seconds: 3600, accelerators: 16, sku: h100}"
    result = run(FakeCorral(), "reserve", "-", given=given)
    assert result.exit_code == ExitCode.INVALID
    assert "say for whom, by queues, tenants or workloads" in result.stderr
    assert "nothing was reserved" in result.stderr


A_NIGHT = b"{id: %s, start: 2026-01-31T12:00:00Z, seconds: 3600, accelerators: 16, sku: h100, queues: [team]}\n"


def test_a_refused_reservation_ends_the_command_where_it_stands_and_tells_what_was_reserved() -> None:
    corral = FakeCorral()
    corral.refused["two"] = Invalid("queues: 'team' is no queue; `corral queue list` lists them")
    result = run(corral, "reserve", "-", given=b"---\n".join(A_NIGHT % name for name in (b"one", b"two", b"three")))
    assert result.exit_code == ExitCode.INVALID
    assert result.stderr == "<stdin>:3:84: queues: 'team' is no queue; `corral queue list` lists them\n"
    assert len(result.stdout.splitlines()) == 2
    assert [asked[0] for asked in corral.asked] == ["reserve", "reservation", "reserve"]


def test_reservations_of_one_command_have_ids_of_their_own() -> None:
    corral = FakeCorral()
    result = run(corral, "reserve", "-", given=A_NIGHT % b"one" + b"---\n" + A_NIGHT % b"one")
    assert result.stderr == (
        "<stdin>:3:1: id: 'one' is the id of the reservation at <stdin>:1:1; each needs its own\nnothing was reserved\n"
    )
    assert not corral.asked


def test_a_workload_that_has_ended_shows_how() -> None:
    lines = [line.split() for line in run(FakeCorral(AN_ENDED_WORKLOAD), "status", "w").stdout.splitlines()]
    assert ["Exit", "code", "0"] in lines
    assert ["Ended", "2026-01-31T12:00:00Z"] in lines


def test_nobody_is_told_to_leave_before_a_person_knows_how_many_that_are() -> None:
    corral = FakeCorral()
    command = ["evacuate", "region", "cloud/north", "--id", "heat", "--reason", "hot", "--by", "ada"]
    result = run(corral, *command)
    assert result.exit_code == ExitCode.INVALID
    assert result.stderr == (
        "2 workloads on 2 nodes would have to leave region cloud/north, of which 1 have no place to go now; "
        "nothing was changed: see them with --dry-run, or say --yes\n"
    )
    assert corral.asked == [("foresee_evacuation", SHORT)]
    assert run(corral, *command, "--yes").exit_code == 0
    assert corral.asked[-1] == ("evacuate", SHORT)


def test_an_evacuation_takes_its_deadline_as_people_write_it() -> None:
    corral = FakeCorral()
    run(corral, *["evacuate", "node", "cloud/n1", "--reason", "hot", "--deadline", "90m", "--at-once", "3", "--yes"])
    (_, (_, order)) = corral.asked
    assert isinstance(order, EvacuationOrder)
    assert (order.deadline_seconds, order.at_once, order.kind) == (5_400, 3, PlaceKind.NODE)
    assert order.who


def test_a_roll_out_without_a_token_by_which_somebody_is_worse_off_must_be_meant() -> None:
    corral = FakeCorral()
    command = ["policy", "roll-out", "default", "--id", "r", "--reason", "x", "--by", "ada"]
    result = run(corral, *command)
    assert result.exit_code == ExitCode.INVALID
    assert result.stderr == (
        "1 leaves, 1 over-cap; nothing was changed: see who with `what-if`, and give its --token, or say --yes\n"
    )
    assert [question for question, *_ in corral.asked] == ["what_if"]
    corral.foreseen = A_WHAT_IF.model_copy(update={"effects": ()})
    assert run(corral, *command).exit_code == 0
    assert [question for question, *_ in corral.asked] == ["what_if", "what_if", "roll_out"]


def test_what_a_change_would_do_is_shown_with_its_token() -> None:
    shown = run(FakeCorral(), "policy", "what-if", "default").stdout
    assert "makes room for waiting" in shown
    assert "1 leaves, 1 over-cap" in shown
    assert A_WHAT_IF.token in shown
    assert A_WHAT_IF.needs in shown


def test_the_trail_of_an_operation_is_shown_line_by_line() -> None:
    shown = run(FakeCorral(), "operations", "show", "heat").stdout
    assert "region cloud/north" in shown
    assert "too hot" in shown
    assert "\x1b" not in shown


def test_a_misspelt_variable_is_told_beside_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CORRAL_ADDRESS", "CORRAL_PRINCIPLE", "CORRAL_STATE_DIR"):
        monkeypatch.setenv(name, "x")
    result = run(FakeCorral(), "list")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "CORRAL_ADDRESS is not read; did you mean CORRAL_TEMPORAL_ADDRESS?",
        "CORRAL_PRINCIPLE is not read; did you mean CORRAL_PRINCIPAL?",
    ]
