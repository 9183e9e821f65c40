"""The job that a run is in a cluster, held against the schema of Kubernetes."""

from pathlib import Path

from zendesk_pipeline_tests.deploy.kubernetes.cluster import launched
from zendesk_pipeline_tests.deploy.kubernetes.schemas import refused
from zendesk_pipeline_tests.deploy.test_kubernetes import IMAGE, handed_on, launcher


def test_the_job_of_a_run_is_one_for_kubernetes(tmp_path: Path) -> None:
    """Every field of what Dagster's launcher makes of values.yaml is known, of the right type, and none is missing."""
    _, job = launched(tmp_path, launcher(), IMAGE, handed_on())
    assert refused([job], tmp_path) == ""


def test_a_job_that_kubernetes_would_refuse_is_found(tmp_path: Path) -> None:
    """The look above can fail: by an unknown field, by a missing one, by a kind that there is no schema for."""
    _, job = launched(tmp_path, launcher(), IMAGE, handed_on())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["resource"] = container.pop("resources")
    assert "'resource' was unexpected" in refused([job], tmp_path)
    del container["resource"], container["name"]
    assert "'name' is a required property" in refused([job], tmp_path)
    assert "schema" in refused([{**job, "kind": "Jobb"}], tmp_path)
