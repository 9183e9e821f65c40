"""The bucket of an account as a Dagster resource."""

from typing import Any

import pytest
from dagster_aws.s3 import S3Resource

from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.model.streams import AUDIT_LOGS
from zendesk_pipeline.orchestration.io_manager import S3IOManager


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        pytest.param({"output_format": "pages"}, "OUTPUT_FORMAT=pages is none of ndjson, page", id="format"),
        pytest.param({"compression": "zip"}, "COMPRESSION=zip is none of none, gzip", id="compression"),
    ],
)
def test_a_form_that_does_not_exist_is_refused(wrong: dict[str, Any], sentence: str) -> None:
    """A resource is also made without `Settings`: a mistyped form is an error, and does not become the default."""
    with pytest.raises(SettingsError, match=sentence):
        S3IOManager(s3=S3Resource(), **wrong).form(AUDIT_LOGS)
