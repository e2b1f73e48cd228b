import base64
import os

import pytest
from temporalio.api.common.v1 import Payload

from corral import sealing
from corral.sealing import CannotUnseal, Seal, data_converter, keys_of

OLD, NEW = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
SECRET = "the launch code is sesame"


def a_seal(text: str) -> Seal:
    return Seal(keys_of(text))


async def test_a_value_comes_back_and_nobody_reads_it_in_between() -> None:
    converter = data_converter(f"a:{OLD}")
    (payload,) = await converter.encode([{"secret": SECRET}])
    assert b"sesame" not in payload.SerializeToString()
    assert await converter.decode([payload], [dict[str, str]]) == [{"secret": SECRET}]


async def test_without_keys_it_can_be_read() -> None:
    (payload,) = await data_converter(None).encode([SECRET])
    assert b"sesame" in payload.SerializeToString()


async def test_the_same_value_is_never_sealed_alike() -> None:
    converter = data_converter(f"a:{OLD}")
    one, other = await converter.encode([SECRET, SECRET])
    assert one.data != other.data


async def test_after_rotation_what_was_sealed_before_can_be_read() -> None:
    (before,) = await a_seal(f"old:{OLD}").encode([Payload(data=b"sesame")])
    rotated = a_seal(f"new:{NEW},old:{OLD}")
    (after,) = await rotated.encode([Payload(data=b"sesame")])
    assert after.metadata["encryption-key-id"] == b"new"
    assert await rotated.decode([before, after]) == [Payload(data=b"sesame")] * 2


async def test_what_was_stored_before_sealing_began_can_be_read() -> None:
    plain = Payload(metadata={"encoding": b"json/plain"}, data=b"1")
    assert await a_seal(f"a:{OLD}").decode([plain]) == [plain]


async def test_a_missing_key_is_told_by_its_id() -> None:
    sealed = await a_seal(f"old:{OLD}").encode([Payload(data=b"sesame")])
    with pytest.raises(CannotUnseal, match="sealed by the key 'old'; the keys here are new"):
        await a_seal(f"new:{NEW}").decode(sealed)


@pytest.mark.parametrize("change", ["data", "key"])
async def test_what_was_tampered_with_is_refused(change: str) -> None:
    seal = a_seal(f"a:{OLD},b:{OLD}")
    (sealed,) = await seal.encode([Payload(data=b"sesame")])
    if change == "data":
        sealed.data = sealed.data[:-1] + bytes([sealed.data[-1] ^ 1])
    else:
        sealed.metadata["encryption-key-id"] = b"b"
    with pytest.raises(CannotUnseal, match="not what was sealed"):
        await seal.decode([sealed])


def test_without_what_seals_keys_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install corral"):
        keys_of(f"a:{OLD}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "entry 1: id:key is expected"),
        (OLD, "entry 1: id:key is expected"),
        (f"a:{OLD},b", "entry 2: id:key is expected"),
        (f"a b:{OLD}", "entry 1: id:key is expected"),
        (f"a:{OLD},a:{NEW}", "entry 2: the id 'a' is given twice"),
        ("a:not base64", "key 'a': base64 is expected"),
        ("a:c2hvcnQ=", "key 'a': 32 bytes are expected, as base64; these are 5"),
    ],
    ids=["nothing", "no id", "an id only", "an id with a space", "an id twice", "not base64", "too short"],
)
def test_keys_that_cannot_be_used_are_told_without_the_key(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as refused:
        keys_of(text)
    assert OLD not in str(refused.value)
