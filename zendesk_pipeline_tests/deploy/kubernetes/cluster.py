"""As much of a Kubernetes cluster as a run's job takes: an API that remembers what it was given."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar

from zendesk_pipeline.local.services import LOOPBACK
from zendesk_pipeline_tests.fakes.listening import Connection, listening
from zendesk_pipeline_tests.launching import launch


class _Cluster(Connection):
    jobs: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.jobs.append({"path": self.path, "object": json.loads(body)})
        self.send_response(HTTPStatus.CREATED)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def launched(
    folder: Path, launcher: Mapping[str, Any], image: str, context: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The path and the object that `K8sRunLauncher` sends for a run.

    Args:
        folder: For the kubeconfig and the instance.
        launcher: Its configuration in dagster.yaml, as within a cluster.
        image: The code server's.
        context: What the code server hands on to runs, its `k8s`.
    """
    _Cluster.jobs.clear()
    with listening(_Cluster) as port:
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"http://{LOOPBACK}:{port}"}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        (folder / "kubeconfig").write_text(json.dumps(config))
        here = {"load_incluster_config": False, "kubeconfig_file": str(folder / "kubeconfig")}
        said = {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": {**launcher, **here}}
        launch(folder / "home", said, image, {"k8s": dict(context)})
    (job,) = _Cluster.jobs
    return job["path"], job["object"]
