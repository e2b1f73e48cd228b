"""Payloads: anybody may send any to a workflow; one that cannot be read must not fail its tasks again and again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter

from corral.sealing import ENCODING as SEALED

_ENCODING = "encoding"
_READ = (b"json/plain", b"binary/null")
_OF_ONE_TYPE = (b"binary/null", b"binary/plain")
"""Temporal makes nothing and bytes of them, whatever is expected."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What came instead of a value; `why` says what was expected."""

    why: str


def taking_anything(converter: DataConverter) -> DataConverter:
    """The same converter, except that what nobody has said a type of, and cannot be read, is a value that says so.

    That is what workflows begin with (`workflows.beginnings`). What has a type fails as before, which drops a signal, refuses
    an update, and has a step's answer read again by newer code. So does what is sealed: another worker may have its key.
    """
    return replace(converter, payload_converter_class=TakingAnything)


class TakingAnything(PydanticPayloadConverter):
    """Reads JSON; whatever else nobody expects becomes `Unreadable`."""

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        """Values of payloads, as many."""
        if not type_hints:
            return [self._value_of(payload) for payload in payloads]
        values = super().from_payloads(payloads, type_hints)
        return [
            TypeAdapter(hint).validate_python(value) if payload.metadata.get(_ENCODING) in _OF_ONE_TYPE else value
            for payload, hint, value in zip(payloads, type_hints, values, strict=True)
        ]

    def _value_of(self, payload: Payload) -> Any:
        encoding = payload.metadata.get(_ENCODING, b"")
        if encoding not in (*_READ, SEALED):
            return Unreadable(f"{encoding.decode(errors='replace') or 'a payload without an encoding'} - JSON is expected")
        try:
            (value,) = super().from_payloads([payload])
        except ValidationError as error:
            return Unreadable("; ".join(each["msg"] for each in error.errors(include_url=False, include_input=False)))
        return value
