"""Single requests to S3, whose refusals are answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    ProfileNotFound,
)

from zendesk_pipeline.errors import DeliveryError, SettingsError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DENIED = {"AccessDenied", "AllAccessDisabled", "403"}
UNKNOWN_KEY = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
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
    """boto3's form of a success."""

    @property
    def denied(self) -> bool:
        return self.code in DENIED


def client(profile: str | None, seconds: float) -> "S3Client":
    """A client as the pipeline's, by the environment or by a profile, that gives up soon; raises SettingsError."""
    return service_client("s3", profile, seconds)


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
    """Send one request; raises SettingsError or DeliveryError where S3 does not answer it at all."""
    try:
        content: dict[str, Any] = call(**arguments)
    except ClientError as refused:
        reply = _reply(refused.response, str(refused.response.get("Error", {}).get("Code", "?")))
    except (NoCredentialsError, NoRegionError) as missing:
        raise SettingsError(
            f"S3 needs AWS credentials and a region ({type(missing).__name__}): set AWS_PROFILE,"
            " or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION, or run under a role."
        ) from None
    except ParamValidationError:
        raise SettingsError("S3_BUCKET is not a bucket's name: name the bucket that the SecOps feed reads.") from None
    except BotoCoreError as problem:
        raise DeliveryError(
            f"S3 gave no answer ({type(problem).__name__}). Check the network, AWS_DEFAULT_REGION and"
            " AWS_ENDPOINT_URL_S3."
        ) from None
    else:
        return _reply(content, "")
    if reply.code in UNKNOWN_KEY:
        raise SettingsError(
            f"S3 does not accept the AWS credentials ({reply.code}): check AWS_ACCESS_KEY_ID and its like."
        )
    if reply.code == "RequestTimeTooSkewed":
        raise SettingsError("S3 refuses this machine's clock (RequestTimeTooSkewed): set it by NTP.")
    return reply


def _reply(answer: Mapping[str, Any], code: str) -> Reply:
    told = answer.get("ResponseMetadata", {})
    return Reply(status=told.get("HTTPStatusCode", 0), code=code, headers=told.get("HTTPHeaders", {}), content=answer)
