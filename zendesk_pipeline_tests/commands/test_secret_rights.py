"""Rights to the secrets in use: printed by `iam-policy writer`, enough and not too much for a moto that checks them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError
from click.testing import CliRunner

from zendesk_pipeline.cli import main
from zendesk_pipeline.commands.secret_rights import secret_statements
from zendesk_pipeline.local.services import moto_s3
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.settings.environment import SECRETS
from zendesk_pipeline_tests.fakes.aws_secrets import aws

IN_USE = {
    "S3_BUCKET": "acme-zendesk",
    "ZENDESK_CLIENT_ID": "aws-sm:zendesk/client#id",
    "ZENDESK_CLIENT_SECRET": "aws-sm:zendesk/client#secret",
    "ZENDESK_TOKEN_PAIR": "aws-sm:zendesk/tokens",
    "ALERT_URLS": "aws-ssm:/zendesk/alerts",
}
READ, PARAMETER, PAIR = "zendesk/client", "/zendesk/alerts", "zendesk/tokens"


def _printed(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> dict[str, Any]:
    with monkeypatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        done = CliRunner().invoke(main, ["iam-policy", "writer"])
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_without_references_nothing_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets in variables need no right; they are not printed either."""
    plain = {"S3_BUCKET": "acme-zendesk", "ZENDESK_CLIENT_SECRET": "Sesame-4711", "ALERT_URLS": "slack://Sesame-4711"}
    assert _printed(monkeypatch, plain) == _printed(monkeypatch, {"S3_BUCKET": "acme-zendesk"})


def test_each_reference_gets_its_right_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two fields of a secret are one resource; the pair may be replaced, the others only read."""
    arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mail"
    named = {**IN_USE, "ZENDESK_EMAIL": f"aws-sm:{arn}", "ZENDESK_API_TOKEN": f"aws-sm:{arn}-Ab12Cd#token"}
    added = {each["Sid"]: each for each in _printed(monkeypatch, named)["Statement"]}
    assert added["ReadSecrets"] == {
        "Sid": "ReadSecrets",
        "Effect": "Allow",
        "Action": ["secretsmanager:GetSecretValue"],
        "Resource": ["arn:aws:secretsmanager:*:*:secret:zendesk/client-??????", f"{arn}-??????", f"{arn}-Ab12Cd"],
    }
    assert added["ReadParameters"]["Action"] == ["ssm:GetParameter"]
    assert added["ReadParameters"]["Resource"] == ["arn:aws:ssm:*:*:parameter/zendesk/alerts"]
    assert added["ReplaceTokens"]["Resource"] == ["arn:aws:secretsmanager:*:*:secret:zendesk/tokens-??????"]


def test_a_policy_is_printed_without_dagster() -> None:
    """What a policy needs of secrets is known without the seconds that Dagster and boto3 take to load."""
    asked = "import sys, zendesk_pipeline.commands.iam_policy; print({'dagster', 'boto3'} & sys.modules.keys())"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"


@pytest.mark.parametrize("variable", SECRETS)
def test_half_a_reference_is_refused(variable: str) -> None:
    """A policy that lacks something would be found out at night."""
    with pytest.raises(SettingsError, match=variable):
        secret_statements({variable: "aws-sm:two names"})


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Clients of a user with just these actions, at a moto that evaluates them; of S3 alone it knows resources."""
    with moto_s3(tmp_path_factory.mktemp("checking")) as server:
        secrets, iam = aws("secretsmanager", server.endpoint), aws("iam", server.endpoint)
        for name in (READ, PAIR):
            secrets.create_secret(Name=name, SecretString="Sesame")
        aws("ssm", server.endpoint).put_parameter(Name=PARAMETER, Value="Sesame", Type="SecureString")
        iam.create_user(UserName="writer")
        statements = [{**each, "Resource": "*"} for each in secret_statements(IN_USE)]
        policy = {"Version": "2012-10-17", "Statement": statements}
        iam.put_user_policy(UserName="writer", PolicyName="rights", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName="writer")["AccessKey"]
        requests.post(f"{server.endpoint}/moto-api/reset-auth", data="0", timeout=60).raise_for_status()
        signed = {"key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}
        yield {service: aws(service, server.endpoint, **signed) for service in ("secretsmanager", "ssm")}


def test_the_statements_are_enough(writer: Any) -> None:
    """All that a run does: reading, and the three steps of a refresh."""
    secrets = writer["secretsmanager"]
    assert writer["ssm"].get_parameter(Name=PARAMETER, WithDecryption=True)["Parameter"]["Value"] == "Sesame"
    assert secrets.get_secret_value(SecretId=READ)["SecretString"] == "Sesame"
    current = secrets.get_secret_value(SecretId=PAIR)["VersionId"]
    following = secrets.put_secret_value(SecretId=PAIR, SecretString="next", VersionStages=["next"])["VersionId"]
    secrets.update_secret_version_stage(
        SecretId=PAIR, VersionStage="AWSCURRENT", RemoveFromVersionId=current, MoveToVersionId=following
    )


def test_the_statements_are_not_too_much(writer: Any) -> None:
    """Making, deleting and listing secrets, writing parameters."""
    secrets, parameters = writer["secretsmanager"], writer["ssm"]
    refused = [
        lambda: secrets.delete_secret(SecretId=PAIR),
        lambda: secrets.create_secret(Name="zendesk/new", SecretString="x"),
        secrets.list_secrets,
        lambda: parameters.put_parameter(Name=PARAMETER, Value="x", Type="SecureString", Overwrite=True),
    ]
    for attempt in refused:
        with pytest.raises(ClientError, match="403"):
            attempt()
