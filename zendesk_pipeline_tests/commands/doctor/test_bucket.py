"""What `doctor` finds of the bucket: at servers that show their configuration, and at one that shows it to few."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from zendesk_pipeline.commands.doctor.bucket import (
    BLOCKS,
    encryption_verdict,
    exists_verdict,
    lifecycle_verdict,
    public_access_verdict,
    region_verdict,
    versioning_verdict,
)
from zendesk_pipeline.commands.doctor.context import Context
from zendesk_pipeline.commands.doctor.s3_answers import S3Answer
from zendesk_pipeline.commands.iam_policy import writer_policy
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, local_s3
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.commands.doctor.contexts import MakeContext, context_maker, said, verdict_of
from zendesk_pipeline_tests.fakes.s3_proxy import Answer, s3_proxy
from zendesk_pipeline_tests.ports import lasting_port

BUCKET = "zendesk-raw"
CONFIGURATION = ("s3_public_access", "s3_encryption", "s3_versioning", "s3_object_lock", "s3_lifecycle")
NOW = Clock()


@pytest.fixture
def make_context(zendesk: SimulatedZendesk, moto: LocalS3, monkeypatch: pytest.MonkeyPatch) -> MakeContext:
    """Contexts whose bucket is moto's, and who may do everything."""
    return context_maker(monkeypatch, zendesk.environment, moto.environment)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """SeaweedFS with the writer's policy in force for its user `writer`."""
    users = {"writer": writer_policy(Settings(s3_bucket=BUCKET))}
    with local_s3(tmp_path_factory.mktemp("guarded"), BUCKET, users=users) as running:
        yield running


AS_WRITER = {"AWS_ACCESS_KEY_ID": "writer", "AWS_SECRET_ACCESS_KEY": "writer"}


# What the writer sees


def test_a_bucket_that_is_there_is_fine(make_context: MakeContext) -> None:
    """In the client's region, at a server whose clock agrees."""
    context = make_context(clock=NOW)
    assert [verdict_of(context, name).status for name in ("s3_bucket", "s3_clock", "s3_region")] == ["ok"] * 3


def test_a_bucket_that_is_not_there_is_named(make_context: MakeContext) -> None:
    """With the place where it is set."""
    verdict = verdict_of(make_context(S3_BUCKET="no-such-bucket"), "s3_bucket")
    assert re.match(r"failed: s3://no-such-bucket does not exist\..*S3_BUCKET", said(verdict))


def test_a_bucket_closed_to_the_credential_is_told_apart(make_context: MakeContext, guarded: LocalS3) -> None:
    """A store that says AccessDenied of everything hides whether there is one; where it says 404, it says so."""
    closed = make_context(**{**guarded.environment, **AS_WRITER, "S3_BUCKET": "somebody-elses"})
    assert verdict_of(closed, "s3_bucket").status == "not visible"
    assert exists_verdict("a", S3Answer(status=404, code="NoSuchBucket")).status == "failed"
    assert exists_verdict("a", S3Answer(status=400, code="InvalidBucketState")).status == "failed"


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch.*AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId.*AWS_ACCESS_KEY_ID"),
        ({"S3_BUCKET": "not a bucket"}, "S3_BUCKET=not a bucket is not a bucket's name"),
        ({"AWS_PROFILE": "nobody"}, "no AWS profile"),
        ({"AWS_ENDPOINT_URL_S3": "here"}, "AWS_ENDPOINT_URL_S3"),
    ],
    ids=["secret", "key", "name", "profile", "address"],
)
def test_what_aws_does_not_take_names_its_variable(
    make_context: MakeContext, guarded: LocalS3, tmp_path: Path, others: dict[str, str], expected: str
) -> None:
    """Without the value of anything."""
    nothing = {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    verdict = verdict_of(make_context(**{**guarded.environment, **nothing, **others}), "s3_bucket")
    assert re.match(f"failed: .*{expected}", said(verdict))
    assert "local-secret-key" not in said(verdict)


def test_a_store_that_is_not_there_is_given_up(make_context: MakeContext) -> None:
    """The variables that lead there are named."""
    verdict = verdict_of(make_context(AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{lasting_port()}"), "s3_bucket")
    assert re.match(
        r"failed: S3 gave no answer to list_objects_v2 .*\(EndpointConnectionError\).*AWS_ENDPOINT_URL_S3",
        said(verdict),
    )


def test_a_clock_that_s3_refuses_is_told(make_context: MakeContext, moto: LocalS3) -> None:
    """By its Date before it comes to that, and by its refusal of the signature."""
    late = make_context(clock=Clock(now=lambda: NOW.now() - 400))
    assert re.match(r"failed: .*\b(399|400|401) s behind S3's", said(verdict_of(late, "s3_clock")))
    with s3_proxy(moto.endpoint) as proxy:
        proxy.decide = lambda _: Answer(status=403, code="RequestTimeTooSkewed")
        verdict = verdict_of(make_context(AWS_ENDPOINT_URL_S3=proxy.endpoint), "s3_bucket")
    assert re.match(
        r"failed: S3 refuses list_objects_v2 .*RequestTimeTooSkewed.*this machine's clock is wrong.*NTP", said(verdict)
    )


def test_a_listing_that_is_refused_says_what_to_do(make_context: MakeContext, moto: LocalS3) -> None:
    """Whatever the store says: the remedy is that of a run."""
    with s3_proxy(moto.endpoint) as proxy:
        proxy.decide = lambda _: Answer(status=507, code="InsufficientStorage")
        verdict = verdict_of(make_context(AWS_ENDPOINT_URL_S3=proxy.endpoint), "s3_bucket")
    assert re.match(r"failed: S3 answers InsufficientStorage .*the store is full. Make room", said(verdict))


def test_another_region_is_a_warning(make_context: MakeContext, guarded: LocalS3) -> None:
    """It names the one to set; a store that does not say is no fault."""
    verdict = verdict_of(make_context(AWS_DEFAULT_REGION="eu-central-1"), "s3_region")
    assert re.match(r"warning: The bucket is in us-east-1.*AWS_DEFAULT_REGION=us-east-1", said(verdict))
    assert verdict_of(make_context(**guarded.environment), "s3_region").status == "not visible"
    assert region_verdict("a", "a").status == "ok"


# What an administrator sees


def test_the_writer_sees_no_configuration_and_need_not(make_context: MakeContext, guarded: LocalS3) -> None:
    """Each part is `not visible`, with the commands for an administrator."""
    context = make_context(**{**guarded.environment, **AS_WRITER})
    verdicts = [verdict_of(context, name) for name in CONFIGURATION]
    assert [verdict.status for verdict in verdicts] == ["not visible"] * len(CONFIGURATION)
    assert all("--admin-profile" in verdict.remedy and f"--bucket {BUCKET}" in verdict.remedy for verdict in verdicts)
    assert "aws s3api get-bucket-lifecycle-configuration" in verdicts[-1].remedy


@pytest.fixture
def profiles(tmp_path: Path, guarded: LocalS3) -> dict[str, str]:
    """An AWS configuration with an administrator and somebody who is none."""
    path = tmp_path / "credentials"
    keys = {"admin": ("local-access-key", "local-secret-key"), "nobody": ("writer", "writer")}
    path.write_text(
        "\n".join(
            f"[{name}]\naws_access_key_id={key}\naws_secret_access_key={secret}" for name, (key, secret) in keys.items()
        )
    )
    return {**guarded.environment, **AS_WRITER, "AWS_SHARED_CREDENTIALS_FILE": str(path)}


def test_an_administrators_profile_reads_the_configuration_alone(
    make_context: MakeContext, profiles: dict[str, str]
) -> None:
    """The writer goes on being the one whose rights are tried."""
    base = make_context(**profiles)
    admin = Context(clock=base.clock, seconds=10, admin_profile="admin")
    assert verdict_of(admin, "s3_versioning").status == "warning"
    assert verdict_of(admin, "s3_lifecycle").status == "ok"
    assert verdict_of(admin, "s3_public_access").status == "not visible"  # SeaweedFS has none
    verdict_of(admin, "s3_conditional_writes")
    assert verdict_of(admin, "s3_too_wide").status == "ok"


def test_a_profile_without_the_right_or_that_is_not_there_is_told(
    make_context: MakeContext, profiles: dict[str, str]
) -> None:
    """By its name."""
    base = make_context(**profiles)
    nobody, missing = (Context(clock=base.clock, seconds=10, admin_profile=name) for name in ("nobody", "missing"))
    assert re.match(r"not visible: The profile nobody may not see it", said(verdict_of(nobody, "s3_lifecycle")))
    assert re.match(r"failed: There is no AWS profile missing", said(verdict_of(missing, "s3_lifecycle")))


def _blocks(names: Sequence[str]) -> Any:
    return dict.fromkeys(names, True)


def test_public_access_is_blocked_or_it_is_a_warning(make_context: MakeContext, moto: LocalS3) -> None:
    """Of a bucket where it was never set, and then with three of four, and with all."""
    client, blocks = moto.client(), _blocks(BLOCKS[:3])
    assert verdict_of(make_context(), "s3_public_access").status == "warning"
    client.put_public_access_block(Bucket=BUCKET, PublicAccessBlockConfiguration=blocks)
    assert "RestrictPublicBuckets off" in verdict_of(make_context(), "s3_public_access").found
    client.put_public_access_block(Bucket=BUCKET, PublicAccessBlockConfiguration=_blocks(BLOCKS))
    assert verdict_of(make_context(), "s3_public_access").status == "ok"
    client.delete_public_access_block(Bucket=BUCKET)
    assert public_access_verdict({}).status == "warning"


def _encrypted(kind: str, key: str = "") -> dict[str, Any]:
    rule = {"SSEAlgorithm": kind, **({"KMSMasterKeyID": key} if key else {})}
    return {"Rules": [{"ApplyServerSideEncryptionByDefault": rule}]}


KEY, ARN = "1234abcd", "arn:aws:kms:eu-central-1:111122223333:key/1234abcd"
KMS = {"S3_SSE": "aws:kms"}


@pytest.mark.parametrize(
    ("default", "others", "status"),
    [
        (_encrypted("AES256"), {}, "ok"),
        (_encrypted("AES256"), KMS, "ok"),
        (_encrypted("aws:kms", ARN), {}, "ok"),
        (_encrypted("aws:kms", ARN), {**KMS, "S3_KMS_KEY_ID": KEY}, "ok"),
        (_encrypted("aws:kms", ARN), {**KMS, "S3_KMS_KEY_ID": "another"}, "warning"),
        (_encrypted("aws:kms", ARN), {"S3_SSE": "AES256"}, "warning"),
    ],
)
def test_encryption_fits_the_settings(
    make_context: MakeContext, moto: LocalS3, default: dict[str, Any], others: dict[str, str], status: str
) -> None:
    """The bucket's default beside S3_SSE and S3_KMS_KEY_ID: contradictions are warnings."""
    moto.client().put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration=default)
    verdict = verdict_of(make_context(**others), "s3_encryption")
    moto.client().delete_bucket_encryption(Bucket=BUCKET)
    assert verdict.status == status, verdict


def test_no_encryption_anywhere_is_a_warning(make_context: MakeContext) -> None:
    """Amazon always has a default; other stores may not, and then S3_SSE does."""
    assert verdict_of(make_context(), "s3_encryption").status == "warning"
    assert encryption_verdict({}, Settings(s3_sse="AES256")).status == "ok"


def test_versioning_is_on_or_it_is_a_warning(make_context: MakeContext, moto: LocalS3) -> None:
    """Off, on and suspended."""
    found: list[str] = []
    for state in ("Enabled", "Suspended"):
        moto.client().put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": state})
        found.append(verdict_of(make_context(), "s3_versioning").status)
    assert found == ["ok", "warning"]
    assert "off" in versioning_verdict({}).found


def test_what_is_locked_is_told(make_context: MakeContext, moto: LocalS3) -> None:
    """A default retention is no fault; how long it keeps what is said."""
    assert verdict_of(make_context(), "s3_object_lock").status == "ok"
    moto.client().create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    told: list[str] = []
    for retention in ({}, {"Mode": "COMPLIANCE", "Days": 30}, {"Mode": "GOVERNANCE", "Years": 2}):
        rule = {"Rule": {"DefaultRetention": retention}} if retention else {}
        moto.client().put_object_lock_configuration(
            Bucket="locked", ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", **rule}
        )
        told.append(said(verdict_of(make_context(S3_BUCKET="locked"), "s3_object_lock")))
    assert told[0].startswith("ok: Nothing is locked")
    assert re.match(r"ok: .*for 30 days \(COMPLIANCE\)", told[1])
    assert re.match(r"ok: .*for 2 years \(GOVERNANCE\)", told[2])


def test_a_bucket_that_locks_takes_the_writes_that_are_tried(make_context: MakeContext, moto: LocalS3) -> None:
    """They are written as a run writes, with what a default retention asks for."""
    moto.client().create_bucket(Bucket="locks", ObjectLockEnabledForBucket=True)
    rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    moto.client().put_object_lock_configuration(Bucket="locks", ObjectLockConfiguration=rule)
    assert verdict_of(make_context(S3_BUCKET="locks"), "s3_conditional_writes").status == "ok"


def _rule(prefix: str, **what: Any) -> dict[str, Any]:
    return {"ID": "a-rule", "Status": "Enabled", "Filter": {"Prefix": prefix}, **what}


DAYS = {"Expiration": {"Days": 30}}
GLACIER = {"Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}
OF_TAGS = {"ID": "a-rule", "Status": "Enabled", "Filter": {"And": {"Prefix": "", "Tags": [{"Key": "a", "Value": "b"}]}}}
LIFECYCLES: dict[str, tuple[Any, str, str]] = {
    "ledgers": (_rule("zendesk/state/", **DAYS), "failed", "ledgers expire"),
    "one stream's ledgers": (_rule("zendesk/state/audit_logs/", **DAYS), "failed", "ledgers expire"),
    "all of the bucket": (_rule("", **DAYS), "failed", "ledgers expire"),
    "above both": (_rule("zendesk/", **DAYS), "failed", "ledgers expire"),
    "as of old": ({"ID": "b", "Status": "Enabled", "Prefix": "zendesk/s", **DAYS}, "failed", "ledgers expire"),
    "by size": (
        {**_rule(""), "Filter": {"And": {"Prefix": "zendesk/state/", "ObjectSizeGreaterThan": 1}}, **DAYS},
        "failed",
        "ledgers expire",
    ),
    "by a date": (_rule("zendesk/state/", Expiration={"Date": "2027-01-01T00:00:00Z"}), "failed", "ledgers expire"),
    "ledgers into an archive": (_rule("zendesk/state/", **GLACIER), "failed", "archive"),
    "the feed": (_rule("zendesk/crm/", **DAYS), "warning", "180 days"),
    "the feed by a date": (_rule("zendesk/crm/", Expiration={"Date": "2027-01-01T00:00:00Z"}), "warning", "by a date"),
    "the feed into an archive": (_rule("zendesk/crm/", **GLACIER), "warning", "archive"),
    "the feed in time": (_rule("zendesk/crm/", Expiration={"Days": 180}), "ok", ""),
    "quarantine": (_rule("zendesk/quarantine/", **DAYS), "ok", ""),
    "beside": (_rule("zendesk/statements/", **DAYS), "ok", ""),
    "switched off": ({**_rule("", **DAYS), "Status": "Disabled"}, "ok", ""),
    "by tag": ({**OF_TAGS, **DAYS}, "ok", ""),
    "old versions": (_rule("", NoncurrentVersionExpiration={"NoncurrentDays": 30}), "ok", ""),
    "markers": (_rule("", Expiration={"ExpiredObjectDeleteMarker": True}), "ok", ""),
    "into another class": (_rule("", Transitions=[{"Days": 30, "StorageClass": "STANDARD_IA"}]), "ok", ""),
}


@pytest.mark.parametrize("case", LIFECYCLES)
def test_no_rule_may_forget_ledgers(make_context: MakeContext, moto: LocalS3, case: str) -> None:
    """A rule that makes ledgers expire fails, one that takes the feed from under SecOps warns, others are fine."""
    rule, status, named = LIFECYCLES[case]
    moto.client().put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": [rule]})
    verdict = verdict_of(make_context(), "s3_lifecycle")
    moto.client().delete_bucket_lifecycle(Bucket=BUCKET)
    assert (verdict.status, named in verdict.found) == (status, True), verdict
    assert status == "ok" or rule["ID"] in verdict.found


def test_the_feeds_age_is_a_choice() -> None:
    """A rule of thirty days is fine for a feed that reads nothing older; the worst of several rules counts."""
    feed, state = _rule("zendesk/crm/", **DAYS), _rule("zendesk/state/", **DAYS)
    assert lifecycle_verdict([feed], Settings(), 30).status == "ok"
    assert lifecycle_verdict([feed], Settings(), 31).status == "warning"
    both = lifecycle_verdict([feed, state], Settings(), 180)
    assert (both.status, "feed" in both.found) == ("failed", True)
    assert lifecycle_verdict([], Settings(), 180).status == "ok"


def test_an_error_of_s3s_is_no_configuration(make_context: MakeContext, moto: LocalS3) -> None:
    """What is neither denied nor unset is a failure by its name."""
    with s3_proxy(moto.endpoint) as proxy:
        proxy.decide = lambda _: Answer(status=400, code="InvalidBucketState")
        verdict = verdict_of(make_context(AWS_ENDPOINT_URL_S3=proxy.endpoint), "s3_lifecycle")
    assert re.match(r"failed: S3 answers InvalidBucketState", said(verdict))
