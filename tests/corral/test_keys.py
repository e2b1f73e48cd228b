"""Keys to sign commands with: made once, kept to oneself, and asked for whole."""

import os
from pathlib import Path

import pytest

from corral.cli.connection import Connection
from corral.cli.problems import InvalidInput
from corral.signing import Command, Signer, key_bytes, read_claim, signer_of, verify
from tests.corral.fakes import FakeCorral, run

A_COMMAND = Command("cancel", "workload/w", "r1", "x")


def test_a_new_key_is_for_its_owner_alone_and_signs_what_its_public_half_verifies(tmp_path: Path) -> None:
    file = tmp_path / "key"
    result = run(FakeCorral(), "new-key", str(file), "-o", "json")
    assert result.exit_code == 0
    public = result.stdout.split('"')[3]
    assert os.stat(file).st_mode & 0o777 == 0o600
    verify(read_claim(signer_of("ada", file).sign(A_COMMAND)), public)
    assert file.read_text().strip() not in result.stdout


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("mine")
    result = run(FakeCorral(), "new-key", str(file))
    assert (result.exit_code, file.read_text()) == (4, "mine")
    assert "is there already; a key is never overwritten" in result.stderr


def test_a_key_that_cannot_be_written_is_a_plain_error(tmp_path: Path) -> None:
    result = run(FakeCorral(), "new-key", str(tmp_path / "nowhere" / "key"))
    assert (result.exit_code, result.stderr) == (2, f"{tmp_path}/nowhere/key: cannot be written: No such file or directory\n")


@pytest.mark.parametrize(
    ("principal", "content", "problem"),
    [
        ("ada", None, "--signing-key: {file}: cannot be read: No such file or directory"),
        ("ada", "not base64!", "--signing-key: base64 is expected"),
        ("ada", "c2hvcnQ=", "--signing-key: the base64 of 32 bytes is expected; it is of 5"),
        (None, "c2hvcnQ=", "--signing-key: --principal is expected beside it"),
    ],
)
async def test_what_is_no_key_is_told_by_its_option(
    tmp_path: Path, principal: str | None, content: str | None, problem: str
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidInput) as refused:
        await Connection("127.0.0.1:1", "default", "main", principal=principal, signing_key=file).open()
    assert str(refused.value) == problem.format(file=file)


async def test_a_principal_without_a_key_is_told_so() -> None:
    with pytest.raises(InvalidInput, match="--principal: --signing-key is expected beside it"):
        await Connection("127.0.0.1:1", "default", "main", principal="ada").open()


def test_a_key_is_not_repeated_in_an_error() -> None:
    with pytest.raises(ValueError, match="base64 is expected") as refused:
        key_bytes("secret!")
    assert "secret" not in str(refused.value)
    with pytest.raises(ValueError, match="base64 of 32 bytes"):
        Signer("ada", "c2VjcmV0")
