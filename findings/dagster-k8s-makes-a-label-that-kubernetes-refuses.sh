#!/usr/bin/env bash
# dagster-k8s 0.29.27, run 2026-11-30.
#
# One expects the labels that dagster-k8s puts on the job of a run to be labels: Kubernetes takes at most 63 characters,
# the first and the last of them a letter or a digit. Names of code locations may be longer and may hold - and _, so
# dagster-k8s cuts them and takes off what a label must not end in. It takes off each character once, in a fixed order
# (- before _ before .), so a cut name that ends in "-_" keeps its "-". Kubernetes answers 422 to such a job: no run of
# that code location starts.
#
# Seen:
#   cut at 63, the name ends in: -_
#   dagster-k8s makes the label: zendesk-collection-of-the-security-operations-team-production-
#   Kubernetes takes it: no
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check dagster-k8s==0.29.27

DAGSTER_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" - 2>/dev/null >"$folder/seen" <<'PYTHON'
import re

from dagster_k8s.utils import sanitize_k8s_label

location = "zendesk-collection-of-the-security-operations-team-production-_eu"
label = sanitize_k8s_label(location)
# the form of a label's value: Kubernetes' documentation, "Labels and Selectors", Syntax and character set
takes = len(label) <= 63 and re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?", label)
print("cut at 63, the name ends in:", location[:63][-2:])
print("dagster-k8s makes the label:", label)
print("Kubernetes takes it:", "yes" if takes else "no")
PYTHON
cat "$folder/seen"
diff "$folder/seen" - <<'SEEN'
cut at 63, the name ends in: -_
dagster-k8s makes the label: zendesk-collection-of-the-security-operations-team-production-
Kubernetes takes it: no
SEEN
