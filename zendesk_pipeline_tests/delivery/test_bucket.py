"""The bucket, over HTTP: SeaweedFS, which checks credentials and checksums, and moto, which answers as AWS does."""

import re
import socket
import threading
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.auth import AUTH_TYPE_MAPS
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError

from zendesk_pipeline.delivery.batches import encode
from zendesk_pipeline.delivery.bucket import TRIES, Store, signed_once
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import ACCESS_KEY, LocalS3
from zendesk_pipeline.model.errors import DeliveryError, DeniedError, PipelineError, SettingsError
from zendesk_pipeline_tests.fakes.s3_wire import Fault, Sent, Wire, denying, refusal, refusing, stored

WRITERS = 6
JSON = "application/json"


@pytest.fixture(params=["s3", "moto"], ids=["seaweedfs", "moto"])
def server(request: pytest.FixtureRequest, _one_try: None) -> LocalS3:
    """Either server."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def bucket(server: LocalS3) -> Store:
    """The server's bucket."""
    return Store(client=signed_once(server.client()), bucket=server.bucket, encryption={}, sleep=lambda _: None)


def _put(store: Store, key: str, body: bytes) -> bool:
    return store.put_new(key, body, checksum=encode(body, compress=False).checksum, content_type=JSON)


def _at_once(action: Callable[[int], Any]) -> list[Any]:
    """What an action gives where many threads do it at the same moment."""
    start, results = threading.Barrier(WRITERS), list[Any]()

    def run(number: int) -> None:
        start.wait()
        results.append(action(number))

    threads = [threading.Thread(target=run, args=[number]) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# Writing and reading


def test_a_new_object_is_written_once(bucket: Store, layout: Layout) -> None:
    """A second write of a key is refused without an error, and the first bytes stay."""
    key = f"{layout.feed}a.json"
    assert _put(bucket, key, b"first\n")
    assert not _put(bucket, key, b"second\n")
    found = bucket.get(key)
    assert found is not None
    assert found.body == b"first\n"


def test_of_many_first_writers_one_wins(bucket: Store, layout: Layout) -> None:
    """Where many write a new key at the same moment, one does; the others hear that it is there."""
    key = f"{layout.feed}a.json"
    won = _at_once(lambda number: _put(bucket, key, b"%d\n" % number))
    assert sorted(won) == [False] * (WRITERS - 1) + [True]


def test_a_missing_object_is_none(bucket: Store, layout: Layout) -> None:
    """An absent key is an answer, no error."""
    assert bucket.get(f"{layout.state}absent.json.gz") is None


def test_only_the_version_read_is_replaced(bucket: Store, layout: Layout) -> None:
    """An object is replaced where it is as it was read; if not, the race is lost and nothing is written."""
    key = f"{layout.state}ledger.json.gz"
    first = bucket.put_over(key, b"first", None)
    second = bucket.put_over(key, b"second", first)
    assert second is not None
    assert bucket.put_over(key, b"late", first) is None
    assert bucket.put_over(key, b"new", None) is None
    found = bucket.get(key)
    assert found is not None
    assert (found.body, found.version) == (b"second", second)


def test_replacing_what_is_gone_is_a_lost_race(bucket: Store, layout: Layout) -> None:
    """If-Match on a deleted object is answered 404 by AWS and 412 by others: both mean read again."""
    key = f"{layout.state}ledger.json.gz"
    version = bucket.put_over(key, b"first", None)
    bucket.client.delete_object(Bucket=bucket.bucket, Key=key)
    assert bucket.put_over(key, b"second", version) is None
    assert bucket.get(key) is None


def test_of_many_replacers_one_wins(bucket: Store, layout: Layout) -> None:
    """Where many replace the same version at the same moment, one does, and it knows."""
    key = f"{layout.state}ledger.json.gz"
    before = bucket.put_over(key, b"before", None)
    versions = [version for version in _at_once(lambda n: bucket.put_over(key, b"%d" % n, before)) if version]
    found = bucket.get(key)
    assert found is not None
    assert versions == [found.version]


def test_keys_are_listed_below_their_prefix(bucket: Store, layout: Layout) -> None:
    """A listing holds every key below the prefix, in order, and none beside it; nothing there is no error."""
    for name in ("2026/11/12/b", "2026/11/12/a", "2026/11/13/c"):
        _put(bucket, layout.feed + name, b"x\n")
    assert bucket.keys(f"{layout.feed}2026/11/12/") == [layout.feed + name for name in ("2026/11/12/a", "2026/11/12/b")]
    assert bucket.keys(f"{layout.feed}2026/11/14/") == []


def test_a_listing_of_many_pages_is_read_to_its_end(bucket: Store, layout: Layout) -> None:
    """S3 lists a thousand keys at a time; a day of more is listed whole."""
    names = [f"{layout.feed}{number}" for number in range(7)]
    for name in names:
        _put(bucket, name, b"x\n")

    def three_a_page(params: dict[str, Any], **_: object) -> None:
        params["MaxKeys"] = 3

    wire = Wire(bucket.client)
    bucket.client.meta.events.register("provide-client-params.s3.ListObjectsV2", three_a_page)
    assert bucket.keys(layout.feed) == names
    assert len(wire.keys("ListObjectsV2")) == 3


@pytest.mark.usefixtures("_one_try")
def test_a_body_damaged_on_its_way_is_refused(s3: LocalS3, layout: Layout) -> None:
    """S3 checks the body against the digest sent along: a wrong one is an error, and nothing is stored."""
    store = Store(client=signed_once(s3.client()), bucket=s3.bucket, encryption={})
    other = encode(b"what was meant\n", compress=False).checksum
    with pytest.raises(DeliveryError, match=r"PutObject .*BadDigest"):
        store.put_new(f"{layout.feed}a.json", b"what arrived\n", checksum=other, content_type=JSON)
    assert store.get(f"{layout.feed}a.json") is None


def test_an_object_carries_type_and_checksum(store: Store, layout: Layout) -> None:
    """The content type is stored, and so is the SHA-256 that readers can check; no Content-Encoding is."""
    encoded = encode(b"{}\n", compress=False)
    store.put_new(f"{layout.feed}a", encoded.body, checksum=encoded.checksum, content_type="application/x-ndjson")
    head = store.client.head_object(Bucket=store.bucket, Key=f"{layout.feed}a", ChecksumMode="ENABLED")
    assert (head["ContentType"], head.get("ChecksumSHA256")) == ("application/x-ndjson", encoded.checksum)
    assert "ContentEncoding" not in head


def test_every_write_asks_for_encryption(moto: LocalS3, layout: Layout) -> None:
    """S3_SSE and S3_KMS_KEY_ID go with batches and ledgers alike."""
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/zendesk"}
    store = Store(client=moto.client(), bucket=moto.bucket, encryption=encryption)
    _put(store, f"{layout.feed}a", b"x\n")
    store.put_over(f"{layout.state}b", b"y", None)
    for key in (f"{layout.feed}a", f"{layout.state}b"):
        head = store.client.head_object(Bucket=store.bucket, Key=key)
        assert (head.get("ServerSideEncryption"), head.get("SSEKMSKeyId")) == ("aws:kms", "alias/zendesk")


def test_what_is_signed_is_the_digest_of_what_is_sent(bucket: Store, layout: Layout) -> None:
    """Every write is signed with the SHA-256 of its body, whether its checksum was known before or not."""
    signed: list[str | bytes | None] = []

    def note(request: AWSPreparedRequest, **_: object) -> None:
        signed.append(request.headers["X-Amz-Content-SHA256"])

    bucket.client.meta.events.register("before-send.s3.PutObject", note)
    _put(bucket, f"{layout.feed}a", b"x\n")
    assert bucket.put_over(f"{layout.state}b", b"y", None)
    assert signed == [sha256(body).hexdigest().encode() for body in (b"x\n", b"y")]


def _sent_by_tls(layout: Layout) -> Mapping[str, str]:
    """The headers of a write to AWS, which is answered here."""
    session = boto3.session.Session(aws_access_key_id="any", aws_secret_access_key="any", region_name="us-east-1")
    client: Any = session.client("s3")  # its stubs know no handler that answers
    sent: list[Any] = []

    def answer(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        sent.append(request.headers)
        return stored()

    client.meta.events.register("before-send.s3.PutObject", answer)
    assert _put(Store(client=signed_once(client), bucket="b", encryption={}), f"{layout.feed}a", b"x\n")
    (headers,) = sent
    return {name.lower(): value.decode() if isinstance(value, bytes) else str(value) for name, value in headers.items()}


@pytest.fixture
def aws_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing that leads boto3 to a local server; the file of profiles that it reads."""
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.mark.usefixtures("aws_configuration")
def test_by_tls_the_checksum_is_signed_in_the_place_of_the_body(layout: Layout) -> None:
    """The SHA-256 of the body goes along in a header that is signed, so that it is made once."""
    headers = _sent_by_tls(layout)
    signed = re.search("SignedHeaders=([^,]+)", headers["authorization"])
    assert signed
    assert "x-amz-checksum-sha256" in signed[1].split(";")
    assert b64decode(headers["x-amz-checksum-sha256"]) == sha256(b"x\n").digest()
    assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"


def test_a_profile_can_ask_for_signed_bodies(layout: Layout, aws_configuration: Path) -> None:
    """A bucket's policy may refuse unsigned bodies: `payload_signing_enabled` of the AWS configuration is obeyed."""
    aws_configuration.write_text("[default]\ns3 =\n  payload_signing_enabled = true\n")
    assert _sent_by_tls(layout)["x-amz-content-sha256"] == sha256(b"x\n").hexdigest()


def test_how_other_clients_sign_is_left_alone() -> None:
    """In a process that has loaded the pipeline, botocore has its own signers and no others."""
    assert {signer.__module__.partition(".")[0] for signer in AUTH_TYPE_MAPS.values() if signer} == {"botocore"}


# Conflicts and lost answers


def test_a_conflict_is_sent_again(bucket: Store, layout: Layout) -> None:
    """409 says that another write of the key was under way: it is tried again until it is decided."""
    answers = iter([refusal(409, "ConditionalRequestConflict")] * (TRIES - 1))

    def conflicts(_: Sent, __: Callable[[], AWSResponse]) -> AWSResponse | None:
        return next(answers, None)

    wire = Wire(bucket.client, fault=conflicts)
    assert _put(bucket, f"{layout.feed}a", b"x\n")
    assert len(wire.keys("PutObject")) == TRIES


def test_a_conflict_without_end_is_an_error(bucket: Store, layout: Layout) -> None:
    """A conflict that stays is reported, not tried for ever."""
    wire = Wire(bucket.client, fault=refusing(409, "ConditionalRequestConflict"))
    with pytest.raises(DeliveryError, match="ConditionalRequestConflict"):
        _put(bucket, f"{layout.feed}a", b"x\n")
    assert len(wire.keys("PutObject")) == TRIES


def test_an_answer_lost_on_its_way_writes_nothing_twice(
    server: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that got through without us hearing of it is found when the client sends it again."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    monkeypatch.setattr("botocore.endpoint.time.sleep", float)  # its pause before the second try
    store = Store(client=server.client(), bucket=server.bucket, encryption={})
    lost: list[AWSResponse] = []

    def loses_the_first_answer(_: Sent, send: Callable[[], AWSResponse]) -> AWSResponse | None:
        if lost:
            return None
        lost.append(send())
        raise ConnectionClosedError(endpoint_url=server.endpoint)

    wire = Wire(store.client, fault=loses_the_first_answer)
    assert not _put(store, f"{layout.feed}a", b"x\n")
    assert len(wire.keys("PutObject")) == 2
    assert store.keys(layout.feed) == [f"{layout.feed}a"]


# What S3's refusals mean


def _refused(store: Store, kind: type[PipelineError], *words: str) -> None:
    """Each action explains the refusal in one sentence that says what to do, and holds no secret."""
    actions: list[Callable[[], object]] = [
        lambda: store.get("a"),
        lambda: store.keys("a"),
        lambda: _put(store, "a", b"x\n"),
        lambda: store.put_over("a", b"x", None),
    ]
    for action in actions:
        with pytest.raises(kind) as refused:
            action()
        sentence = str(refused.value)
        assert [word for word in words if word not in sentence] == []
        assert re.fullmatch(r"S3.*\.", sentence)
        assert refused.value.__suppress_context__


def test_a_missing_bucket_is_named(bucket: Store) -> None:
    """The sentence names S3_BUCKET and its value."""
    _refused(replace(bucket, bucket="no-such-bucket"), SettingsError, "S3_BUCKET=no-such-bucket", "create it")


def _client(server: LocalS3, **arguments: Any) -> Any:
    """A client that has only what it is given."""
    return boto3.session.Session().client("s3", endpoint_url=server.endpoint, region_name="us-east-1", **arguments)


@pytest.mark.parametrize(
    ("identity", "code"),
    [
        pytest.param((ACCESS_KEY, "wrong"), "SignatureDoesNotMatch", id="wrong-secret"),
        pytest.param(("UNKNOWNKEY", "wrong"), "InvalidAccessKeyId", id="unknown-key"),
    ],
)
def test_a_wrong_aws_credential_is_named(s3: LocalS3, identity: tuple[str, str], code: str) -> None:
    """The sentence names AWS's variable and S3's own word for it."""
    key, secret = identity
    client = _client(s3, aws_access_key_id=key, aws_secret_access_key=secret)
    store = Store(client=client, bucket=s3.bucket, encryption={})
    _refused(store, SettingsError, "AWS_ACCESS_KEY_ID", code)


@pytest.fixture
def _no_aws_identity(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that boto3 could find a credential in."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.mark.usefixtures("_no_aws_identity")
def test_without_credentials_the_ways_to_give_them_are_named(s3: LocalS3) -> None:
    """The sentence names every way that boto3 takes a credential."""
    store = Store(client=_client(s3), bucket=s3.bucket, encryption={})
    _refused(store, SettingsError, "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "role")


@pytest.mark.usefixtures("_one_try")
def test_an_unreachable_endpoint_is_named(s3: LocalS3) -> None:
    """Where nothing answers the sentence names the endpoint's variable."""
    with socket.socket() as held:  # bound and not listening: connections to it are refused
        held.bind(("127.0.0.1", 0))
        nowhere = replace(s3, endpoint=f"http://127.0.0.1:{held.getsockname()[1]}")
        store = Store(client=nowhere.client(), bucket=s3.bucket, encryption={})
        _refused(store, DeliveryError, "AWS_ENDPOINT_URL_S3", "network")


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        pytest.param(denying("GetObject"), DeniedError, ["s3:GetObject", "AccessDenied", "/a "], id="denied"),
        pytest.param(refusing(400, "ExpiredToken"), SettingsError, ["AWS credentials", "ExpiredToken"], id="expired"),
        pytest.param(refusing(400, "SomethingElse"), DeliveryError, ["SomethingElse"], id="any-other"),
        pytest.param(refusing(403, ""), DeliveryError, ["S3 refuses GetObject"], id="without-a-code"),
    ],
)
def test_a_refusal_is_explained(bucket: Store, fault: Fault, kind: type[PipelineError], words: list[str]) -> None:
    """What S3 refuses is said with its own code and the right that is missing."""
    Wire(bucket.client, fault=fault)
    with pytest.raises(kind) as refused:
        bucket.get("a")
    assert [word for word in words if word not in str(refused.value)] == []
