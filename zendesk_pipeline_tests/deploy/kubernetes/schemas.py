"""The schemas of Kubernetes, in the version that the locked client is of; `make iac` sets up what has them."""

import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from zendesk_pipeline_tests.root import ROOT

PROGRAMS = ROOT / ".venv-iac" / "bin"
KUBERNETES = f"1.{version('kubernetes').partition('.')[0]}"
"""The client's version 36 is that of Kubernetes 1.36: https://github.com/kubernetes-client/python#compatibility"""


def refused(objects: Sequence[dict[str, Any]], folder: Path) -> str:
    """What the schemas refuse, unknown fields too, or do not know; empty where they take every object."""
    (folder / "objects.yaml").write_text(yaml.safe_dump_all(objects))
    command = [PROGRAMS / "kubernetes-validate", "--strict", "--quiet", "-k", KUBERNETES, folder / "objects.yaml"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return said.stdout + said.stderr  # not by its status: of a kind without a schema it warns
