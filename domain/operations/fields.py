"""Documents as fields: what tells two of them apart, field by field, and the document that some fields make."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from corral.api import QueueSpec
from corral.policy import Policy

Path = tuple[str, ...]
Fields = Mapping[Path, str]
"""Values as canonical JSON, by the way to them. A mapping, or a list whose entries have names, is a field of its own, empty."""
Edits = Mapping[Path, str | None]
"""What becomes of fields: none, that they are no more."""

NAMED_BY: Mapping[str, tuple[str, ...]] = {
    "quotas": ("sku", "valid_from", "valid_until"),
    "user_limits": ("user",),
    "budgets": ("unit", "period_seconds", "half_life_seconds", "since"),
    "disruption_budgets": ("queue", "tier", "period_seconds"),
    "preferences": ("name",),
}
"""By what the entries of a list are told apart; any other list is one field."""


def of_policy(policy: Policy) -> Fields:
    """The fields of a policy."""
    return _below(policy.document, ())


def of_queues(queues: Iterable[QueueSpec]) -> Fields:
    """The fields of queues, each under its name."""
    return _below({queue.name: queue.model_dump(mode="json", exclude={"name"}) for queue in queues}, ())


def policy_of(fields: Fields) -> Policy:
    """The policy that has these fields.

    Raises:
        pydantic.ValidationError: no policy can have them.
    """
    return Policy.model_validate(_document(fields))


def queues_of(fields: Fields) -> tuple[QueueSpec, ...]:
    """The queues that have these fields.

    Raises:
        pydantic.ValidationError: no queues can have them.
    """
    return tuple(QueueSpec.model_validate({"name": name} | queue) for name, queue in _document(fields).items())


def edits(before: Fields, after: Fields) -> Edits:
    """What makes the one of the other."""
    changed = {path: value for path, value in after.items() if before.get(path) != value}
    return changed | dict.fromkeys(before.keys() - after.keys())


def edited(fields: Fields, edits: Edits) -> Fields:
    """The fields with edits made."""
    return {path: value for path, value in ({**fields, **edits}).items() if value is not None}


def in_words(path: Path) -> str:
    """A field as people read it, as in `research quotas h100 nominal`."""
    return " ".join(" ".join(str(part) for part in json.loads(step) if part) if step.startswith("[") else step for step in path)


def _fields(value: Any, path: Path) -> Iterable[tuple[Path, str]]:
    match value:
        case dict():
            children: Mapping[str, Any] = value
            yield path, "{}"
        case list() if path[-1] in NAMED_BY:
            children = _by_name(path[-1], value)
            yield path, "[]"
        case _:
            children = {}
            yield path, json.dumps(value, sort_keys=True)
    yield from _below(children, path).items()


def _below(children: Mapping[str, Any], path: Path) -> Fields:
    return dict(field for name, child in children.items() for field in _fields(child, (*path, name)))


def _by_name(kind: str, entries: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The entries of a list without what they are named by; those of the same name are told apart by their order."""
    named: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        name: list[Any] = [entry[part] for part in NAMED_BY[kind]]
        while json.dumps(name) in named:
            name.append("again")
        named[json.dumps(name)] = {part: value for part, value in entry.items() if part not in NAMED_BY[kind]}
    return named


def _document(fields: Fields) -> dict[str, Any]:
    """The document with these fields. A field with others below it is what has those, whatever it is said to be."""
    tree: dict[str, Any] = {}
    for path in fields:
        node = tree
        for step in path:
            node = node.setdefault(step, {})
    return {name: _value(fields, (name,), below) for name, below in tree.items()}


def _value(fields: Fields, path: Path, below: Mapping[str, Any]) -> Any:
    if not below:
        return json.loads(fields[path])
    children = {name: _value(fields, (*path, name), more) for name, more in below.items()}
    if path[-1] not in NAMED_BY or not all(name.startswith("[") for name in children):
        return children
    return [dict(zip(NAMED_BY[path[-1]], json.loads(name), strict=False)) | child for name, child in children.items()]
