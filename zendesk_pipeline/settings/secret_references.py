"""Secrets by reference: a variable names where its value is stored, in place of the value.

    aws-sm:NAME          the text of a secret of AWS Secrets Manager; NAME may be its ARN
    aws-sm:NAME#KEY      one field of a secret that is a JSON object
    aws-ssm:/PATH        a parameter of SSM Parameter Store, decrypted if it is a SecureString

They are read when a run needs them. What was read is handed on and kept nowhere else. Errors name the reference, and
never quote what it leads to.
https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html
"""

import logging
import re
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never, cast

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from zendesk_pipeline.model.errors import PipelineError, SecretStoreError, SettingsError
from zendesk_pipeline.settings import aws_errors
from zendesk_pipeline.settings.programs import ours

Service = Literal["secretsmanager", "ssm"]

PREFIXES: Mapping[str, Service] = {"aws-sm:": "secretsmanager", "aws-ssm:": "ssm"}
"""How a reference begins; no secret of Zendesk's and no address of an alert does."""

PAIR = "ZENDESK_TOKEN_PAIR"
"""The setting that is always a reference: its tokens are replaced where they are stored."""

_NAMES: Mapping[Service, re.Pattern[str]] = {
    "secretsmanager": re.compile(
        r"(?P<name>(?:arn:[a-z-]+:secretsmanager:(?P<region>[a-z0-9-]+):\d{12}:secret:)?[A-Za-z0-9/_+=.@!-]{1,512})"
        r"(?:#(?P<key>[A-Za-z0-9_.-]{1,128}))?"
    ),
    "ssm": re.compile(
        r"(?P<name>(?:arn:[a-z-]+:ssm:(?P<region>[a-z0-9-]+):\d{12}:parameter)?/?[A-Za-z0-9_.-][A-Za-z0-9/_.-]{0,1010})"
    ),
}
_TALKATIVE = ("botocore.endpoint", "botocore.parsers")
"""Loggers that write whole requests and answers at DEBUG."""
_NOT_FOUND = {"ResourceNotFoundException", "ParameterNotFound", "ParameterVersionNotFound"}
_DENIED = {"AccessDeniedException", "AccessDenied", "403"}
_WRONG = {"InvalidParameterException", "InvalidRequestException", "ValidationException"}
_KEY = {"DecryptionFailure", "EncryptionFailure", "InvalidKeyId", "KMSAccessDeniedException"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Where a secret is stored."""

    variable: str
    """The setting that names it."""
    service: Service
    name: str
    """Name or ARN."""
    key: str | None = None
    """The field of a JSON object."""
    region: str | None = None
    """Of the ARN; without one, boto3's own."""

    def __str__(self) -> str:
        prefix = next(prefix for prefix, service in PREFIXES.items() if service == self.service)
        return f"{prefix}{self.name}" + (f"#{self.key}" if self.key else "")


def reference(variable: str, value: str) -> Reference | None:
    """The reference that a setting holds, or None where it holds a value; raises SettingsError for half of one."""
    for prefix, service in PREFIXES.items():
        if value.startswith(prefix):
            found = _NAMES[service].fullmatch(value.removeprefix(prefix))
            if found is None:  # the rest may be a secret that was put beside it: it is not repeated
                raise SettingsError(
                    f"{variable} begins like a reference ({prefix}) and is none: aws-sm:NAME, aws-sm:NAME#KEY or"
                    " aws-ssm:/PATH is wanted, with nothing before or behind it."
                )
            parts = found.groupdict()
            return Reference(
                variable=variable, service=service, name=parts["name"], key=parts.get("key"), region=parts["region"]
            )
    return None


def pair_reference(value: str) -> Reference:
    """Where the pair of tokens is stored; raises SettingsError where that is no whole secret of Secrets Manager."""
    found = reference(PAIR, value)
    if found is None or found.service != "secretsmanager" or found.key:
        raise SettingsError(f"{PAIR} has to name a secret of AWS Secrets Manager, aws-sm:NAME, without a field.")
    return found


def resolved(variable: str, value: str) -> str:
    """The value of a setting: what it refers to, read now, or what it holds.

    Raises SettingsError for what a person has to fix, SecretStoreError where the store gives no answer.
    """
    found = reference(variable, value)
    return value if found is None else read(found)


def read(wanted: Reference) -> str:
    """What a reference leads to, as it is now; raises as `resolved`."""
    match wanted.service:
        case "ssm":
            with explaining(wanted, "ssm:GetParameter"):
                return client_of(wanted).get_parameter(Name=wanted.name, WithDecryption=True)["Parameter"]["Value"]
        case "secretsmanager":
            with explaining(wanted, "secretsmanager:GetSecretValue"):
                answer = client_of(wanted).get_secret_value(SecretId=wanted.name, VersionStage="AWSCURRENT")
        case _:
            assert_never(wanted.service)
    text = answer.get("SecretString")
    if text is None:
        raise SettingsError(
            f"{wanted.variable}: {wanted} is a binary secret, and text is wanted: store it as a string."
        )
    return text if wanted.key is None else _field(wanted, wanted.key, text)


def _field(wanted: Reference, key: str, text: str) -> str:
    try:
        fields: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise SettingsError(
            f"{wanted.variable}: {wanted} asks for a field, and the secret is no JSON object: leave #{key} away, or"
            " store an object."
        )
    value = cast("dict[str, Any]", fields).get(key)
    if not isinstance(value, str):
        found = "has no such field" if value is None else "has no text in that field"
        raise SettingsError(f"{wanted.variable}: {wanted} leads nowhere, because the secret {found}.")
    return value


def client_of(wanted: Reference) -> Any:
    """A client of the service; raises as `resolved`."""
    from zendesk_pipeline.settings import aws_clients  # noqa: PLC0415  # most deployments have no references

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.INFO)
    who = f"{wanted.variable}: {wanted}"
    try:
        return aws_clients.client(wanted.service, region=wanted.region, who=who)
    except PipelineError as problem:
        said = problem.message
        raise _of_kind(type(problem), said if said.startswith(who) else f"{who} cannot be read. {said}") from None


@contextmanager
def explaining(wanted: Reference, action: str) -> Generator[None]:
    """Turn what boto3 raises into a sentence that names the reference; `action` is the right that is needed."""
    try:
        yield
    except ClientError as refused:
        raise _explained(wanted, action, refused) from None
    except BotoCoreError as problem:
        who = f"{wanted.variable}: {wanted}"
        raise _of_kind(
            *aws_errors.explanation(
                problem,
                who=who,
                what=f"{who} could not be used, because AWS gave no answer",
                endpoint=aws_errors.ENDPOINTS[wanted.service],
                action=action,
                uri=str(wanted),
            )
        ) from None


def _of_kind(kind: type[PipelineError], text: str) -> PipelineError:
    """What a person has to fix for S3 is to be fixed here as well; the rest may pass."""
    return (SettingsError if kind is SettingsError else SecretStoreError)(text)


def _explained(wanted: Reference, action: str, refused: ClientError) -> PipelineError:  # noqa: PLR0911  # a case a line
    code = error_code(refused)
    said = str(refused.response.get("Error", {}).get("Message", ""))
    what = f"{wanted.variable}: {wanted}"
    if refused.operation_name in aws_errors.BY_REQUEST:
        kind, text = aws_errors.of_credentials(refused)
        return _of_kind(kind, f"{what} needs AWS credentials, and {text}")
    if code in _NOT_FOUND:
        where = (
            "in the region of its ARN" if wanted.region else "in the region that AWS_DEFAULT_REGION or the role names"
        )
        return SettingsError(f"{what} does not exist {where}: check name and region, and that it has a value.")
    if code in _KEY or (code in _DENIED and "kms" in said.lower()):
        return SettingsError(
            f"{what} is encrypted with a KMS key that may not be used ({code}): give the writer kms:Decrypt on it."
        )
    if code in _DENIED:
        return SettingsError(
            f"{what} may not be used ({code}): give the writer {action} there, as `{ours('iam-policy writer')}`"
            " prints it."
        )
    if aws_errors.is_wholly_wrong(refused):
        return SettingsError(
            f"{what} cannot be read, because AWS does not accept the credentials ({code}):"
            f" {aws_errors.remedy(refused, bucket='')}."
        )
    if code == "InvalidRequestException" and "delet" in said.lower():
        return SettingsError(f"{what} is marked for deletion: restore it, or name another one.")
    if code in _WRONG:
        return SettingsError(
            f"{what} is not what AWS takes for {action} ({code}): check its name, and that it has text."
        )
    unused = f"{what} could not be used ({aws_errors.code_and_tries(refused)})"
    if aws_errors.passes(refused):
        return SecretStoreError(f"{unused}: AWS is busy or out of order. A later run reads it.")
    return SecretStoreError(f"{unused}: look the code up in the errors of {action}.")


def error_code(refused: ClientError) -> str:
    """AWS's name for an error."""
    return str(refused.response.get("Error", {}).get("Code", "?"))


@dataclass(slots=True)
class Recent:
    """Reads at most so often, for a process that lives long."""

    seconds: float
    monotonic: Callable[[], float]
    _kept: dict[str, tuple[float, str]] = field(default_factory=dict[str, tuple[float, str]], repr=False)

    def resolved(self, variable: str, value: str) -> str:
        """As `resolved`; what was read stays in this process's memory for a while.

        It goes on serving where the store gives no answer.
        """
        wanted = reference(variable, value)
        if wanted is None:
            return value
        at, text = self._kept.get(value, (float("-inf"), ""))
        if self.monotonic() - at < self.seconds:
            return text
        try:
            text = read(wanted)
        except SecretStoreError:
            if value not in self._kept:
                raise
            return text
        self._kept = {value: (self.monotonic(), text)}
        return text
