"""The layout of the bucket is an interface: what is pinned here others rely on."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.model.streams import STREAMS
from zendesk_pipeline.model.windows import HOUR, Window
from zendesk_pipeline.settings import environment

UNHURRIED = hypothesis_settings(deadline=None)
"""A busy machine is no failure."""
LAYOUT = Layout(feed="zendesk/crm/", state="zendesk/state/", quarantine="zendesk/quarantine/")
WINDOW = Window.of_partition("2026-11-12-05:00")
DIGEST = "0123456789abcdef" * 4

windows = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)).map(  # noqa: DTZ001 - drawn without a zone
    lambda moment: Window.of(int(moment.replace(tzinfo=UTC).timestamp()))
)
streams = st.sampled_from(sorted(STREAMS))
sequences = st.integers(0, 1_000_000)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
suffixes = st.sampled_from([".json", ".json.gz"])
every_key = given(window=windows, stream=streams, sequence=sequences, digest=digests, suffix=suffixes)


@pytest.mark.parametrize(
    ("key", "literal"),
    [
        pytest.param(
            LAYOUT.batch("audit_logs", WINDOW, 0, DIGEST, ".json"),
            "zendesk/crm/2026/11/12/050000-zendesk-audit_logs-0000-0123456789abcdef0123456789abcdef.json",
            id="batch",
        ),
        pytest.param(
            LAYOUT.batch("incremental_tickets", WINDOW, 12345, DIGEST, ".json.gz"),
            "zendesk/crm/2026/11/12/050000-zendesk-incremental_tickets-12345-0123456789abcdef0123456789abcdef.json.gz",
            id="compressed-batch",
        ),
        pytest.param(
            LAYOUT.quarantined("incremental_tickets", WINDOW, DIGEST),
            "zendesk/quarantine/2026/11/12/050000-zendesk-incremental_tickets-0123456789abcdef0123456789abcdef.json",
            id="quarantined-record",
        ),
        pytest.param(
            LAYOUT.ledger("audit_logs", WINDOW), "zendesk/state/audit_logs/2026/11/12/05.json.gz", id="ledger"
        ),
        pytest.param(LAYOUT.day(WINDOW), "zendesk/crm/2026/11/12/", id="day"),
    ],
)
def test_the_layout_is_pinned(key: str, literal: str) -> None:
    """Keys are what docs/layout.md says, to the letter."""
    assert key == literal


@UNHURRIED
@every_key
def test_keys_need_no_encoding(window: Window, stream: str, sequence: int, digest: str, suffix: str) -> None:
    """A key holds letters, digits and / _ . - only, and no empty folder: a feed over SQS takes nothing else."""
    keys = (
        LAYOUT.batch(stream, window, sequence, digest, suffix),
        LAYOUT.quarantined(stream, window, digest),
        LAYOUT.ledger(stream, window),
    )
    for key in keys:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+", key)


@UNHURRIED
@every_key
def test_a_batch_is_found_again_by_its_key(
    window: Window, stream: str, sequence: int, digest: str, suffix: str
) -> None:
    """A batch lies under its window's day, and its key gives back the sequence number it was made with."""
    key = LAYOUT.batch(stream, window, sequence, digest, suffix)
    assert key.startswith(LAYOUT.day(window))
    assert LAYOUT.sequence(key, stream, window) == sequence


@UNHURRIED
@every_key
def test_a_batch_is_taken_for_its_own_windows_only(
    window: Window, stream: str, sequence: int, digest: str, suffix: str
) -> None:
    """No other stream, and no other hour of this day, its neighbours or the same day of other years, takes a batch."""
    key = LAYOUT.batch(stream, window, sequence, digest, suffix)
    hours = {window.start + hour * HOUR for hour in (*range(-48, 49), *(years * 365 * 24 for years in range(-4, 5)))}
    claims = [
        (name, start)
        for name in STREAMS
        for start in sorted(hours)
        if LAYOUT.sequence(key, name, Window(start)) is not None
    ]
    assert claims == [(stream, window.start)]


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("zendesk/crm/2026/11/12/050000-zendesk-audit_logs.json", id="recipe's-page"),
        pytest.param(f"zendesk/crm/2026/11/12/050001-zendesk-audit_logs-0000-{DIGEST[:32]}.json", id="not-on-the-hour"),
        pytest.param(f"zendesk/crm/2026/11/12/050000-zendesk-audit_logs-000-{DIGEST[:32]}.json", id="short-sequence"),
        pytest.param(f"zendesk/crm/2026/11/12/050000-zendesk-audit_logs-0000-{DIGEST[:31]}.json", id="short-digest"),
        pytest.param(
            f"zendesk/crm/2026/11/12/050000-zendesk-audit_logs-0000-{DIGEST[:32]}.json.tmp", id="other-suffix"
        ),
        pytest.param(f"zendesk/crm/2026/11/11/050000-zendesk-audit_logs-0000-{DIGEST[:32]}.json", id="other-day"),
        pytest.param(f"zendesk/old/2026/11/12/050000-zendesk-audit_logs-0000-{DIGEST[:32]}.json", id="other-prefix"),
        pytest.param(
            f"zendesk/crm/2026/11/12/copy/2026/11/12/050000-zendesk-audit_logs-0000-{DIGEST[:32]}.json",
            id="copy-below-the-day",
        ),
        pytest.param("zendesk/crm/2026/11/12/", id="folder-marker"),
        pytest.param("zendesk/crm/2026/11/12/.local-services-probe", id="foreign"),
    ],
)
def test_a_foreign_key_is_no_batch(key: str) -> None:
    """What others put into the feed prefix is never taken for a batch of ours."""
    assert LAYOUT.sequence(key, "audit_logs", WINDOW) is None


@UNHURRIED
@given(window=windows, stream=streams)
def test_a_ledgers_key_names_its_window(window: Window, stream: str) -> None:
    """The window that a ledger's key was made of is read from it, for its own stream alone."""
    key = LAYOUT.ledger(stream, window)
    assert {name for name in STREAMS if LAYOUT.window_of_ledger(key, name) is not None} == {stream}
    assert LAYOUT.window_of_ledger(key, stream) == window


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(LAYOUT.account, id="account-marker"),
        pytest.param("zendesk/state/audit_logs/", id="folder-marker"),
        pytest.param("zendesk/state/audit_logs/2026/11/12/5.json.gz", id="other-spelling"),
        pytest.param("zendesk/state/audit_logs/2026/11/12/24.json.gz", id="no-hour"),
        pytest.param("zendesk/state/audit_logs/2026/11/12/05.json", id="other-suffix"),
        pytest.param("zendesk/state/audit_logs/old/2026/11/12/05.json.gz", id="copy-in-a-folder"),
        pytest.param("2026/11/12/05.json.gz", id="no-prefix"),
    ],
)
def test_a_foreign_key_is_no_ledger(key: str) -> None:
    """What others put beside the ledgers is never taken for one."""
    assert LAYOUT.window_of_ledger(key, "audit_logs") is None


@UNHURRIED
@given(earlier=windows, later=windows)
def test_keys_sort_by_window(earlier: Window, later: Window) -> None:
    """The keys of one stream lie in the bucket in the order of their windows."""
    keys = [LAYOUT.batch("audit_logs", window, 0, DIGEST, ".json") for window in sorted((earlier, later))]
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        pytest.param(("STATE_PREFIX", "zendesk/crm/state/"), "STATE_PREFIX=zendesk/crm/state/", id="state-in-feed"),
        pytest.param(("STATE_PREFIX", "zendesk/crm/"), "STATE_PREFIX=zendesk/crm/", id="state-is-feed"),
        pytest.param(
            ("QUARANTINE_PREFIX", "zendesk/crm/q/"), "QUARANTINE_PREFIX=zendesk/crm/q/", id="quarantine-in-feed"
        ),
        pytest.param(("STATE_PREFIX", "zendesk/"), "S3_PREFIX=zendesk/crm/", id="feed-in-state"),
        pytest.param(("QUARANTINE_PREFIX", "zendesk/"), "S3_PREFIX=zendesk/crm/", id="feed-in-quarantine"),
        pytest.param(("STATE_PREFIX", "zendesk/quarantine/a/"), "QUARANTINE_PREFIX=", id="state-in-quarantine"),
        pytest.param(
            ("QUARANTINE_PREFIX", "zendesk/state/a/"), "STATE_PREFIX=zendesk/state/", id="quarantine-in-state"
        ),
        pytest.param(("S3_PREFIX", "/zendesk/crm/"), "S3_PREFIX is wrong", id="leading-slash"),
        pytest.param(("S3_PREFIX", "zendesk/crm"), "S3_PREFIX is wrong", id="no-slash-at-the-end"),
        pytest.param(("S3_PREFIX", "zendesk//crm/"), "S3_PREFIX is wrong", id="empty-folder"),
        pytest.param(("S3_PREFIX", "./zendesk/crm/"), "S3_PREFIX is wrong: no part", id="dot"),
        pytest.param(("STATE_PREFIX", "zendesk/../state/"), "STATE_PREFIX is wrong: no part", id="dots"),
        pytest.param(("QUARANTINE_PREFIX", "zendesk/q/./"), "QUARANTINE_PREFIX is wrong: no part", id="dot-at-the-end"),
        pytest.param(("STATE_PREFIX", "zen desk/"), "STATE_PREFIX is wrong", id="space"),
        pytest.param(("QUARANTINE_PREFIX", "zendésk/"), "QUARANTINE_PREFIX is wrong", id="accent"),
    ],
)
def test_prefixes_that_would_mix_are_refused(
    setting: tuple[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger and the quarantine never lie where SecOps reads: such settings are refused by name."""
    monkeypatch.setenv(*setting)
    with pytest.raises(SettingsError, match=re.escape(named)):
        environment.load()


@pytest.mark.parametrize(
    "prefix",
    ["zendesk/crm2/", "zendesk/cr/", "state/zendesk/crm/", "zendesk/crm-state/", "zendesk/.state/", "a../...b/"],
)
def test_prefixes_side_by_side_are_taken(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that only look alike do not lie inside each other."""
    monkeypatch.setenv("STATE_PREFIX", prefix)
    assert environment.load().state_prefix == prefix
