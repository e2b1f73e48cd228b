"""Sealed payloads: what workflows are given, say and are told is stored by Temporal as ciphertext.

Each payload is encrypted whole by AES-256-GCM under a nonce of its own. The key's id stands beside it and is authenticated.
"""

import base64
import binascii
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec

from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes, PayloadCodec

ENCODING = b"binary/encrypted"
ENCODING_FIELD, KEY_FIELD = "encoding", "encryption-key-id"
KEY_BYTES, NONCE_BYTES = 32, 12
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class CannotUnseal(RuntimeError):
    """A payload cannot be read; the message says why, and never what is in it."""


def keys_of(text: str) -> Mapping[str, bytes]:
    """Read keys from `id:key,id:key...`, each key of 32 bytes in base64. The first one seals, all unseal.

    Raises:
        ValueError: says which entry is wrong and how, without the key; or that nothing is installed to use it with.
    """
    if find_spec("cryptography") is None:
        raise ValueError("keys are of no use without the package cryptography: pip install corral[sealing]")
    keys: dict[str, bytes] = {}
    for number, entry in enumerate(text.split(","), start=1):
        id, colon, encoded = entry.strip().partition(":")
        if not colon or not _KEY_ID.fullmatch(id):
            raise ValueError(f"entry {number}: id:key is expected, the id of letters, digits, dots, hyphens and underscores")
        if id in keys:
            raise ValueError(f"entry {number}: the id {id!r} is given twice; each key needs its own")
        keys[id] = _key_of(id, encoded)
    return keys


def _key_of(id: str, encoded: str) -> bytes:
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError(f"key {id!r}: base64 is expected, such as `openssl rand -base64 32` prints") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"key {id!r}: {KEY_BYTES} bytes are expected, as base64; these are {len(key)}")
    return key


def data_converter(keys: str | None) -> DataConverter:
    """How values become payloads: as JSON, which is sealed where there are keys, and so are the messages of failures."""
    if keys is None:
        return pydantic_data_converter
    return replace(
        pydantic_data_converter,
        payload_codec=Seal(keys_of(keys)),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


def is_sealed(error: KeyError) -> bool:
    """Whether this is what Temporal's converter raises of a sealed payload where there are no keys."""
    return ENCODING.decode() in str(error)


class Seal(PayloadCodec):
    """Seals by the first key. Payloads that were never sealed are read as they are, so that sealing can begin at any time."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """Take keys by id, at least one."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._ciphers = {id: AESGCM(key) for id, key in keys.items()}
        self._first = next(iter(keys))

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Seal payloads."""
        return [self._sealed(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Unseal payloads.

        Raises:
            CannotUnseal: a key is missing, or the payload is not what was sealed.
        """
        return [self._unsealed(each) if each.metadata.get(ENCODING_FIELD) == ENCODING else each for each in payloads]

    def _sealed(self, payload: Payload) -> Payload:
        nonce, id = os.urandom(NONCE_BYTES), self._first.encode()
        sealed = self._ciphers[self._first].encrypt(nonce, payload.SerializeToString(), id)
        return Payload(metadata={ENCODING_FIELD: ENCODING, KEY_FIELD: id}, data=nonce + sealed)

    def _unsealed(self, payload: Payload) -> Payload:
        from cryptography.exceptions import InvalidTag

        id = payload.metadata.get(KEY_FIELD, b"")
        name = id.decode(errors="replace")
        if name not in self._ciphers:
            raise CannotUnseal(f"a payload was sealed by the key {name!r}; the keys here are {', '.join(self._ciphers)}")
        try:
            opened = self._ciphers[name].decrypt(payload.data[:NONCE_BYTES], payload.data[NONCE_BYTES:], id)
        except InvalidTag:
            raise CannotUnseal(f"a payload that names the key {name!r} is not what was sealed by it") from None
        return Payload.FromString(opened)
