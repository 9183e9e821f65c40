"""deploy/kubernetes/values.yaml: it agrees with the instances, the image and the collector, and its runs can collect.

No cluster and no chart is needed. `make iac` holds the job of a run against the schemas of Kubernetes, and `make chart`
everything that Dagster's chart makes of these values.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.deploy.kubernetes.cluster import launched
from zendesk_pipeline_tests.deploy.test_deployment import (
    DEPLOY,
    INSTANCES,
    OF_THE_PLACE,
    RULES,
    commands,
    instructions,
    served_port,
)
from zendesk_pipeline_tests.project import settings_doc
from zendesk_pipeline_tests.root import ROOT

HELM: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
(CODE,) = HELM["dagster-user-deployments"]["deployments"]
IMAGE = f"{CODE['image']['repository']}:{CODE['image']['tag']}"
RELEASE = "zendesk-pipeline"
"""As docs/deployment.md calls it, and the namespace."""


def test_the_chart_is_told_the_rules_of_one_machine() -> None:
    """In its own words: concurrency, monitoring, retries, retention, freshness, telemetry."""
    daemon, pools, ticks = HELM["dagsterDaemon"], HELM["concurrency"], HELM["retention"]
    assert HELM["additionalInstanceConfig"].keys() - OF_THE_PLACE == {"nux", "freshness"}
    told = {
        "telemetry": HELM["telemetry"],
        "nux": HELM["additionalInstanceConfig"]["nux"],
        "freshness": HELM["additionalInstanceConfig"]["freshness"],
        "concurrency": {part: snakes(pools[part]) for part in ("pools", "runs")},
        "run_queue": snakes(daemon["runCoordinator"]["config"]["queuedRunCoordinator"]),
        "run_monitoring": snakes(daemon["runMonitoring"]),
        "run_retries": snakes(daemon["runRetries"]),
        "retention": {part: snakes(ticks[part]) for part in ("schedule", "sensor")},
    }
    # what the chart has to be told, and Dagster does by itself
    assert told["retention"]["sensor"]["purge_after_days"].pop("started") == -1
    assert told == RULES
    assert (pools["enabled"], ticks["enabled"], daemon["runMonitoring"]["enabled"]) == (True, True, True)


def snakes(said: dict[str, Any]) -> dict[str, Any]:
    """Names as Dagster has them."""
    return {re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name): value for name, value in said.items()}


def test_the_chart_reaches_the_database_by_the_driver_that_is_installed() -> None:
    """The same scheme as in the instances, a database of its own, and a password from a secret that is there."""
    storage = yaml.safe_load(INSTANCES["postgres"].read_text())["storage"]["postgres"]["postgres_db"]
    assert HELM["postgresql"]["postgresqlScheme"] == storage["scheme"]
    assert HELM["postgresql"]["enabled"] is False
    assert HELM["generatePostgresqlPasswordSecret"] is False
    assert HELM["global"]["postgresqlSecretName"]


def test_every_part_in_the_cluster_is_the_same_image() -> None:
    """Of one tag, never `latest`: Dagster's own image lacks the version of this lock."""
    images = [CODE["image"], HELM["dagsterDaemon"]["image"], HELM["dagsterWebserver"]["image"]]
    assert images == [images[0]] * 3
    assert images[0]["tag"] not in {"", "latest", None}


def test_the_code_server_of_the_cluster_is_that_of_the_image() -> None:
    """The chart makes `dagster api grpc` of these arguments: the same module and port as the image's own command."""
    command = commands()["code"]
    assert CODE["dagsterApiGrpcArgs"] == command[command.index("--module-name") :]
    assert str(CODE["port"]) == served_port()


def test_settings_in_the_cluster_exist() -> None:
    """Each variable is a setting, or one that a library reads, and no secret is among them."""
    values = {each["name"]: each["value"] for each in CODE["env"]}
    known = {name.upper() for name in Settings.model_fields} | settings_doc.OF_OTHERS.keys()
    assert values.keys() <= known
    Settings.model_validate({name.lower(): value for name, value in values.items()})


def test_names_in_the_cluster_are_those_of_the_release_in_the_documentation() -> None:
    """The chart calls the instance by its release and its own name, and looks for it under the release alone.

    Of the code server's pod nothing starts then. The release is that of the command, and so is the namespace.
    """
    text = (ROOT / "docs" / "deployment.md").read_text()
    assert f"helm upgrade --install {RELEASE} dagster/dagster" in text
    assert f"--namespace {RELEASE} --values deploy/kubernetes/values.yaml" in text
    assert HELM["global"]["dagsterInstanceConfigMap"] == f"{RELEASE}-dagster-instance"


@pytest.mark.parametrize("pod", ["code", "dagsterDaemon", "dagsterWebserver", "run"])
def test_each_pod_says_who_it_runs_as(pod: str) -> None:
    """A number, the image's: the chart's containers that wait are of images of root, which `runAsNonRoot` refuses."""
    run = HELM["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    contexts = {
        "code": (CODE["podSecurityContext"], CODE["securityContext"]),
        "run": (run["podSpecConfig"]["securityContext"], run["containerConfig"]["securityContext"]),
    }
    outer, inner = contexts.get(pod) or (HELM[pod]["podSecurityContext"], HELM[pod]["securityContext"])
    (user,) = instructions("USER")
    assert f"{outer['runAsUser']}:{outer['runAsGroup']}" == user
    assert outer["runAsNonRoot"] is True
    assert not inner.keys() & {"runAsUser", "runAsGroup", "runAsNonRoot"}


def launcher() -> dict[str, Any]:
    """What the chart makes of values.yaml for the launcher; `make chart` compares it with what it does make."""
    own = HELM["runLauncher"]["config"]["k8sRunLauncher"]
    return {
        "load_incluster_config": own["loadInclusterConfig"],
        "job_namespace": RELEASE,
        "image_pull_policy": own["imagePullPolicy"],
        "service_account_name": HELM["serviceAccount"]["name"],
        "dagster_home": HELM["global"]["dagsterHome"],
        "instance_config_map": HELM["global"]["dagsterInstanceConfigMap"],
        "postgres_password_secret": HELM["global"]["postgresqlSecretName"],
        "run_k8s_config": snakes(own["runK8sConfig"]),
    }


def handed_on() -> dict[str, Any]:
    """What it makes of them for the code server to hand on to runs."""
    return {
        "namespace": RELEASE,
        "image_pull_policy": CODE["image"]["pullPolicy"],
        "env": CODE["env"],
        "env_config_maps": [f"{RELEASE}-dagster-user-deployments-{CODE['name']}-user-env"],
        "env_secrets": [secret["name"] for secret in CODE["envSecrets"]],
        "volumes": CODE["volumes"],
        "volume_mounts": CODE["volumeMounts"],
        "resources": CODE["resources"],
        "service_account_name": HELM["dagster-user-deployments"]["serviceAccount"]["name"],
        "run_k8s_config": {"pod_spec_config": {"automount_service_account_token": True}},
    }


def test_a_run_in_the_cluster_is_a_job_that_can_collect_and_little_else(tmp_path: Path) -> None:
    """Dagster's launcher, told what the chart tells it of values.yaml, asks for a job with the collector's settings.

    It has the writer's service account, the secrets by name only, a bound on memory, nothing to write to but /tmp, and
    no rights of root.
    """
    path, job = launched(tmp_path, launcher(), IMAGE, handed_on())
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert path == f"/apis/batch/v1/namespaces/{RELEASE}/jobs"
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    assert pod["serviceAccountName"] == "zendesk-pipeline"
    assert pod["securityContext"] == CODE["podSecurityContext"]
    assert container["image"] == IMAGE
    assert container["args"][:3] == ["dagster", "api", "execute_run"]
    assert container["securityContext"] == CODE["securityContext"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "memory" in container["resources"]["limits"]
    assert [
        mount["mountPath"] for mount in container["volumeMounts"] if not mount["mountPath"].startswith("/srv/")
    ] == [
        "/tmp"  # noqa: S108 - the pod's own
    ]
    given = {each["name"]: each for each in container["env"]}
    assert {each["name"] for each in CODE["env"]} <= given.keys()
    assert given["DAGSTER_PG_PASSWORD"]["valueFrom"]["secretKeyRef"]["name"] == HELM["global"]["postgresqlSecretName"]
    assert {"secretRef": {"name": "zendesk-pipeline"}} in container["envFrom"]


def test_the_labels_of_a_run_are_what_kubernetes_takes(tmp_path: Path) -> None:
    """They say which run and which job it is, in the form that the API wants and that no schema describes."""
    _, job = launched(tmp_path, launcher(), IMAGE, handed_on())
    labels = job["metadata"]["labels"]
    assert job["spec"]["template"]["metadata"]["labels"] == labels
    assert labels["dagster/job"] == "hourly_collection"
    assert job["metadata"]["name"] == f"dagster-run-{labels['dagster/run-id']}"
    valid = r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?"  # of a label's value
    assert [value for value in labels.values() if not re.fullmatch(valid, value)] == []
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", job["metadata"]["name"])
