#!/usr/bin/env bash
# kubernetes-validate 1.37.0, run 2026-11-30.
#
# One expects a validator's strict mode to refuse an object of a kind that Kubernetes does not have, as the API server
# does: it is the most common slip in such a file. kubernetes-validate has no schema for it, says so as a warning, and
# ends with 0, with --strict as well; with --no-warn it says nothing at all. A slip in a field of a known kind is found.
#
# Seen:
#   kind: Job, a field misspelt, --strict: 1
#   kind: Jobb, --strict: 0
#   kind: Jobb, --strict --no-warn: 0, and 0 lines are printed
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check kubernetes-validate==1.37.0
cd "$folder"
printf 'apiVersion: batch/v1\nkind: Jobb\nmetadata: {name: a}\n' >unknown.yaml
container='{name: a, image: a}'
printf 'apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec: {templte: {spec: {containers: [%s]}}}\n' "$container" >slip.yaml

validated() {
    local status=0
    venv/bin/kubernetes-validate "$@" >said 2>&1 || status=$?
    echo "$status"
}
{
    echo "kind: Job, a field misspelt, --strict: $(validated --strict slip.yaml)"
    echo "kind: Jobb, --strict: $(validated --strict unknown.yaml)"
    echo "kind: Jobb, --strict --no-warn: $(validated --strict --no-warn unknown.yaml), and $(wc -l <said) lines are printed"
} >seen
cat seen
diff seen - <<'SEEN'
kind: Job, a field misspelt, --strict: 1
kind: Jobb, --strict: 0
kind: Jobb, --strict --no-warn: 0, and 0 lines are printed
SEEN
