"""What S3 answers on bad days: tried again where that may help, and else a sentence that says what to do.

Every answer comes over HTTP from a proxy in front of a real server.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import HTTPClientError, SSLError
from dagster_aws.s3 import S3Resource

from zendesk_pipeline.delivery.batches import encode
from zendesk_pipeline.delivery.bucket import TRIES, Store, prepared, signed_once
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import ACCESS_KEY, SECRET_KEY, LocalS3
from zendesk_pipeline.model.errors import DeliveryError, DeniedError, PipelineError, SettingsError
from zendesk_pipeline.model.streams import AUDIT_LOGS
from zendesk_pipeline.orchestration.io_manager import S3IOManager
from zendesk_pipeline.settings.aws_errors import AGAIN, DENIED, meanings
from zendesk_pipeline_tests.by_hand import FIRST, audit_logs, hours, lines
from zendesk_pipeline_tests.deliveries import Bucket, Deliveries, holds_once
from zendesk_pipeline_tests.fakes import certificates
from zendesk_pipeline_tests.fakes.s3_proxy import Answer, Fate, S3Proxy, S3Request, s3_proxy
from zendesk_pipeline_tests.fakes.s3_wire import Sent, Wire
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering
from zendesk_pipeline_tests.fakes.tunnels import tls_front

JSON = "application/json"
LOCKED = "locked"
HTML = b"<html><body>Sign in to go on</body></html>"


@pytest.fixture
def _one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3's client does not try again, so that no test waits for its pauses."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.fixture(scope="module")
def proxy(moto: LocalS3) -> Iterator[S3Proxy]:
    with s3_proxy(moto.endpoint) as running:
        yield running


@pytest.fixture
def behind(moto: LocalS3, proxy: S3Proxy, _one_try: None) -> Store:
    """The bucket behind the proxy."""
    proxy.reset()
    return _store(proxy.endpoint, moto.bucket)


def _store(endpoint: str, bucket: str) -> Store:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    return Store(client=prepared(client), bucket=bucket, encryption={}, sleep=lambda _: None)


def _put(store: Store, key: str, body: bytes = b"x\n") -> bool:
    return store.put_new(key, body, checksum=encode(body, compress=False).checksum, content_type=JSON)


ACTIONS: dict[str, Callable[[Store, str], object]] = {
    "GetObject": lambda store, key: store.get(key),
    "PutObject": _put,
    "a ledger's PutObject": lambda store, key: store.put_over(key, b"x", None),
    "ListBucket": lambda store, key: store.keys(key),
}


def _says(store: Store, fate: Fate, proxy: S3Proxy, action: str = "PutObject") -> PipelineError:
    """What an action raises where every request meets a fate."""
    proxy.decide = lambda _: fate
    with pytest.raises(PipelineError) as raised:
        ACTIONS[action](store, "a")
    assert raised.value.__suppress_context__
    return raised.value


# Refusals

REFUSALS: dict[str, tuple[Answer, type[PipelineError], str]] = {
    "the session has ended": (
        Answer(status=400, code="ExpiredToken"),
        SettingsError,
        "session.*ended.*run under a role",
    ),
    "an unknown key": (
        Answer(status=403, code="InvalidAccessKeyId"),
        SettingsError,
        r"Check AWS_ACCESS_KEY_ID.*AWS_SESSION_TOKEN with a temporary key \(ASIA",
    ),
    "a token of another key": (Answer(status=400, code="InvalidToken"), SettingsError, "AWS_SESSION_TOKEN.*no other"),
    "another secret": (
        Answer(status=403, code="SignatureDoesNotMatch"),
        SettingsError,
        "Copy AWS_SECRET_ACCESS_KEY again",
    ),
    "the clock": (Answer(status=403, code="RequestTimeTooSkewed"), SettingsError, "this machine's clock is wrong.*NTP"),
    "a closed account": (Answer(status=403, code="AllAccessDisabled"), SettingsError, "AWS Support"),
    "another region, which S3 names": (
        Answer(status=400, code="AuthorizationHeaderMalformed", more="<Region>eu-central-1</Region>"),
        SettingsError,
        "AWS_DEFAULT_REGION to eu-central-1",
    ),
    "another region, named in a header": (
        Answer(status=301, code="PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-3"}),
        SettingsError,
        "AWS_DEFAULT_REGION to eu-west-3, and AWS_ENDPOINT_URL_S3",
    ),
    "another region, which nobody names": (
        Answer(status=301, code="PermanentRedirect"),
        SettingsError,
        "AWS_DEFAULT_REGION to the bucket's",
    ),
    "a bucket made a moment ago": (
        Answer(status=307, code="TemporaryRedirect"),
        DeliveryError,
        "the bucket is new.*A later run finds it",
    ),
    "a redirect without S3's words": (Answer(status=301, code="", page=HTML), SettingsError, "AWS_ENDPOINT_URL_S3"),
    "no bucket": (
        Answer(status=404, code="NoSuchBucket"),
        SettingsError,
        "S3_BUCKET=zendesk-raw does not exist: create it",
    ),
    "the key is off": (Answer(status=400, code="KMS.DisabledException"), SettingsError, "KMS key.*S3_KMS_KEY_ID"),
    "a fault of the key that is new": (Answer(status=400, code="KMS.SomethingException"), SettingsError, "KMS key"),
    "a key whose service is broken": (
        Answer(status=500, code="KMS.InternalException"),
        DeliveryError,
        "busy or out of order",
    ),
    "a key whose service waits": (
        Answer(status=503, code="KMS.DependencyTimeoutException"),
        DeliveryError,
        "busy or out of order",
    ),
    "a slow upload": (Answer(status=400, code="RequestTimeout"), DeliveryError, "stood still for too long.*proxy"),
    "no such encryption": (Answer(status=400, code="InvalidEncryptionAlgorithmError"), SettingsError, "S3_SSE"),
    "locked": (Answer(status=400, code="MissingUploadObjectWithObjectLockHeaders"), SettingsError, "Object Lock"),
    "archived": (Answer(status=403, code="InvalidObjectState"), SettingsError, "archive. Restore it"),
    "not made for it": (Answer(status=501, code="NotImplemented"), SettingsError, "doctor` tries"),
    "full": (Answer(status=507, code="InsufficientStorage"), DeliveryError, "full. Make room"),
    "damaged": (Answer(status=400, code="XAmzContentSHA256Mismatch"), DeliveryError, "not what was sent.*proxy"),
    "busy": (Answer(status=503, code="SlowDown"), DeliveryError, "is busy or out of order. A later run"),
    "somebody else's page": (Answer(status=403, code="", page=HTML), DeliveryError, "not how S3 answers.*firewall"),
    "unknown": (Answer(status=400, code="SomethingNew"), DeliveryError, "S3's list of errors.*doctor`"),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_names_its_remedy(behind: Store, proxy: S3Proxy, case: str, action: str) -> None:
    """Whatever is asked for, the sentence has S3's own word for it, where it happened, and what to do."""
    answer, kind, remedy = REFUSALS[case]
    error = _says(behind, answer, proxy, action)
    assert type(error) is kind
    assert re.fullmatch(
        rf"S3 refuses .* on s3://zendesk-raw/a \({answer.code or answer.status}(, 2 times)?\): .*{remedy}.*\.",
        str(error),
    )
    assert "retries" not in str(error)


def test_every_code_has_one_meaning() -> None:
    """What is denied has its own sentence, and what is tried again is worth it: nothing a person has to do first."""
    assert not DENIED & meanings().keys()
    assert {meanings()[code].kind for code in AGAIN} == {DeliveryError}


WHO = "User: arn:aws:iam::1:user/w is not authorized to perform: "
DENIALS = {
    "nothing said": ("Access Denied", "give the writer s3:PutObject there"),
    "an action": (
        f"{WHO}s3:PutObject on resource: a because no identity-based policy allows the s3:PutObject action",
        "give the writer s3:PutObject there",
    ),
    "the key": (
        f"{WHO}kms:GenerateDataKey on resource: a because no resource-based policy allows the action",
        "give the writer kms:GenerateDataKey on the KMS key",
    ),
    "the bucket's policy": (
        f"{WHO}s3:PutObject on resource: a with an explicit deny in a resource-based policy",
        "a resource-based policy denies s3:PutObject there. Change that policy",
    ),
    "the organization": (
        f"{WHO}s3:PutObject on resource: a with an explicit deny in a service control policy",
        "a service control policy denies s3:PutObject there. Change that policy",
    ),
    "the way to it": (
        f"{WHO}s3:PutObject on resource: a because no VPC endpoint policy allows the s3:PutObject action",
        "give the writer s3:PutObject there in the VPC endpoint policy as well",
    ),
}


@pytest.mark.parametrize("case", DENIALS)
def test_a_denial_names_the_right_and_the_policy(behind: Store, proxy: S3Proxy, case: str) -> None:
    """S3 says which action it denied and by which kind of policy; of its text nothing else is repeated."""
    message, remedy = DENIALS[case]
    error = _says(behind, Answer(status=403, code="AccessDenied", message=message), proxy)
    assert type(error) is DeniedError
    assert str(error) == f"S3 refuses PutObject on s3://zendesk-raw/a (AccessDenied): {remedy}."


# Another try


def _once(fate: Fate, method: str) -> Callable[[S3Request], Fate]:
    """The first request of a method meets the fate."""
    waiting: list[Fate] = [fate]

    def decide(request: S3Request) -> Fate:
        return waiting.pop() if waiting and request.method == method else "pass"

    return decide


@pytest.mark.parametrize("code", sorted(AGAIN))
def test_what_is_worth_it_is_tried_again(behind: Store, proxy: S3Proxy, layout: Layout, code: str) -> None:
    """A conflict, a body that did not arrive whole, a busy key: one such answer is not even noticed."""
    key = f"{layout.feed}a"
    proxy.decide = _once(Answer(status=409, code=code), "PUT")
    assert _put(behind, key)
    proxy.decide = _once(Answer(status=409, code=code), "GET")
    found = behind.get(key)
    assert found is not None
    assert found.body == b"x\n"


def test_a_body_that_breaks_off_is_read_again(behind: Store, proxy: S3Proxy, layout: Layout) -> None:
    """A ledger whose answer ends in the middle is asked for again, which boto3 leaves to its callers."""
    key = f"{layout.state}a"
    behind.put_over(key, b"0123456789", None)
    proxy.decide = _once("cut", "GET")
    found = behind.get(key)
    assert found is not None
    assert found.body == b"0123456789"


def test_a_refusal_that_breaks_off_is_asked_for_again(behind: Store, proxy: S3Proxy, layout: Layout) -> None:
    """Half of a 404 says nothing: whether there is a ledger is asked again."""
    proxy.decide = _once("cut", "GET")
    assert behind.get(f"{layout.state}absent") is None
    assert proxy.count("GET") == 2


def test_a_body_that_never_comes_whole_is_an_error(behind: Store, proxy: S3Proxy, layout: Layout) -> None:
    """After a few tries, which are counted as what they cost."""
    key = f"{layout.state}a"
    behind.put_over(key, b"0123456789", None)
    proxy.reset()
    proxy.decide = lambda _: "cut"
    with pytest.raises(DeliveryError, match=r"S3 gave no answer to GetObject on .*after all retries.*network"):
        behind.get(key)
    assert (proxy.count("GET"), behind.spent.get) == (TRIES, TRIES)


def test_how_often_it_was_tried_is_said(moto: LocalS3, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the client has tried again, the sentence has the number; else it does not speak of tries."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    monkeypatch.setattr("botocore.endpoint.time.sleep", float)  # its pauses
    proxy.reset()
    store = _store(proxy.endpoint, moto.bucket)
    assert "(SlowDown, 3 times): " in str(_says(store, Answer(status=503, code="SlowDown"), proxy))
    assert "(QuotaExceeded): " in str(_says(store, Answer(status=403, code="QuotaExceeded"), proxy))


# Answers that are lost while the feed deletes


@pytest.fixture(params=["s3", "moto"], ids=["seaweedfs", "moto"])
def unheard(request: pytest.FixtureRequest, layout: Layout, _one_try: None) -> Iterator[tuple[Bucket, S3Proxy]]:
    """A bucket of either server, behind the proxy, with the client that runs have."""
    server: LocalS3 = request.getfixturevalue(request.param)
    name = f"lost-{layout.feed.partition('/')[0]}"
    server.client().create_bucket(Bucket=name)
    with s3_proxy(server.endpoint) as lossy:
        client = replace(server, endpoint=lossy.endpoint).client()
        store = Store(client=prepared(client), bucket=name, encryption={}, sleep=lambda _: None)
        yield Bucket(store=store, layout=layout), lossy


def _lose_and_delete(bucket: Bucket, lossy: S3Proxy) -> None:
    """The answer to the first write of every object is lost, and the feed deletes the object at once."""
    met: set[str] = set()

    def decide(request: S3Request) -> Fate:
        if request.method != "PUT" or not request.key.startswith(bucket.layout.feed) or request.key in met:
            return "pass"
        met.add(request.key)
        return "reset_after"

    def after(request: S3Request) -> None:
        if request.method == "PUT" and request.key in met and request.key not in deleted:
            deleted.add(request.key)
            bucket.delete([request.key])

    deleted: set[str] = set()
    lossy.decide, lossy.after = decide, after


@pytest.mark.parametrize("unheard", ["moto"], indirect=True)
def test_what_was_stored_unheard_and_deleted_is_not_stored_again(unheard: tuple[Bucket, S3Proxy]) -> None:
    """In a bucket with versions the marker of deletion tells that the object was there: the feed has read it.

    So it is at AWS and moto. SeaweedFS 4.48 does not say that there is one.
    """
    bucket, lossy = unheard
    client: Any = bucket.store.client
    client.put_bucket_versioning(Bucket=bucket.store.bucket, VersioningConfiguration={"Status": "Enabled"})
    _lose_and_delete(bucket, lossy)
    Deliveries(bucket=bucket).records(hours(2), audit_logs(hours(2)))
    lossy.reset()
    versions = client.list_object_versions(Bucket=bucket.store.bucket, Prefix=bucket.layout.feed)["Versions"]
    written = [client.get_object(Bucket=bucket.store.bucket, Key=v["Key"], VersionId=v["VersionId"]) for v in versions]
    sent = sorted(line for answer in written for line in answer["Body"].read().split(b"\n")[:-1])
    assert sent == lines(audit_logs(hours(2)))
    assert bucket.complete(hours(2)) == [True, True]


def _looks(lossy: S3Proxy, answer: Answer, most: int) -> None:
    """The first write's answer is lost and the object deleted; the first looks at it are refused."""
    decide, left = lossy.decide, [answer] * most

    def refusing(request: S3Request) -> Fate:
        return left.pop() if request.method == "HEAD" and left else decide(request)

    lossy.decide = refusing


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("unheard", ["moto"], indirect=True)
def test_a_look_that_fails_says_nothing(unheard: tuple[Bucket, S3Proxy], layout: Layout, status: int) -> None:
    """It is made again until S3 says whether the object was there; where it never does, that is an error."""
    bucket, lossy = unheard
    client: Any = bucket.store.client
    client.put_bucket_versioning(Bucket=bucket.store.bucket, VersioningConfiguration={"Status": "Enabled"})
    for most, key in ((2, f"{layout.feed}a"), (TRIES, f"{layout.feed}b")):
        _lose_and_delete(bucket, lossy)
        _looks(lossy, Answer(status=status, code=""), most)
        lossy.seen.clear()
        if most == TRIES:
            with pytest.raises(DeliveryError, match=f"no answer to PutObject on .*{key}"):
                _put(bucket.store, key)
        else:
            assert not _put(bucket.store, key)
        assert (lossy.count("PUT"), lossy.count("HEAD")) == (1, min(most + 1, TRIES - 1))


@pytest.mark.parametrize("unheard", ["moto"], indirect=True)
def test_a_look_without_the_right_to_list_is_an_answer(unheard: tuple[Bucket, S3Proxy], layout: Layout) -> None:
    """S3 then says 403 of what is not there: the write, which is conditional, is made once more."""
    bucket, lossy = unheard
    lossy.decide = _once("reset_before", "PUT")
    _looks(lossy, Answer(status=403, code=""), 1)
    assert _put(bucket.store, f"{layout.feed}a")
    assert [seen.method for seen in lossy.seen] == ["PUT", "HEAD", "PUT"]


def test_without_versions_it_is_stored_again(unheard: tuple[Bucket, S3Proxy]) -> None:
    """Nothing tells then that it ever was there: a batch repeats, and nothing is lost (docs/delivery.md)."""
    bucket, lossy = unheard
    _lose_and_delete(bucket, lossy)
    Deliveries(bucket=bucket).records(hours(2), audit_logs(hours(2)))
    assert holds_once(bucket, audit_logs(hours(2)))
    assert bucket.complete(hours(2)) == [True, True]


@pytest.mark.parametrize("kind", ["reset_before", "reset_after"])
def test_a_write_is_repeated_only_where_it_was_not_done(
    unheard: tuple[Bucket, S3Proxy], layout: Layout, kind: Literal["reset_before", "reset_after"]
) -> None:
    """Before it is sent again S3 is asked whether it is there, with one request."""
    bucket, lossy = unheard
    lossy.decide = _once(kind, "PUT")
    assert _put(bucket.store, f"{layout.feed}a") is (kind == "reset_before")
    assert [seen.method for seen in lossy.seen] == ["PUT", "HEAD", *(["PUT"] if kind == "reset_before" else [])]
    assert bucket.store.spent.get == 1


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        pytest.param(Answer(status=503, code="", page=b"upstream connect error or reset"), True, id="a-proxy"),
        pytest.param(Answer(status=520, code="", page=HTML), True, id="a-proxy-of-another-kind"),
        pytest.param(Answer(status=500, code="InternalError"), True, id="s3-broken"),
        pytest.param(Answer(status=503, code="SlowDown"), False, id="s3-busy"),
    ],
)
def test_whose_answer_it_is_says_whether_it_may_be_done(
    behind: Store, proxy: S3Proxy, layout: Layout, answer: Answer, *, asked: bool
) -> None:
    """A proxy that lost S3's answer does not know: S3 is asked. S3's own word that it is busy means not done."""
    proxy.decide = _once(answer, "PUT")
    if asked:
        assert _put(behind, f"{layout.feed}a")
    else:
        with pytest.raises(DeliveryError, match="SlowDown"):
            _put(behind, f"{layout.feed}a")
    assert [seen.method for seen in proxy.seen] == (["PUT", "HEAD", "PUT"] if asked else ["PUT"])


def test_tls_that_breaks_in_an_answer_is_a_lost_answer(behind: Store, proxy: S3Proxy, layout: Layout) -> None:
    """The write is done by then: S3 is asked, and it is not done again."""
    lost: list[AWSResponse] = []

    def breaks(_: Sent, send: Callable[[], AWSResponse]) -> AWSResponse | None:
        if lost:
            return None
        lost.append(send())
        raise SSLError(endpoint_url=proxy.endpoint, error=OSError("bad record"))

    Wire(behind.client, fault=breaks)
    assert not _put(behind, f"{layout.feed}a")
    assert [seen.method for seen in proxy.seen] == ["PUT", "HEAD"]


def test_a_ledger_whose_answer_was_lost_is_known_by_what_it_holds(
    unheard: tuple[Bucket, S3Proxy], layout: Layout
) -> None:
    """The same is this run's own, in the version that lies there; anything else is a lost race, and is read again."""
    bucket, lossy = unheard
    lossy.decide = _once("reset_after", "PUT")
    written = bucket.store.put_over(f"{layout.state}a", b"first", None)
    lossy.decide = _once("reset_after", "PUT")
    assert bucket.store.put_over(f"{layout.state}a", b"second", None) is None
    found = bucket.store.get(f"{layout.state}a")
    assert found is not None
    assert (found.body, found.version) == (b"first", written)


# What is not S3


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("page", [HTML, b"<html><p></html>", b"", b"{}"])
def test_success_that_s3_never_gives_is_an_error(behind: Store, proxy: S3Proxy, page: bytes, action: str) -> None:
    """A portal that answers 200 to everything: no write counts as done, no listing as empty."""
    error = _says(behind, Answer(status=200, code="", page=page, headers={"Content-Type": "text/html"}), proxy, action)
    assert type(error) is DeliveryError
    # botocore takes what is not XML, with a success, for a fault of S3's
    told = r"S3 did not answer .* somebody else did: a proxy\? .*AWS_ENDPOINT_URL_S3.*\."
    assert re.fullmatch(rf"{told}|S3 refuses .* \(500\): S3, or something on the way to it, .*\.", str(error))


# Credentials

PROFILES = {
    "assume-role": (
        "role_arn = arn:aws:iam::111122223333:role/w\nsource_profile = base",
        "AssumeRole.*role_arn.*trust",
    ),
    "a process that ends": ("credential_process = false", "CredentialRetrievalError.*credential_process"),
    "half of a key": (
        "aws_access_key_id = AKIA",
        "PartialCredentialsError: .*missing: aws_secret_access_key.*AWS_ACCESS_KEY_ID",
    ),
    "a profile that is not there": (
        "role_arn = arn:aws:iam::111122223333:role/w\nsource_profile = nobody",
        'InvalidConfigError: .*"nobody".* does not exist\\)',
    ),
    "a source that is none": (
        "role_arn = arn:aws:iam::111122223333:role/w\ncredential_source = Nowhere",
        'InvalidConfigError: .*"Nowhere".* is not valid\\)',
    ),
    "single sign-on": (
        "sso_start_url = https://a\nsso_region = us-east-1\nsso_account_id = 1\nsso_role_name = w",
        "aws sso login",
    ),
}


@pytest.mark.usefixtures("_one_try")
@pytest.mark.parametrize("kind", PROFILES)
def test_credentials_that_cannot_be_had_name_where_they_come_from(
    moto: LocalS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Whichever way AWS's configuration gives credentials: not S3 is blamed, nor a right to the bucket."""
    text, expected = PROFILES[kind]
    config = tmp_path / "config"
    config.write_text(f"[profile w]\n{text}\n[profile base]\naws_access_key_id = a\naws_secret_access_key = b\n")
    denied = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
    with answering(Reply(denied, 403, {"Content-Type": "text/xml"})) as sts:
        for name, value in {
            "AWS_CONFIG_FILE": str(config),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
            "AWS_ENDPOINT_URL_STS": sts.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DEFAULT_REGION": "us-east-1",
            "HOME": str(tmp_path),
        }.items():
            monkeypatch.setenv(name, value)
        manager = S3IOManager(s3=S3Resource(profile_name="w", endpoint_url=moto.endpoint), bucket=moto.bucket)
        with pytest.raises(PipelineError) as raised:
            manager.inspector(AUDIT_LOGS).ledger(FIRST)
    assert re.fullmatch(rf"S3 needs AWS credentials.*{expected}.*[.?]", str(raised.value))
    assert not isinstance(raised.value, DeniedError)


def _of_a_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, sts: str) -> S3IOManager:
    """An IO manager whose credentials come from STS."""
    config = tmp_path / "config"
    config.write_text(f"[profile w]\n{profile}\n[profile base]\naws_access_key_id = a\naws_secret_access_key = b\n")
    (tmp_path / "token").write_text("a token")
    for name, value in {
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_ENDPOINT_URL_STS": sts,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return S3IOManager(s3=S3Resource(profile_name="w"), bucket="b")


ROLE = "role_arn = arn:aws:iam::111122223333:role/w\nsource_profile = base"
FEDERATED = "role_arn = arn:aws:iam::111122223333:role/w\nweb_identity_token_file = {token}"
SKEWED = "Signature expired: 20261112T050000Z is now earlier than 20261112T060000Z"
REFUSED_BY_STS: dict[str, tuple[str, int, str, str, type[PipelineError], str]] = {
    "busy": (ROLE, 400, "Throttling", "Rate exceeded", DeliveryError, "AWS is busy.*later run"),
    "busy, by its status": (ROLE, 429, "TooManyRequestsException", "", DeliveryError, "AWS is busy.*later run"),
    "broken": (ROLE, 503, "ServiceUnavailable", "", DeliveryError, "AWS is busy.*later run"),
    "who vouches is silent": (FEDERATED, 400, "IDPCommunicationError", "", DeliveryError, "AWS is busy.*later run"),
    "not trusted": (ROLE, 403, "AccessDenied", "", SettingsError, "role_arn.*trust policy"),
    "the session has ended": (ROLE, 403, "ExpiredToken", "", SettingsError, "session.*has ended"),
    "an old token": (FEDERATED, 400, "ExpiredTokenException", "", SettingsError, "AWS_WEB_IDENTITY_TOKEN_FILE"),
    "the clock": (ROLE, 403, "SignatureDoesNotMatch", SKEWED, SettingsError, "clock is wrong"),
    "the secret": (ROLE, 403, "SignatureDoesNotMatch", "", SettingsError, "Copy AWS_SECRET_ACCESS_KEY"),
}


@pytest.mark.usefixtures("_one_try")
@pytest.mark.parametrize("case", REFUSED_BY_STS)
def test_what_passes_by_itself_is_no_fault_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Where STS is busy a run is tried again; what a person has to do is said of what is wrong, and ends it."""
    profile, status, code, message, kind, expected = REFUSED_BY_STS[case]
    body = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    with answering(Reply(body.encode(), status, {"Content-Type": "text/xml"})) as sts:
        manager = _of_a_role(tmp_path, monkeypatch, profile.format(token=tmp_path / "token"), sts.url)
        with pytest.raises(PipelineError) as raised:
            manager.inspector(AUDIT_LOGS).ledger(FIRST)
        assert sts.received
    assert type(raised.value) is kind
    assert re.fullmatch(rf"S3 needs AWS credentials, and AssumeRole.*\({code}\): .*{expected}.*\.", str(raised.value))


# What is never sent


def test_only_a_bucket_of_no_name_is_called_one(behind: Store, layout: Layout) -> None:
    """Of anything else that boto3 refuses to send, the bucket is not blamed, and the value is not repeated."""
    with pytest.raises(SettingsError, match=r"S3_BUCKET=no bucket is not a bucket's name"):
        _put(replace(behind, bucket="no bucket"), layout.feed)
    body = b"x\n"
    with pytest.raises(SettingsError) as raised:
        behind.put_new(
            layout.feed,
            body,
            checksum=encode(body, compress=False).checksum,
            content_type=JSON,
            notes={"account": "müller"},
        )
    assert "S3_BUCKET" not in str(raised.value)
    assert "müller" not in str(raised.value)
    assert str(raised.value).startswith("S3 cannot be asked for PutObject on s3://zendesk-raw/")


def test_tries_that_were_not_made_are_not_counted(behind: Store) -> None:
    """What urllib3 raises that botocore does not know is not tried again, and the sentence does not say so."""
    made: list[object] = []

    def breaks(**_: object) -> None:
        made.append(1)
        raise HTTPClientError(error="odd")

    behind.client.meta.events.register("before-send.s3", breaks)
    for action in ("GetObject", "ListBucket"):
        made.clear()
        with pytest.raises(DeliveryError, match=r"gave no answer to .* \(HTTPClientError\)\. Check the network"):
            ACTIONS[action](behind, "a")
        assert len(made) == 1


# The way a body is sent


@pytest.fixture
def over_tls(
    s3: LocalS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _one_try: None
) -> Iterator[tuple[Store, S3Proxy]]:
    """SeaweedFS behind the proxy, and TLS before both, as S3 is reached."""
    authority = certificates.authority(tmp_path)
    with (
        s3_proxy(s3.endpoint) as plain,
        tls_front(plain.endpoint, certificates.server(tmp_path, authority).path) as front,
    ):
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.path))
        yield _store(f"https://localhost:{front.port}", s3.bucket), plain


def test_ledgers_go_the_way_of_objects(over_tls: tuple[Store, S3Proxy], layout: Layout) -> None:
    """Over TLS a store that knows no `aws-chunked` takes both; both carry the SHA-256 of their body."""
    store, proxy = over_tls
    refused = Answer(status=501, code="NotImplemented")
    proxy.decide = lambda seen: refused if "aws-chunked" in seen.headers.get("content-encoding", "") else "pass"
    assert _put(store, f"{layout.feed}a", b"object\n")
    assert store.put_over(f"{layout.state}b", b"ledger", None)
    sent = [{name for name in seen.headers if name.startswith("x-amz-")} for seen in proxy.seen]
    assert sent[0] == sent[1]
    digests = [seen.headers["x-amz-checksum-sha256"] for seen in proxy.seen]
    assert digests == [encode(body, compress=False).checksum for body in (b"object\n", b"ledger")]


@pytest.mark.usefixtures("_one_try")
def test_a_host_that_proves_nothing_is_named(s3: LocalS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS that cannot be checked: the sentence names the bundle of a proxy that opens it."""
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    with tls_front(s3.endpoint, certificates.server(tmp_path, None).path) as front:
        store = _store(f"https://localhost:{front.port}", s3.bucket)
        with pytest.raises(DeliveryError, match=r"SSLError.*AWS_CA_BUNDLE"):
            store.get("a")


# Object Lock


@pytest.fixture(params=["s3", "moto"], ids=["seaweedfs", "moto"])
def locked(request: pytest.FixtureRequest, layout: Layout) -> Bucket:
    """A bucket that keeps every version for a day, whoever wants it gone."""
    server: LocalS3 = request.getfixturevalue(request.param)
    client = server.client()
    name = f"{LOCKED}-{layout.feed.partition('/')[0]}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    client.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=rule)
    return Bucket(store=Store(client=signed_once(client), bucket=name, encryption={}), layout=layout)


def test_a_bucket_with_default_retention_takes_everything(locked: Bucket) -> None:
    """Object Lock: batches, ledgers and their next versions, a run again, one that sends again, a feed that deletes."""
    deliveries, records = Deliveries(bucket=locked), audit_logs(hours(2))
    deliveries.records(hours(2), records[:6])
    deliveries.records(hours(2), records)
    assert holds_once(locked, records)
    locked.delete(locked.stored())  # a marker of deletion lies on them
    deliveries.records(hours(2), records)
    assert locked.stored() == []
    deliveries.records(hours(2), records, redeliver=True)
    assert holds_once(locked, records)
    assert locked.complete(hours(2)) == [True, True]


def test_everything_written_into_such_a_bucket_is_kept(locked: Bucket) -> None:
    """Objects and ledgers carry the retention: nobody takes a version away before its time."""
    Deliveries(bucket=locked).records(hours(1), audit_logs(hours(1)))
    client = locked.store.client
    keys = [*locked.stored(), *locked.stored(locked.layout.state)]
    kept = [client.head_object(Bucket=locked.store.bucket, Key=key).get("ObjectLockMode") for key in keys]
    assert len(keys) > 1
    assert set(kept) == {"GOVERNANCE"}
