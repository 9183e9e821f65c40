"""The dashboard for Grafana and the alerts for Prometheus: they ask for what `zendesk-pipeline metrics` tells."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from zendesk_pipeline.cli import main
from zendesk_pipeline_tests.project.test_docs import first_cells, section
from zendesk_pipeline_tests.promise import kept_runs
from zendesk_pipeline_tests.root import ROOT

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "zendesk-pipeline.json").read_text())
RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "zendesk-pipeline.rules.yaml").read_text())
ONCE_DELIVERED = {"zendesk_newest_whole_window_records", "zendesk_newest_whole_window_bytes", "zendesk_check_failing"}
"""What only an account shows that has delivered; test_command.py of the metrics has seen them."""
ENVIRONMENT = {
    "RESOURCES": "audit_logs",
    "AUTH_MODE": "token",
    "S3_BUCKET": "soc-logs",
    "SECOPS_CUSTOMER_ID": "0ddba11a-0000-4000-8000-00000000c0de",
    "SECOPS_PROJECT": "acme-secops",
    "SECOPS_REGION": "eu",
}
"""An account that has everything there can be a metric of."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, list[Sample]]]:
    """By the family's name, the samples that the command prints."""
    home = kept_runs.home(tmp_path_factory.mktemp("metrics") / "dagster")
    result = CliRunner().invoke(main, ["metrics"], env={**ENVIRONMENT, "DAGSTER_HOME": str(home)})
    assert result.exit_code == 0, result.output
    return [(family.name, family.samples) for family in text_string_to_metric_families(result.stdout)]


def expressions() -> Iterator[Any]:
    """Each expression, and where it is."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield pytest.param(target["expr"], target["legendFormat"], id=f"{panel['title']} {target['refId']}")
    for each in DASHBOARD["templating"]["list"]:
        if each["type"] == "query":
            yield pytest.param(each["query"]["query"], "", id=each["name"])
    for rule in RULES["groups"][0]["rules"]:
        said = " ".join(rule["annotations"].values())
        yield pytest.param(rule["expr"], re.sub(r"\$labels\.|\{\{ \$value.*?\}\}", "", said), id=rule["alert"])


@pytest.mark.parametrize(("expression", "legend"), list(expressions()))
def test_each_expression_asks_for_what_is_told(
    expression: str, legend: str, exported: list[tuple[str, list[Sample]]]
) -> None:
    """Its metric is one of the command's, with these labels; a state is one that there is."""
    names = set(re.findall(r"\bzendesk_[a-z_]+\b(?![a-z_]*=)", re.sub(r'"[^"]*"', "", expression)))
    told = {name: samples for name, samples in exported if name in names}
    assert names
    assert told.keys() == names
    samples = [sample for each in told.values() for sample in each]
    labels = {label for sample in samples for label in sample.labels}
    if names <= ONCE_DELIVERED:
        labels |= {"account", "stream", "asset", "check"}
    asked = {*re.findall(r"(\w+)=~?\"", expression), *re.findall(r"\{\{ ?(\w+) ?\}\}", legend)}
    assert asked <= labels, asked - labels
    for label, values in re.findall(r"(\w+)=~?\"([^\"$]+)\"", expression):
        assert set(values.split("|")) <= {sample.labels[label] for sample in samples}


def test_all_that_is_told_is_shown_and_explained(exported: list[tuple[str, list[Sample]]]) -> None:
    """Each metric is on the dashboard and has a line in docs/metrics.md; all but those of a delivery had a sample."""
    names = {name for name, _ in exported}
    assert {name for name, samples in exported if not samples} == ONCE_DELIVERED
    dashboard = json.dumps(DASHBOARD)
    assert [name for name in names if not re.search(rf"\b{name}\b", dashboard)] == []
    assert first_cells(section("metrics.md", "What is told")) == names


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    """The fields that Grafana looks for: a title, its schema's version, and panels apart from each other on its grid.

    https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
    """
    assert DASHBOARD["title"]
    assert re.fullmatch(r"[\w-]{1,40}", DASHBOARD["uid"])
    assert DASHBOARD["schemaVersion"] >= 36  # data sources are objects from there on
    assert "__inputs" not in DASHBOARD
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    known = {"stat", "timeseries", "state-timeline", "table"}
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["type"] in known
        assert {each["datasource"]["uid"] for each in (panel, *panel["targets"])} == {"${datasource}"}
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not own & cells
        cells |= own
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) <= variables


def test_each_alert_says_what_and_how_grave() -> None:
    """Each rule has a name of its own, a severity, and sentences."""
    rules = RULES["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert {"summary", "description"} == rule["annotations"].keys()
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))


def test_pages_that_alerts_name_are_there() -> None:
    """Whoever is woken up finds them."""
    text = (ROOT / "deploy" / "prometheus" / "zendesk-pipeline.rules.yaml").read_text()
    named = set(re.findall(r"docs/[\w-]+\.md", text))
    assert named
    assert [name for name in named if not Path(ROOT / name).is_file()] == []
