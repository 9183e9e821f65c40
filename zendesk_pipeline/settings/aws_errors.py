"""What AWS's refusals and botocore's exceptions mean: an error of ours for each, with what to do about it.

`aws_errors.toml` has the table. Of S3's own text nothing is repeated but the names of rights, kinds of policies and
regions; of botocore's, what it misses in AWS's variables and configuration.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from botocore import exceptions as aws
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from zendesk_pipeline.model.errors import DeliveryError, DeniedError, PipelineError, SettingsError
from zendesk_pipeline.settings.programs import ours

T = TypeVar("T")


class NotS3Error(Exception):
    """An answer of success that S3 never gives."""


class CutOffError(Exception):
    """A body that did not come whole, which botocore leaves to its caller; its text is the kind."""


class UnheardError(Exception):
    """No answer came to a write that may have been done; what came instead is its cause."""

    def __init__(self, problem: ClientError | BotoCoreError) -> None:
        super().__init__(str(type(problem)))
        self.problem = problem


Problem = ClientError | BotoCoreError | ResponseParserError | NotS3Error | CutOffError | UnheardError
PROBLEMS = (ClientError, BotoCoreError, ResponseParserError, NotS3Error, CutOffError, UnheardError)
MAYBE_DONE = frozenset({500, 502, 504})
"""Statuses of a write that may have been done all the same."""
OWN_WORD_MISSING = 501
"""Above it, a status without a word of S3's is a proxy's, whose request may have been done before the answer broke."""
REDIRECTS = range(300, 400)
ENDPOINTS: Mapping[str, str] = {
    "s3": "AWS_ENDPOINT_URL_S3",
    "secretsmanager": "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "ssm": "AWS_ENDPOINT_URL_SSM",
    "sts": "AWS_ENDPOINT_URL_STS",
    "iam": "AWS_ENDPOINT_URL_IAM",
}
"""The variable of each service's address."""


class Meaning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of `aws_errors.toml`, which explains the fields."""

    error: Literal["SettingsError", "DeliveryError"]
    text: str
    names: str = ""
    always: bool = False
    without_credentials: bool = False

    @property
    def kind(self) -> type[PipelineError]:
        return SettingsError if self.error == "SettingsError" else DeliveryError


@cache
def _table() -> dict[Literal["refusals", "exceptions"], dict[str, Meaning]]:
    rows = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    return msgspec.convert(rows, dict[Literal["refusals", "exceptions"], dict[str, Meaning]])


@cache
def meanings() -> Mapping[str, Meaning]:
    """What a code means."""
    return {code: meaning for meaning in _table()["refusals"].values() for code in meaning.names.split()}


DENIED = frozenset({"AccessDenied", "AccessForbidden", "UnauthorizedAccess", "UnauthorizedAccessError"})
AGAIN = frozenset(
    [
        "ConditionalRequestConflict",
        "OperationAborted",
        "IncompleteBody",
        "ResponseInterrupted",
        "XAmzContentSHA256Mismatch",
        "XAmzContentChecksumMismatch",
        "KMS.ThrottlingException",
        "Busy",
        "ServerBusy",
    ]
)
"""Worth another try, which botocore does not make: it repeats connections, 429, 5xx, throttling, `RequestTimeout` and
`BadDigest` (`botocore/data/_retry.json`)."""
WHILE_READING = (
    aws.ReadTimeoutError,
    aws.ResponseStreamingError,
    aws.IncompleteReadError,
    aws.FlexibleChecksumError,
    HTTPError,
)
"""What may come while a body is read."""

_STATUS = re.compile(r"\d{3}")
"""botocore's code for an error without S3's own words."""
_WANTED = re.compile(r"not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)")
_DENIES = re.compile(r"explicit deny in an? ([A-Za-z -]*policy|permissions boundary)")
_MISSING = re.compile(r"because no ([A-Za-z -]*policy|permissions boundary) allows")
"""How S3 says why: https://docs.aws.amazon.com/AmazonS3/latest/userguide/troubleshoot-403-errors.html"""
_OF_THE_BUCKET = re.compile(r"Invalid bucket name|parameter Bucket")
"""In botocore's report of what it does not send."""
_OF_THE_CLOCK = re.compile(r"Signature (expired|not yet current)")
"""What services without a code of their own for it say of the clock, AWS STS among them."""
BY_REQUEST = {
    "AssumeRole": "check role_arn, source_profile and external_id in AWS's configuration, and the role's trust policy",
    "AssumeRoleWithWebIdentity": "check AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE, and the role's trust policy",
    "GetRoleCredentials": "check sso_account_id and sso_role_name of the profile, or sign in: `aws sso login`",
    "CreateToken": "sign in: `aws sso login`",
    "CreateOAuth2Token": "sign in: `aws login`",
}
"""What to look at where a request is refused in which boto3 gets its credentials."""
_BY_PROVIDER = {
    "iam-role": "see that there is an instance profile, and that the machine's metadata service answers this process",
    "container-role": "see that the agent answers at AWS_CONTAINER_CREDENTIALS_FULL_URI or its like",
    "custom-process": "run what credential_process of AWS's configuration names, as the collector's user",
    "sso": "sign in: `aws sso login`",
    "login": "sign in: `aws login`",
}
"""The same where a provider of credentials has none, by botocore's name of it."""
_WAYS = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION, or run under a role"


def code_of(refused: ClientError) -> str:
    """S3's name for an error, or the status where it has none."""
    status = refused.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "?")
    return str(refused.response.get("Error", {}).get("Code") or status)


def code_and_tries(refused: ClientError) -> str:
    """The name, and how often the request was made if it was more than once."""
    tries = int(refused.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) + 1
    return f"{code_of(refused)}{f', {tries} times' if tries > 1 else ''}"


def asks_for_the_region_once(client: Any) -> Any:
    """A client that survives a redirect which names no region.

    botocore 1.44.8 then asks for the region by HeadBucket; where that is redirected too, as by a portal, it asks again
    within that, and so on until the stack ends.
    """

    def leave(response: Any, **_: object) -> None:
        if response is not None and response[0].status_code in REDIRECTS:
            raise ClientError(response[1], "HeadBucket")

    client.meta.events.register_first("needs-retry.s3.HeadBucket", leave)
    return client


def is_worth_another_try(problem: Problem) -> bool:
    """Whether trying again may help, and botocore has not."""
    return (
        code_of(problem) in AGAIN
        if isinstance(problem, ClientError)
        else isinstance(problem, CutOffError | UnheardError)
    )


def unheard(response: Any, caught: Exception | None, operation: str) -> UnheardError | None:
    """What came instead of the answer to a write that may have been done; None where it is known."""
    # of ConnectionErrors, which are of connections that were never made, TLS's own may come in an answer as well
    if isinstance(caught, aws.HTTPClientError | aws.SSLError):
        return UnheardError(caught)
    if response is None:
        return None
    status, refused = response[0].status_code, ClientError(response[1], operation)
    without_a_word = status > OWN_WORD_MISSING and code_of(refused) == str(status)
    return UnheardError(refused) if status in MAYBE_DONE or without_a_word else None


def explained(action: str, uri: str, problem: Problem, *, bucket: str) -> PipelineError:
    """The error for a request, such as `PutObject` on `s3://…`, that has failed for good."""
    if isinstance(problem, UnheardError):
        problem = problem.problem
    if isinstance(problem, ClientError):
        return _refused(action, uri, problem, bucket)
    if isinstance(problem, aws.ParamValidationError) and _OF_THE_BUCKET.search(str(problem)):
        return SettingsError(f"S3_BUCKET={bucket} is not a bucket's name: name the bucket that the SecOps feed reads.")
    what = f"S3 gave no answer to {action} on {uri}"
    kind, text = explanation(problem, who="S3", what=what, endpoint="AWS_ENDPOINT_URL_S3", action=action, uri=uri)
    return kind(text)


def explanation(
    problem: BotoCoreError | ResponseParserError | NotS3Error | CutOffError, *, who: str, what: str, **values: str
) -> tuple[type[PipelineError], str]:
    """What an exception means, whichever service is asked: the kind of error, and a sentence.

    `who` is what needs credentials, `what` half a sentence on what came to nothing; `endpoint` names the variable of
    the service's address, `action` and `uri` the request.
    """
    name = str(problem) if isinstance(problem, CutOffError) else type(problem).__name__
    meaning = _of_exception(problem)
    kwargs: Mapping[str, Any] = getattr(problem, "kwargs", {})
    provider = _BY_PROVIDER.get(str(kwargs.get("provider")), _WAYS)
    known = {"who": who, "what": f"{what} ({name})", "kind": name, "said": str(problem).rstrip(".")}
    return meaning.kind, meaning.text.format(**known, **values, ways=_WAYS, provider=provider)


def make_client(make: Callable[[], T], *, who: str = "S3", endpoint: str = "AWS_ENDPOINT_URL_S3") -> T:
    """A client, which may need credentials to be made; raises as `explanation` says."""
    try:
        return make()
    except aws.ProfileNotFound as missing:
        name = str(missing.kwargs["profile"])
        raise SettingsError(
            f"There is no AWS profile {name} here: check where it is named (AWS_PROFILE, an option, an"
            " account's YAML), and AWS_CONFIG_FILE."
        ) from None
    except (BotoCoreError, ValueError) as wrong:
        if isinstance(wrong, BotoCoreError) and _of_exception(wrong).without_credentials:
            kind, text = explanation(wrong, who=who, what=who, endpoint=endpoint, action="anything", uri="it")
            raise kind(text) from None
        raise SettingsError(
            f"{who} cannot be asked, because an AWS setting is wrong ({wrong}): check AWS_PROFILE,"
            f" AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID and its like, and {endpoint}."
        ) from None


def remedy(refused: ClientError, *, bucket: str) -> str:
    """What to do about a refusal; no whole sentence."""
    region = _region(refused) or "the bucket's"
    return _meaning(refused).text.format(bucket=bucket, region=region, doctor=f"`{ours('doctor')}`")


def _refused(action: str, uri: str, refused: ClientError, bucket: str) -> PipelineError:
    code = code_of(refused)
    if refused.operation_name in BY_REQUEST:
        kind, text = of_credentials(refused)
        return kind(f"S3 needs AWS credentials, and {text}")
    what = f"S3 refuses {action} on {uri} ({code_and_tries(refused)})"
    if code in DENIED:
        return DeniedError(f"{what}: {_denial(action, refused)}.")
    return _meaning(refused).kind(f"{what}: {remedy(refused, bucket=bucket)}.")


def of_credentials(refused: ClientError) -> tuple[type[PipelineError], str]:
    """What a refusal of a request of `BY_REQUEST` means, whichever service the credentials are for; half a sentence.

    DeliveryError where it passes by itself, else SettingsError.
    """
    name, code = refused.operation_name, code_of(refused)
    what = f"{name}, which gives them, is refused ({code})"
    if passes(refused):
        return DeliveryError, f"{what}: AWS is busy or out of order. A later run does the rest."
    if name == "AssumeRole" and is_wholly_wrong(refused):  # the others are not signed
        return SettingsError, f"{what}: {remedy(refused, bucket='')}."
    return SettingsError, f"{what}: {BY_REQUEST[name]}."


def passes(refused: ClientError) -> bool:
    """Whether a service is busy or broken, which passes without a person's doing."""
    status = int(refused.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    busy = status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
    return busy or status >= HTTPStatus.INTERNAL_SERVER_ERROR or _is(refused, "busy")


def is_wholly_wrong(refused: ClientError) -> bool:
    """Whether every request is refused so, whatever it asks for: credentials or the clock are wrong."""
    return _meaning(refused).always


def _is(refused: ClientError, name: str) -> bool:
    return meanings().get(code_of(refused)) == _table()["refusals"][name]


def _meaning(refused: ClientError) -> Meaning:
    code, said = code_of(refused), str(refused.response.get("Error", {}).get("Message", ""))
    refusals = _table()["refusals"]
    if _is(refused, "secret") and _OF_THE_CLOCK.search(said):
        return refusals["clock"]
    if meaning := meanings().get(code):
        return meaning
    if code.startswith("KMS."):
        return refusals["busy" if passes(refused) else "key"]
    return refusals["not_s3" if _STATUS.fullmatch(code) else "other"]


def _of_exception(problem: Exception) -> Meaning:
    classes = {each.__name__ for each in type(problem).__mro__}
    return next(each for each in _table()["exceptions"].values() if classes.intersection(each.names.split()))


def _region(refused: ClientError) -> str:
    """The bucket's region, as S3 names it in a refusal; empty where it does not."""
    error: Mapping[str, Any] = refused.response.get("Error", {})
    headers: Mapping[str, str] = refused.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = str(error.get("Region") or headers.get("x-amz-bucket-region") or "")
    return region if re.fullmatch(r"[a-z0-9-]{1,40}", region) else ""


def _denial(action: str, refused: ClientError) -> str:
    """Which right is missing, and which policy denies it."""
    said = str(refused.response.get("Error", {}).get("Message", ""))
    wanted, denies, missing = _WANTED.search(said), _DENIES.search(said), _MISSING.search(said)
    right = wanted[1] if wanted else f"s3:{action}"
    where = "on the KMS key" if right.startswith("kms:") else "there"
    if denies:
        return f"a {denies[1]} denies {right} {where}. Change that policy"
    if missing and missing[1] not in {"identity-based policy", "resource-based policy"}:
        return f"give the writer {right} {where} in the {missing[1]} as well"
    return f"give the writer {right} {where}"
