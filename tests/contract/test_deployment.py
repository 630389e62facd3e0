"""What `deploy/` says is true of the programs: their commands, their settings, their servers' versions."""

import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pipeline.cli.app import app
from pipeline.local.jars import KAFKA_VERSION
from pipeline.settings import Settings
from tests.deployment import (
    DEPLOY,
    ROOT,
    filled_in,
    known_variables,
    made_secrets,
    our_services,
    services,
    without_our_variables,
)
from tests.stack_docker import CLICKHOUSE_IMAGE

OURS = our_services()


def parses(arguments: list[str]) -> bool:
    """Whether our command line takes them, down to the last sub-command. Nothing runs."""
    command: Any = typer.main.get_command(app)
    while (commands := getattr(command, "commands", None)) and arguments:
        if arguments == ["--help"]:
            return True
        if arguments[0] not in commands:
            return False
        command, arguments = commands[arguments[0]], arguments[1:]
    command.make_context("creditstream", arguments)
    return True


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return made_secrets(tmp_path_factory.mktemp("secrets"))


def settings_of(environment: dict[str, Any], secrets: dict[str, str], patch: pytest.MonkeyPatch) -> Settings:
    """As the process in its container reads them: an unknown or unfit variable is refused."""
    for name in [
        name for name in set(environment) | {"CREDITSTREAM_HOME"} if name.startswith("CREDITSTREAM_")
    ]:
        patch.delenv(name, raising=False)
    for name, value in environment.items():
        assert name.startswith("CREDITSTREAM_"), name
        patch.setenv(name, filled_in(value, secrets))
    return Settings()


@pytest.mark.parametrize("name", OURS)
def test_each_service_of_ours_runs_a_command_that_exists(name: str) -> None:
    assert parses(OURS[name]["command"])


def test_a_command_that_does_not_exist_would_be_found() -> None:
    assert not parses(["no-such-program"])


@pytest.mark.parametrize("name", OURS)
def test_each_service_of_ours_has_settings_that_exist(
    name: str, secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = settings_of(OURS[name].get("environment", {}), secrets, monkeypatch)
    assert settings.kafka.bootstrap_servers == "kafka:19092"
    assert set(OURS[name]["environment"]) <= known_variables()


def test_every_container_has_a_memory_limit_and_ports_on_this_machine_only() -> None:
    for name, service in services().items():
        assert service.get("mem_limit"), name
        assert service["restart"] in {"unless-stopped", "no"}, name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert ":latest" not in service["image"], name
        assert re.search(r":\S+$", service["image"]), name


def test_what_others_wait_for_says_when_it_is_ready() -> None:
    all_services = services()
    for name, service in all_services.items():
        for other, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other == "setup" else "service_healthy"
            assert how["condition"] == expected, (name, other)
            assert other == "setup" or "healthcheck" in all_services[other], (name, other)


def test_our_containers_write_nowhere_but_to_their_volume_and_have_no_rights() -> None:
    for name, service in OURS.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_files_that_are_mounted_are_there() -> None:
    for name, service in services().items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), (name, source)


def test_the_images_are_the_versions_that_the_tests_run() -> None:
    assert services()["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert services()["clickhouse"]["image"] == CLICKHOUSE_IMAGE


def test_no_secret_has_a_value_in_the_tree() -> None:
    secret = re.compile(r"(PASSWORD|SHA256|COMMAND_KEYS|NOTIFIER__KEYS|TOKEN|ADMIN_PASSWORD)$")
    for name, service in services().items():
        for variable, value in (service.get("environment") or {}).items():
            if secret.search(variable):
                assert re.fullmatch(r"\$\{\w+:\?.+\}", value), (name, variable)


def test_secrets_are_made_once_and_for_their_owner_only(tmp_path: Path) -> None:
    made = made_secrets(tmp_path)
    assert stat.S_IMODE((tmp_path / "env").stat().st_mode) == 0o600
    passwords = [value for name, value in made.items() if name.endswith("_PASSWORD")]
    assert len(set(passwords)) == len(passwords)
    assert all(len(each) == 64 for each in passwords)
    again = subprocess.run(["sh", DEPLOY / "secrets.sh", tmp_path / "env"], capture_output=True, check=False)
    assert again.returncode == 1
    assert made_secrets_of(tmp_path / "env") == made


def made_secrets_of(file: Path) -> dict[str, str]:
    return {
        name: value.strip("'")
        for name, value in (line.split("=", 1) for line in file.read_text().splitlines())
    }


def test_compose_itself_reads_the_file(tmp_path: Path) -> None:
    compose = shutil.which("docker-compose")
    command = [compose] if compose else ["docker", "compose"]
    if not compose and (
        shutil.which("docker") is None
        or subprocess.run([*command, "version"], capture_output=True, check=False).returncode != 0
    ):
        pytest.skip("no docker compose here; its rules above are checked all the same")
    made_secrets(tmp_path)
    told = subprocess.run(
        [*command, "--env-file", tmp_path / "env", "--profile", "cli", "config", "--quiet"],
        cwd=ROOT,
        env=without_our_variables(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_the_dockerfile_has_nothing_to_complain_about() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    told = subprocess.run(
        [hadolint, "--failure-threshold", "style", DEPLOY / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stdout) == (0, "")


def test_the_image_takes_only_what_was_checked_by_hash() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    installs = re.findall(r"pip\S* (?:--python \S+ )?install .*", dockerfile)
    assert len(installs) == 3
    assert all("--require-hashes" in each or "--no-index" in each for each in installs)
    assert re.search(r"^USER 10001:10001$", dockerfile, re.MULTILINE)
    assert "HEALTHCHECK" not in dockerfile


def test_only_what_the_image_needs_reaches_its_builder() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in ignore if line and not line.startswith("#")]
    assert patterns[0] == "*"
    sent = {pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert sent == {name for line in copied for name in line.split()}


RUNBOOKS = sorted((DEPLOY / "runbooks").glob("*.md"))
_COMMAND = re.compile(r"`(?:creditstream|docker compose run --rm cli) ([^`]+)`")


@pytest.mark.parametrize("path", RUNBOOKS, ids=[path.stem for path in RUNBOOKS])
def test_the_commands_of_the_runbooks_exist(path: Path) -> None:
    for command in _COMMAND.findall(path.read_text()):
        words = shlex.split(re.sub(r" > \S+$", "", command.replace("\n", " ")))
        if not words[-1].startswith("…") and "…" not in words:
            assert parses(words), command


def test_the_runbooks_are_linked_and_their_variables_exist() -> None:
    index = (DEPLOY / "runbooks" / "README.md").read_text()
    for path in RUNBOOKS:
        assert path.name == "README.md" or f"({path.name})" in index
        assert set(re.findall(r"CREDITSTREAM_\w+", path.read_text())) <= known_variables()
