"""The lineage: what stands before and behind the streams."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from zendesk_pipeline.definitions import build
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.settings import environment
from zendesk_pipeline_tests.collected import COLLECTED
from zendesk_pipeline_tests.root import ROOT

ACCOUNT = Account(settings=environment.Settings())
FEED, api_key, secops_key = ACCOUNT.feed_key, ACCOUNT.api_key, ACCOUNT.secops_key


def _specs() -> dict[dg.AssetKey, dg.AssetSpec]:
    return {spec.key: spec for spec in build(environment.load()).resolve_all_asset_specs()}


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "value", value) for name, value in metadata.items()}


def test_it_leads_from_zendesk_to_secops() -> None:
    """Each stream comes from an API of its own, all lead into the feed, and each ends in SecOps."""
    edges = {spec.key: {dep.asset_key for dep in spec.deps} for spec in _specs().values()}
    assert edges == {
        FEED: {dg.AssetKey(name) for name in COLLECTED},
        **{dg.AssetKey(name): {api_key(stream)} for name, stream in COLLECTED.items()},
        **{api_key(stream): set() for stream in COLLECTED.values()},
        **{secops_key(stream): {FEED} for stream in COLLECTED.values()},
    }


def test_no_two_boxes_of_the_graph_have_one_name() -> None:
    """Dagster shows the last part of a key: it tells what a stream is from where it comes from."""
    names = [key.path[-1] for key in _specs()]
    assert sorted(names) == sorted(set(names))


def test_only_the_streams_can_be_materialized() -> None:
    """The rest belongs to others."""
    graph = build(environment.load()).resolve_asset_graph()
    assert {key.to_user_string() for key in graph.materializable_asset_keys} == set(COLLECTED)


def test_everything_has_a_description_a_kind_and_a_group() -> None:
    """So that the graph speaks to those who see it first."""
    for spec in _specs().values():
        assert (spec.description or "").endswith(".")
        assert spec.kinds
        assert spec.group_name == "zendesk"


def test_a_stream_says_where_it_goes_and_when_an_hour_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the settings: bucket, minute of the schedule, what has to settle before, and whether runs look back."""
    for name, value in {"S3_BUCKET": "acme-logs", "S3_PREFIX": "zd/"}.items():
        monkeypatch.setenv(name, value)
    said = _specs()[dg.AssetKey("audit_logs")].description or ""
    assert "`s3://acme-logs/zd/`" in said
    assert "A green hour is there whole" in said
    assert "5 minutes after its end" in said
    assert "comes with one of the next hours" in said
    monkeypatch.setenv("SETTLE_SECONDS", "900")
    monkeypatch.setenv("LOOKBACK_SECONDS", "0")
    slow = _specs()[dg.AssetKey("audit_logs")].description or ""
    assert "15 minutes after its end" in slow
    assert "next hours" not in slow


def test_links_lead_to_the_account_the_bucket_and_the_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the settings; without them there is no link that leads nowhere."""
    unset = _specs()
    assert _plain(unset[api_key(COLLECTED["audit_logs"])].metadata)["endpoint"] == "/api/v2/audit_logs"
    assert "console" not in unset[FEED].metadata
    assert "dagster/uri" not in unset[FEED].metadata
    monkeypatch.setenv("ZENDESK_BASE_URL", "https://acme.zendesk.com/")
    monkeypatch.setenv("S3_BUCKET", "acme-logs")
    monkeypatch.setenv("S3_PREFIX", "zd/")
    chosen = _specs()
    source, feed = _plain(chosen[api_key(COLLECTED["audit_logs"])].metadata), _plain(chosen[FEED].metadata)
    assert source["endpoint"] == "https://acme.zendesk.com/api/v2/audit_logs"
    assert source["documentation"] == COLLECTED["audit_logs"].documentation
    assert feed["location"] == "s3://acme-logs/zd/"
    assert feed["dagster/uri"] == "s3://acme-logs/zd/"
    assert feed["console"] == "https://s3.console.aws.amazon.com/s3/buckets/acme-logs?prefix=zd/"


def test_owners_are_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """ASSET_OWNERS names them on every asset."""
    assert {tuple(spec.owners) for spec in _specs().values()} == {()}
    monkeypatch.setenv("ASSET_OWNERS", "team:security, soc@example.com")
    assert {tuple(spec.owners) for spec in _specs().values()} == {("team:security", "soc@example.com")}


def test_assets_that_hold_personal_data_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the tag `pii`: `true` while records are as Zendesk sends them, `redacted` where rules change the stream's.

    The feed holds all streams, so one that is whole counts; Zendesk itself redacts nothing.
    """

    def tagged() -> dict[str, str]:
        return {key.to_user_string(): spec.tags["pii"] for key, spec in _specs().items()}

    names = ("audit_logs", "incremental_tickets")
    assert set(tagged().values()) == {"true"}
    assert {*names, "secops_feed", *(f"zendesk/{name}_api" for name in names)} <= tagged().keys()
    rules = tmp_path / "rules.yaml"
    monkeypatch.setenv("REDACTION_RULES", str(rules))
    rules.write_text("audit_logs: whole\nincremental_tickets:\n  - drop: [subject]\n")
    one = tagged()
    assert {name for name, value in one.items() if value == "redacted"} == {
        "incremental_tickets",
        "secops/incremental_tickets_in_secops",
    }
    rules.write_text("audit_logs:\n  - drop: [ip_address]\nincremental_tickets:\n  - drop: [subject]\n")
    assert {name for name, value in tagged().items() if value == "true"} == {f"zendesk/{name}_api" for name in names}


@pytest.mark.filterwarnings("ignore:Class `:dagster.BetaWarning")
def test_assets_link_to_the_code_of_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """By CODE_URL, to file and line; nothing of this machine is in it, and without the setting there is no link."""
    key, name = dg.AssetKey("audit_logs"), "dagster/code_references"
    assert name not in _specs()[key].metadata
    monkeypatch.setenv("CODE_URL", "https://git.example.com/acme/zendesk-pipeline/-/blob/v1/")
    found = _specs()[key].metadata[name]
    assert isinstance(found, dg.CodeReferencesMetadataValue)
    (reference,) = found.code_references
    assert isinstance(reference, dg.UrlCodeReference)
    url, _, line = reference.url.partition("#L")
    file = url.removeprefix("https://git.example.com/acme/zendesk-pipeline/-/blob/v1/")
    assert (ROOT / file).read_text().splitlines()[int(line) - 1] == "def stream_asset("
    assert reference.label == file


@pytest.mark.parametrize(
    "url",
    ["http://git.example.com/acme", "https://me:token@git.example.com/acme", "https://git.example.com/a?b=c", "/srv"],
)
def test_a_place_of_code_that_no_link_leads_to_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody who sees the UI would see a token in it."""
    monkeypatch.setenv("CODE_URL", url)
    with pytest.raises(SettingsError, match="CODE_URL is wrong: an address that begins with https:// is wanted"):
        _specs()


def test_the_end_of_the_graph_names_the_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the settings; the graph ends in SecOps without them too."""
    end = secops_key(COLLECTED["audit_logs"])
    assert "instance" not in _specs()[end].metadata
    monkeypatch.setenv("SECOPS_CUSTOMER_ID", "0ddba11a-0000-4000-8000-00000000c0de")
    assert _plain(_specs()[end].metadata)["instance"] == "0ddba11a-0000-4000-8000-00000000c0de"
    assert end.path == ["secops", "audit_logs_in_secops"]
