"""Dagster's own chart, rendered with values.yaml: `make chart CHART=dagster-1.13.27.tgz`. It is not ours to keep.

Helm's library renders it, without a cluster. The chart has its values checked by a schema that reads those of
Kubernetes from the internet; here they are read from this machine.
"""

import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config

from zendesk_pipeline_tests.deploy.kubernetes.cluster import launched
from zendesk_pipeline_tests.deploy.kubernetes.schemas import KUBERNETES, PROGRAMS, refused
from zendesk_pipeline_tests.deploy.test_deployment import RULES
from zendesk_pipeline_tests.deploy.test_kubernetes import HELM, IMAGE, RELEASE, handed_on, launcher

RENDERER = "helm-python-sdk==0.2.2"
RENDER = """
import json, sys
from helm_python import Chart
chart, values, name = sys.argv[1:]
print(json.dumps(Chart.load(chart).render(json.loads(values), name=name, namespace=name)))
"""
KEPT_BY_PEOPLE = {"zendesk-pipeline-postgres", "zendesk-pipeline"}
"""The secrets that docs/deployment.md has made by hand."""
DEFINITIONS = re.compile(r"https://[^\"]+/_definitions\.json#/definitions/")

Object = dict[str, Any]


def unpacked(folder: Path) -> Path:
    """The chart that CHART names, with its schemas of Kubernetes on this machine."""
    chart = Path(os.environ.get("CHART", ""))
    if not chart.is_file():
        pytest.exit("CHART is to be Dagster's chart: helm pull dagster/dagster --version 1.13.27", returncode=1)
    with tarfile.open(chart) as archive:
        archive.extractall(folder, filter="data")
    ask = "import importlib.resources as r; print(r.files('kubernetes_validate'))"
    schemas = subprocess.run(
        [PROGRAMS / "python", "-c", ask], capture_output=True, text=True, check=True
    ).stdout.strip()
    here = f"file://{schemas}/kubernetes-json-schema/v{KUBERNETES}.0-local/_definitions.json#/$defs/"
    for path in folder.rglob("values.schema.json"):
        path.write_text(DEFINITIONS.sub(lambda _: here, path.read_text()))
    return folder / "dagster"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """What the chart makes of values.yaml, which its own schema takes: without that there is nothing."""
    chart = unpacked(tmp_path_factory.mktemp("chart"))
    command = ["uv", "run", "--quiet", "--no-project", "--with", RENDERER, "python", "-c", RENDER]
    done = subprocess.run([*command, chart, json.dumps(HELM), RELEASE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    texts = [text for name, text in json.loads(done.stdout).items() if name.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def named(objects: list[Object], kind: str) -> dict[str, Object]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def pods(objects: list[Object]) -> dict[str, Object]:
    """The pod of each deployment."""
    return {name: each["spec"]["template"]["spec"] for name, each in named(objects, "Deployment").items()}


def instance(objects: list[Object]) -> Object:
    """The dagster.yaml that is rendered."""
    (path,) = [each for each in named(objects, "ConfigMap").values() if "dagster.yaml" in (each["data"] or {})]
    return yaml.safe_load(path["data"]["dagster.yaml"])


def test_each_object_is_one_for_kubernetes(objects: list[Object], tmp_path: Path) -> None:
    """Code server, daemon, UI with their services, accounts, rights and configuration, every field known."""
    assert refused(objects, tmp_path) == ""
    assert len(pods(objects)) == 3


def _referred_to(said: Any) -> Iterator[tuple[str, str]]:
    """The kind and name of whatever part of an object names another that has to be there."""
    if isinstance(said, list):
        for each in cast("list[Any]", said):
            yield from _referred_to(each)
    if isinstance(said, dict):
        parts = cast("dict[str, Any]", said)
        for key, kind in {"configMap": "ConfigMap", "configMapRef": "ConfigMap", "secretRef": "Secret"}.items():
            if key in parts and not parts[key].get("optional"):
                yield kind, parts[key]["name"]
        if "secretKeyRef" in parts:
            yield "Secret", parts["secretKeyRef"]["name"]
        if "serviceAccountName" in parts:
            yield "ServiceAccount", parts["serviceAccountName"]
        for value in parts.values():
            yield from _referred_to(value)


def test_whatever_is_referred_to_is_there(objects: list[Object], tmp_path: Path) -> None:
    """By pods and by the job of a run: a pod waits for ever for a configuration that has another name."""
    job = launched(tmp_path, instance(objects)["run_launcher"]["config"], IMAGE, _context(objects))[1]
    there = {(each["kind"], each["metadata"]["name"]) for each in objects}
    wanted = set(_referred_to([*pods(objects).values(), job]))
    assert wanted - there == {("Secret", name) for name in KEPT_BY_PEOPLE}


def test_no_container_is_refused_or_has_a_right(objects: list[Object]) -> None:
    """Those that wait are of other images, which say no user: each pod says one. It meets the `restricted` standard."""
    for pod in pods(objects).values():
        assert pod["securityContext"].items() >= {"runAsNonRoot": True, "runAsUser": 10001}.items()
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for each in [*pod.get("initContainers", []), *pod["containers"]]:
            held = each["securityContext"]
            assert held["capabilities"] == {"drop": ["ALL"]}
            assert (held["allowPrivilegeEscalation"], held["readOnlyRootFilesystem"]) == (False, True)


def test_the_instance_is_one_for_dagster_with_our_rules(objects: list[Object], tmp_path: Path) -> None:
    """Dagster takes the rendered file, and each rule of dagster.yaml is in it as it stands there."""
    said = instance(objects)
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(said))
    dagster_instance_config(str(tmp_path))
    assert said["run_queue" if "run_queue" in said else "run_coordinator"]
    assert [name for name, rule in RULES.items() if name != "run_queue" and not _has(said.get(name), rule)] == []
    assert _has(said["run_coordinator"]["config"], RULES["run_queue"])


def _has(said: Any, rule: Any) -> bool:
    if not isinstance(rule, dict):
        return said == rule
    parts = cast("dict[str, Any]", rule)
    return isinstance(said, dict) and all(_has(said.get(name), value) for name, value in parts.items())


def _context(objects: list[Object]) -> Object:
    """What the code server hands on to runs."""
    variables = [each for pod in pods(objects).values() for each in pod["containers"][0]["env"]]
    (said,) = [each["value"] for each in variables if each["name"] == "DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT"]
    return json.loads(said)["k8s"]


def test_runs_are_told_what_the_tests_of_a_run_assume(objects: list[Object], tmp_path: Path) -> None:
    """The launcher's configuration, what the code server hands on, and that their job is one for Kubernetes."""
    config, context = instance(objects)["run_launcher"]["config"], _context(objects)
    assert _snakes(config) == _snakes(launcher())
    assert context == handed_on()
    _, job = launched(tmp_path, config, IMAGE, context)
    assert refused([job], tmp_path) == ""


def _snakes(said: Any) -> Any:
    """Names of any depth as Dagster has them, which takes both forms."""
    if not isinstance(said, dict):
        return said
    parts = cast("dict[str, Any]", said)
    return {re.sub(r"[A-Z]", lambda one: f"_{one[0].lower()}", name): _snakes(value) for name, value in parts.items()}
