"""A stand-in for Google SecOps: the Chronicle API over HTTP, as far as it is asked, strict about what it takes.

Sign-in, feeds, parsers, counts. Field names, enums and states are those of feed.proto and dashboard_query.proto in
google/cloud/chronicle/v1 of github.com/googleapis/googleapis.
`python -m zendesk_pipeline_tests.fakes.secops_server` runs it as a process, with a key file to sign in with.
"""

import argparse
import base64
import json
import re
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from zendesk_pipeline.local.services import LOOPBACK
from zendesk_pipeline_tests.fakes.listening import Connection, listening

CUSTOMER, PROJECT, REGION = "0ddba11a-0000-4000-8000-00000000c0de", "acme-secops", "eu"
INSTANCE = f"projects/{PROJECT}/locations/{REGION}/instances/{CUSTOMER}"
LOG_TYPE = f"{INSTANCE}/logTypes/ZENDESK_CRM"
ACCOUNT = "feeds@acme-secops.iam.gserviceaccount.com"
TOKENS = {
    "https://www.googleapis.com/auth/cloud-platform": "ya29.granted-by-the-stand-in",
    "https://www.googleapis.com/auth/chronicle.readonly": "ya29.granted-for-reading-alone",
}
"""What it gives for each scope: of a server on this machine."""
READING_POSTS = (":execute", ":searchRawLogs")
"""Methods that take their question as a body and change nothing: the scope for reading is enough."""
SUBJECT = "100000000000000000042"
CODE = base64.b64encode(b'filter { json { source => "message" } }').decode()
OLD_CODE = base64.b64encode(b"filter { }").decode()

Understands = Literal["records", "pages", "both", "neither", "anything"]
State = Literal["ACTIVE", "INACTIVE", "RUNNING", "SUCCEEDED", "FAILED"]


class _Key(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    access_key_id: str
    secret_access_key: str


class _Role(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    aws_iam_role_arn: str
    subject_id: str


class _Authentication(msgspec.Struct, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    access_key_secret_auth: _Key | None = None
    aws_iam_role_auth: _Role | None = None

    def __post_init__(self) -> None:
        if bool(self.access_key_secret_auth) == bool(self.aws_iam_role_auth):
            raise ValueError("oneof field 'auth_type' is set twice or not at all")


class _Settings(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    s3_uri: str
    authentication: _Authentication
    source_deletion_option: Literal["SOURCE_DELETION_OPTION_V2_UNSPECIFIED", "NEVER", "ON_SUCCESS"] = "NEVER"
    max_lookback_days: int = 180
    include_prefixes: list[str] = []

    def __post_init__(self) -> None:
        if not re.fullmatch(r"s3://[a-z0-9.-]{3,63}/(?:[^/]+/)*", self.s3_uri):
            raise ValueError("s3_uri is not a bucket and a prefix")
        if not 1 <= self.max_lookback_days <= 180:
            raise ValueError("max_lookback_days is out of range")


class _QueueAuthentication(msgspec.Struct, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    sqs_v2_access_key_secret_auth: _Key | None = msgspec.field(name="sqsV2AccessKeySecretAuth", default=None)
    aws_iam_role_auth: _Role | None = None

    def __post_init__(self) -> None:
        if bool(self.sqs_v2_access_key_secret_auth) == bool(self.aws_iam_role_auth):
            raise ValueError("oneof field 'auth_type' is set twice or not at all")


class _QueueSettings(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    queue: str
    s3_uri: str
    authentication: _QueueAuthentication
    source_deletion_option: Literal["SOURCE_DELETION_OPTION_V2_UNSPECIFIED", "NEVER", "ON_SUCCESS"] = "NEVER"
    max_lookback_days: int = 180
    include_prefixes: list[str] = []

    def __post_init__(self) -> None:
        if not re.fullmatch(r"arn:aws[a-z-]*:sqs:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]+", self.queue):
            raise ValueError("queue is not the ARN of a standard queue")


class _Details(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    feed_source_type: Literal["AMAZON_S3_V2", "AMAZON_SQS_V2"]
    log_type: str
    amazon_s3_v2_settings: _Settings | None = msgspec.field(name="amazonS3V2Settings", default=None)
    amazon_sqs_v2_settings: _QueueSettings | None = msgspec.field(name="amazonSqsV2Settings", default=None)
    asset_namespace: str = ""
    labels: dict[str, str] = {}

    def __post_init__(self) -> None:
        by_queue = self.feed_source_type == "AMAZON_SQS_V2"
        if bool(self.amazon_sqs_v2_settings) != by_queue or bool(self.amazon_s3_v2_settings) == by_queue:
            raise ValueError("oneof field 'details' is not that of feed_source_type")
        if self.log_type != LOG_TYPE:
            raise ValueError("log_type is not the resource name of a log type of this instance")


class _NewFeed(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    display_name: str
    details: _Details


class _ParserToRun(msgspec.Struct, forbid_unknown_fields=True):
    cbn: str


class _ParserRun(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    parser: _ParserToRun
    log: list[str]
    statedump_allowed: bool = False


class _TimeWindow(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    start_time: datetime
    end_time: datetime


class _Input(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    time_window: _TimeWindow


class _DashboardQuery(msgspec.Struct, forbid_unknown_fields=True):
    query: str
    input: _Input


class _Execution(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    query: _DashboardQuery
    clear_cache: bool = False


class _Search(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """As the page of searchRawLogs describes it: its protos are not published."""

    baseline_query: str
    baseline_time_range: _TimeWindow
    snapshot_query: str = ""
    snapshot_time_range: _TimeWindow | None = None
    case_sensitive: bool = False
    max_aggregations_per_field: int = 0
    page_size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Logs that SecOps counts at a time, by the fields of its ingestion metrics."""

    at: float
    logs: float = 0
    events: float = 0
    feed: str = ""
    component: str = "Ingestion API"
    state: str = ""
    log_type: str = "ZENDESK_CRM"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came, sign-in left out."""

    method: str
    path: str
    body: Any


@dataclass(slots=True)
class SecopsServer:
    """What it holds and does, to be changed at any time, and what it was asked."""

    understands: Understands = "records"
    leaves_out: str = ""
    """A part of its events that the parser gives no more: `principal` or `target`."""
    parser_version: str = "v1beta"
    """Of the API; before 2026-04 it was v1alpha."""
    url: str = ""
    page_size: int = 100
    """The most of a list that it gives at once."""
    refusal: tuple[int, bytes] | None = None
    """Status and body of its answer to whatever is asked with `refused_method`: a verb, or `execute` and its like."""
    refused_method: str = "POST"
    token_refusal: tuple[int, bytes] | None = None
    same_page_again: bool = False
    feeds: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    parsers: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {"name": f"{LOG_TYPE}/parsers/pa_old", "state": "INACTIVE", "type": "PREBUILT", "cbn": OLD_CODE},
            {"name": f"{LOG_TYPE}/parsers/pa_now", "state": "ACTIVE", "type": "PREBUILT", "cbn": CODE},
        ]
    )
    asked: list[Asked] = field(default_factory=list[Asked])
    metrics: list[Metric] = field(default_factory=list[Metric])
    logs: list[tuple[float, bytes]] = field(default_factory=list[tuple[float, bytes]])
    """Raw logs that can be found, and their times."""
    answers_in_parts: bool = True
    """Whether the result of a search is a list of parts."""
    tells_feeds: bool = True
    """Whether its metrics say which feed a log came by."""
    runtime_errors: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def ingests(self, logs: float, *, feed: str = "feed-1", at: float, failed: float = 0) -> None:
        """Count logs as SecOps does: each by every component that it goes through."""
        told = feed if self.tells_feeds else ""
        self.metrics += [
            Metric(at=at, logs=logs, feed=told),
            Metric(at=at, logs=logs, feed=told, component="Out-of-Band Processor"),
            Metric(at=at, logs=failed, component="Normalizer", state="failed_parsing"),
            Metric(at=at, logs=logs - failed, events=logs - failed, component="Normalizer", state="validated"),
        ]

    def holds(self, uri: str, **changed: Any) -> dict[str, Any]:
        """Put a feed there that somebody has made before."""
        number = len(self.feeds) + 1
        made: dict[str, Any] = {
            "name": f"{INSTANCE}/feeds/feed-{number}",
            "displayName": f"Feed {number}",
            "state": "SUCCEEDED",
            "details": {
                "feedSourceType": "AMAZON_S3_V2",
                "logType": LOG_TYPE,
                "amazonS3V2Settings": {"s3Uri": uri, "sourceDeletionOption": "NEVER", "maxLookbackDays": 180},
            },
            **changed,
        }
        self.feeds.append(made)
        return made

    def changes(self) -> list[Asked]:
        """What was asked of it beside reading."""
        return [each for each in self.asked if each.method != "GET" and not each.path.endswith(READING_POSTS)]

    def key_file(self, folder: Path) -> Path:
        """A service account's key, to be exchanged for a token here."""
        path = folder / "service-account.json"
        key = {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "1",
            "private_key": _private_key(),
            "client_email": ACCOUNT,
            "client_id": "1",
            "token_uri": f"{self.url}/token",
        }
        path.write_text(json.dumps(key))
        return path

    def environment(self, folder: Path) -> dict[str, str]:
        """What points the commands here."""
        return {
            "SECOPS_CUSTOMER_ID": CUSTOMER,
            "SECOPS_PROJECT": PROJECT,
            "SECOPS_REGION": REGION,
            "SECOPS_ENDPOINT": self.url,
            "SECOPS_SERVICE_ACCOUNT": str(self.key_file(folder)),
        }


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@cache
def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@contextmanager
def secops(*, understands: Understands = "records", port: int = 0) -> Generator[SecopsServer]:
    """The stand-in on this machine, on a free port unless one is named."""
    server = SecopsServer(understands)
    with listening(_connection(server), port=port) as number:
        server.url = f"http://{LOOPBACK}:{number}"
        yield server


def _connection(server: SecopsServer) -> type[Connection]:
    class Service(Connection):
        def do_GET(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = _answer(server, self.command, self.path, self.headers.get("Authorization", ""), content)
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

    return Service


def _answer(server: SecopsServer, method: str, target: str, authorization: str, content: bytes) -> tuple[int, bytes]:
    parts = urlsplit(target)
    if parts.path == "/token":
        return server.token_refusal or _token(content)
    try:
        body = msgspec.json.decode(content) if content else None
        server.asked.append(Asked(method, parts.path, body))
        _check_token(authorization, method, parts.path)
        if server.refusal and server.refused_method in (method, parts.path.rpartition(":")[2]):
            return server.refusal
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if method == "POST" and parts.path.endswith(READING_POSTS):
            return 200, json.dumps(_read(server, parts.path, body)).encode()
        return 200, json.dumps(_done(server, method, parts.path, query, body)).encode()
    except _RefusedError as refused:
        return refused.status, google_error(refused.status, str(refused))
    except msgspec.ValidationError as wrong:
        return 400, google_error(400, f"Invalid JSON payload received. {wrong}")


def _check_token(authorization: str, method: str, path: str) -> None:
    """One of `TOKENS`; that for reading reads, and no more."""
    scopes = [scope for scope, token in TOKENS.items() if authorization == f"Bearer {token}"]
    if not scopes:
        raise _RefusedError(401, "Request had invalid authentication credentials.")
    if scopes[0].endswith(".readonly") and method != "GET" and not path.endswith((*READING_POSTS, ":runParser")):
        raise _RefusedError(403, "Request had insufficient authentication scopes.")


def google_error(status: int, message: str) -> bytes:
    """An error as Google's APIs write it: https://cloud.google.com/apis/design/errors."""
    return json.dumps({"error": {"code": status, "message": message, "status": "SOME_STATUS"}}).encode()


def _token(content: bytes) -> tuple[int, bytes]:
    """Exchange a signed assertion for the token, if it is signed by the key and asks for the right scope."""
    form = parse_qs(content.decode())
    key = serialization.load_pem_private_key(_private_key().encode(), None)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        claims: Any = jwt.decode(form["assertion"][0], certs=public)
    except ValueError:
        return 400, b'{"error":"invalid_grant","error_description":"Invalid JWT Signature."}'
    if claims["iss"] != ACCOUNT or claims["scope"] not in TOKENS:
        return 400, b'{"error":"invalid_scope"}'
    return 200, json.dumps(
        {"access_token": TOKENS[claims["scope"]], "expires_in": 3600, "token_type": "Bearer"}
    ).encode()


def _done(server: SecopsServer, method: str, path: str, query: dict[str, str], body: Any) -> Any:
    match method, path:
        case "GET", p if p == f"/v1/{INSTANCE}/feeds":
            return _page(server, "feeds", server.feeds, query)
        case "POST", p if p == f"/v1/{INSTANCE}/feeds":
            return _create(server, body)
        case "POST", p if m := re.fullmatch(rf"/v1/({INSTANCE}/feeds/[^/:]+):(enable|disable)", p):
            if body is not None:
                raise _RefusedError(400, "The request body must be empty.")
            return _switch(server, m[1], enabled=m[2] == "enable")
        case "GET", p if p == f"/v1/{INSTANCE}/feedServiceAccounts:fetchServiceAccountForCustomer":
            return {"name": f"{INSTANCE}/feedServiceAccounts/{ACCOUNT}", "subjectId": SUBJECT}
        case "GET", p if p == f"/{server.parser_version}/{LOG_TYPE}/parsers":
            return _page(server, "parsers", server.parsers, query)
        case "POST", p if p == f"/{server.parser_version}/{LOG_TYPE}:runParser":
            run = msgspec.convert(body, _ParserRun)
            base64.b64decode(run.parser.cbn, validate=True)
            logs = [base64.b64decode(log, validate=True) for log in run.log]
            results = [_parsed(server.understands, log) for log in logs]
            for event in (each["event"] for result in results for each in _events(result)):
                event.pop(server.leaves_out, None)
            return {"runParserResults": results}
        case _:
            raise _RefusedError(404, f"Requested entity was not found: {method} {path}")


def _read(server: SecopsServer, path: str, body: Any) -> Any:
    """What takes its question as a body."""
    if path == f"/v1beta/{INSTANCE}/dashboardQueries:execute":
        return _table(server, msgspec.convert(body, _Execution))
    if path == f"/v1alpha/{INSTANCE}:searchRawLogs":
        return _searched(server, msgspec.convert(body, _Search))
    raise _RefusedError(404, f"Requested entity was not found: POST {path}")


def _page(server: SecopsServer, items: str, every: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    size = min(server.page_size, int(query.get("pageSize", "50")))
    start = 0 if server.same_page_again else int(query.get("pageToken", "page-0").removeprefix("page-"))
    more = {"nextPageToken": f"page-{start + size}"} if start + size < len(every) else {}
    return {items: every[start : start + size], **more} if every else {}


def _create(server: SecopsServer, body: Any) -> dict[str, Any]:
    new = msgspec.convert(body, _NewFeed)
    if any(feed["displayName"] == new.display_name for feed in server.feeds):
        raise _RefusedError(409, f"A feed named {new.display_name} exists already.")
    made = server.holds("", displayName=new.display_name, state="ACTIVE")
    made["details"] = json.loads(json.dumps(body["details"]))
    for settings in (value for name, value in made["details"].items() if name.endswith("V2Settings")):
        for secret in settings["authentication"].values():
            secret.pop("secretAccessKey", None)
    return made


def _switch(server: SecopsServer, name: str, *, enabled: bool) -> dict[str, Any]:
    found = [feed for feed in server.feeds if feed["name"] == name]
    if not found:
        raise _RefusedError(404, "Requested entity was not found.")
    found[0]["state"] = "ACTIVE" if enabled else "INACTIVE"
    return found[0]


def _searched(server: SecopsServer, asked: _Search) -> Any:
    """What a search for `raw = /…/` gives: pieces of logs, and never one of another time."""
    expression = re.fullmatch(r"raw = /(.*)/", asked.baseline_query)
    if expression is None:
        raise _RefusedError(400, "compilation error: parsing raw log query")
    start, end = (
        each.timestamp() for each in (asked.baseline_time_range.start_time, asked.baseline_time_range.end_time)
    )
    wanted = re.compile(expression[1].encode(), 0 if asked.case_sensitive else re.IGNORECASE)
    found = [log for at, log in server.logs if start <= at < end and wanted.search(log)]
    shown = [{"logType": {"displayName": "Zendesk CRM"}, "snippet": log[:80].decode()} for log in found]
    answer: dict[str, Any] = {"matches": shown[: asked.page_size or None]} if shown else {}
    return [{"progress": 0.5}, answer] if server.answers_in_parts else answer


_LOG_TYPE = re.compile(r'^ingestion\.log_type = "(\w+)"$', re.MULTILINE)
_NOT = re.compile(r'^ingestion\.component != "([^"]+)"$', re.MULTILINE)
_KEY = re.compile(r"^\$(\w+) = ingestion\.(feed_id|component|state)$", re.MULTILINE)
_SUM = re.compile(r"^  \$(\w+) = sum\(ingestion\.(log_count|event_count)\)$", re.MULTILINE)
_FIELDS = {"feed_id": "feed", "component": "component", "state": "state", "log_count": "logs", "event_count": "events"}


def _table(server: SecopsServer, asked: _Execution) -> dict[str, Any]:
    """What a query over `ingestion` gives, for the part of YARA-L 2.0 that is read above."""
    text, window = asked.query.query, asked.query.input.time_window
    keys, sums, log_type = _KEY.findall(text), _SUM.findall(text), _LOG_TYPE.findall(text)
    matched = re.findall(r"match:\n  (.*)\n", text)
    if len(log_type) != 1 or not sums or matched != [", ".join(f"${name}" for name, _ in keys)]:
        raise _RefusedError(400, "compilation error: parsing query")
    rows: dict[tuple[str, ...], Counter[str]] = {}
    for metric in server.metrics:
        within = window.start_time.timestamp() <= metric.at < window.end_time.timestamp()
        if within and metric.log_type == log_type[0] and metric.component not in _NOT.findall(text):
            row = rows.setdefault(tuple(getattr(metric, _FIELDS[each]) for _, each in keys), Counter())
            row.update({name: getattr(metric, _FIELDS[each]) for name, each in sums})
    columns = [
        *(_column(name, [{"stringVal": row[at]} for row in rows]) for at, (name, _) in enumerate(keys)),
        *(_column(name, [{"doubleVal": row[name]} for row in rows.values()]) for name, _ in sums),
    ]
    faults = {"queryRuntimeErrors": server.runtime_errors} if server.runtime_errors else {}
    return {"results": columns, "dataSources": ["INGESTION_METRICS"], **faults} if rows or faults else {}


def _column(name: str, values: list[dict[str, Any]]) -> dict[str, Any]:
    return {"column": name, "values": [{"value": each} for each in values]}


def _parsed(understands: Understands, log: bytes) -> dict[str, Any]:
    """What a parser of each kind would make of a log; one that takes anything makes an empty event of it."""
    value: dict[str, Any] = msgspec.json.decode(log)
    records: list[dict[str, Any]] | None = next(iter(value.values())) if len(value) == 1 else None
    if understands == "anything":
        return {"log": base64.b64encode(log).decode(), "parsedEvents": {"events": [{"event": {"metadata": {}}}]}}
    if records is not None and understands in {"pages", "both"}:
        return {"parsedEvents": {"events": [{"event": _event(record)} for record in records]}}
    if records is None and understands in {"records", "both"}:
        return {"parsedEvents": {"events": [{"event": _event(value)}]}}
    return {"error": {"code": 3, "message": f"LOG_PARSING_CBN_ERROR: no field to map in {log[:80].decode()}"}}


def _events(result: dict[str, Any]) -> list[dict[str, Any]]:
    return result.get("parsedEvents", {}).get("events", [])


def _event(record: dict[str, Any]) -> dict[str, Any]:
    """A UDM event with a few of the record's values."""
    return {
        "metadata": {
            "eventTimestamp": record.get("updated_at") or record.get("created_at"),
            "eventType": "USER_RESOURCE_ACCESS",
            "productLogId": str(record["id"]),
            "logType": "ZENDESK_CRM",
        },
        "principal": {"user": {"userid": str(record.get("actor_id") or record.get("requester_id"))}},
        "target": {"url": record.get("url")},
    }


def main() -> None:
    """Run it until it is interrupted; print what points the commands to it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path, help="where the key file is put")
    arguments.add_argument("--understands", default="records", choices=Understands.__args__)
    arguments.add_argument("--port", type=int, default=0)
    chosen = arguments.parse_args()
    with secops(understands=chosen.understands, port=chosen.port) as server:
        for name, value in server.environment(chosen.folder).items():
            print(f"{name}={value}", flush=True)  # noqa: T201  # what it is started for
        threading.Event().wait()


if __name__ == "__main__":
    main()
