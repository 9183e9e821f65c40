"""Secrets for tests to put into moto's Secrets Manager and Parameter Store, and to look at."""

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any, cast

import boto3

from zendesk_pipeline.local.services import ACCESS_KEY, SECRET_KEY

Client = Any
_make = cast("Callable[..., Client]", boto3.client)  # hints of S3 only are installed
_numbers = itertools.count()


def aws(
    service: str, endpoint: str, *, region: str = "us-east-1", key: str = ACCESS_KEY, secret: str = SECRET_KEY
) -> Client:
    """A client of a service at moto."""
    return _make(
        service, endpoint_url=endpoint, region_name=region, aws_access_key_id=key, aws_secret_access_key=secret
    )


def environment_of(endpoint: str) -> dict[str, str]:
    """The variables by which boto3 finds moto."""
    return {
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": endpoint,
        "AWS_ENDPOINT_URL_SSM": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def new_name() -> str:
    """A name that no other test uses."""
    return f"test/secret-{next(_numbers):04d}"


def new_secret(endpoint: str, text: str | Mapping[str, Any]) -> str:
    """The name of a new secret with this text, or this JSON."""
    name = new_name()
    aws("secretsmanager", endpoint).create_secret(Name=name, SecretString=as_text(text))
    return name


def as_text(text: str | Mapping[str, Any]) -> str:
    """Text as it is, anything else as JSON."""
    return text if isinstance(text, str) else json.dumps(text)


def new_parameter(endpoint: str, text: str) -> str:
    """The name of a new SecureString."""
    name = f"/{new_name()}"
    aws("ssm", endpoint).put_parameter(Name=name, Value=text, Type="SecureString")
    return name
