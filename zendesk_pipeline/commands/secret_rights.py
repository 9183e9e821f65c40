"""What an IAM policy has to allow for the secrets that the environment refers to."""

import re
from collections.abc import Mapping
from typing import Any

from zendesk_pipeline.settings.environment import SECRETS
from zendesk_pipeline.settings.secret_references import PAIR, pair_reference, reference

Statement = dict[str, Any]

_WHOLE_ARN = re.compile(r".*-[A-Za-z0-9]{6}")


def secret_statements(environment: Mapping[str, str]) -> list[Statement]:
    """The statements for the references in use, none where there are none; raises SettingsError for half of one.

    A key of your own that encrypts them needs `kms:Decrypt` beside these; AWS's own keys need nothing.
    """
    used = [found for name in SECRETS if name != PAIR and (found := reference(name, environment.get(name, "")))]
    secrets = {_secret_arn(each.name) for each in used if each.service == "secretsmanager"}
    parameters = {_parameter_arn(each.name) for each in used if each.service == "ssm"}
    pairs = {_secret_arn(pair_reference(value).name) for value in [environment.get(PAIR, "")] if value}
    replacing = ("GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage")
    return [
        *_statement("ReadSecrets", ["secretsmanager:GetSecretValue"], secrets),
        *_statement("ReadParameters", ["ssm:GetParameter"], parameters),
        *_statement("ReplaceTokens", [f"secretsmanager:{action}" for action in replacing], pairs),
    ]


def _statement(name: str, actions: list[str], resources: set[str]) -> list[Statement]:
    return [{"Sid": name, "Effect": "Allow", "Action": actions, "Resource": sorted(resources)}] if resources else []


def _secret_arn(name: str) -> str:
    """The ARN of a secret ends in six characters that AWS chooses."""
    if name.startswith("arn:"):
        return name if _WHOLE_ARN.fullmatch(name) else f"{name}-??????"
    return f"arn:aws:secretsmanager:*:*:secret:{name}-??????"


def _parameter_arn(name: str) -> str:
    return name if name.startswith("arn:") else f"arn:aws:ssm:*:*:parameter/{name.removeprefix('/')}"
