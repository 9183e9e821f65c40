"""What `doctor` finds of the writer's rights, where servers enforce policies: each right that lacks, each too many.

And what it leaves behind: nothing but one object under the state prefix.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import boto3
import pytest
import requests

from zendesk_pipeline.commands.doctor.context import Context
from zendesk_pipeline.commands.doctor.rights import (
    PROBE,
    conditional_verdict,
    feed_verdict,
    listing_verdict,
    right_of,
    state_verdict,
    too_wide_verdict,
    write_verdict,
)
from zendesk_pipeline.commands.doctor.s3_answers import S3Answer
from zendesk_pipeline.commands.iam_policy import Policy, writer_policy
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, local_s3, moto_s3
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.commands.doctor.contexts import MakeContext, context_maker, said, verdict_of
from zendesk_pipeline_tests.fakes.s3_proxy import Answer, s3_proxy
from zendesk_pipeline_tests.promise.test_least_privilege import LESS, _without

BUCKET = "zendesk-raw"
CHOSEN = Settings(s3_bucket=BUCKET)
RIGHTS = ("s3_write", "s3_conditional_writes", "s3_read", "s3_list", "s3_checksums", "s3_too_wide")
ROOT = f"arn:aws:s3:::{BUCKET}"


def _less(name: str) -> Policy:
    """The writer's policy without one of its rights; the default prefix of `crm` is zendesk/crm/."""
    return _without(writer_policy(CHOSEN), *LESS[name])


def _more(action: str, resource: str) -> Policy:
    policy = writer_policy(CHOSEN)
    more = {"Sid": "More", "Effect": "Allow", "Action": action, "Resource": resource}
    return {**policy, "Statement": [*policy["Statement"], more]}


MORE = {
    "deletes-from-the-feed": (_more("s3:DeleteObject", f"{ROOT}/zendesk/crm/*"), "delete under zendesk/crm/"),
    "deletes-ledgers": (_more("s3:DeleteObject", f"{ROOT}/zendesk/state/*"), "delete under zendesk/state/"),
    "writes-beside": (_more("s3:PutObject", f"{ROOT}/*"), "write beside the prefixes"),
    "lists-all": (_more("s3:ListBucket", ROOT), "list the whole bucket"),
    "reads-quarantine": (_more("s3:*", f"{ROOT}/zendesk/quarantine/*"), "delete under zendesk/quarantine/"),
}
USERS: dict[str, Policy] = {
    "writer": writer_policy(CHOSEN),
    "write-only": writer_policy(CHOSEN, write_only_feed=True),
    **{name: _less(name) for name in LESS},
    **{name: policy for name, (policy, _) in MORE.items()},
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """SeaweedFS with a user for each policy, conditions included."""
    with local_s3(tmp_path_factory.mktemp("guarded"), BUCKET, users=USERS) as running:
        yield running


@pytest.fixture
def make_context(zendesk: SimulatedZendesk, guarded: LocalS3, monkeypatch: pytest.MonkeyPatch) -> MakeContext:
    """Contexts at that server; `AWS_ACCESS_KEY_ID` names the user."""
    return context_maker(monkeypatch, zendesk.environment, guarded.environment)


def _as(make_context: MakeContext, user: str, **others: str) -> Context:
    return make_context(AWS_ACCESS_KEY_ID=user, AWS_SECRET_ACCESS_KEY=user, **others)


def _keys(server: LocalS3) -> list[str]:
    return [entry["Key"] for entry in server.client().list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def test_the_writers_policy_is_enough_and_not_too_much(make_context: MakeContext, guarded: LocalS3) -> None:
    """All of it is ok, twice; one object is left, the same after both."""
    for _ in range(2):
        context = _as(make_context, "writer")
        verdicts = {name: verdict_of(context, name) for name in RIGHTS}
        assert {name: verdict for name, verdict in verdicts.items() if verdict.status != "ok"} == {}
    assert _keys(guarded) == ["zendesk/state/doctor.json"]
    assert guarded.client().get_object(Bucket=BUCKET, Key="zendesk/state/doctor.json")["Body"].read() == PROBE


def test_nothing_is_left_in_a_bucket_with_versions(
    make_context: MakeContext, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Neither versions nor markers of deletion, by whoever may do everything; nothing ever under the feed prefix."""
    with local_s3(tmp_path_factory.mktemp("versions"), BUCKET) as server:
        root = server.client()
        root.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        context = make_context(**server.environment)
        for _ in range(2):
            assert {verdict_of(context, name).status for name in RIGHTS} == {"ok", "warning"}
        left = root.list_object_versions(Bucket=BUCKET)
        uploads = root.list_multipart_uploads(Bucket=BUCKET)
    mine = [version["Key"] for version in left["Versions"] if "local-services" not in version["Key"]]
    markers = [marker["Key"] for marker in left.get("DeleteMarkers", []) if "local-services" not in marker["Key"]]
    assert (mine, markers, uploads.get("Uploads", [])) == (["zendesk/state/doctor.json"], [], [])


LACKS = {
    "no-put": ("s3_write", "failed", "zendesk/crm/ and zendesk/state/ and zendesk/quarantine/", "statement Write"),
    "no-put-feed": ("s3_write", "failed", "under zendesk/crm/", "statement Write"),
    "no-put-state": ("s3_write", "failed", "under zendesk/state/", "statement Write"),
    "no-put-quarantine": ("s3_write", "failed", "under zendesk/quarantine/", "statement Write"),
    "no-get": ("s3_read", "failed", "under zendesk/state/", "statement ReadLedgersAndFeed"),
    "no-get-state": ("s3_read", "failed", "under zendesk/state/", "statement ReadLedgersAndFeed"),
    "no-get-feed": ("s3_read", "warning", "under zendesk/crm/", "statements ReadLedgersAndFeed"),
    "no-list": ("s3_list", "warning", "zendesk/state/ and zendesk/crm/", "statement ListLedgersAndFeed"),
    "no-list-feed": ("s3_list", "warning", "zendesk/crm/", "statement ListLedgersAndFeed"),
}


def test_every_right_is_taken_away_once() -> None:
    """The table below is that of the least-privilege tests."""
    assert LACKS.keys() == LESS.keys()


@pytest.mark.parametrize("user", LACKS)
def test_a_right_that_lacks_is_named_with_its_statement(make_context: MakeContext, user: str) -> None:
    """Where it lacks, and the statement of the policy that gives it; the other rights are found all the same."""
    check, status, place, statement = LACKS[user]
    verdict = verdict_of(_as(make_context, user), check)
    assert (verdict.status, place in verdict.found, statement in verdict.remedy) == (status, True, True), verdict
    others = {name: verdict_of(_as(make_context, user), name).status for name in ("s3_write", "s3_read", "s3_list")} | {
        check: "ok"
    }
    assert set(others.values()) <= {"ok", "warning"}


def test_without_the_right_to_write_ledgers_conditions_cannot_be_tried(make_context: MakeContext) -> None:
    """It says which right, instead of something about the store."""
    assert re.match(
        r"failed: .*may not write zendesk/state/doctor\.json.*s3:PutObject",
        said(verdict_of(_as(make_context, "no-put-state"), "s3_conditional_writes")),
    )


def test_a_write_only_feed_is_a_choice(make_context: MakeContext) -> None:
    """Warnings that say what it costs, and nothing that fails."""
    context = _as(make_context, "write-only")
    assert [verdict_of(context, name).status for name in RIGHTS[:4]] == ["ok", "ok", "warning", "warning"]
    assert "write-only feed" in verdict_of(context, "s3_read").remedy


@pytest.mark.parametrize("user", MORE)
def test_a_right_too_many_is_a_warning_that_names_it(make_context: MakeContext, user: str) -> None:
    """And the way back to the policy."""
    verdict = verdict_of(_as(make_context, user), "s3_too_wide")
    assert (verdict.status, MORE[user][1] in verdict.found) == ("warning", True), verdict
    assert "iam-policy writer" in verdict.remedy


def test_an_administrator_may_too_much(make_context: MakeContext) -> None:
    """Each thing that was tried is named."""
    verdict = verdict_of(make_context(), "s3_too_wide")
    assert verdict.status == "warning"
    assert all(word in verdict.found for word in ("root of the bucket", "beside", "list the whole", "delete under"))


# Moto, as a second opinion


Client = Any


def _client(service: str, endpoint: str, key: str, secret: str) -> Client:
    make = cast("Callable[..., Client]", boto3.client)  # hints of S3 only are installed
    where = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    return make(service, aws_access_key_id=key, aws_secret_access_key=secret, **where)


@pytest.fixture(scope="module")
def checking_moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], dict[str, str]]]:
    """The environment of users at a moto that evaluates policies, though not their conditions."""
    with moto_s3(tmp_path_factory.mktemp("moto"), BUCKET) as server:
        iam, users = _client("iam", server.endpoint, "a", "b"), dict[str, dict[str, str]]()
        for user in ("writer", "no-put-feed", "no-get-state", "no-list"):
            iam.create_user(UserName=user)
            iam.put_user_policy(UserName=user, PolicyName="rights", PolicyDocument=json.dumps(USERS[user]))
            key = iam.create_access_key(UserName=user)["AccessKey"]
            own = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
            users[user] = {**server.environment, **own}
        requests.post(f"{server.endpoint}/moto-api/reset-auth", data="0", timeout=60).raise_for_status()
        yield users.__getitem__


def test_a_second_server_agrees_on_the_writer(
    make_context: MakeContext, checking_moto: Callable[[str], dict[str, str]]
) -> None:
    """Nothing fails. Moto faults on the probe of writing, ignores checksums, and conditions of policies."""
    context = make_context(**checking_moto("writer"))
    verdicts = {name: verdict_of(context, name) for name in RIGHTS}
    assert {name: verdict.status for name, verdict in verdicts.items()} == {
        "s3_write": "warning",
        "s3_conditional_writes": "ok",
        "s3_read": "ok",
        "s3_list": "ok",
        "s3_checksums": "warning",
        "s3_too_wide": "warning",
    }
    assert verdicts["s3_too_wide"].found == (
        "The writer may do more than it needs: list the whole bucket, list zendesk/quarantine/."
    )
    assert "did not answer as it should" in verdicts["s3_write"].found


@pytest.mark.parametrize(
    ("user", "check", "status"),
    [("no-put-feed", "s3_write", "failed"), ("no-get-state", "s3_read", "failed"), ("no-list", "s3_list", "warning")],
)
def test_a_second_server_agrees_on_what_lacks(
    make_context: MakeContext, checking_moto: Callable[[str], dict[str, str]], user: str, check: str, status: str
) -> None:
    """As above, where AccessDenied is made by moto."""
    assert verdict_of(make_context(**checking_moto(user)), check).status == status


# What the store does


def _forgetting(context: Context, *names: str) -> Context:
    """The store behind it never sees these headers: as good as one that ignores them."""

    def forget(request: Any, **_: Any) -> None:
        for name in names:
            request.headers.pop(name, None)

    context.s3.meta.events.register("before-send.s3.PutObject", forget)
    return context


def test_a_write_that_is_refused_for_itself_is_not_blamed_on_its_condition(
    zendesk: SimulatedZendesk, moto: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that takes no write says why; one that takes all but the conditional is the wrong store."""
    make_context = context_maker(monkeypatch, zendesk.environment, moto.environment)
    full, strict = Answer(status=507, code="InsufficientStorage"), Answer(status=501, code="NotImplemented")
    with s3_proxy(moto.endpoint) as proxy:
        context = make_context(STATE_PREFIX=layout.state, AWS_ENDPOINT_URL_S3=proxy.endpoint)
        proxy.decide = lambda seen: full if seen.method == "PUT" else "pass"
        assert re.match(
            r"failed: .*InsufficientStorage to any write.*Make room", said(verdict_of(context, "s3_conditional_writes"))
        )
        proxy.decide = lambda seen: strict if "if-none-match" in seen.headers else "pass"
        verdict = said(verdict_of(context, "s3_conditional_writes"))
    assert re.match(
        r"failed: .*NotImplemented to a write with If-None-Match, and takes one without.*Use a store", verdict
    )


@pytest.mark.parametrize("condition", ["If-None-Match", "If-Match"])
def test_a_store_that_ignores_conditions_fails(
    zendesk: SimulatedZendesk, moto: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch, condition: str
) -> None:
    """Found out on an object of the state prefix that is made for it; with the remedy."""
    make_context = context_maker(monkeypatch, zendesk.environment, moto.environment)
    verdict = verdict_of(_forgetting(make_context(STATE_PREFIX=layout.state), condition), "s3_conditional_writes")
    assert re.match(rf"failed: The store ignores {condition}:.*Use a store that", said(verdict))
    (listed,) = moto.client().list_objects_v2(Bucket=BUCKET, Prefix=layout.state)["Contents"]
    assert listed["Key"] == f"{layout.state}doctor.json"


def test_a_damaged_body_is_refused_or_it_is_a_warning(make_context: MakeContext, moto: LocalS3, layout: Layout) -> None:
    """SeaweedFS compares; moto takes it, and what lies there is the same afterwards."""
    context = _as(make_context, "writer")
    verdict_of(context, "s3_conditional_writes")
    assert re.match(r"ok: .*refused \(BadDigest\)", said(verdict_of(context, "s3_checksums")))
    careless = make_context(**{**moto.environment, "STATE_PREFIX": layout.state})
    verdict_of(careless, "s3_conditional_writes")
    verdict = verdict_of(careless, "s3_checksums")
    assert (verdict.status, "https://" in verdict.remedy) == ("warning", True)
    assert moto.client().get_object(Bucket=BUCKET, Key=f"{layout.state}doctor.json")["Body"].read() == PROBE


def test_without_the_object_checksums_cannot_be_tried(make_context: MakeContext, layout: Layout) -> None:
    """It is gone since, or may not be read."""
    context = make_context(S3_PREFIX=layout.feed, STATE_PREFIX=layout.state, QUARANTINE_PREFIX=layout.quarantine)
    assert verdict_of(context, "s3_checksums").status == "failed"


def test_a_fault_of_the_stores_proves_nothing(make_context: MakeContext, guarded: LocalS3) -> None:
    """500 to a probe is neither a right nor its lack; to a conditional write it is a failure."""
    with s3_proxy(guarded.endpoint) as proxy:
        proxy.decide = lambda _: Answer(status=500, code="InternalError")
        context = make_context(AWS_ENDPOINT_URL_S3=proxy.endpoint)
        assert verdict_of(context, "s3_write").status == "warning"
        assert verdict_of(context, "s3_too_wide").status == "ok"
        assert re.match(r"failed: S3 answers InternalError", said(verdict_of(context, "s3_conditional_writes")))


DENIED, OK, MET = (
    S3Answer(status=403, code="AccessDenied"),
    S3Answer(status=200),
    S3Answer(status=412, code="PreconditionFailed"),
)


def test_every_answer_to_a_conditional_write_has_its_verdict() -> None:
    """As S3 and others answer the three writes."""
    conflict, absent = S3Answer(status=409, code="ConditionalRequestConflict"), S3Answer(status=404, code="NoSuchKey")
    unknown = S3Answer(status=501, code="NotImplemented")
    cases = [
        (OK, MET, MET, "Conditional writes are refused"),
        (MET, MET, absent, "Conditional writes are refused"),
        (conflict, conflict, conflict, "Conditional writes are refused"),
        (DENIED, DENIED, DENIED, "The writer may not write"),
        (MET, MET, DENIED, "If-Match needs s3:GetObject"),
        (unknown, unknown, unknown, "NotImplemented to any write"),
        (MET, MET, unknown, "NotImplemented to a write with If-Match"),
        (OK, OK, OK, "ignores If-None-Match"),
        (MET, MET, OK, "ignores If-Match"),
    ]
    for first, second, third, told in cases:
        verdict = conditional_verdict("k", first, second, third)
        assert told in verdict.found
        assert verdict.status == ("ok" if "are refused" in told else "failed")


def test_the_pure_verdicts() -> None:
    """Each answer counts for what it is."""
    assert [right_of(reply) for reply in (DENIED, MET, OK, S3Answer(status=503, code="SlowDown"))] == [
        "denied",
        "allowed",
        "allowed",
        "unclear",
    ]
    assert write_verdict({"a/": "allowed", "b/": "unclear"}).status == "warning"
    assert listing_verdict({"a/": "allowed"}).status == "ok"
    assert "s3:GetObject and s3:ListBucket" in feed_verdict("a/", "denied", hidden=True).remedy
    assert state_verdict("a/", "allowed").status == "ok"
    assert too_wide_verdict({"a": "unclear", "b": "denied"}).status == "ok"
