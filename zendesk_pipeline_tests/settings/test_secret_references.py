"""Secrets by reference, read from moto's Secrets Manager and Parameter Store over HTTP."""

import json
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, moto_s3
from zendesk_pipeline.local.simulator.accounts import BEARER_TOKEN, CLIENT_ID, CLIENT_SECRET
from zendesk_pipeline.model.errors import PipelineError, RefusedError, SecretStoreError, SettingsError
from zendesk_pipeline.orchestration.zendesk_resource import ZendeskResource
from zendesk_pipeline.settings.secret_references import PREFIXES, Recent, reference, resolved
from zendesk_pipeline_tests.asking import first_page
from zendesk_pipeline_tests.fakes.aws_secrets import aws, environment_of, new_name, new_parameter, new_secret
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering
from zendesk_pipeline_tests.ports import lasting_port

VALUE = "Sesame-4711"
VARIABLE = "ZENDESK_API_TOKEN"
ROLE = "role_arn = arn:aws:iam::111122223333:role/w\nsource_profile = base"


@pytest.fixture
def endpoint(moto: LocalS3, monkeypatch: pytest.MonkeyPatch) -> str:
    """Moto, and the environment that leads boto3 there."""
    for name, value in environment_of(moto.endpoint).items():
        monkeypatch.setenv(name, value)
    return moto.endpoint


def _arn(endpoint: str, name: str, region: str = "us-east-1") -> str:
    return aws("secretsmanager", endpoint, region=region).describe_secret(SecretId=name)["ARN"]


# What is read


def test_a_value_stays_what_it_is() -> None:
    """Nobody is asked for anything where a setting holds no reference."""
    for value in ("", VALUE, "slack://aws-sm:x", " aws-sm:x", "AWS-SM:x", "aws-s3:x"):
        assert resolved(VARIABLE, value) == value


def test_each_way_to_name_a_secret(endpoint: str) -> None:
    """A secret's text, a field of its JSON, a parameter; by name and by ARN."""
    whole, fields = new_secret(endpoint, VALUE), new_secret(endpoint, {"token": VALUE, "other": "no"})
    parameter = new_parameter(endpoint, VALUE)
    arn = aws("ssm", endpoint).get_parameter(Name=parameter)["Parameter"]["ARN"]
    written = [
        f"aws-sm:{whole}",
        f"aws-sm:{fields}#token",
        f"aws-sm:{_arn(endpoint, whole)}",
        f"aws-sm:{_arn(endpoint, fields)}#token",
        f"aws-ssm:{parameter}",
        f"aws-ssm:{arn}",
    ]
    assert [resolved(VARIABLE, each) for each in written] == [VALUE] * len(written)


def test_an_arn_brings_its_region(endpoint: str) -> None:
    """A secret of another region than AWS_DEFAULT_REGION is found by its ARN, by its name it is not."""
    name = new_name()
    aws("secretsmanager", endpoint, region="eu-central-1").create_secret(Name=name, SecretString=VALUE)
    assert resolved(VARIABLE, f"aws-sm:{_arn(endpoint, name, 'eu-central-1')}") == VALUE
    with pytest.raises(SettingsError, match="does not exist in the region that AWS_DEFAULT_REGION"):
        resolved(VARIABLE, f"aws-sm:{name}")


def test_the_current_version_is_read(endpoint: str) -> None:
    """A version that a rotation has only prepared is not used; once it is current it is."""
    name, secrets = new_secret(endpoint, VALUE), aws("secretsmanager", endpoint)
    secrets.put_secret_value(SecretId=name, SecretString="next", VersionStages=["AWSPENDING"])
    assert resolved(VARIABLE, f"aws-sm:{name}") == VALUE
    secrets.put_secret_value(SecretId=name, SecretString="rotated")
    assert resolved(VARIABLE, f"aws-sm:{name}") == "rotated"


# What cannot be read


def _binary(endpoint: str) -> str:
    name = new_name()
    aws("secretsmanager", endpoint).create_secret(Name=name, SecretBinary=VALUE.encode())
    return f"aws-sm:{name}"


def _deleted(endpoint: str) -> str:
    name = new_secret(endpoint, VALUE)
    aws("secretsmanager", endpoint).delete_secret(SecretId=name)
    return f"aws-sm:{name}"


UNREADABLE: dict[str, tuple[Callable[[str], str], str]] = {
    "no-secret": (lambda _: "aws-sm:test/nowhere", "does not exist in the region"),
    "no-parameter": (lambda _: "aws-ssm:/test/nowhere", "does not exist in the region"),
    "no-field": (lambda at: f"aws-sm:{new_secret(at, {'token': VALUE})}#other", "has no such field"),
    "not-text": (lambda at: f"aws-sm:{new_secret(at, {'token': [VALUE]})}#token", "has no text in that field"),
    "no-json": (lambda at: f"aws-sm:{new_secret(at, VALUE)}#token", "is no JSON object"),
    "no-object": (lambda at: f"aws-sm:{new_secret(at, json.dumps([VALUE]))}#token", "is no JSON object"),
    "deep-json": (lambda at: f"aws-sm:{new_secret(at, VALUE + '[' * 5000)}#token", "is no JSON object"),
    "binary": (_binary, "is a binary secret"),
    "deleted": (_deleted, "is marked for deletion"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_one_sentence_with_the_reference(kind: str, endpoint: str) -> None:
    """It names the setting and the reference, says what is wrong, and nothing of the value."""
    make, says = UNREADABLE[kind]
    written = make(endpoint)
    with pytest.raises(SettingsError, match=says) as raised:
        resolved(VARIABLE, written)
    assert str(raised.value).startswith(f"{VARIABLE}: {written} ")
    assert VALUE not in _shown(raised.value)


ANSWERS: dict[str, tuple[str, str, type[PipelineError], str]] = {
    "denied": ("AccessDeniedException", "no policy allows it", SettingsError, "secretsmanager:GetSecretValue"),
    "key": ("AccessDeniedException", "Access to KMS is not allowed", SettingsError, "kms:Decrypt"),
    "key-gone": ("DecryptionFailure", "", SettingsError, "kms:Decrypt"),
    "expired": ("ExpiredTokenException", "", SettingsError, "does not accept the credentials"),
    "unknown-key": ("UnrecognizedClientException", "", SettingsError, "does not accept the credentials"),
    "another-token": ("UnrecognizedClientException", "", SettingsError, "AWS_SESSION_TOKEN with a temporary key"),
    "ended": ("ExpiredTokenException", "", SettingsError, "has ended. Take a new one"),
    "secret": ("InvalidSignatureException", "does not match", SettingsError, "Copy AWS_SECRET_ACCESS_KEY again"),
    "clock": ("InvalidSignatureException", "Signature expired: 20261112", SettingsError, "clock is wrong. Set it by"),
    "clock-by-code": ("RequestTimeTooSkewed", "", SettingsError, "clock is wrong. Set it by NTP"),
    "wrong-name": ("ValidationException", VALUE, SettingsError, "check its name"),
    "wrong-parameter": ("InvalidParameterException", VALUE, SettingsError, "check its name"),
    "throttled": ("ThrottlingException", "", SecretStoreError, "(ThrottlingException): AWS is busy"),
    "down": ("InternalServiceError", "", SecretStoreError, "(InternalServiceError): AWS is busy"),
    "odd": ("SomethingNew", VALUE, SecretStoreError, "(SomethingNew): look the code up"),
}
STATUSES = {"down": 500}


@pytest.mark.parametrize("kind", ANSWERS)
def test_each_refusal_of_aws_is_a_sentence(kind: str, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person has to mend is a setting; what passes may be tried again."""
    code, message, error, says = ANSWERS[kind]
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    answer = Reply(json.dumps({"__type": code, "message": message}).encode(), STATUSES.get(kind, 400))
    with answering(answer) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", server.url)
        with pytest.raises(error, match=re.escape(says)) as raised:
            resolved(VARIABLE, "aws-sm:zendesk#token")
    assert str(raised.value).startswith(f"{VARIABLE}: aws-sm:zendesk#token ")
    assert VALUE not in _shown(raised.value)
    assert "retries" not in str(raised.value)
    assert endpoint


PROFILES: dict[str, tuple[str, int, str, type[PipelineError], str]] = {
    "a role": (ROLE, 403, "AccessDenied", SettingsError, r"AssumeRole.*\(AccessDenied\): check role_arn.*trust policy"),
    "a role, busy": (ROLE, 400, "Throttling", SecretStoreError, r"AssumeRole.*\(Throttling\): AWS is busy"),
    "a program": (
        "credential_process = false",
        0,
        "",
        SecretStoreError,
        "CredentialRetrievalError.*credential_process",
    ),
    "half a key": ("aws_access_key_id = AKIA", 0, "", SettingsError, "PartialCredentialsError.*aws_secret_access_key"),
    "single sign-on": (
        "sso_start_url = https://a\nsso_region = us-east-1\nsso_account_id = 1\nsso_role_name = w",
        0,
        "",
        SettingsError,
        "aws sso login",
    ),
}


@pytest.mark.parametrize("kind", PROFILES)
def test_credentials_that_cannot_be_had_name_where_they_come_from(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """As for S3: neither the secret is blamed, nor a right to it, nor the network."""
    profile, status, code, error, says = PROFILES[kind]
    written = f"aws-sm:{new_secret(endpoint, VALUE)}"
    config = tmp_path / "config"
    config.write_text(f"[profile w]\n{profile}\n[profile base]\naws_access_key_id = a\naws_secret_access_key = b\n")
    body = f"<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"
    with answering(Reply(body.encode(), status, {"Content-Type": "text/xml"})) as sts:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {
            "AWS_PROFILE": "w",
            "AWS_CONFIG_FILE": str(config),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
            "AWS_ENDPOINT_URL_STS": sts.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
            "HOME": str(tmp_path),
        }.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(error, match=says) as raised:
            resolved(VARIABLE, written)
    assert str(raised.value).startswith(f"{VARIABLE}: {written} needs AWS credentials")


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        pytest.param(
            {"AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL_SECRETS_MANAGER": ""},
            SettingsError,
            "AWS_DEFAULT_REGION",
            id="no-region",
        ),
        pytest.param({"AWS_DEFAULT_REGION": "no region"}, SettingsError, "AWS_DEFAULT_REGION", id="region"),
        pytest.param({"AWS_PROFILE": "nobody"}, SettingsError, "AWS_PROFILE", id="profile"),
        pytest.param({"AWS_SECRET_ACCESS_KEY": ""}, SettingsError, "AWS_SECRET_ACCESS_KEY", id="half-a-key"),
        pytest.param({"AWS_ENDPOINT_URL_SECRETS_MANAGER": "nonsense"}, SettingsError, "nonsense", id="endpoint"),
        pytest.param(
            {"AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://127.0.0.1:{lasting_port()}", "AWS_MAX_ATTEMPTS": "1"},
            SecretStoreError,
            "EndpointConnectionError",
            id="nobody-there",
        ),
    ],
)
def test_aws_settings_that_are_wrong_are_named(
    changed: dict[str, str], error: type[PipelineError], says: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same variables as S3's, and the same kind of sentences."""
    written = f"aws-sm:{new_secret(endpoint, VALUE)}"
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match=says) as raised:
        resolved(VARIABLE, written)
    assert str(raised.value).startswith(f"{VARIABLE}: {written} ")


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "#",
        "name#",
        "#key",
        "name#a b",
        f"name {VALUE}",
        f"name\n{VALUE}",
        f"name,slack://{VALUE}",
        f"name#key#{VALUE}",
        f"a?{VALUE}",
        f"arn:aws:s3:::{VALUE}",
    ],
)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_half_a_reference_is_refused_without_repeating_it(prefix: str, rest: str) -> None:
    """Whoever puts a secret beside a reference does not find it in a log."""
    with pytest.raises(SettingsError, match=f"^{VARIABLE} begins like a reference") as raised:
        reference(VARIABLE, prefix + rest)
    assert VALUE not in _shown(raised.value)


def test_nothing_is_logged_of_what_is_read(endpoint: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not even at DEBUG, where botocore writes down whole answers."""
    caplog.set_level("DEBUG")
    resolved(VARIABLE, f"aws-sm:{new_secret(endpoint, {'token': 'kept-4711'})}#token")
    caplog.clear()
    name, parameter = new_secret(endpoint, {"token": VALUE}), new_parameter(endpoint, VALUE)
    caplog.clear()
    assert resolved(VARIABLE, f"aws-sm:{name}#token") == resolved(VARIABLE, f"aws-ssm:{parameter}") == VALUE
    assert "GetSecretValue" in caplog.text
    assert VALUE not in caplog.text


def _shown(problem: BaseException) -> str:
    return "".join(traceback.format_exception(problem)) + repr(problem)


# A process that lives long


def test_a_long_lived_process_reads_every_few_minutes(endpoint: str) -> None:
    """Between, it goes by what it has; a value that was rotated is there after the time."""
    name, at = new_secret(endpoint, "old"), [0.0]
    recent = Recent(seconds=300, monotonic=lambda: at[0])
    assert recent.resolved(VARIABLE, f"aws-sm:{name}") == "old"
    aws("secretsmanager", endpoint).put_secret_value(SecretId=name, SecretString="new")
    at[0] = 299
    assert recent.resolved(VARIABLE, f"aws-sm:{name}") == "old"
    at[0] = 300
    assert recent.resolved(VARIABLE, f"aws-sm:{name}") == "new"
    assert "new" not in repr(recent)


def test_what_was_read_serves_while_the_store_is_silent(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alerts go out while Secrets Manager is down; a reference that is refused is an error all the same."""
    name, at = new_secret(endpoint, VALUE), [0.0]
    recent = Recent(seconds=300, monotonic=lambda: at[0])
    recent.resolved(VARIABLE, f"aws-sm:{name}")
    at[0] = 1000
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{lasting_port()}")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        assert recent.resolved(VARIABLE, f"aws-sm:{name}") == VALUE
        with pytest.raises(SecretStoreError):
            recent.resolved(VARIABLE, "aws-sm:never-read")
    aws("secretsmanager", endpoint).delete_secret(SecretId=name)
    with pytest.raises(SettingsError, match="deletion"):
        recent.resolved(VARIABLE, f"aws-sm:{name}")


# A credential that was rotated


@pytest.mark.parametrize(
    ("mode", "name", "right", "statuses"),
    [
        pytest.param("bearer", "bearer_token", BEARER_TOKEN, [401, 200], id="bearer"),
        pytest.param("oauth", "client_secret", CLIENT_SECRET, [401, 201, 200], id="oauth"),
    ],
)
def test_a_secret_that_was_rotated_is_read_once_more(
    mode: str, name: str, right: str, statuses: list[int], endpoint: str, zendesk: SimulatedZendesk
) -> None:
    """A run that holds the old value is refused, reads the new one and goes on; the same value is not tried twice."""
    secret = new_secret(endpoint, "old")
    fields = {"client_id": CLIENT_ID, name: f"aws-sm:{secret}"}
    resource = ZendeskResource(base_url=zendesk.url, auth_mode=mode, **fields)  # pyright: ignore[reportArgumentType]  # all are str
    client = resource.client()
    with pytest.raises(RefusedError):
        first_page(client)
    assert [seen.status for seen in zendesk.control.requests()] == [401]
    zendesk.control.forget_requests()
    aws("secretsmanager", endpoint).put_secret_value(SecretId=secret, SecretString=right)
    assert first_page(client).records
    assert [seen.status for seen in zendesk.control.requests()] == statuses


# Rights, as moto checks them


@pytest.fixture(scope="module")
def checking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A moto that evaluates policies from now on."""
    with moto_s3(tmp_path_factory.mktemp("checking")) as server:
        yield server.endpoint


def test_without_the_right_the_error_names_it(checking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without any policy is told which action on what is missing."""
    iam: Any = aws("iam", checking)
    iam.create_user(UserName="nobody")
    key = iam.create_access_key(UserName="nobody")["AccessKey"]
    name, parameter = new_secret(checking, VALUE), new_parameter(checking, VALUE)
    requests.post(f"{checking}/moto-api/reset-auth", data="0", timeout=60).raise_for_status()
    environment = environment_of(checking)
    environment |= {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    for written, right in ((f"aws-sm:{name}", "secretsmanager:GetSecretValue"), (f"aws-ssm:{parameter}", "ssm:Get")):
        with pytest.raises(SettingsError, match=f"{written} may not be used.*{right}"):
            resolved(VARIABLE, written)
