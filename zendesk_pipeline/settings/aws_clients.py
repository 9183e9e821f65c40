"""Clients of AWS's services, by boto3's own variables, configuration and roles."""

from typing import Any

from zendesk_pipeline.settings import aws_errors

CONNECT_SECONDS = 5


def client(
    service: str, *, profile: str | None = None, region: str | None = None, seconds: float | None = None, who: str = ""
) -> Any:
    """A client of a service, which is used as boto3 documents it.

    Args:
        service: One of `aws_errors.ENDPOINTS`.
        profile: Of AWS's configuration; that of the process if None.
        region: That of the process if None.
        seconds: For a person who waits: an answer may take so long, and there is one more try. Without, botocore's own
            time limits and retries.
        who: What needs the client, as sentences begin; the service if empty.

    Raises SettingsError where AWS's variables or configuration are wrong, DeliveryError where no credentials come.
    """
    import boto3  # noqa: PLC0415  # slow to import
    from botocore.config import Config  # noqa: PLC0415  # the same

    soon = seconds and Config(
        connect_timeout=min(CONNECT_SECONDS, seconds), read_timeout=seconds, retries={"total_max_attempts": 2}
    )

    def make() -> Any:
        session: Any = boto3.session.Session(profile_name=profile)  # hints of S3 only are installed
        return session.client(service, region_name=region, config=soon or None)

    return aws_errors.make_client(make, who=who or service.upper(), endpoint=aws_errors.ENDPOINTS[service])
