import base64
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.service import TLSConfig
from typer import Context
from typer.main import get_command
from typer.testing import CliRunner

from corral.cli.commands import app as cli
from corral.cli.options import OF_CLIENTS, PREFIX, misspelt
from corral.sealing import Seal
from tests.certificates import Authority
from worker import temporal_server
from worker.__main__ import app
from worker.settings import Settings, SettingsError, describe, load_settings

KEYS = "a:" + base64.b64encode(bytes(32)).decode()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name, value in variables.items():
        monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    return str(refused.value)


def test_without_an_environment_the_embedded_servers_are_meant() -> None:
    settings = load_settings()
    assert settings == settings.embedded()
    assert settings.clock().wall_seconds(1) == 1


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TEMPORAL_PORT", "70000", "less than or equal to 65535"),
        ("TEMPORAL_ADDRESS", "localhost", "pattern"),
        ("CLOCK_SPEED", "0", "greater than 0"),
        ("CLOCK_SPEED", "nan", "less than or equal to 100000"),
        ("CLOCK_ORIGIN", "2026-01-31T12:00:00", "timezone"),
        ("POOL", "Main", "pattern"),
        ("TICK_SECONDS", "soon", "valid number"),
        ("SANDBOX", "perhaps", "valid boolean"),
        ("DEMAND_HOSTS", "http://prometheus:9090", "pattern"),
        ("DEMAND_HOSTS", "prometheus:9090,", "pattern"),
        ("SUSPECT_SECONDS", "600", "less than CORRAL_LEASE_SECONDS is expected"),
        ("LEASE_GRACE_SECONDS", "-1", "greater than or equal to 0"),
        ("LEASE_SKEW_SECONDS", "-1", "greater than or equal to 0"),
        ("WORKFLOW_POLLERS", "1", "greater than or equal to 2"),
        ("LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("FLEET_FILE", "no-such-file.yaml", "file"),
    ],
)
def test_a_wrong_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    told = refusal(monkeypatch, **{name: value})
    assert told.startswith(f"CORRAL_{name}: {value!r} cannot be used: ")
    assert expected in told


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ("prometheus:9090", "host:port=token is expected, separated by commas; entry 1 is none"),
        ("prometheus:9090=s3cret,", "entry 2 is none"),
        ("prometheus:9090=s3cret with spaces", "entry 1 is none"),
        ("prometheus:9090=s3cret,elsewhere=s3cret", "hosts of CORRAL_DEMAND_HOSTS are expected; entry 2 is of another"),
    ],
)
def test_tokens_are_of_hosts_that_are_asked_and_never_repeated(
    monkeypatch: pytest.MonkeyPatch, tokens: str, expected: str
) -> None:
    told = refusal(monkeypatch, DEMAND_HOSTS="prometheus:9090", DEMAND_TOKENS=tokens)
    assert told.startswith("CORRAL_DEMAND_TOKENS: its value (not shown) cannot be used: ")
    assert expected in told
    assert "s3cret" not in told


def test_each_host_has_its_own_token_or_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_DEMAND_HOSTS", "a:9090,b,c:1")
    assert load_settings().tokens_by_host() == {"a:9090": "", "b": "", "c:1": ""}
    monkeypatch.setenv("CORRAL_DEMAND_TOKEN", "of-all")
    monkeypatch.setenv("CORRAL_DEMAND_TOKENS", "A:9090=x==, c:1=y")
    settings = load_settings()
    assert settings.tokens_by_host() == {"a:9090": "x==", "b": "of-all", "c:1": "y"}
    assert "x==" not in repr(settings)


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told = refusal(monkeypatch, TEMPRAL_PORT="7233", POSTGRES_PORT="x", TICK_SECONDS="0").splitlines()
    assert [line.split(" ")[0] for line in told] == ["CORRAL_TEMPRAL_PORT", "CORRAL_TICK_SECONDS:", "CORRAL_POSTGRES_PORT:"]


def test_a_variable_of_the_tests_is_no_typing_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_CASES", "somewhere")
    load_settings()


def test_secrets_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hidden" not in refusal(monkeypatch, DATABASE_URL="postgresql://user:hidden@host/db", TEMPORAL_API_KEY="hidden")
    kept = Settings(database_url="postgresql+asyncpg://u:hidden@h/db", temporal_api_key="hidden", temporal_tls=True)
    assert "hidden" not in f"{kept} {kept!r}"


def test_an_api_key_needs_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(monkeypatch, TEMPORAL_API_KEY="key").startswith("CORRAL_TEMPORAL_TLS: 'False' cannot be used")


def test_files_and_names_of_tls_need_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = refusal(monkeypatch, TEMPORAL_TLS_AUTHORITY=str(Authority(tmp_path).file), TEMPORAL_TLS_SERVER_NAME="temporal")
    assert [line.split(":")[0] for line in told.splitlines()] == [
        "CORRAL_TEMPORAL_TLS_AUTHORITY",
        "CORRAL_TEMPORAL_TLS_SERVER_NAME",
    ]
    assert "CORRAL_TEMPORAL_TLS=true is expected beside it" in told


def test_a_certificate_and_its_key_are_checked_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    me, other = (Authority(tmp_path).vouches_for(name) for name in ("me", "other"))
    monkeypatch.setenv("CORRAL_TEMPORAL_TLS", "true")
    monkeypatch.setenv("CORRAL_TEMPORAL_TLS_CERTIFICATE", str(me.certificate))
    assert refusal(monkeypatch).startswith("CORRAL_TEMPORAL_TLS_KEY: 'None' cannot be used: a certificate and its key")
    assert refusal(monkeypatch, TEMPORAL_TLS_KEY=str(other.key)).startswith("CORRAL_TEMPORAL_TLS_KEY")
    monkeypatch.setenv("CORRAL_TEMPORAL_TLS_KEY", str(me.key))
    tls = load_settings().tls()
    assert isinstance(tls, TLSConfig)
    assert (tls.client_cert, tls.client_private_key) == (me.certificate.read_bytes(), me.key.read_bytes())


def test_keys_that_cannot_be_used_are_told_but_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    told = refusal(monkeypatch, PAYLOAD_KEYS="old:hidden")
    assert told.startswith("CORRAL_PAYLOAD_KEYS: its value (not shown) cannot be used: key 'old'")
    assert "hidden" not in told


async def test_temporal_is_told_what_the_settings_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: dict[str, Any] = {}

    async def connect(address: str, **options: Any) -> None:
        told.update(options, address=address)

    monkeypatch.setattr(Client, "connect", connect)
    authority = Authority(tmp_path).file
    given = {"temporal_tls_authority": authority, "temporal_tls_server_name": "temporal", "temporal_api_key": "key"}
    await temporal_server.connect(
        Settings.model_validate(
            {"temporal_address": "far:1", "temporal_namespace": "gpu", "temporal_tls": True, "payload_keys": KEYS} | given
        )
    )
    assert (told["address"], told["namespace"], told["api_key"]) == ("far:1", "gpu", "key")
    assert (told["tls"].server_root_ca_cert, told["tls"].domain) == (authority.read_bytes(), "temporal")
    assert isinstance(told["data_converter"].payload_codec, Seal)


def test_a_fast_clock_needs_an_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(monkeypatch, CLOCK_SPEED="60").startswith("CORRAL_CLOCK_ORIGIN")
    monkeypatch.setenv("CORRAL_CLOCK_ORIGIN", "2026-01-31T12:00:00Z")
    origin = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert load_settings().clock().at(origin) == origin


def test_a_child_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.touch()
    given = Settings(
        temporal_api_key="key",
        temporal_tls=True,
        clock_speed=60.5,
        clock_origin=datetime(2026, 1, 31, tzinfo=UTC),
        fleet_file=fleet,
        state_dir=tmp_path,
    )
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == given


def test_the_list_of_settings_is_cut_nowhere_for_programs() -> None:
    listed = CliRunner().invoke(app, ["settings"]).stdout.splitlines()
    assert [line.split()[0] for line in listed[1:]] == [row.variable for row in describe()]
    assert all(row.meaning in line and row.default in line for row, line in zip(describe(), listed[1:], strict=True))


def test_every_setting_is_described() -> None:
    rows = {row.variable: row for row in describe()}
    assert len(rows) == len(Settings.model_fields)
    assert all(row.meaning for row in rows.values())
    assert rows["CORRAL_TEMPORAL_PORT"].default == "7233"


def test_leases_last_as_long_on_the_wall_however_fast_the_pool_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_CLOCK_SPEED", "60")
    monkeypatch.setenv("CORRAL_CLOCK_ORIGIN", "2026-01-31T12:00:00Z")
    terms = load_settings().lease_terms()
    assert (terms.length, terms.margin, terms.suspect_after) == (
        timedelta(hours=10),
        timedelta(minutes=40),
        timedelta(minutes=30),
    )


@pytest.mark.parametrize(("name", "meant"), [("TIK_SECONDS", "did you mean CORRAL_TICK_SECONDS? "), ("COLOUR_OF_LOGS", "")])
def test_an_unknown_setting_is_refused_with_the_one_that_may_be_meant(
    name: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refusal(monkeypatch, **{name: "1"})
    assert said == f"CORRAL_{name} is not a setting of Corral; {meant}`python -m worker settings` lists them all"


def test_what_the_command_line_alone_reads_is_no_unknown_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    read = [option.envvar for option in get_command(cli).params if isinstance(option.envvar, str)]
    assert set(read) - {each.variable for each in describe()} == OF_CLIENTS
    for name in OF_CLIENTS:
        monkeypatch.setenv(name, "ada")
    assert load_settings()


def test_the_command_line_takes_no_setting_of_workers_for_a_misspelt_one() -> None:
    assert list(misspelt([each.variable for each in describe()], Context(get_command(cli)))) == []
