"""The manifests of `deploy/kubernetes` are right by Kubernetes' own schemas, and by our programs."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pipeline.cli.app import app
from pipeline.settings import Settings
from tests.contract.test_deployment import parses
from tests.deployment import KUBERNETES, known_variables, manifests, our_services, without_our_variables
from tests.secured import acls

KUBERNETES_VERSION = "1.34"
"""The oldest that the manifests are for: `sleep` before a stop, and claims that go with their set."""
OBJECTS = list(manifests())
EXAMPLE = KUBERNETES / "overlays" / "example"
RUNNERS = [each for _, each in OBJECTS if each["kind"] in {"Deployment", "StatefulSet", "Job"}]
"""Whatever makes pods."""
NOT_OURS = {"producer", "operator", "lag"}
"""Users of Kafka that are no process of ours: services, people, autoscaling."""
NAMES = [each["metadata"]["name"] for each in RUNNERS]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("kubernetes") / "secrets"
    subprocess.run(["sh", EXAMPLE / "secrets.sh", directory], check=True, capture_output=True, timeout=30)
    return directory


def kustomization(path: str) -> dict[str, Any]:
    return dict(yaml.safe_load((KUBERNETES / path / "kustomization.yaml").read_text()))


def variables_of(lines: list[str]) -> dict[str, str]:
    return {name: value for name, value in (line.split("=", 1) for line in lines)}  # noqa: C416  (pairs as lists)


def container(runner: dict[str, Any]) -> dict[str, Any]:
    (only,) = runner["spec"]["template"]["spec"]["containers"]
    return dict(only)


@pytest.mark.parametrize(
    "found", [each for _, each in OBJECTS], ids=[f"{file}-{each['kind']}" for file, each in OBJECTS]
)
def test_each_object_is_right_by_its_schema(found: dict[str, Any]) -> None:
    if found["apiVersion"].startswith("keda.sh/"):
        pytest.skip("KEDA's own schemas are not among Kubernetes'")
    kubernetes_validate.validate(found, KUBERNETES_VERSION, strict=True)


def test_an_object_with_a_typing_error_would_be_found() -> None:
    wrong = {**RUNNERS[0], "spec": {**RUNNERS[0]["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES_VERSION, strict=True)


def test_every_file_is_named_by_its_kustomization() -> None:
    for folder in ("base", "components/autoscaling"):
        files = {path.name for path in (KUBERNETES / folder).glob("*.yaml")} - {"kustomization.yaml"}
        assert set(kustomization(folder)["resources"]) == files


@pytest.mark.parametrize("runner", RUNNERS, ids=NAMES)
def test_each_pod_runs_a_command_that_exists_with_no_rights(runner: dict[str, Any]) -> None:
    assert parses(container(runner)["args"])
    pod = runner["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container(runner)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container(runner)["resources"]["limits"]["memory"]


@pytest.mark.parametrize("runner", RUNNERS, ids=NAMES)
def test_each_pod_has_settings_that_exist_and_fit(
    runner: dict[str, Any], secrets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CREDITSTREAM_HOME", raising=False)
    made = {each["name"]: each for each in kustomization("overlays/example")["secretGenerator"]}
    environment = variables_of(kustomization("base")["configMapGenerator"][0]["literals"])
    for reference in container(runner)["envFrom"]:
        if "secretRef" in reference:
            (file,) = made[reference["secretRef"]["name"]]["envs"]
            environment |= variables_of((secrets.parent / file).read_text().splitlines())
    assert set(environment) <= known_variables()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    user = settings.kafka.client_options["sasl.username"]
    assert user == f"creditstream-{runner['metadata']['name']}"
    assert json.loads(environment["CREDITSTREAM_KAFKA__CLIENT_OPTIONS"])["security.protocol"] == "SASL_SSL"


def test_every_program_of_a_deployment_is_deployed() -> None:
    panel = "Programs of a deployment"
    programs = {
        (each.callback.__name__ if each.callback else "").replace("_", "-")
        for each in app.registered_commands
        if each.rich_help_panel == panel
    }
    assert programs >= {"setup", "worker", "sink", "gateway"}
    assert programs == set(NAMES)
    assert programs == set(our_services()) - {"cli"}
    assert programs == {rule.process for rule in acls().rules(acls().Deployment())} - NOT_OURS


def test_a_budget_for_disruptions_selects_what_runs_more_than_once() -> None:
    budgets = {each["metadata"]["name"]: each for _, each in OBJECTS if each["kind"] == "PodDisruptionBudget"}
    several = {each["metadata"]["name"]: each for each in RUNNERS if each["spec"].get("replicas", 1) > 1}
    assert set(budgets) == set(several)
    for name, budget in budgets.items():
        assert budget["spec"]["selector"] == several[name]["spec"]["selector"]


def test_there_are_never_more_workers_or_sinks_than_partitions() -> None:
    shared = variables_of(kustomization("base")["configMapGenerator"][0]["literals"])
    for _, each in OBJECTS:
        if each["kind"] == "ScaledObject":
            assert each["spec"]["maxReplicaCount"] == int(shared["CREDITSTREAM_KAFKA__PARTITIONS"])


def test_the_example_is_built(secrets: Path, tmp_path: Path) -> None:
    kustomize = shutil.which("kustomize") or shutil.which("kubectl")
    if kustomize is None:
        pytest.skip("neither kustomize nor kubectl here; each file is checked above all the same")
    tree = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, tree, ignore=shutil.ignore_patterns("secrets"))
    shutil.copytree(secrets, tree / "overlays" / "example" / "secrets")
    build = ["build"] if kustomize.endswith("kustomize") else ["kustomize"]
    told = subprocess.run(
        [kustomize, *build, tree / "overlays" / "example"],
        capture_output=True,
        text=True,
        check=True,
        env=without_our_variables(),
    )
    for built in yaml.safe_load_all(told.stdout):
        if not built["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(built, KUBERNETES_VERSION, strict=True)
