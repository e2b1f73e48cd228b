import asyncio
from pathlib import Path
from typing import Any

import pytest

from corral.cli.connection import Connection, Identity
from corral.cli.problems import InvalidInput
from corral.tls import tls_of
from tests.certificates import Authority

NOWHERE = "127.0.0.1:1"


def refusal(**given: Any) -> str:
    connection = Connection(NOWHERE, "default", "main", **given)
    with pytest.raises(InvalidInput) as refused:
        asyncio.run(connection.open())
    return str(refused.value)


def test_the_client_is_told_what_the_files_say(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    me = authority.vouches_for("me")
    config = tls_of(authority=authority.file, certificate=me.certificate, key=me.key, server_name="temporal.example")
    assert config.server_root_ca_cert == authority.file.read_bytes()
    assert (config.client_cert, config.client_private_key) == (me.certificate.read_bytes(), me.key.read_bytes())
    assert config.domain == "temporal.example"


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    with pytest.raises(ValueError, match="a file with certificates as PEM is expected"):
        tls_of(authority=empty)


def test_the_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with pytest.raises(ValueError, match=r"the key of the certificate in .*me.* is expected"):
        tls_of(certificate=authority.vouches_for("me").certificate, key=authority.vouches_for("other").key)


def test_a_certificate_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a certificate and its key are expected, or neither"):
        tls_of(certificate=Authority(tmp_path).vouches_for("me").certificate)


def test_options_without_tls_are_told_by_name(tmp_path: Path) -> None:
    given = Identity(authority=tmp_path, server_name="x")
    assert refusal(identity=given).startswith("--tls-authority, --tls-server-name: --tls is expected")
    assert refusal(api_key="secret").startswith("--api-key: --tls is expected")


def test_options_that_cannot_be_used_are_told_by_name(tmp_path: Path) -> None:
    given = Identity(authority=tmp_path / "none.pem")
    assert refusal(tls=True, identity=given).startswith("--tls-authority: a file with certificates")
    assert refusal(payload_keys="a").startswith("--payload-keys: entry 1: id:key is expected")
