#!/usr/bin/env bash
# dagster 1.13.29 with python-dotenv 1.2.4, run 2026-11-30.
#
# One expects a .env file to fill in what is not set: that is what python-dotenv's load_dotenv() does by itself. Dagster's
# commands put it over the environment instead, and a line `NAME=` with nothing behind it replaces an exported variable
# with an empty text. The log says which variables the file has, not that one was taken away.
#
# Seen:
#   load_dotenv() keeps: exported
#   dagster makes of it: ''
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check dagster==1.13.29 python-dotenv==1.2.4

cd "$folder"
mkdir home
echo 'RULES=' >.env
cat >module.py <<'PYTHON'
import os
import pathlib

import dagster as dg

pathlib.Path("of_dagster").write_text(repr(os.environ["RULES"]))
defs = dg.Definitions()
PYTHON
export RULES=exported DAGSTER_HOME=$folder/home DAGSTER_DISABLE_TELEMETRY=1
venv/bin/python -c 'import os, dotenv; dotenv.load_dotenv(".env"); print("load_dotenv() keeps:", os.environ["RULES"])' >seen
venv/bin/dagster definitions validate -m module >log 2>&1
echo "dagster makes of it: $(cat of_dagster)" >>seen
cat seen
diff seen - <<'SEEN'
load_dotenv() keeps: exported
dagster makes of it: ''
SEEN
