"""Single requests to S3 and other services of AWS: a refusal is an answer, too."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError
from urllib3.exceptions import HTTPError

from zendesk_pipeline.delivery.bucket import signed_once
from zendesk_pipeline.settings import aws_clients, aws_errors

DENIED = {*aws_errors.DENIED, "403"}
"""HEAD has no body to say more in."""
NOT_SUPPORTED = {"NotImplemented", "MethodNotAllowed", "501", "405"}
"""What stores other than Amazon's answer to what they do not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Answer:
    """The answer to one request."""

    status: int
    """Of HTTP."""
    code: str = ""
    """S3's name of the error; empty for success."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """By names in small letters."""
    content: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """boto3's form of a success."""
    remedy: str = ""
    """What to do about the error; no whole sentence."""

    @property
    def denied(self) -> bool:
        return self.code in DENIED


def client(service: str, profile: str | None, seconds: float) -> Any:
    """A client by the environment or by a profile, whose requests take `seconds` at most; raises SettingsError.

    It signs as the client of a run does: a policy may refuse unsigned bodies.
    """
    made = aws_errors.asks_for_the_region_once(aws_clients.client(service, profile=profile, seconds=seconds))
    return signed_once(made) if service == "s3" else made


def ask(call: Callable[..., Any], **arguments: Any) -> S3Answer:
    """Send one request; raises SettingsError or DeliveryError where S3 gives no answer to it.

    A refusal of everything alike, such as that of the credentials, is no answer.
    """
    bucket = str(arguments.get("Bucket", ""))
    what = (getattr(call, "__name__", "a request"), f"s3://{bucket}")
    try:
        return _answer(call(**arguments))
    except ClientError as refused:
        if aws_errors.is_wholly_wrong(refused) or refused.operation_name in aws_errors.BY_REQUEST:
            raise aws_errors.explained(*what, refused, bucket=bucket) from None
        return _answer(refused.response, aws_errors.code_of(refused), aws_errors.remedy(refused, bucket=bucket))
    except aws_errors.PROBLEMS as problem:
        raise aws_errors.explained(*what, problem, bucket=bucket) from None
    except HTTPError as problem:  # the body of a refusal broke off
        cut_off = aws_errors.CutOffError(type(problem).__name__)
        raise aws_errors.explained(*what, cut_off, bucket=bucket) from None


def _answer(content: Mapping[str, Any], code: str = "", remedy: str = "") -> S3Answer:
    http = content.get("ResponseMetadata", {})
    status, headers = http.get("HTTPStatusCode", 0), http.get("HTTPHeaders", {})
    return S3Answer(status=status, code=code, headers=headers, content=content, remedy=remedy)
