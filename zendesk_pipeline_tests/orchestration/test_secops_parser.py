"""The check that runs SecOps' parser on sample records, against a stand-in of SecOps and a real bucket."""

import json
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from zendesk_pipeline.alerts.dagster_problems import failed_checks
from zendesk_pipeline.alerts.snapshot import Automation, Snapshot
from zendesk_pipeline.cli import main
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.windows import DAY, HOUR
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.secops_server import CODE, LOG_TYPE, OLD_CODE, SecopsServer, google_error
from zendesk_pipeline_tests.orchestration.conftest import LookAt
from zendesk_pipeline_tests.runs import QUIET

pytestmark = QUIET

KEY = dg.AssetCheckKey(dg.AssetKey("secops_feed"), "secops_parser")
Look = Callable[..., dg.AssetCheckEvaluation]


@pytest.fixture
def bucket(store: Store, layout: Layout) -> Bucket:
    return Bucket(store=store, layout=layout)


@pytest.fixture
def look(look_at: LookAt) -> Look:
    """The check, with changed settings, some days from now; the verdict."""

    def run(days: float = 0, **changed: str) -> dg.AssetCheckEvaluation:
        return look_at(KEY, days * DAY / HOUR, **changed)

    return run


def _replaced(server: SecopsServer, parser: str) -> None:
    """Google puts another parser in the place of the active one."""
    server.parsers = [
        {"name": f"{LOG_TYPE}/parsers/pa_now", "state": "INACTIVE", "type": "PREBUILT", "cbn": OLD_CODE},
        {"name": f"{LOG_TYPE}/parsers/{parser}", "state": "ACTIVE", "type": "PREBUILT", "cbn": CODE},
    ]


def _expected(bucket: Bucket) -> dict[str, Any]:
    return json.loads(bucket.body(bucket.layout.parser_baseline))


def _told(instance: dg.DagsterInstance) -> list[Any]:
    return list(failed_checks(Snapshot(instance=instance, now=0, automation=Automation(checks=[KEY]))))


def test_the_first_look_says_what_is_expected_and_each_day_has_one(
    look: Look, server: SecopsServer, bucket: Bucket
) -> None:
    """Two requests and one for each stream, for reading alone; none in the hours after, and again the next day."""
    first = look()
    assert (first.passed, first.description) == (True, "The parser pa_now does what it did before.")
    assert first.metadata["parser"].value == "pa_now"
    assert first.metadata["audit_logs_recognised_share"].value == 1.0
    expected = _expected(bucket)
    assert (expected["parser"], expected["form"]) == ("pa_now", "ndjson")
    assert expected["streams"]["audit_logs"]["recognised"] == expected["streams"]["audit_logs"]["records"] == 3
    assert "principal.user.userid" in expected["streams"]["audit_logs"]["fields"]
    assert [each.path.rpartition("/")[2] for each in server.asked] == ["parsers", *["ZENDESK_CRM:runParser"] * 2]
    server.asked.clear()
    assert look(days=HOUR / DAY).passed
    assert server.asked == []
    look(days=1)
    assert len(server.asked) == 3


def test_after_a_clock_that_was_ahead_the_parser_is_looked_at_again(look: Look, server: SecopsServer) -> None:
    """A look of next year is no reason to wait for it; the looks after that are a day apart again."""
    look(days=365)
    server.asked.clear()
    look()
    assert len(server.asked) == 3
    look()
    assert len(server.asked) == 3


def test_a_parser_that_recognises_fewer_records_is_told_until_it_is_changed_back(
    look: Look, server: SecopsServer, instance: dg.DagsterInstance
) -> None:
    """With both parsers' names and the day; the alert has it once; and with the one before all is well."""
    look()
    _replaced(server, "pa_next")
    server.understands = "pages"
    worse = look(days=1)
    assert (worse.passed, worse.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "audit_logs: the parser pa_next recognises 0 of 3 sample records, and 3 with pa_now on " in str(
        worse.description
    )
    assert look(days=1 + HOUR / DAY).description == worse.description
    assert look(days=5).description == worse.description
    (problem,) = _told(instance)
    assert "pin the version before" in problem.text
    server.understands = "records"
    assert look(days=6).passed
    assert _told(instance) == []


def test_a_field_that_comes_no_more_is_told_until_it_is_accepted(
    look: Look, server: SecopsServer, watching: dict[str, str], monkeypatch: pytest.MonkeyPatch, bucket: Bucket
) -> None:
    """Rules that name it would find nothing. `parser-check --accept` makes what comes now what is expected."""
    look()
    server.leaves_out = "principal"
    worse = look(days=1)
    assert "of the parser pa_now these fields come no more, which came before: principal.user.userid" in str(
        worse.description
    )
    with monkeypatch.context() as patched:
        for name, value in watching.items():
            patched.setenv(name, value)
        said = CliRunner().invoke(main, ["parser-check", "--accept"])
    assert "This is what the check secops_parser expects from now on." in said.stdout
    assert "principal.user.userid" not in _expected(bucket)["streams"]["audit_logs"]["fields"]
    assert look(days=2).passed


def test_a_better_parser_is_what_is_expected_next(look: Look, server: SecopsServer, bucket: Bucket) -> None:
    """A new version that recognises as much, with more fields: no word, and its loss later is one."""
    server.leaves_out = "target"
    look()
    _replaced(server, "pa_next")
    server.leaves_out = ""
    assert look(days=1).passed
    assert _expected(bucket)["parser"] == "pa_next"
    server.leaves_out = "target"
    assert "these fields come no more, which came before: target.url" in str(look(days=2).description)


def test_another_format_is_another_expectation(look: Look, server: SecopsServer) -> None:
    """OUTPUT_FORMAT=page is judged by what comes out of pages."""
    server.understands = "both"
    look()
    server.understands = "records"
    assert look(days=1).passed
    assert look(days=2, OUTPUT_FORMAT="page").passed, "nothing is expected of pages yet"


def test_an_older_version_of_the_api_is_asked_where_the_newer_has_no_parsers(look: Look, server: SecopsServer) -> None:
    """It answers 404 there."""
    server.parser_version = "v1alpha"
    assert look().passed
    assert [each.path.split("/")[1] for each in server.asked] == ["v1beta", "v1alpha"] * 3


def test_without_settings_it_says_that_nobody_looks(look: Look, server: SecopsServer) -> None:
    """And asks nobody."""
    verdict = look(SECOPS_REGION="")
    assert (verdict.passed, verdict.description) == (True, "Nobody looks at SecOps' parser: SECOPS_REGION is not set.")
    assert server.asked == []


def test_an_hour_without_an_answer_is_no_finding_and_three_are(look: Look, server: SecopsServer) -> None:
    """It is asked again each hour, and what was found before stands."""
    look()
    server.refusal, server.refused_method = (503, google_error(503, "Try again.")), "GET"
    assert look(days=1).passed
    assert look(days=1.05).passed
    assert "3 times in a row" in str(look(days=1.1).description)
    server.refusal = None
    assert look(days=1.15).passed


def test_a_refusal_says_what_to_do(look: Look, server: SecopsServer) -> None:
    """An identity that may run no parser: nobody looks; one that may no more is a warning with the role it needs."""
    server.refusal = (403, google_error(403, "Permission 'chronicle.logTypes.runParser' denied"))
    assert "Nobody looks at SecOps' parser: SecOps answered 403" in str(look().description)
    server.refusal = None
    look()
    server.refusal = (403, google_error(403, "Permission 'chronicle.logTypes.runParser' denied"))
    told = look(days=1)
    assert not told.passed
    assert "Give it the role" in str(told.description)


def test_a_baseline_that_cannot_be_read_is_not_written_over(look: Look, bucket: Bucket) -> None:
    """The verdict says which object, and what to do."""
    bucket.put(bucket.layout.parser_baseline, b"<html>")
    told = look()
    assert not told.passed
    assert "secops-parser.json" in str(told.description)
    assert bucket.body(bucket.layout.parser_baseline) == b"<html>"
