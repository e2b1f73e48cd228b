"""Traces as strangers bring them: what is read, and what is said of what cannot be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from corral.cli.problems import InvalidInput
from domain.worlds.fragmentation import Need
from tests.benchmarks.traces import TraceNode, read_nodes, read_order, read_pods, read_ties

NODES = "sn,cpu_milli,memory_mib,gpu,model\n"
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
DEMAND = {"one": Need(1000, 1, 1)}
FLEET = [TraceNode("a", 1, 1, 1, "T4"), TraceNode("b-2", 1, 1, 1, "T4")]


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def written(text: str) -> Path:
        path = tmp_path / "trace"
        path.write_bytes(text.encode())
        return path

    return written


def test_columns_stand_in_any_order_among_others_and_lines_end_as_they_like(file: Callable[[str], Path]) -> None:
    nodes = read_nodes(file("\ufeffmodel, gpu ,rack,memory_mib,cpu_milli,sn\r\nT4,2,r1,100,8000.0,a\r\n\r\n,0,r1,1,1,b\r\n"))
    assert nodes == [TraceNode("a", 8000, 100, 2, "T4"), TraceNode("b", 1, 1, 0, "")]


def test_a_pod_without_a_share_wants_whole_accelerators_and_without_models_any(file: Callable[[str], Path]) -> None:
    pods = read_pods(file("name,cpu_milli,memory_mib,num_gpu,gpu_milli\nfour,1,1,4,\nhalf,1,1,1,500\nnone,1,1,0,1000\n"))
    assert pods == {"four": Need(4000, 1, 1), "half": Need(500, 1, 1), "none": Need(0, 1, 1)}
    pods = read_pods(file(PODS + "picky,1,1,2,1000,T4|P100\nnone,1,1,0,0,T4\n"))
    assert pods == {"picky": Need(2000, 1, 1, ("T4", "P100")), "none": Need(0, 1, 1)}


def test_names_come_again_and_ties_go_by_number(file: Callable[[str], Path]) -> None:
    assert read_order(file("one\r\n\r\none\r\n"), DEMAND) == ["one", "one"]
    assert read_ties(file("10-a\n9-b-2\n"), FLEET) == {"a": 10, "b-2": 9}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "trace:1: column sn is missing; expected sn, cpu_milli, memory_mib, gpu, model, but the line is empty"),
        (
            "sn;gpu\na;1\n",
            'trace:1: column sn is missing; expected sn, cpu_milli, memory_mib, gpu, model, but the line has "sn;gpu"',
        ),
        ("sn,sn,cpu_milli,memory_mib,gpu,model\n", "trace:1: column sn is there 2 times; expected it once"),
        (NODES, "trace: has nothing but its first line; expected lines below it"),
        (NODES + "a,1,1,0,\n", "trace: column gpu: 0 on every line; expected at least one node with accelerators"),
        (NODES + "a,1,1,1,T4\na,2,1,1,T4\n", 'trace:3: "a" is on line 2 already; expected every name once'),
        (
            NODES + "a,-1,1,1,T4\n",
            'trace:2: column cpu_milli: "-1" is not acceptable; expected a whole number from 0 to 1000000000',
        ),
        (NODES + "a,1,1,1.5,T4\n", 'trace:2: column gpu: "1.5" is not acceptable; expected a whole number from 0 to 1000'),
        (NODES + "a,1,1\n", 'trace:2: column gpu: "" is not acceptable; expected a whole number from 0 to 1000'),
        (NODES + "a,1,1,1,T4,x\n", "trace:2: more values than columns; expected one value for each column"),
    ],
)
def test_a_node_list_that_is_wrong_is_refused_by_line_and_column(file: Callable[[str], Path], text: str, problem: str) -> None:
    assert problem_of(lambda: read_nodes(file(text))) == problem


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("p,1,1,2,500,", "column gpu_milli: 500 for each of 2 accelerators; expected 1000, for several are whole ones"),
        ("p,1,1,1,0,", "column gpu_milli: 0 of an accelerator; expected 1 to 1000, or num_gpu 0 for a pod that needs none"),
        (
            "p,1,1,1,1500,",
            'column gpu_milli: "1500" is not acceptable; expected a whole number from 0 to 1000, or nothing for 1000',
        ),
        (",1,1,1,1000,", 'column name: "" is not acceptable; expected a name'),
    ],
)
def test_a_pod_that_no_device_could_take_as_it_is_asked_for_is_refused(
    file: Callable[[str], Path], line: str, problem: str
) -> None:
    assert problem_of(lambda: read_pods(file(PODS + line))) == f"trace:2: {problem}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "trace: has no names; expected those of the pods that arrive, one a line"),
        ("one\ntwo\n", 'trace:2: "two" is not in the list of pods; expected one of its names'),
    ],
)
def test_an_order_that_names_no_pod_or_another_is_refused(file: Callable[[str], Path], text: str, problem: str) -> None:
    assert problem_of(lambda: read_order(file(text), DEMAND)) == problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a\n", 'trace:1: "a" is not acceptable; expected NUMBER-NODE, such as 0012-node-7'),
        ("1-c\n", 'trace:1: "c" is not in the list of nodes; expected one of its names'),
        ("1-a\n2-a\n3-b-2\n", 'trace:2: "a" is on line 1 already; expected every name once'),
        ("1-b-2\n", 'trace: lacks "a" of the list of nodes; expected a line NUMBER-NODE for each'),
        ("", 'trace: lacks "a" and 1 more of the list of nodes; expected a line NUMBER-NODE for each'),
    ],
)
def test_ties_that_leave_the_order_of_nodes_open_are_refused(file: Callable[[str], Path], text: str, problem: str) -> None:
    assert problem_of(lambda: read_ties(file(text), FLEET)) == problem


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    assert problem_of(lambda: read_nodes(tmp_path / "gone")) == "gone: cannot be read: No such file or directory"
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    assert problem_of(lambda: read_nodes(tmp_path / "bytes")) == "bytes: not text in UTF-8"


def problem_of(read: Callable[[], object]) -> str:
    """What is said of a file, without the directory that it is in."""
    with pytest.raises(InvalidInput) as refused:
        read()
    return str(refused.value).rpartition("/")[2]
