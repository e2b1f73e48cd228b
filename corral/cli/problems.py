"""Problems with what a person wrote, in words: what was wrong, where, and what was expected."""

import difflib
import json
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from corral.api import Identifier
from corral.client import Invalid

LONGEST_VALUE = 60
"""Characters of a value that an error repeats."""

MOST_PROBLEMS = 50
"""Problems that are told at once."""

Path = tuple[str | int, ...]
"""The keys and indices that lead to a value."""

Checked = TypeVar("Checked", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: the path to the value, and a sentence that begins after it."""

    path: Path
    message: str
    is_about_key: bool = False

    def __str__(self) -> str:
        return f"{path_in_words(self.path)}: {self.message}" if self.path else self.message


class InvalidInput(Invalid):
    """Input in which something is wrong; one line for each problem."""

    def __init__(self, lines: Sequence[str], consequence: str = "") -> None:
        """Tell the problems, of which at most `MOST_PROBLEMS` are shown, and what became of the command."""
        hidden = len(lines) - MOST_PROBLEMS
        rest = f"... and {hidden} more problems" if hidden > 0 else ""
        super().__init__("\n".join(line for line in [*lines[:MOST_PROBLEMS], rest, consequence] if line))
        self.lines = tuple(lines)


def checked(model: type[Checked], **options: object) -> Checked:
    """Build a model from options of the command line.

    Raises:
        InvalidInput: an option's value is not acceptable.
    """
    try:
        return model.model_validate(options)
    except ValidationError as error:
        raise InvalidInput([str(problem) for problem in problems(error, model, options)]) from error


class _Named(BaseModel):
    id: Identifier


def checked_id(text: str) -> str:
    """A workload's id as a person typed it.

    Raises:
        InvalidInput: it cannot be the id of any workload.
    """
    return checked(_Named, id=text).id


def problems(error: ValidationError, model: type[BaseModel], data: object) -> list[Problem]:
    """Put pydantic's errors about the data in words, one for each value that is wrong."""
    by_path: dict[Path, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        if not _is_echo(detail):
            by_path.setdefault(_path_in(data, detail), []).append(detail)
    return [in_words(details, path, model) for path, details in by_path.items()]


def option_in_words(error: ValidationError) -> str:
    """What is wrong with one option or argument of the command line."""
    detail = error.errors(include_url=False)[0]
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    return in_words([detail], (), BaseModel).message


def _is_echo(detail: ErrorDetails) -> bool:
    """Whether a list is called too short only because an entry of it is wrong."""
    return detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]


def _path_in(data: Any, detail: ErrorDetails) -> Path:
    """Where in the data the error is.

    Beyond the data, `loc` names the branch of a union, or a key that is missing; a branch that a value of the data names is
    passed over.
    """
    location, is_missing = detail["loc"], detail["type"] == "missing"
    path: list[str | int] = []
    for step in location[:-1] if is_missing else location:
        is_field = isinstance(data, Mapping) and step in data
        is_entry = isinstance(data, (list, tuple)) and isinstance(step, int)
        if is_field or is_entry:
            path.append(step)
            data = data[step]
        elif not (isinstance(data, Mapping) and step in data.values()):
            return location if is_missing else tuple(path)
    return (*path, location[-1]) if is_missing else tuple(path)


def in_words(details: Sequence[ErrorDetails], path: Path, model: type[BaseModel]) -> Problem:
    """Describe the errors of one value: the most telling one, where the branches of a union disagree."""
    telling = [detail for detail in details if detail["type"] not in {"int_type", "float_type"}]
    if not telling and len(details) > 1:
        return Problem(path, f"{shown(details[0]['input'])} is not a number" + _in_its_unit(path, details[0]["input"]))
    detail = (telling or details)[0]
    if detail["type"] == "extra_forbidden":
        return Problem(path, _unknown_field(str(path[-1]), fields_at(model, path[:-1])), is_about_key=True)
    describe = _WORDS.get(detail["type"])
    words = describe(detail) if describe else f"{shown(detail['input'])}: {detail['msg']}"
    return Problem(path, words + _in_its_unit(path, detail["input"]))


_UNITS: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "seconds": ("seconds", {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}),
    "mib": ("MiB", {"mi": 1, "mib": 1, "gi": 1_024, "gib": 1_024, "ti": 1_024**2, "tib": 1_024**2}),
    "gib": ("GiB", {"gi": 1, "gib": 1, "ti": 1_024, "tib": 1_024}),
}
"""By the unit that ends the name of a field: its own name, and what others that people write are in it."""


def _in_its_unit(path: Path, value: object) -> str:
    """What to write instead of a number with another unit, where the field's name ends with its own."""
    words = str(path[-1]).split("_") if path else []
    if not isinstance(value, str) or not words or "per" in words or words[-1] not in _UNITS:
        return ""
    unit, others = _UNITS[words[-1]]
    written = re.fullmatch(r"([0-9]{1,9}) ?([A-Za-z]+)", value)
    if written is None or (size := others.get(written[2].lower())) is None:
        return ""
    return f"; it is in {unit}: write {int(written[1]) * size}"


def nearest(name: str, known: Sequence[str], alike: float = 0.6) -> list[str]:
    """Which of the known names may be meant: those that say the same in more words, else the one that is like it, if any.

    `alike` is how much the two must have in common, from 0 to 1.
    """
    words = set(name.split("_"))
    longer = [each for each in known if words < set(each.split("_"))][:3]
    return longer or difflib.get_close_matches(name[:LONGEST_VALUE], known, n=1, cutoff=alike)


def _unknown_field(name: str, known: Sequence[str]) -> str:
    if near := nearest(name, known):
        return f"no such field; did you mean {' or '.join(f'`{each}`' for each in near)}?"
    return f"no such field; the fields are {', '.join(known)}"


def fields_at(model: type[BaseModel], path: Path) -> list[str]:
    """The names of the fields of the model that is found at a path within a model; of all that may be there."""
    annotation: Any = model
    for step in path:
        models = _models_of(annotation)
        found = (each.model_fields[step].annotation for each in models if step in each.model_fields)
        annotation = next(found) if models else _of_an_entry(_plain(annotation))
    return list(dict.fromkeys(field for each in _models_of(annotation) for field in each.model_fields))


def _models_of(annotation: Any) -> list[type[BaseModel]]:
    """The models that a value with this annotation may be of."""
    if get_origin(annotation) is Annotated:
        return _models_of(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return [model for branch in get_args(annotation) for model in _models_of(branch)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []


def _of_an_entry(annotation: Any) -> Any:
    """What the entries of a list, or the values of a mapping, are annotated with."""
    key_or_entry, *value = get_args(annotation)
    return value[0] if get_origin(annotation) is Mapping else key_or_entry


def _plain(annotation: Any) -> Any:
    """An annotation without its constraints and without `None`."""
    while get_origin(annotation) in {Annotated, Union, types.UnionType}:
        annotation = get_args(annotation)[0]
    return annotation


def shown(value: object) -> str:
    """A value as an error repeats it: on one line, without control characters, and short."""
    match value:
        case None:
            return "an empty value"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str() if len(value) > LONGEST_VALUE:
            return f"{_quoted(value[:LONGEST_VALUE])}... ({len(value)} characters)"
        case str():
            return _quoted(value)
    return _shortened(json.dumps(value, default=str))


def printable(text: str) -> str:
    """Text in which characters that a terminal would obey, such as escape and newline, are spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _quoted(text: str) -> str:
    return printable(json.dumps(text, ensure_ascii=False))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "..."


def path_in_words(path: Iterable[str | int]) -> str:
    """A path as people write it, such as `groups[0].count`."""
    written = "".join(f"[{step}]" if isinstance(step, int) else f".{_shortened(printable(step))}" for step in path)
    return written.removeprefix(".")


_PATTERNS: Mapping[str, str] = {
    r"^[a-z0-9][a-z0-9._-]{0,99}$": (
        "1 to 100 lower-case letters, digits, dots, dashes and underscores, beginning with a letter or a digit"
    ),
    r"^SIG[A-Z0-9]{1,9}$": "the name of a signal, such as SIGTERM",
    r"^[^\x00]*$": "text without a zero byte",
    r"^[^/\x00]+(/[^/\x00]+){1,2}$": "PROVIDER/REGION, PROVIDER/REGION/CLUSTER or PROVIDER/NODE, such as sim/us-east",
    r"^[^/\x00]+(/[^/\x00]+){2}$": "PROVIDER/REGION/CLUSTER, such as sim/us-east/c0",
    r"^[a-z0-9][a-z0-9._-]{0,99}/[a-z0-9][a-z0-9._-]{0,99}$": "PROVIDER/POOL, such as sim/burst-h100",
    r"^[0-9a-f]{16}$": "the token of a what-if, 16 hexadecimal digits",
    r"^(cordon|drain|uncordon)$": "cordon, drain or uncordon",
    r"^(never|lower-priority)$": "never or lower-priority",
}


def _says(complaint: str) -> Callable[[ErrorDetails], str]:
    """Describe an error by the value and a complaint, which may use what pydantic tells about the constraint."""
    return lambda detail: f"{shown(detail['input'])} " + complaint.format(**detail.get("ctx", {}))


def _counts(complaint: str) -> Callable[[ErrorDetails], str]:
    """Describe an error by the length of the value."""
    return lambda detail: complaint.format(length=len(detail["input"]), **detail.get("ctx", {}))


def _pattern(detail: ErrorDetails) -> str:
    pattern = detail["ctx"]["pattern"]
    return f"{shown(detail['input'])} is not acceptable; expected {_PATTERNS.get(pattern, f'text that matches {pattern}')}"


def _not_text(detail: ErrorDetails) -> str:
    value = detail["input"]
    advice = "expected text" if value is None or isinstance(value, (Mapping, list)) else "write it in quotes"
    return f"{shown(value)} is not text; {advice}"


def _not_whole(detail: ErrorDetails) -> str:
    value = detail["input"]
    advice = "; write it without quotes" if isinstance(value, str) and value.lstrip("-").isdecimal() else ""
    return f"{shown(value)} is not a whole number{advice}"


def _broken_rule(detail: ErrorDetails) -> str:
    """The words of a rule of the model itself, after the value if it is a single one."""
    rule = str(detail["ctx"]["error"])
    return rule if isinstance(detail["input"], (Mapping, list)) else f"{shown(detail['input'])} is not acceptable: {rule}"


_NOT_A_LIST = _says("is not a list; write [one, two], or one line beginning with `- ` for each entry")
_NOT_FIELDS = _says("is not a mapping; expected fields, each written `name: value`")
_NOT_A_TIME = _says("is not a time; write it like 2026-01-31T08:00:00Z")
_NOT_TRUE_OR_FALSE = _says("is neither true nor false")


def _unknown_tag(detail: ErrorDetails) -> str:
    told = detail["ctx"]
    return f"{told['discriminator'].strip(QUOTE)} {shown(told['tag'])} is not known; expected {told['expected_tags']}"


QUOTE = "'"
"""Around the name of a field, as Pydantic tells which one decides between models."""


_WORDS: Mapping[str, Callable[[ErrorDetails], str]] = {
    "missing": lambda detail: "required, but not given",
    "literal_error": _says("is not known; expected {expected}"),
    "enum": _says("is not known; expected {expected}"),
    "union_tag_invalid": _unknown_tag,
    "union_tag_not_found": lambda detail: f"{detail['ctx']['discriminator'].strip(QUOTE)} is required, but not given",
    "string_pattern_mismatch": _pattern,
    "string_type": _not_text,
    "string_unicode": _says("is not text; it contains half of a surrogate pair"),
    "string_too_short": _counts("has {length} characters; expected at least {min_length}"),
    "string_too_long": _counts("has {length} characters; expected at most {max_length}"),
    "int_type": _not_whole,
    "float_type": _says("is not a number"),
    "int_parsing": _not_whole,
    "int_from_float": _not_whole,
    "float_parsing": _says("is not a number"),
    "finite_number": _says("is not a finite number"),
    "greater_than": _says("is too small; expected more than {gt:g}"),
    "less_than": _says("is too large; expected less than {lt:g}"),
    "multiple_of": _says("is not acceptable; expected a multiple of {multiple_of:g}"),
    "greater_than_equal": _says("is too small; expected at least {ge}"),
    "less_than_equal": _says("is too large; expected at most {le}"),
    "bool_type": _NOT_TRUE_OR_FALSE,
    "bool_parsing": _NOT_TRUE_OR_FALSE,
    "tuple_type": _NOT_A_LIST,
    "too_short": _counts("has {length} entries; expected at least {min_length}"),
    "too_long": _counts("has {length} entries; expected at most {max_length}"),
    "model_type": _NOT_FIELDS,
    "mapping_type": _NOT_FIELDS,
    "dict_type": _NOT_FIELDS,
    "timezone_aware": _says("has no time zone; add Z for UTC, or an offset such as +02:00"),
    "datetime_type": _NOT_A_TIME,
    "datetime_parsing": _NOT_A_TIME,
    "datetime_from_date_parsing": _NOT_A_TIME,
    "value_error": _broken_rule,
}
