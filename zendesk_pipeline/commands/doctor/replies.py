"""Single requests to S3, whose refusals are answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, NoRegionError, ProfileNotFound

from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.settings import aws_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DENIED = {*aws_errors.DENIED, "403"}
"""HEAD has no body to say more in."""
NOT_THERE = {"NotImplemented", "MethodNotAllowed", "501", "405"}
"""What other stores than Amazon's say to what they do not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What S3 said."""

    status: int
    """Of HTTP."""
    code: str = ""
    """S3's name of the error; empty for success."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """By names in small letters."""
    content: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """boto3's form of a success, with a body as bytes."""
    remedy: str = ""
    """What to do about the error; no whole sentence."""

    @property
    def denied(self) -> bool:
        return self.code in DENIED


def client(profile: str | None, seconds: float) -> "S3Client":
    """A client as the pipeline's, by the environment or by a profile, that gives up soon; raises SettingsError."""
    return aws_errors.asks_for_the_region_once(service_client("s3", profile, seconds))


def service_client(service: str, profile: str | None, seconds: float) -> Any:
    """The same for any service of AWS's."""
    import boto3  # noqa: PLC0415  # slow to import
    from botocore.config import Config  # noqa: PLC0415  # the same

    config = Config(connect_timeout=min(5, seconds), read_timeout=seconds, retries={"total_max_attempts": 2})
    try:
        session: Any = boto3.Session(profile_name=profile)  # hints of S3 only are installed
        return session.client(service, config=config)
    except ProfileNotFound:
        raise SettingsError(f"There is no AWS profile {profile or 'of the name in AWS_PROFILE'} here.") from None
    except NoRegionError:
        raise SettingsError("AWS needs a region: set AWS_DEFAULT_REGION to the bucket's.") from None
    except (BotoCoreError, ValueError) as wrong:  # neither holds a credential
        raise SettingsError(f"An AWS setting is wrong ({wrong}): check AWS_ENDPOINT_URL_S3 and its like.") from None


def ask(call: Callable[..., Any], **arguments: Any) -> Reply:
    """Send one request; raises SettingsError or DeliveryError where S3 does not answer it at all.

    A refusal of everything alike, such as that of the credentials, is no answer.
    """
    bucket = str(arguments.get("Bucket", ""))
    what = (getattr(call, "__name__", "a request"), f"s3://{bucket}")
    try:
        return _reply(_whole(call, arguments), "")
    except ClientError as refused:
        code = aws_errors.code_of(refused)
        if aws_errors.is_wholly_wrong(refused) or refused.operation_name in aws_errors.BY_REQUEST:
            raise aws_errors.explained(*what, refused, bucket=bucket) from None
        return _reply(refused.response, code, aws_errors.remedy(refused, bucket=bucket))
    except aws_errors.PROBLEMS as problem:
        raise aws_errors.explained(*what, problem, bucket=bucket) from None


def _whole(call: Callable[..., Any], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """An answer with its body, where there is one, as bytes; one that breaks off is asked for once more."""
    for again in (True, False):
        try:
            answer = call(**arguments)
            return {**answer, "Body": answer["Body"].read()} if "Body" in answer else answer
        except aws_errors.WHILE_READING as problem:
            if not again:
                raise aws_errors.CutOffError(type(problem).__name__) from None
    raise AssertionError("the loop returns or raises")


def _reply(answer: Mapping[str, Any], code: str, remedy: str = "") -> Reply:
    told = answer.get("ResponseMetadata", {})
    status, headers = told.get("HTTPStatusCode", 0), told.get("HTTPHeaders", {})
    return Reply(status=status, code=code, headers=headers, content=answer, remedy=remedy)
