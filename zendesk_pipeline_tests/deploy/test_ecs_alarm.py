"""The alarm of dagster-on-ecs.yaml: the lines of Dagster's own sensor daemon that keep it quiet, and their absence."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.sensor import execute_sensor_iteration  # pyright: ignore[reportUnknownVariableType]  # its own

from zendesk_pipeline import definitions
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline_tests.by_hand import hours
from zendesk_pipeline_tests.deploy import cloudformation
from zendesk_pipeline_tests.deploy.test_ecs import OWN, PARAMETERS, PATH, RESOURCES
from zendesk_pipeline_tests.promise import kept_runs
from zendesk_pipeline_tests.runs import QUIET, Project

pytestmark = [QUIET, pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")]

TOPIC = "arn:aws:sns:us-east-1:123456789012:on-call"
MADE: dict[str, dict[str, Any]] = cloudformation.filled_in(PATH, **PARAMETERS, **OWN, AlarmTopic=TOPIC)["Resources"]
FILTER, ALARM = MADE["WellTicks"]["Properties"], MADE["NotWell"]["Properties"]

Lines = Callable[..., list[str]]


def counts(line: str) -> bool:
    """Whether the filter counts a line of the log, as CloudWatch decides: each term is in it, none behind a minus is.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntaxForMetricFilters.html
    """
    terms = re.findall(r'(-?)(?:"([^"]+)"|(\S+))', FILTER["FilterPattern"])
    return all((phrase + word in line) is not bool(minus) for minus, phrase, word in terms)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return kept_runs.home(tmp_path / "dagster")


@pytest.fixture
def lines(home: Path, monkeypatch: pytest.MonkeyPatch) -> Lines:
    """What the daemon logs of sensors in its next minute, with the code of a module."""

    def ticked(module: str = definitions.__name__) -> list[str]:
        monkeypatch.setenv("CATCH_UP_HOURS", "0")  # no run is asked for
        monkeypatch.setattr(definitions, "defs", definitions.build(settings.load()))
        said: list[str] = []
        handler = logging.Handler(logging.INFO)
        handler.emit = lambda record: said.append(record.getMessage())
        log = logging.getLogger(f"{__name__}.{home}")
        log.setLevel(logging.INFO)
        log.propagate = False
        log.handlers = [handler]
        origin = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name=module), location_name="zendesk_pipeline")
        with (
            dg.DagsterInstance.from_config(str(home)) as instance,
            WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)) as workspace,
        ):
            for _ in execute_sensor_iteration(workspace, log, None, None):
                pass
        return said

    return ticked


def _check(home: Path, severity: dg.AssetCheckSeverity) -> None:
    verdict = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("audit_logs"), check_name="lines_are_readable", passed=False, severity=severity
    )
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.report_runless_asset_event(verdict)


def test_a_stack_without_a_topic_has_no_alarm() -> None:
    """As a stack of before."""
    assert not {"WellTicks", "NotWell"} & RESOURCES.keys()


def test_silence_is_what_the_alarm_is_about() -> None:
    """It takes missing data for bad, counts what the filter counts, and tells the topic, of the end as well."""
    (metric,) = FILTER["MetricTransformations"]
    assert (ALARM["Namespace"], ALARM["MetricName"]) == (metric["MetricNamespace"], metric["MetricName"])
    assert (
        FILTER["LogGroupName"]
        == MADE["DaemonTask"]["Properties"]["ContainerDefinitions"][0]["LogConfiguration"]["Options"]["awslogs-group"]
    )
    assert (ALARM["TreatMissingData"], ALARM["ComparisonOperator"], ALARM["Threshold"]) == (
        "breaching",
        "LessThanThreshold",
        1,
    )
    assert "DefaultValue" not in metric
    assert ALARM["AlarmActions"] == ALARM["OKActions"] == [TOPIC]
    assert ALARM["Period"] * ALARM["EvaluationPeriods"] == 15 * 60


def test_a_minute_without_an_error_counts_once(lines: Lines, home: Path) -> None:
    """With nothing wrong, and with warnings; the other sensors' lines do not."""
    assert [line for line in lines() if counts(line)] == ["Sensor alert_sensor skipped: Nothing is wrong"]
    assert counts("Sensor alert_sensor skipped: 1 problem: audit_logs: the check lines_are_readable failed")
    assert home.is_dir()


@pytest.mark.parametrize("severity", [dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR])
def test_a_warning_keeps_it_quiet_and_an_error_does_not(
    severity: dg.AssetCheckSeverity, lines: Lines, home: Path
) -> None:
    """As with HEARTBEAT_URL."""
    _check(home, severity)
    (said,) = [line for line in lines() if line.startswith("Sensor alert_sensor skipped: 1 problem")]
    assert counts(said) is (severity is dg.AssetCheckSeverity.WARN)


@pytest.mark.filterwarnings("ignore:Error loading repository location")
def test_code_that_does_not_load_leads_to_the_alarm(lines: Lines) -> None:
    """The daemon lives and evaluates no sensor. One that is dead logs nothing at all."""
    assert not any(map(counts, lines("zendesk_pipeline_tests.deploy.no_such_module")))


def test_alerts_that_reach_nobody_lead_to_the_alarm(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tick fails where no address is understood."""
    monkeypatch.setenv("ALERT_URLS", "nonsense://there")
    assert not any(map(counts, lines()))


def test_a_bucket_that_refuses_leads_to_the_alarm(
    lines: Lines, home: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs fail; from the third one on that is an error."""
    for name, value in {**environment, "S3_BUCKET": "no-such-bucket", "HTTP_RETRIES": "0"}.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        project = Project(definitions=definitions.build(settings.load()), instance=instance)
        for _ in range(3):
            assert not project.run("audit_logs", hours(1)).success
    (said,) = [line for line in lines() if line.startswith("Sensor alert_sensor skipped:")]
    assert "audit_logs: 1 window failed" in said
    assert not counts(said)
