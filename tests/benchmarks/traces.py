"""Traces of arrivals in the format of "Beware of Fragmentation" (Weng et al., USENIX ATC 2023), read strictly.

Columns stand in any order, and others beside them do not matter. Every error names the file, the line and the column, the value
and what was expected.
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from corral.api import WHOLE
from corral.cli.problems import InvalidInput, shown
from domain.worlds.fragmentation import Need

MOST = 10**9
"""The largest amount that a column may give."""

MOST_DEVICES = 1_000


class Column(NamedTuple):
    """How a value is read (`ValueError` where it is not acceptable), what is expected of it, and what none stands for."""

    read: Callable[[str], Any]
    expected: str
    default: str | None = None


@dataclass(frozen=True, slots=True)
class TraceNode:
    """One line of a node list: thousandths of cores, MiB, and devices of one SKU."""

    name: str
    cpu_milli: int
    memory_mib: int
    devices: int
    sku: str


def _name(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


def _whole(most: int) -> Callable[[str], int]:
    """Read a whole number, which may be written as 8.0 too."""

    def read(text: str) -> int:
        number = float(text)
        if not (number.is_integer() and 0 <= number <= most):
            raise ValueError(text)
        return int(number)

    return read


def _skus(text: str) -> tuple[str, ...]:
    return tuple(sku.strip() for sku in text.split("|") if sku.strip())


NAME = Column(_name, "a name")
AMOUNT = Column(_whole(MOST), f"a whole number from 0 to {MOST}")
DEVICES = Column(_whole(MOST_DEVICES), f"a whole number from 0 to {MOST_DEVICES}")

NODE_COLUMNS: Mapping[str, Column] = {
    "sn": NAME,
    "cpu_milli": AMOUNT,
    "memory_mib": AMOUNT,
    "gpu": DEVICES,
    "model": Column(str, "a model, or nothing"),
}
POD_COLUMNS: Mapping[str, Column] = {
    "name": NAME,
    "cpu_milli": AMOUNT,
    "memory_mib": AMOUNT,
    "num_gpu": DEVICES,
    "gpu_milli": Column(_whole(WHOLE), f"a whole number from 0 to {WHOLE}, or nothing for {WHOLE}", str(WHOLE)),
    "gpu_spec": Column(_skus, "models with | between them, or nothing for any", ""),
}


def read_nodes(file: Path) -> list[TraceNode]:
    """A node list, in the order of its lines.

    Raises:
        InvalidInput: all problems of the file, or that none of its nodes has an accelerator.
    """
    rows = _table(file, NODE_COLUMNS)
    _refuse_repeated(file, [(line, row["sn"]) for line, row in rows])
    found = [TraceNode(row["sn"], row["cpu_milli"], row["memory_mib"], row["gpu"], row["model"]) for _, row in rows]
    if not any(node.devices for node in found):
        raise InvalidInput([f"{file}: column gpu: 0 on every line; expected at least one node with accelerators"])
    return found


def read_pods(file: Path) -> dict[str, Need]:
    """What each pod of a pod list needs, by name.

    Raises:
        InvalidInput: all problems of the file.
    """
    rows = _table(file, POD_COLUMNS)
    _refuse_repeated(file, [(line, row["name"]) for line, row in rows])
    if problems := [f"{file}:{line}: {complaint}" for line, row in rows if (complaint := _wrong_share(row))]:
        raise InvalidInput(problems)
    return {row["name"]: _need(row) for _, row in rows}


def _wrong_share(row: Mapping[str, Any]) -> str | None:
    number, milli = row["num_gpu"], row["gpu_milli"]
    if number > 1 and milli != WHOLE:
        return f"column gpu_milli: {milli} for each of {number} accelerators; expected {WHOLE}, for several are whole ones"
    if number and not milli:
        return f"column gpu_milli: 0 of an accelerator; expected 1 to {WHOLE}, or num_gpu 0 for a pod that needs none"
    return None


def _need(row: Mapping[str, Any]) -> Need:
    number = row["num_gpu"]
    return Need(number * row["gpu_milli"], row["cpu_milli"], row["memory_mib"], row["gpu_spec"] if number else ())


def read_order(file: Path, pods: Mapping[str, Need]) -> list[str]:
    """Names of these pods as they arrive; a name may come again.

    Raises:
        InvalidInput: a name is not that of a pod, or there is none.
    """
    names = list(_words(file))
    if unknown := [(line, name) for line, name in names if name not in pods]:
        raise InvalidInput(
            [f"{file}:{line}: {shown(name)} is not in the list of pods; expected one of its names" for line, name in unknown]
        )
    if not names:
        raise InvalidInput([f"{file}: has no names; expected those of the pods that arrive, one a line"])
    return [name for _, name in names]


def read_ties(file: Path, nodes: Sequence[TraceNode]) -> dict[str, int]:
    """The number of each of these nodes, by name; they are all there.

    Raises:
        InvalidInput: a line is not NUMBER-NODE, a node is unknown, comes twice or is missing.
    """
    known, ties, problems = {node.name for node in nodes}, list[tuple[int, str, int]](), []
    for line, word in _words(file):
        number, dash, name = word.partition("-")
        if not (dash and number.isascii() and number.isdigit()):
            problems.append(f"{file}:{line}: {shown(word)} is not acceptable; expected NUMBER-NODE, such as 0012-node-7")
        elif name not in known:
            problems.append(f"{file}:{line}: {shown(name)} is not in the list of nodes; expected one of its names")
        else:
            ties.append((line, name, int(number)))
    if problems:
        raise InvalidInput(problems)
    _refuse_repeated(file, [(line, name) for line, name, _ in ties])
    numbers = {name: number for _, name, number in ties}
    if missing := [node.name for node in nodes if node.name not in numbers]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InvalidInput(
            [f"{file}: lacks {shown(missing[0])}{more} of the list of nodes; expected a line NUMBER-NODE for each"]
        )
    return numbers


def _refuse_repeated(file: Path, names: Sequence[tuple[int, str]]) -> None:
    counts, first = Counter(name for _, name in names), dict[str, int]()
    problems = [
        f"{file}:{line}: {shown(name)} is on line {first[name]} already; expected every name once"
        for line, name in names
        if counts[name] > 1 and first.setdefault(name, line) != line
    ]
    if problems:
        raise InvalidInput(problems)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInput([f"{file}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise InvalidInput([f"{file}: not text in UTF-8"]) from error


def _words(file: Path) -> Iterator[tuple[int, str]]:
    """Every word of a file, with its line."""
    for number, line in enumerate(_text(file).splitlines(), start=1):
        yield from ((number, word) for word in line.split())


def _table(file: Path, columns: Mapping[str, Column]) -> list[tuple[int, dict[str, Any]]]:
    """The values of these columns on every line, with its number."""
    rows = csv.DictReader(_text(file).splitlines())
    rows.fieldnames = given = [name.strip() for name in rows.fieldnames or ()]
    needed = [name for name, column in columns.items() if column.default is None]
    has = f"has {', '.join(map(shown, given))}" if given else "is empty"
    if missing := [name for name in needed if name not in given]:
        raise InvalidInput([f"{file}:1: column {missing[0]} is missing; expected {', '.join(needed)}, but the line {has}"])
    if repeated := [name for name in columns if given.count(name) > 1]:
        raise InvalidInput([f"{file}:1: column {repeated[0]} is there {given.count(repeated[0])} times; expected it once"])
    found, problems = [], []
    for row in rows:
        values, complaints = _values(row, columns)
        problems += [f"{file}:{rows.line_num}: {complaint}" for complaint in complaints]
        found.append((rows.line_num, values))
    if problems:
        raise InvalidInput(problems)
    if not found:
        raise InvalidInput([f"{file}: has nothing but its first line; expected lines below it"])
    return found


def _values(row: Mapping[str | None, Any], columns: Mapping[str, Column]) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    complaints = []
    for name, (read, expected, default) in columns.items():
        text = (row.get(name) or "").strip() or default or ""
        try:
            values[name] = read(text)
        except ValueError:
            complaints.append(f"column {name}: {shown(text)} is not acceptable; expected {expected}")
    if None in row:
        complaints.append("more values than columns; expected one value for each column")
    return values, complaints
