"""Clients of AWS's services."""

from pathlib import Path

import pytest

from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.settings import aws_clients
from zendesk_pipeline.settings.aws_errors import ENDPOINTS
from zendesk_pipeline_tests.root import ROOT

PACKAGE = ROOT / "zendesk_pipeline"


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """AWS's configuration, with a profile and keys that are not the process's."""
    file = tmp_path / "config"
    file.write_text("[profile other]\naws_access_key_id = OTHER\naws_secret_access_key = b\nregion = eu-west-1\n")
    for name, value in {
        "AWS_CONFIG_FILE": str(file),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_ACCESS_KEY_ID": "PROCESS",
        "AWS_SECRET_ACCESS_KEY": "a",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return file


def test_boto3_makes_clients_in_one_place() -> None:
    """Only one module asks boto3 for clients, beside the one that starts local servers; a run's is made by Dagster."""
    found = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if "import boto3" in path.read_text()}
    assert found == {"settings/aws_clients.py", "local/services.py"}


@pytest.mark.usefixtures("configuration")
@pytest.mark.parametrize("service", ENDPOINTS)
def test_the_address_of_a_service_is_set_by_its_variable(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that messages name is the one that boto3 reads."""
    monkeypatch.setenv(ENDPOINTS[service], "http://127.0.0.1:1")
    assert aws_clients.client(service).meta.endpoint_url == "http://127.0.0.1:1"


@pytest.mark.usefixtures("configuration")
def test_a_client_is_of_the_profile_that_is_named() -> None:
    """Keys and region are those of the profile, and without one those of the process."""
    other, own = aws_clients.client("s3", profile="other"), aws_clients.client("s3")
    assert [each._request_signer._credentials.access_key for each in (other, own)] == ["OTHER", "PROCESS"]
    assert aws_clients.client("s3", region="eu-central-1").meta.region_name == "eu-central-1"


@pytest.mark.usefixtures("configuration")
def test_a_person_waits_as_long_as_asked() -> None:
    """Time limits are the seconds that are given, to connect five at most, with one more try; else botocore's own."""
    config = aws_clients.client("s3", seconds=9).meta.config
    assert (config.connect_timeout, config.read_timeout, config.retries["total_max_attempts"]) == (5, 9, 2)
    assert aws_clients.client("s3").meta.config.read_timeout == 60


@pytest.mark.usefixtures("configuration")
def test_a_profile_that_is_missing_is_named() -> None:
    """The sentence names it, and the variables that lead to it."""
    with pytest.raises(
        SettingsError, match=r"There is no AWS profile nobody here: check where it is named \(AWS_PROFILE"
    ):
        aws_clients.client("s3", profile="nobody")
