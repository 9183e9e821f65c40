"""What `doctor` asks of IAM, and what it makes of the answers: by servers that answer as STS and IAM do."""

import re

import pytest

from zendesk_pipeline.commands.doctor.iam import ON_BUCKET, principal, simulated_verdict
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline_tests.commands.doctor.contexts import MakeContext, context_maker, said, verdict_of
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering

WHO = (
    "<GetCallerIdentityResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><GetCallerIdentityResult>"
    "<Arn>arn:aws:sts::111122223333:assumed-role/collector/session</Arn></GetCallerIdentityResult>"
    "</GetCallerIdentityResponse>"
)
DENIED = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code></Error></ErrorResponse>"


def _simulated(allowed: str) -> str:
    members = "".join(
        f"<member><EvalActionName>{action}</EvalActionName>"
        f"<EvalDecision>{'allowed' if action == allowed else 'implicitDeny'}</EvalDecision></member>"
        for action in ON_BUCKET
    )
    return (
        "<SimulatePrincipalPolicyResponse xmlns='https://iam.amazonaws.com/doc/2010-05-08/'>"
        f"<SimulatePrincipalPolicyResult><EvaluationResults>{members}</EvaluationResults>"
        "</SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
    )


@pytest.fixture
def make_context(zendesk: SimulatedZendesk, moto: LocalS3, monkeypatch: pytest.MonkeyPatch) -> MakeContext:
    """Contexts whose S3 is Amazon's own, which is never asked here."""
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    amazon = {name: value for name, value in moto.environment.items() if name != "AWS_ENDPOINT_URL_S3"}
    return context_maker(monkeypatch, zendesk.environment, amazon)


def _asked(make_context: MakeContext, who: Reply, simulated: Reply) -> tuple[str, list[bytes]]:
    with answering(who) as sts, answering(simulated) as iam:
        context = make_context(AWS_ENDPOINT_URL_STS=sts.url, AWS_ENDPOINT_URL_IAM=iam.url)
        return said(verdict_of(context, "s3_bucket_rights")), [request.body for request in iam.received]


def test_a_writer_without_a_say_in_the_bucket_is_fine(make_context: MakeContext) -> None:
    """IAM is asked about the role behind the session, for the bucket, once."""
    verdict, (body,) = _asked(make_context, Reply(WHO.encode()), Reply(_simulated("").encode()))
    assert verdict.startswith("ok: ")
    assert b"arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fcollector" in body
    assert b"arn%3Aaws%3As3%3A%3A%3Azendesk-raw" in body


def test_a_say_in_the_bucket_is_a_warning_by_name(make_context: MakeContext) -> None:
    """Such as rules that would make ledgers expire."""
    verdict, _ = _asked(make_context, Reply(WHO.encode()), Reply(_simulated("s3:PutLifecycleConfiguration").encode()))
    assert re.match(r"warning: .*: s3:PutLifecycleConfiguration\..*iam-policy writer", verdict)


def test_whoever_may_not_ask_need_not(make_context: MakeContext) -> None:
    """The writer's policy has no right to: `not visible`, and the way for an administrator."""
    verdict, _ = _asked(make_context, Reply(WHO.encode()), Reply(DENIED.encode(), 403))
    assert re.match(r"not visible: .*AccessDenied.*assumed.*--admin-profile", verdict)
    verdict, bodies = _asked(make_context, Reply(DENIED.encode(), 403), Reply(b""))
    assert (verdict.startswith("not visible"), bodies) == (True, [])


def test_at_another_store_nobody_is_asked(make_context: MakeContext, moto: LocalS3) -> None:
    """Its keys mean nothing to AWS, and do not leave for there."""
    with answering(Reply(WHO.encode())) as sts:
        context = make_context(AWS_ENDPOINT_URL_S3=moto.endpoint, AWS_ENDPOINT_URL_STS=sts.url)
        assert verdict_of(context, "s3_bucket_rights").status == "not visible"
    assert sts.received == []


def test_users_are_asked_about_as_they_are() -> None:
    """Only a session has to be turned into its role, in any partition."""
    user = "arn:aws:iam::111122223333:user/collectors/zendesk"
    assert principal(user) == user
    assert principal("arn:aws-cn:sts::1:assumed-role/r/s") == "arn:aws-cn:iam::1:role/r"
    assert simulated_verdict([]).status == "ok"
