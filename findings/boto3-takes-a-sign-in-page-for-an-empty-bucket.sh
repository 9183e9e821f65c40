#!/usr/bin/env bash
# boto3 1.44.8 with botocore 1.44.8, run 2026-11-30.
#
# One expects an answer that is no S3 answer to be an error, whatever is asked for. In front of S3 stand proxies and
# sign-in pages that answer everything with status 200 and a page of their own. If that page is well-formed XML, as XHTML
# is, boto3 takes it: a bucket full of objects is listed as empty, and a PUT is a success, if without an ETag. A page of
# plain HTML is an error with the code "500", though its status was 200.
#
# Seen:
#   XHTML  list: 0 objects, status 200    put: stored, ETag None
#   HTML   list: ClientError              put: ClientError 500
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check boto3==1.44.8 botocore==1.44.8

"$folder/venv/bin/python" - >"$folder/seen" <<'PYTHON'
import http.server
import threading

import boto3
import botocore.config
import botocore.exceptions

PAGES = {
    "XHTML": b"<html><head><title>Sign in</title></head><body><p>Please sign in.</p></body></html>",
    "HTML ": b"<!doctype html><title>Sign in</title><p>Please sign in.<br>",
}
page = b""


class Portal(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    do_GET = do_PUT = answer

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Portal)
threading.Thread(target=server.serve_forever, daemon=True).start()
s3 = boto3.client(
    "s3",
    endpoint_url=f"http://127.0.0.1:{server.server_port}",
    region_name="us-east-1",
    aws_access_key_id="nobody",
    aws_secret_access_key="nothing",
    config=botocore.config.Config(
        retries={"max_attempts": 0}, request_checksum_calculation="when_required", s3={"addressing_style": "path"}
    ),
)


def listed():
    try:
        found = s3.list_objects_v2(Bucket="logs")
        return f"{len(found.get('Contents', []))} objects, status {found['ResponseMetadata']['HTTPStatusCode']}"
    except Exception as error:
        return type(error).__name__


def stored():
    try:
        return f"stored, ETag {s3.put_object(Bucket='logs', Key='hour', Body=b'one line').get('ETag')}"
    except botocore.exceptions.ClientError as error:
        return f"ClientError {error.response['Error']['Code']}"


for name, page in PAGES.items():
    print(f"{name}  list: {listed():<24} put: {stored()}")
PYTHON
cat "$folder/seen"
diff "$folder/seen" - <<'SEEN'
XHTML  list: 0 objects, status 200    put: stored, ETag None
HTML   list: ClientError              put: ClientError 500
SEEN
