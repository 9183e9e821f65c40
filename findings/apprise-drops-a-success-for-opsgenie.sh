#!/usr/bin/env bash
# apprise 2.3.0, run 2026-11-30.
#
# One expects a notification that cannot be sent to be an error, and one of type `success` to reach whoever was alerted.
# Apprise's Opsgenie service takes `success` for "close the alert that I have opened", and `info` for "add a note to it".
# A process that has opened none itself, which is every new one, then sends nothing at all: no request, and notify()
# says that it succeeded. `info` is Apprise's own default type.
#
# Seen:
#   info     requests 0  told as sent True
#   success  requests 0  told as sent True
#   warning  requests 1  told as sent False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check apprise==2.3.0

# A proxy that refuses every request and counts them stands between, so that nothing leaves this machine.
"$folder/venv/bin/python" - >"$folder/seen" <<'PYTHON'
import http.server
import os
import threading

requests = 0


class Refusing(http.server.BaseHTTPRequestHandler):
    def do_CONNECT(self):
        global requests
        requests += 1
        self.send_error(403)

    def log_message(self, *_):
        pass


proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
threading.Thread(target=proxy.serve_forever, daemon=True).start()
os.environ["HTTPS_PROXY"] = os.environ["https_proxy"] = f"http://127.0.0.1:{proxy.server_port}"
os.environ["NO_PROXY"] = os.environ["no_proxy"] = ""

import apprise  # after the proxy is set

for kind in ("info", "success", "warning"):
    requests = 0
    sender = apprise.Apprise()
    sender.add("opsgenie://11111111-2222-3333-4444-555555555555")
    told = sender.notify(title="A title", body="A body", notify_type=kind)
    print(f"{kind:8} requests {min(requests, 1)}  told as sent {bool(told)}")
PYTHON
cat "$folder/seen"
diff "$folder/seen" - <<'SEEN'
info     requests 0  told as sent True
success  requests 0  told as sent True
warning  requests 1  told as sent False
SEEN
