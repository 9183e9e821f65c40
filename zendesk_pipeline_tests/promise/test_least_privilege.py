"""The two policies, enforced by servers: enough for everything that a collector or a feed does, and no more.

SeaweedFS evaluates actions, resources and the condition on the prefix; moto, as a second opinion, neither conditions
nor what a copy is made of.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
import requests
from botocore.exceptions import ClientError
from click.testing import CliRunner

from zendesk_pipeline.cli import main
from zendesk_pipeline.commands.iam_policy import Policy, reader_policy, writer_policy
from zendesk_pipeline.delivery.batches import LONGEST_LINE
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, local_s3, moto_s3
from zendesk_pipeline.model.errors import PipelineError, SettingsError
from zendesk_pipeline.model.windows import Span
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.by_hand import FIRST, audit_log, audit_logs, hours, lines, ticket
from zendesk_pipeline_tests.collected import COLLECTED
from zendesk_pipeline_tests.conftest import SINCE
from zendesk_pipeline_tests.deliveries import Bucket, Deliveries, holds_once, without_ledgers
from zendesk_pipeline_tests.fakes.s3_proxy import Answer, Fate, S3Request, s3_proxy
from zendesk_pipeline_tests.promise.collector_process import Collection, collect
from zendesk_pipeline_tests.reconcile import reconcile

BUCKET = "zendesk-raw"
SPAN = hours(2)
RECORDS = audit_logs(SPAN)
WRITTEN = "writer"
"""Whose prefixes readers read."""


def _settings(user: str) -> Settings:
    """Prefixes of a user's own: policies are made for them."""
    names = {"s3_prefix": "crm", "state_prefix": "state", "quarantine_prefix": "quarantine"}
    return Settings(s3_bucket=BUCKET, **{name: f"{user}/{part}/" for name, part in names.items()})  # pyright: ignore[reportArgumentType]  # all are str


def _layout(user: str) -> Layout:
    chosen = _settings(user)
    return Layout(feed=chosen.s3_prefix, state=chosen.state_prefix, quarantine=chosen.quarantine_prefix)


PUT, GET, LIST = range(3)


def _without(policy: Policy, number: int, part: str) -> Policy:
    """The policy less one statement, or less what the statement says of one prefix."""
    statements: list[dict[str, Any]] = json.loads(json.dumps(policy["Statement"]))
    if not part:
        return {**policy, "Statement": statements[:number] + statements[number + 1 :]}
    places = statements[number].get("Condition", {}).get("StringLike", statements[number])
    name = "s3:prefix" if "s3:prefix" in places else "Resource"
    places[name] = [place for place in places[name] if f"/{part}/" not in place]
    return {**policy, "Statement": statements}


LESS = {
    "no-put": (PUT, ""),
    "no-put-feed": (PUT, "crm"),
    "no-put-state": (PUT, "state"),
    "no-put-quarantine": (PUT, "quarantine"),
    "no-get": (GET, ""),
    "no-get-feed": (GET, "crm"),
    "no-get-state": (GET, "state"),
    "no-list": (LIST, ""),
    "no-list-feed": (LIST, "crm"),
}


def _users() -> dict[str, Policy]:
    users = {user: writer_policy(_settings(user)) for user in (WRITTEN, "as-aws")}
    users |= {user: _without(writer_policy(_settings(user)), *less) for user, less in LESS.items()}
    users |= {user: writer_policy(_settings(user), write_only_feed=True) for user in ("write-only", "write-only-crash")}
    users["reader"] = reader_policy(_settings(WRITTEN))
    users["deleting-reader"] = reader_policy(_settings(WRITTEN), delete_after_transfer=True)
    users["listing-reader"] = reader_policy(_settings(WRITTEN), list_whole_bucket=True)
    return users


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """SeaweedFS with a user for each policy; its root sees everything."""
    with local_s3(tmp_path_factory.mktemp("guarded"), BUCKET, users=_users()) as running:
        yield running


Client = Any
Clients = Callable[[str], Client]


def _client(service: str, endpoint: str, key: str, secret: str) -> Client:
    make = cast("Callable[..., Client]", boto3.client)  # hints of S3 only are installed
    where = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    return make(service, aws_access_key_id=key, aws_secret_access_key=secret, **where)


@pytest.fixture(scope="module")
def seaweedfs(guarded: LocalS3) -> Clients:
    """An S3 client for each user."""
    return lambda user: _client("s3", guarded.endpoint, user, user)


@pytest.fixture(scope="module")
def checking_moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    """The same users at a moto that evaluates policies."""
    with moto_s3(tmp_path_factory.mktemp("moto"), BUCKET) as server:
        iam, keys = _client("iam", server.endpoint, "a", "b"), dict[str, tuple[str, str]]()
        for user in (WRITTEN, "reader", "deleting-reader"):
            iam.create_user(UserName=user)
            iam.put_user_policy(UserName=user, PolicyName="rights", PolicyDocument=json.dumps(_users()[user]))
            key = iam.create_access_key(UserName=user)["AccessKey"]
            keys[user] = key["AccessKeyId"], key["SecretAccessKey"]
        for key in _keys():
            server.client().put_object(Bucket=BUCKET, Key=key, Body=b"x")
        requests.post(f"{server.endpoint}/moto-api/reset-auth", data="0", timeout=60).raise_for_status()
        yield lambda user: _client("s3", server.endpoint, *keys[user])


def _keys() -> list[str]:
    return [f"{WRITTEN}/{part}/x" for part in ("crm", "state", "quarantine")] + ["beside/x", "x"]


@pytest.fixture(params=["seaweedfs", "moto"])
def clients(request: pytest.FixtureRequest, guarded: LocalS3) -> Iterator[Clients]:
    """Users at both servers, with an object in every place."""
    if request.param == "moto":
        yield request.getfixturevalue("checking_moto")
        return
    root = guarded.client()
    for key in _keys():
        root.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    yield request.getfixturevalue("seaweedfs")
    for key in _keys():
        root.delete_object(Bucket=BUCKET, Key=key)


# The writer, at work


@dataclass(frozen=True, slots=True)
class Runs:
    """Collections with one user's rights and prefixes, each a process of its own."""

    user: str
    zendesk: SimulatedZendesk
    s3: LocalS3
    folder: Path

    @property
    def bucket(self) -> Bucket:
        """As an administrator sees it."""
        return Bucket(store=Store(client=self.s3.client(), bucket=BUCKET, encryption={}), layout=_layout(self.user))

    def run(self, stream: str = "audit_logs", span: Span = SPAN, **others: str) -> tuple[int, str]:
        """Exit code and output of a collection."""
        log, layout = self.folder / "log", _layout(self.user)
        environment = {
            **self.zendesk.environment,
            **self.s3.environment,
            "AWS_ACCESS_KEY_ID": self.user,
            "AWS_SECRET_ACCESS_KEY": self.user,
            "S3_PREFIX": layout.feed,
            "STATE_PREFIX": layout.state,
            "QUARANTINE_PREFIX": layout.quarantine,
            "START_DATE": SINCE,
            "ZENDESK_EXPORT_RATE": "100000",
            **others,
        }
        log.unlink(missing_ok=True)
        code = collect(Collection(stream=stream, span=span, environment=environment, log=log))
        return code, log.read_text()

    def exact(self, stream: str = "audit_logs", span: Span = SPAN) -> bool:
        verdict = reconcile(self.zendesk.control, self.s3, _layout(self.user), stream, span)
        return verdict.exact and verdict.source > 0


Make = Callable[[str], Runs]


@pytest.fixture
def runs(zendesk: SimulatedZendesk, guarded: LocalS3, tmp_path: Path) -> Make:
    """Makes the runs of a user."""
    return lambda user: Runs(user, zendesk, guarded, tmp_path)


def test_the_writers_policy_is_enough_for_everything(runs: Make, zendesk: SimulatedZendesk) -> None:
    """Both streams, a record too long for a line, a re-run, a crash that is mended, a late arrival: never a refusal."""
    writer = runs(WRITTEN)
    zendesk.control.add_records("incremental_tickets", [ticket(990_001, FIRST.start + 9, "x" * 4_000_000).line])
    said = [writer.run(stream) for stream in COLLECTED]
    delivered = without_ledgers(writer.bucket)  # as if both had died before they wrote their ledgers
    said += [writer.run(stream) for stream in COLLECTED]
    mended = writer.bucket.stored()
    zendesk.control.add_records("audit_logs", [audit_log(990_002, SPAN.end - 60).line])
    said.append(writer.run("audit_logs", hours(1, skip=2)))

    assert [code for code, _ in said] == [0] * 5
    assert [text for _, text in said if "S3 refuses" in text] == []
    assert (mended, len(delivered) > 1) == (delivered, True)
    assert len(writer.bucket.stored(writer.bucket.layout.quarantine)) == 1
    assert writer.exact("audit_logs", hours(3))
    marks = (b'"id":990002,', b'"shortened":true')
    assert [sum(mark in line for line in writer.bucket.lines()) for mark in marks] == [1, 1]


def test_a_write_only_feed_works_and_says_what_it_costs(runs: Make) -> None:
    """Without rights to list and read the feed: each run warns, and every record is there once after any number."""
    writer = runs("write-only")
    said = [writer.run() for _ in range(2)]
    assert [code for code, _ in said] == [0, 0]
    assert [text.count("give the writer s3:ListBucket there. Without it a crash") > 0 for _, text in said] == [True] * 2
    assert writer.exact()


def test_where_a_missing_ledger_is_answered_with_403_nothing_else_changes(runs: Make, guarded: LocalS3) -> None:
    """AWS does so for whoever may not list: both runs succeed, exactly, without a warning."""
    there: set[str] = set()

    def as_aws(request: S3Request) -> Fate:
        if request.method == "PUT":
            there.add(request.key)
        missing = request.method == "GET" and "/state/" in request.key and request.key not in there
        return Answer(status=403, code="AccessDenied") if missing else "pass"

    with s3_proxy(guarded.endpoint) as proxy:
        proxy.decide = as_aws
        said = [runs("as-aws").run(AWS_ENDPOINT_URL_S3=proxy.endpoint) for _ in range(2)]
        puts = Counter(seen.key for seen in proxy.seen if seen.method == "PUT" and "/state/" in seen.key)
    assert [code for code, _ in said] == [0, 0]
    assert [text for _, text in said if "S3 refuses" in text] == []
    assert runs("as-aws").exact()
    # what the right to list saves: one more write for each ledger that is not there yet
    assert [puts[_layout("as-aws").ledger("audit_logs", window)] for window in SPAN] == [2, 2]


# The writer, with less


def _deliver(seaweedfs: Clients, guarded: LocalS3, user: str) -> tuple[Deliveries, Bucket]:
    """Deliveries with a user's rights, and the bucket as an administrator sees it."""
    place = Bucket(store=Store(client=seaweedfs(user), bucket=BUCKET, encryption={}), layout=_layout(user))
    root = Bucket(store=Store(client=guarded.client(), bucket=BUCKET, encryption={}), layout=_layout(user))
    return Deliveries(bucket=place), root


BREAKS = {
    "no-put": ("once", "PutObject", "crm"),
    "no-put-feed": ("once", "PutObject", "crm"),
    "no-put-state": ("once", "PutObject", "state"),
    "no-put-quarantine": ("long", "PutObject", "quarantine"),
    "no-get": ("again", "GetObject", "state"),
    "no-get-state": ("again", "GetObject", "state"),
}


@pytest.mark.parametrize("user", BREAKS)
def test_each_right_taken_away_breaks_a_run_that_says_which(seaweedfs: Clients, guarded: LocalS3, user: str) -> None:
    """Without it nothing goes on as if: the error names the right, and the place where it lacks."""
    when, action, part = BREAKS[user]
    deliveries, root = _deliver(seaweedfs, guarded, user)
    if when == "again":
        deliveries.records(SPAN, RECORDS)
    records = [*RECORDS, audit_log(1, SPAN.end - 1, "x" * LONGEST_LINE)] if when == "long" else RECORDS
    with pytest.raises(PipelineError, match=rf"{action} on s3://{BUCKET}/{user}/{part}/.*give the writer s3:{action}"):
        deliveries.records(SPAN, records)
    if when == "again":
        assert holds_once(root, RECORDS)
    assert root.complete(SPAN)[-1] is (when == "again")


WARNS = {"no-get-feed": "GetObject", "no-list": "ListBucket", "no-list-feed": "ListBucket"}


@pytest.mark.parametrize("user", WARNS)
def test_each_right_to_the_feed_taken_away_costs_the_mending_of_crashes(
    seaweedfs: Clients, guarded: LocalS3, user: str
) -> None:
    """The run warns by the right's name; a crash between two writes then repeats a batch, and loses nothing."""
    deliveries, root = _deliver(seaweedfs, guarded, user)
    deliveries.records(SPAN, RECORDS)
    assert holds_once(root, RECORDS)
    without_ledgers(root)
    extra = audit_log(1, FIRST.start)
    deliveries.records(SPAN, [extra, *RECORDS])
    assert any(f"give the writer s3:{WARNS[user]}" in warning for warning in deliveries.warnings)
    assert Counter(root.lines()) > Counter(lines([extra, *RECORDS]))


def test_what_a_write_only_feed_costs_is_as_stated(seaweedfs: Clients, guarded: LocalS3) -> None:
    """A crash between object and ledger repeats the objects of its windows once, never more, and loses nothing."""
    deliveries, root = _deliver(seaweedfs, guarded, "write-only-crash")
    deliveries.records(SPAN, RECORDS)
    without_ledgers(root)
    extra = audit_log(1, FIRST.start)
    for _ in range(2):
        deliveries.records(SPAN, [extra, *RECORDS])
    counted = Counter(root.lines())
    assert set(counted) == set(lines([extra, *RECORDS]))
    assert set(counted.values()) <= {1, 2}
    assert root.complete(SPAN) == [True, True]


# Everything else


def _deleted(answer: dict[str, Any]) -> None:
    """DeleteObjects answers 200 and says in its body what was refused."""
    for problem in answer.get("Errors", []):
        raise ClientError({"Error": problem}, "DeleteObjects")


Attempt = Callable[[Client], object]


def _get(key: str) -> Attempt:
    return lambda s3: s3.get_object(Bucket=BUCKET, Key=key)


def _put(key: str) -> Attempt:
    return lambda s3: s3.put_object(Bucket=BUCKET, Key=key, Body=b"y")


def _delete(key: str) -> Attempt:
    return lambda s3: s3.delete_object(Bucket=BUCKET, Key=key)


def _list(prefix: str) -> Attempt:
    return lambda s3: s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)


def _copy(source: str, target: str) -> Attempt:
    return lambda s3: s3.copy_object(Bucket=BUCKET, Key=target, CopySource=f"{BUCKET}/{source}")


FEED, STATE, QUARANTINE, BESIDE, ROOT = _keys()
BOTH_REFUSED: dict[str, Attempt] = {
    "read quarantine": _get(QUARANTINE),
    "read beside": _get(BESIDE),
    "read the root": _get(ROOT),
    "write beside": _put("beside/y"),
    "write into the root": _put("y"),
    "delete a ledger": _delete(STATE),
    "delete from quarantine": _delete(QUARANTINE),
    "delete beside": _delete(BESIDE),
    "read the bucket's policy": lambda s3: s3.get_bucket_policy(Bucket=BUCKET),
    "write the bucket's policy": lambda s3: s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(_users()[WRITTEN])),
    "switch versions off": lambda s3: s3.put_bucket_versioning(
        Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"}
    ),
    "make objects expire": lambda s3: s3.put_bucket_lifecycle_configuration(
        Bucket=BUCKET,
        LifecycleConfiguration={
            "Rules": [{"ID": "a", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}]
        },
    ),
    "make a bucket": lambda s3: s3.create_bucket(Bucket="another-bucket"),
    "delete the bucket": lambda s3: s3.delete_bucket(Bucket=BUCKET),
}
SUBTLE: dict[str, Attempt] = {
    "copy out of quarantine": _copy(QUARANTINE, f"{WRITTEN}/crm/copy"),
    "list everything": _list(""),
    "list without a prefix": lambda s3: s3.list_objects_v2(Bucket=BUCKET),
    "list as of old": lambda s3: s3.list_objects(Bucket=BUCKET),
    "list what lies above": _list(f"{WRITTEN}/"),
    "list half a prefix": _list(f"{WRITTEN}/cr"),
    "list quarantine": _list(f"{WRITTEN}/quarantine/"),
    "list beside": _list("beside/"),
}
WRITER_REFUSED: dict[str, Attempt] = {
    **BOTH_REFUSED,
    "delete from the feed": _delete(FEED),
    "delete many": lambda s3: _deleted(s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": FEED}]})),
    "say where the bucket is": lambda s3: s3.get_bucket_location(Bucket=BUCKET),
}
READER_REFUSED: dict[str, Attempt] = {
    **BOTH_REFUSED,
    "read a ledger": _get(STATE),
    "write into the feed": _put(FEED),
    "write a ledger": _put(STATE),
    "write into quarantine": _put(QUARANTINE),
    "delete from the feed": _delete(FEED),
}
READER_SUBTLE = {**SUBTLE, "list ledgers": _list(f"{WRITTEN}/state/")}


def _allowed(client: Client, attempts: dict[str, Attempt]) -> list[str]:
    """Those of the attempts that are not refused."""
    done: list[str] = []
    for name, attempt in attempts.items():
        try:
            attempt(client)
        except ClientError as refused:
            code = refused.response.get("Error", {}).get("Code")
            assert code in {"AccessDenied", "403"}, (name, refused)  # noqa: PT017  # it goes on
        else:
            done.append(name)
    return done


def test_the_writer_can_do_nothing_else(clients: Clients) -> None:
    """It deletes nothing, reads no quarantine, writes nowhere else, and has no say in the bucket."""
    assert _allowed(clients(WRITTEN), WRITER_REFUSED) == []
    needed = {"read": _get(FEED), "ledger": _get(STATE), "write": _put(FEED), "find": _list(f"{WRITTEN}/crm/")}
    assert _allowed(clients(WRITTEN), needed) == list(needed)


def test_the_reader_can_do_nothing_else(clients: Clients) -> None:
    """It reads the feed, and neither ledgers nor quarantine; it writes and deletes nothing."""
    assert _allowed(clients("reader"), READER_REFUSED) == []
    needed: dict[str, Attempt] = {
        "read": _get(FEED),
        "find": _list(f"{WRITTEN}/crm/"),
        "locate": lambda s3: s3.get_bucket_location(Bucket=BUCKET),
    }
    assert _allowed(clients("reader"), needed) == list(needed)


def test_a_reader_that_may_delete_deletes_from_the_feed_alone(clients: Clients) -> None:
    """With the right to delete what was transferred the reader has exactly that more."""
    more = {name: attempt for name, attempt in READER_REFUSED.items() if name != "delete from the feed"}
    assert _allowed(clients("deleting-reader"), more) == []
    assert _allowed(clients("deleting-reader"), {"delete": _delete(FEED)}) == ["delete"]
    with pytest.raises(ClientError, match=r"NoSuchKey|AccessDenied"):
        clients(WRITTEN).get_object(Bucket=BUCKET, Key=FEED)


@pytest.mark.parametrize(
    ("user", "attempts"),
    [(WRITTEN, SUBTLE), ("reader", READER_SUBTLE), ("deleting-reader", READER_SUBTLE)],
)
def test_nobody_lists_beyond_the_prefixes(seaweedfs: Clients, user: str, attempts: dict[str, Attempt]) -> None:
    """What lies beside is not even known by name; within the prefixes a day can be listed."""
    assert _allowed(seaweedfs(user), attempts) == []
    own = {"feed": _list(f"{WRITTEN}/crm/"), "a day": _list(f"{WRITTEN}/crm/2026/11/12/")}
    assert _allowed(seaweedfs(user), own) == list(own)


def test_a_reader_with_the_whole_listing_sees_names_and_no_more(seaweedfs: Clients, guarded: LocalS3) -> None:
    """`--list-whole-bucket` shows what there is by name; contents stay closed."""
    guarded.client().put_object(Bucket=BUCKET, Key=STATE, Body=b"x")
    assert _allowed(seaweedfs("listing-reader"), READER_REFUSED) == []
    names = [name for name in READER_SUBTLE if name.startswith("list")]
    assert _allowed(seaweedfs("listing-reader"), READER_SUBTLE) == names


# The command


def _printed(monkeypatch: pytest.MonkeyPatch, *arguments: str, **environment: str) -> Any:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    said = CliRunner().invoke(main, ["iam-policy", *arguments])
    return json.loads(said.output) if said.exit_code == 0 else said.output


def _rights(policy: Policy) -> set[tuple[str, str]]:
    """Pairs of action and resource."""
    return {
        (action, resource)
        for statement in policy["Statement"]
        for action in _every(statement["Action"])
        for resource in _every(statement["Resource"])
    }


def _every(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_the_command_prints_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bucket and prefixes are those of the environment; each option takes away or adds what its name says."""
    chosen = {"S3_BUCKET": "acme", "S3_PREFIX": "a/", "STATE_PREFIX": "b/", "QUARANTINE_PREFIX": "c/"}
    writer = _printed(monkeypatch, "writer", **chosen)
    place = "arn:aws:s3:::acme"
    writes = {("s3:PutObject", f"{place}/{prefix}/*") for prefix in "abc"}
    reads = {("s3:GetObject", f"{place}/a/*"), ("s3:GetObject", f"{place}/b/*"), ("s3:ListBucket", place)}
    feed = {("s3:GetObject", f"{place}/a/*"), ("s3:ListBucket", place), ("s3:GetBucketLocation", place)}

    assert writer == writer_policy(Settings())
    assert _rights(writer) == writes | reads
    assert _rights(_printed(monkeypatch, "writer", "--write-only-feed")) == (writes | reads) - {
        ("s3:GetObject", f"{place}/a/*")
    }
    assert _rights(_printed(monkeypatch, "reader")) == feed
    deleting = _printed(monkeypatch, "reader", "--delete-after-transfer")
    assert _rights(deleting) == feed | {("s3:DeleteObject", f"{place}/a/*")}
    assert "Condition" not in json.dumps(_printed(monkeypatch, "reader", "--list-whole-bucket"))
    queue = "arn:aws:sqs:eu-central-1:111122223333:feed"
    takes = {f"sqs:{action}" for action in ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility")}
    assert _rights(_printed(monkeypatch, "reader", "--queue", queue)) - feed == {
        (action, queue) for action in takes | {"sqs:GetQueueAttributes"}
    }
    assert [s["Condition"] for s in writer["Statement"] if "Condition" in s] == [
        {"StringLike": {"s3:prefix": ["a/*", "b/*"]}}
    ]


@pytest.mark.parametrize(
    ("key", "resource"),
    [
        ("1234abcd-12ab", "arn:aws:kms:*:*:key/1234abcd-12ab"),
        ("arn:aws:kms:eu-central-1:111122223333:key/1234abcd", "arn:aws:kms:eu-central-1:111122223333:key/1234abcd"),
    ],
)
def test_a_key_of_ones_own_is_in_both_policies(key: str, resource: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With S3_KMS_KEY_ID the writer may use that key to write and read, the reader to read."""
    environment = {"S3_BUCKET": "acme", "S3_SSE": "aws:kms", "S3_KMS_KEY_ID": key}
    writer, reader = (_rights(_printed(monkeypatch, who, **environment)) for who in ("writer", "reader"))
    assert {right for right in writer if "kms" in right[0]} == {
        ("kms:GenerateDataKey", resource),
        ("kms:Decrypt", resource),
    }
    assert {right for right in reader if "kms" in right[0]} == {("kms:Decrypt", resource)}


def test_what_no_policy_can_be_made_of_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bucket, and with a key's alias, which IAM does not take for the key."""
    assert "S3_BUCKET is not set" in _printed(monkeypatch, "writer")
    assert "S3_BUCKET is not set" in _printed(monkeypatch, "reader")
    with pytest.raises(SettingsError, match="S3_KMS_KEY_ID is an alias"):
        reader_policy(Settings(s3_bucket="acme", s3_sse="aws:kms", s3_kms_key_id="alias/zendesk"))
