import json
import os
import re
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from compose_spec import PyCompose
from ruamel.yaml import YAML

from corral import wire
from corral.cli.options import PREFIX
from worker.fleet_file import DEFAULT_FLEET
from worker.settings import load_settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text().splitlines()
LOCKED = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def interpolated(text: str) -> str:
    """The text with `${NAME:-default}` replaced by the default, as `docker compose` does in an empty environment."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.fixture(scope="module")
def services() -> Mapping[str, Any]:
    """The services by name, as the compose specification reads them."""
    merged = YAML(typ="safe").load(interpolated((ROOT / "docker-compose.yml").read_text()))
    specified = PyCompose.from_json(json.dumps(merged)).to_spec().model_dump(mode="json", exclude_none=True)
    found: Mapping[str, Any] = specified["services"]
    return found


def of_all(services: Mapping[str, Any], key: str) -> list[str]:
    return [str(each) for service in services.values() for each in service.get(key, [])]


def test_the_compose_file_keeps_to_the_specification(services: Mapping[str, Any]) -> None:
    assert set(services) == {
        "postgres",
        "temporal-schema",
        "temporal",
        "temporal-namespace",
        "temporal-ui",
        "migrate",
        "worker",
    }


def test_services_wait_for_what_exists(services: Mapping[str, Any]) -> None:
    assert set(of_all(services, "depends_on")) <= set(services)


def test_ports_are_open_on_this_machine_alone(services: Mapping[str, Any]) -> None:
    ports = of_all(services, "ports")
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_is_mounted_exists_and_is_a_valid_script(services: Mapping[str, Any]) -> None:
    mounted = [ROOT / volume.split(":")[0] for volume in of_all(services, "volumes") if volume.startswith("./")]
    assert len(mounted) == 4
    assert all(file.is_file() for file in mounted)
    for script in (file for file in mounted if file.suffix == ".sh"):
        subprocess.run(["/bin/sh", "-n", str(script)], check=True)


@pytest.mark.parametrize("name", ["worker", "migrate"])
def test_a_worker_accepts_its_environment(services: Mapping[str, Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [variable for variable in os.environ if variable.startswith(PREFIX)]:
        monkeypatch.delenv(variable)
    for variable, value in services[name]["environment"].items():
        assert variable.startswith(PREFIX)
        monkeypatch.setenv(variable, str(value))
    settings = load_settings()
    assert settings.temporal_address == "temporal:7233"
    assert "@postgres:5432/corral" in settings.database_url


def test_the_namespace_gets_the_search_attributes_of_the_wire() -> None:
    script = (ROOT / "deploy" / "temporal-namespace.sh").read_text()
    registered = set(re.findall(r"^attribute (\w+) (\w+)$", script, re.MULTILINE))
    assert registered == {(key.name, key.indexed_value_type.name.title()) for key in wire.SEARCH_ATTRIBUTES}


def test_the_image_has_every_package_that_a_worker_imports_and_the_fleet_that_it_falls_back_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {line.split()[1] for line in DOCKERFILE if line.startswith("COPY ")}
    assert copied == {*project["tool"]["importlinter"]["root_packages"], DEFAULT_FLEET.parent.name, "deploy/requirements.lock"}
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == sent


def test_the_image_does_not_run_as_root() -> None:
    assert [line for line in DOCKERFILE if line.startswith("USER ")] == ["USER corral"]


def test_image_and_workplace_are_locked_to_the_same_versions() -> None:
    here = dict(LOCKED.findall((ROOT / "requirements.lock").read_text()))
    image = dict(LOCKED.findall((ROOT / "deploy" / "requirements.lock").read_text()))
    assert image
    assert image.items() <= here.items()


@pytest.mark.parametrize("lock", ["requirements.lock", "deploy/requirements.lock"])
def test_locks_name_no_index(lock: str) -> None:
    assert not re.search(r"https?://|--find-links|--index-url", (ROOT / lock).read_text())
