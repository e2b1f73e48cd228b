"""Signed commands: a client says who gives a command, in a way that nobody else can say it, and for that command alone.

A claim names the principal, the command, what it is about, the request and the moment, and holds a digest of what is asked.
It is signed with the principal's Ed25519 key and travels as a header. Whoever reads it, as in Temporal's histories, can only
repeat the very same request, which is done once; of a schedule that is signed, what is due at its times, each once.
"""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    CreateScheduleInput,
    Interceptor,
    OutboundInterceptor,
    ScheduleActionStartWorkflow,
    ScheduleHandle,
    SignalWorkflowInput,
    StartActivityInput,
    StartWorkflowInput,
    StartWorkflowUpdateInput,
)

from corral import wire
from corral.api import EvacuationOrder, Model
from corral.schedule import ScheduleSpec

HEADER = "corral-claim"
KEY_BYTES = 32


class BadClaim(ValueError):
    """A claim that proves nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class Command:
    """What a claim is for: `content` is a digest of what is asked; the same request is the same `request`."""

    name: str
    subject: str
    request: str
    content: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Who gives a command, and when; times are seconds since 1970 by the wall."""

    principal: str
    command: Command
    at: int
    signature: str = ""

    def signed_text(self) -> bytes:
        """What the signature is of."""
        return json.dumps(["corral-claim-1", asdict(replace(self, signature=""))], sort_keys=True).encode()


_CLAIM = TypeAdapter(Claim)


def digest_of(content: Mapping[str, Any] | Model) -> str:
    """A digest of what is asked: fields at their default do not count, so that a later version may have more of them."""
    plain = content.model_dump(mode="json", exclude_defaults=True) if isinstance(content, Model) else dict(content)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


class Signer:
    """A principal with its private key."""

    def __init__(self, principal: str, key: str, now: Callable[[], float] = time.time) -> None:
        """Take the key as base64 of its 32 bytes.

        Raises:
            ValueError: it is none; or nothing is installed to use it with.
        """
        require_cryptography()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._principal = principal
        self._key = Ed25519PrivateKey.from_private_bytes(key_bytes(key))
        self._now = now

    def sign(self, command: Command) -> Payload:
        """A claim for a command, as a header."""
        claim = Claim(self._principal, command, int(self._now()))
        signature = base64.b64encode(self._key.sign(claim.signed_text())).decode()
        return Payload(metadata={"encoding": b"json/plain"}, data=_CLAIM.dump_json(replace(claim, signature=signature)))


def read_claim(header: Payload) -> Claim:
    """The claim in a header, believed by nobody yet.

    Raises:
        BadClaim: there is none in it.
    """
    try:
        return _CLAIM.validate_json(header.data)
    except ValidationError as error:
        raise BadClaim("its claim cannot be read") from error


def verify(claim: Claim, public_key: str) -> None:
    """Make sure that the owner of the key signed the claim.

    Raises:
        BadClaim: somebody else did, or the claim was changed since.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        signature = base64.b64decode(claim.signature, validate=True)
        Ed25519PublicKey.from_public_bytes(key_bytes(public_key)).verify(signature, claim.signed_text())
    except (InvalidSignature, ValueError) as error:
        raise BadClaim(f"its claim is not signed by the key of {claim.principal!r}") from error


def new_keys() -> tuple[str, str]:
    """A private key and its public key, each as base64 of its 32 bytes."""
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private, public = key.private_bytes_raw(), key.public_key().public_bytes_raw()
    return base64.b64encode(private).decode(), base64.b64encode(public).decode()


def key_bytes(text: str) -> bytes:
    """The bytes of a key.

    Raises:
        ValueError: it is none; the key is not repeated.
    """
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError as error:
        raise ValueError("base64 is expected") from error
    if len(key) != KEY_BYTES:
        raise ValueError(f"the base64 of {KEY_BYTES} bytes is expected; it is of {len(key)}")
    return key


def require_cryptography() -> None:
    """Make sure that there is something to sign and verify with.

    Raises:
        ValueError: there is not.
    """
    if find_spec("cryptography") is None:
        raise ValueError("keys are of no use without the package cryptography: pip install corral[sealing]")


def signer_of(principal: str, file: Path) -> Signer:
    """The principal whose private key is in a file.

    Raises:
        ValueError: the file cannot be read, or holds no key.
    """
    try:
        return Signer(principal, file.read_text())
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: base64 is expected") from error


# What a client's calls are, as commands

STARTS: Mapping[str, str] = {
    wire.LIFECYCLE: "submit",
    wire.RESERVATION: "reserve",
    wire.EVACUATION: "evacuate",
    wire.ROLLOUT: "roll-out",
}
MANDATE = "mandate"
STEERS = "steer-operation"
OPERATIONS = frozenset({"evacuation", "rollout"})
"""As their workflows' ids begin."""
RESERVATION_CHANGES: Mapping[str, str] = {
    wire.ReservationUpdate.EXTEND: "extend-reservation",
    wire.ReservationUpdate.CANCEL: "cancel-reservation",
}
APPLIES: Mapping[str, str] = {
    wire.Inquiry.APPLY_QUEUES: "apply-queues",
    wire.Inquiry.APPLY_DATASETS: "apply-datasets",
    wire.Inquiry.APPLY_POLICY: "apply-policy",
    wire.Inquiry.DECLARE_LOST: "declare-lost",
    wire.Inquiry.REVOKE_MANDATE: "revoke-mandate",
}


def begun(kind: str, subject: str, digest: str) -> Command:
    """The command that starts a workflow of a kind: the same spec is the same request."""
    return Command(STARTS[kind], subject, digest, digest_of({}))


def mandated(spec: ScheduleSpec) -> Command:
    """The command by which a schedule is signed: all that it orders is ordered by it."""
    return Command(MANDATE, wire.schedule_id(spec.id), spec.mandate, spec.digest)


def due(spec: ScheduleSpec, at: datetime) -> Command:
    """The command that a schedule gives at a time."""
    order = spec.order_at(at)
    if isinstance(order, EvacuationOrder):
        return begun(wire.EVACUATION, wire.evacuation_workflow_id(order.id), order.digest)
    return begun(wire.ROLLOUT, wire.rollout_workflow_id(order.id), order.digest)


def updated(update: str, subject: str, request: str, change: Model) -> Command | None:
    """The command that an update is, or none for one that changes nothing."""
    kind = subject.partition("/")[0]
    content = digest_of(change)
    if kind == "reservation":
        return Command(RESERVATION_CHANGES[update], subject, request, content)
    if kind in OPERATIONS:
        return Command(STEERS, subject, request, digest_of({"verb": str(update)} | change.model_dump(mode="json")))
    return Command(str(update), subject, request, content)


class SignCommands(Interceptor):
    """Signs what a client starts, changes and applies; questions need no signature."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        """Come before what sends."""
        return _Signing(next, self.signer)


class _Signing(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, signer: Signer) -> None:
        super().__init__(next)
        self._signer = signer

    def _with_claim(self, headers: Mapping[str, Payload], command: Command | None) -> Mapping[str, Payload]:
        return headers if command is None else {**headers, HEADER: self._signer.sign(command)}

    async def start_workflow(self, input: StartWorkflowInput) -> Any:
        if input.workflow in STARTS:
            input.headers = self._with_claim(input.headers, begun(input.workflow, input.id, input.args[0].digest))
        return await super().start_workflow(input)

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> Any:
        if input.args:
            command = updated(input.update, input.id, input.update_id or "", input.args[0])
            input.headers = self._with_claim(input.headers, command)
        return await super().start_workflow_update(input)

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:
        if input.args:
            input.headers = self._with_claim(input.headers, _told(input))
        await super().signal_workflow(input)

    async def start_activity(self, input: StartActivityInput) -> Any:
        if input.activity_type in APPLIES:
            command = Command(APPLIES[input.activity_type], "pool", input.id, applied(input.args))
            input.headers = self._with_claim(input.headers, command)
        if input.activity_type == wire.Inquiry.MANDATE:
            input.headers = self._with_claim(input.headers, mandated(input.args[0]))
        return await super().start_activity(input)

    async def create_schedule(self, input: CreateScheduleInput) -> ScheduleHandle:
        action = input.schedule.action
        if isinstance(action, ScheduleActionStartWorkflow) and isinstance(spec := action.args[0], ScheduleSpec):
            action.headers = self._with_claim(action.headers or {}, mandated(spec))
        return await super().create_schedule(input)


def _told(input: SignalWorkflowInput) -> Command | None:
    told = input.args[0]
    match input.signal:
        case wire.Telling.DEMAND:
            return Command("demand", input.id, told.key, digest_of(told.demand))
        case wire.Telling.CHECKPOINTED:
            return Command("checkpointed", input.id, told.key, digest_of({}))
    return None


def applied(args: Sequence[Any]) -> str:
    """A digest of a document that is applied."""
    (document,) = args
    return digest_of(document)
