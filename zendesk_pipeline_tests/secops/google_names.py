"""The names in Google's API, as Google publishes them: what the client reads and the stand-in takes are among them.

`google-cloud-chronicle` is made of the protos of SecOps' API; `make iac` has it in an environment of its own.
"""

import json
import subprocess
from functools import cache
from typing import Any, get_args

import msgspec
import pytest

from zendesk_pipeline.secops.counts import Cell, Column, RuntimeFault, Table, Value
from zendesk_pipeline.secops.feed_model import KEY_FIELDS, QUEUE_SOURCE_TYPE, SETTINGS, SOURCE_TYPE, Failure, Feed
from zendesk_pipeline.secops.feed_watch import FIRST_VERSION
from zendesk_pipeline_tests.fakes import secops_server
from zendesk_pipeline_tests.root import ROOT

PYTHON = ROOT / ".venv-iac" / "bin" / "python"
READ = """
import json
from google.cloud import chronicle_v1 as google

def names(message):
    return [field.json_name for field in message.pb(message()).DESCRIPTOR.fields]

def names_of(message, field):
    return [each.json_name for each in message.pb(message()).DESCRIPTOR.fields_by_name[field].message_type.fields]

def values(enum):
    return [each.name for each in enum]

print(json.dumps({
    "Feed": names(google.Feed),
    "FeedFailureDetails": names(google.FeedFailureDetails),
    "FeedDetails": names(google.FeedDetails),
    "ExecuteDashboardQueryRequest": names(google.ExecuteDashboardQueryRequest),
    "ExecuteDashboardQueryResponse": names(google.ExecuteDashboardQueryResponse),
    "ColumnData": names(google.ExecuteDashboardQueryResponse.ColumnData),
    "ColumnType": names(google.ExecuteDashboardQueryResponse.ColumnType),
    "ColumnValue": names(google.ExecuteDashboardQueryResponse.ColumnValue),
    "QueryRuntimeError": names(google.QueryRuntimeError),
    "DashboardQuery": names(google.DashboardQuery),
    "Input": names(google.DashboardQuery.Input),
    "Interval": names_of(google.DashboardQuery.Input, "time_window"),
    "State": values(google.Feed.State),
    "amazonS3V2Settings": names(google.AmazonS3V2Settings),
    "amazonSqsV2Settings": names(google.AmazonSQSV2Settings),
    "S3AuthV2": names(google.S3AuthV2),
    "SQSAuthV2": names(google.SQSAuthV2),
    "FeedSourceType": values(google.FeedDetails.FeedSourceType),
}))
"""


@cache
def google() -> dict[str, list[str]]:
    """Names of JSON fields by message, and of an enum's values."""
    said = subprocess.run([PYTHON, "-c", READ], capture_output=True, text=True, check=True)
    return json.loads(said.stdout)


def _fields(shape: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(shape)}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Feed, "Feed"),
        (Failure, "FeedFailureDetails"),
        (Table, "ExecuteDashboardQueryResponse"),
        (Column, "ColumnData"),
        (Cell, "ColumnType"),
        (Value, "ColumnValue"),
        (RuntimeFault, "QueryRuntimeError"),
    ],
)
def test_what_is_read_has_googles_names(shape: type[msgspec.Struct], message: str) -> None:
    """A name of ours that Google does not have would be empty for ever, and a failed feed without a cause."""
    assert _fields(shape) - set(google()[message]) == set()


def test_the_states_are_googles() -> None:
    """Those that the stand-in plays, and no more."""
    assert {*get_args(secops_server.State), "STATE_UNSPECIFIED"} == set(google()["State"])


def test_the_types_of_feeds_are_googles() -> None:
    """Ours, and those that end."""
    assert {SOURCE_TYPE, QUEUE_SOURCE_TYPE, *FIRST_VERSION} <= set(google()["FeedSourceType"])


def test_what_is_sent_to_make_a_feed_has_googles_names() -> None:
    """The stand-in takes nothing else."""
    details: Any = secops_server._Details  # pyright: ignore[reportPrivateUsage]  # what it takes
    assert _fields(details) - set(google()["FeedDetails"]) == set()


@pytest.mark.parametrize(
    ("source_type", "shape", "authentication", "message"),
    [
        (SOURCE_TYPE, secops_server._Settings, secops_server._Authentication, "S3AuthV2"),  # pyright: ignore[reportPrivateUsage]  # what it takes
        (QUEUE_SOURCE_TYPE, secops_server._QueueSettings, secops_server._QueueAuthentication, "SQSAuthV2"),  # pyright: ignore[reportPrivateUsage]  # what it takes
    ],
)
def test_the_settings_of_a_source_have_googles_names(
    source_type: str, shape: type[msgspec.Struct], authentication: type[msgspec.Struct], message: str
) -> None:
    """By either type the prefix, the queue and the key are where Google looks for them."""
    assert SETTINGS[source_type] in google()["FeedDetails"]
    assert _fields(shape) - set(google()[SETTINGS[source_type]]) == set()
    assert _fields(authentication) - set(google()[message]) == set()
    assert KEY_FIELDS[source_type] in google()[message]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("_Execution", "ExecuteDashboardQueryRequest"),
        ("_DashboardQuery", "DashboardQuery"),
        ("_Input", "Input"),
        ("_TimeWindow", "Interval"),
    ],
)
def test_a_query_has_googles_names(shape: str, message: str) -> None:
    """The stand-in takes nothing else."""
    assert _fields(getattr(secops_server, shape)) - set(google()[message]) == set()
