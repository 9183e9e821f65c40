"""How much a range was, from ledgers that real deliveries wrote, and how much a month of it is."""

import json
from collections import Counter
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from zendesk_pipeline.cli import main
from zendesk_pipeline.commands.volume import GB, HOURS_A_MONTH, Volume, month_of, raw_gb_a_day, volume_of
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.ledger import Delivered, Ledger, empty, encode
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_TICKETS
from zendesk_pipeline_tests.by_hand import FIRST, audit_logs, hours
from zendesk_pipeline_tests.deliveries import FORMS, Bucket, Deliveries, without_ledgers
from zendesk_pipeline_tests.fakes.s3_wire import Wire

SPAN = hours(3)
RECORDS = audit_logs(SPAN)


@pytest.fixture
def bucket(s3: LocalS3, layout: Layout) -> Bucket:
    return Bucket(store=Store(client=s3.client(), bucket=s3.bucket, encryption={}), layout=layout)


@pytest.fixture
def settings(s3: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    prefixes = {"S3_PREFIX": layout.feed, "STATE_PREFIX": layout.state, "QUARANTINE_PREFIX": layout.quarantine}
    for name, value in {**s3.environment, **prefixes, "RESOURCES": "audit_logs"}.items():
        monkeypatch.setenv(name, value)


def _volume(*options: str, start: str = "2026-11-12T05:00", end: str = "2026-11-12T09:00Z") -> Result:
    return CliRunner().invoke(main, ["volume", "--from", start, "--to", end, *options])


@pytest.mark.usefixtures("settings")
def test_a_range_is_told_as_the_bucket_holds_it(bucket: Bucket) -> None:
    """Windows, records, bytes and objects are those that lie there; nothing is asked of Zendesk, nothing written."""
    Deliveries(bucket=bucket).records(SPAN, RECORDS)
    before = {prefix: bucket.stored(prefix) for prefix in (bucket.layout.feed, bucket.layout.state)}
    (told,) = json.loads(_volume("--json").stdout)["streams"]
    assert (told["stream"], told["windows"], told["complete"]) == ("audit_logs", 4, 3)
    assert told["records"] == len(RECORDS)
    assert told["bytes"] == sum(map(len, bucket.feed().values()))
    assert told["objects"] == len(bucket.feed())
    assert told["s3_puts"] == len(bucket.feed()) + 3
    assert {prefix: bucket.stored(prefix) for prefix in before} == before


@pytest.mark.usefixtures("settings")
def test_the_same_as_a_table(bucket: Bucket) -> None:
    """Every figure stands in a line of its own, those of a month as well."""
    Deliveries(bucket=bucket).records(SPAN, RECORDS)
    lines = {line[:28].strip(): line[28:].split() for line in _volume().stdout.splitlines()}
    assert lines["windows complete"] == ["3", "of", "4"]
    assert lines["records"] == [str(len(RECORDS))]
    assert lines["a month: S3 PUT and LIST"] == [f"{round((len(bucket.feed()) + 3 + 6) * HOURS_A_MONTH / 3):,}"]
    assert lines["a month: GB"] == ["0.000"]


@pytest.mark.usefixtures("settings")
def test_a_month_is_what_prices_are_multiplied_by(bucket: Bucket) -> None:
    """Requests and GB of 730 such hours: three hours times 243 and a third. Prices are none of the command's."""
    Deliveries(bucket=bucket).records(SPAN, RECORDS)
    (told,) = json.loads(_volume("--json").stdout)["streams"]
    times = HOURS_A_MONTH / 3
    assert told["month"] == {
        "zendesk_requests": round(told["zendesk_requests"] * times),
        "s3_writes": round((told["s3_puts"] + told["s3_lists"]) * times),
        "s3_reads": round(told["s3_gets"] * times),
        "gb": pytest.approx(told["bytes"] * times / GB),
    }
    assert told["raw_gb_a_day"] == pytest.approx(told["bytes"] * 8 / 10**9)
    assert "No such option" in _volume("--put-price", "0.005").stderr


@pytest.mark.usefixtures("settings")
def test_the_settings_decide_the_budget(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the share of the account's limit is twice the part of it that is used."""
    Deliveries(bucket=bucket).records(SPAN, RECORDS)
    (half,) = json.loads(_volume("--json").stdout)["streams"]
    monkeypatch.setenv("ZENDESK_RATE_SHARE", "0.25")
    (quarter,) = json.loads(_volume("--json").stdout)["streams"]
    (larger,) = json.loads(_volume("--json", "--account-rate", "1400").stdout)["streams"]
    assert quarter["budget_share"] == pytest.approx(2 * half["budget_share"])
    assert larger["budget_share"] == pytest.approx(half["budget_share"])


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(
    ("stream", "allowed"),
    [
        ("audit_logs", 700 * 0.2),
        ("incremental_tickets", 20),
        ("access_logs", 50 * 0.2),
        ("ticket_metric_events", 20),
        ("incremental_users", 20),
    ],
)
def test_each_stream_has_its_budget(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, stream: str, allowed: float
) -> None:
    """Of every stream that can be collected, by the share and the export rate of the settings."""
    ledger = msgspec.structs.replace(empty(stream, FIRST), complete=True)
    bucket.put(bucket.layout.ledger(stream, FIRST), encode(ledger))
    for name, value in {"RESOURCES": stream, "ZENDESK_RATE_SHARE": "0.2", "ZENDESK_EXPORT_RATE": "20"}.items():
        monkeypatch.setenv(name, value)
    (told,) = json.loads(_volume("--json").stdout)["streams"]
    assert told["budget_share"] == pytest.approx(1 / (allowed * 60))


@pytest.mark.usefixtures("settings")
def test_a_range_that_was_never_collected_costs_nothing() -> None:
    """No ledger, no figures: zeros, and no division by them."""
    (told,) = json.loads(_volume("--json").stdout)["streams"]
    assert (told["complete"], told["records"], told["budget_share"]) == (0, 0, 0)
    assert told["month"] == {"zendesk_requests": 0, "s3_writes": 0, "s3_reads": 0, "gb": 0}


@pytest.mark.usefixtures("settings")
def test_what_is_wrong_is_a_sentence(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A range that is none, a ledger that is none, a bucket that is not set."""
    assert "--from has to be before --to" in _volume(end="2026-11-12T05:00").stderr
    assert "are full hours" in _volume(end="2026-11-12T09:30").stderr
    bucket.put(bucket.layout.ledger("audit_logs", FIRST), b"<html>")
    assert "cannot be read" in _volume().stderr
    monkeypatch.setenv("S3_BUCKET", "")
    assert "S3_BUCKET is not set" in _volume().stderr


# What SecOps bills


@pytest.mark.usefixtures("settings")
@FORMS
def test_raw_bytes_are_those_before_compression(bucket: Bucket, changes: dict[str, Any]) -> None:
    """What the objects hold when they are unpacked is what counts; a run says the same, and what a crash left too."""
    unpacked = 0
    for crashed in (False, True):
        if crashed:
            without_ledgers(bucket)
        done = Deliveries(bucket=bucket).formed(**changes).records(SPAN, RECORDS)
        (told,) = json.loads(_volume("--json").stdout)["streams"]
        unpacked = sum(map(len, bucket.feed().values()))
        assert told["raw_bytes"] == sum(tally.raw_bytes or 0 for tally in done.tallies.values()) == unpacked
        assert told["raw_gb_a_day"] == pytest.approx(unpacked * 8 / 10**9)
    line = next(each for each in _volume().stdout.splitlines() if each.startswith("a day: raw GB"))
    assert line.split()[-1] == f"{unpacked * 8 / 10**9:,.6f}"


@pytest.mark.usefixtures("settings")
def test_the_contract_is_what_a_setting_says(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without SECOPS_GB_A_DAY no word of it; with it, the part that all streams of the account take together."""
    done = Deliveries(bucket=bucket).records(SPAN, RECORDS)
    assert "SECOPS_GB_A_DAY" not in _volume().stdout
    a_day = sum(tally.bytes for tally in done.tallies.values()) * 8 / 10**9
    monkeypatch.setenv("SECOPS_GB_A_DAY", f"{a_day * 4:.9f}")
    assert "Together 25.0% of the " in _volume().stdout
    monkeypatch.setenv("SECOPS_GB_A_DAY", f"{a_day / 2:.9f}")
    assert "Together 200.0% of the " in _volume().stdout
    monkeypatch.setenv("RESOURCES", "audit_logs,access_logs")
    assert "without what is not noted" in _volume().stdout


@pytest.mark.parametrize(("pages", "hours_read"), [(50, 4.0), (1, None)])
def test_a_forecast_reads_what_is_not_collected(
    environment: dict[str, str],
    zendesk: SimulatedZendesk,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    pages: int,
    hours_read: float | None,
) -> None:
    """What Zendesk shows of the range, or of its beginning where the pages are too few; nothing is written."""
    for name, value in {**environment, "RESOURCES": "incremental_tickets"}.items():
        monkeypatch.setenv(name, value)
    (told,) = json.loads(_volume("--json", "--forecast", "audit_logs", "--pages", str(pages)).stdout)["forecasts"]
    source = zendesk.control.source("audit_logs", FIRST.start, FIRST.start + 4 * 3600)
    if hours_read:
        assert (told["hours"], told["records"]) == (hours_read, len(source))
    else:
        assert 0 < told["hours"] < 4
        assert 0 < told["records"] < len(source)
    assert told["raw_gb_a_day"] == pytest.approx(told["raw_bytes"] / told["hours"] * 24 / 10**9)
    assert told["records"] * 100 < told["raw_bytes"] < told["records"] * 5000
    assert (
        f"audit_logs would be {told['raw_gb_a_day']:,.6f} raw GB a day"
        in _volume("--forecast", "audit_logs", "--pages", str(pages)).stdout
    )
    assert bucket.stored(bucket.layout.feed) + bucket.stored(bucket.layout.state) == []


# The arithmetic


@pytest.mark.parametrize(
    ("known", "raw"), [((0, 0), None), ((3000, 0), 6000), ((3000, 5000), 8000)], ids=["none", "some", "all"]
)
def test_what_old_ledgers_do_not_say_is_scaled_up(known: tuple[int, ...], raw: int | None) -> None:
    """Compressed objects of releases before count like the others; where there are only such, nothing is known."""
    objects = [
        Delivered(key=f"{number}.json.gz", sha256="", bytes=1000, content_bytes=size, identities=["1"])
        for number, size in enumerate(known)
    ]
    found = volume_of(
        AUDIT_LOGS, [Ledger(stream="", window="", complete=True, objects=objects)], lookback=0, per_minute=1
    )
    assert found.raw_bytes == raw
    assert raw_gb_a_day(found.raw_bytes, 1) == (raw and raw * 24 / 10**9)


def _ledger(*counts: int, size: int = 1000) -> Ledger:
    objects = [
        Delivered(key=f"{number}", sha256="", bytes=size, identities=[f"{number}:{each}" for each in range(count)])
        for number, count in enumerate(counts)
    ]
    return Ledger(stream="", window="", complete=True, objects=objects)


def test_pages_are_those_of_a_run_an_hour() -> None:
    """At least one a window, as many as its records fill, and those of the look-back again."""
    found = [_ledger(1500, 1000), _ledger(), empty("", FIRST), Ledger(stream="", window="", objects=_ledger(5).objects)]
    tickets = volume_of(INCREMENTAL_TICKETS, found, lookback=0, per_minute=10)
    assert (tickets.windows, tickets.complete, tickets.records, tickets.objects) == (4, 2, 2500, 2)
    assert tickets.zendesk_requests == 3 + 1
    assert tickets.budget_share == 4 / (10 * 60 * 2)
    assert tickets.busiest_hour_share == 3 / (10 * 60)
    assert (tickets.s3_puts, tickets.s3_gets, tickets.s3_lists) == (4, 4 + 2 * 6, 4)
    logs = volume_of(AUDIT_LOGS, [_ledger(150)], lookback=3600, per_minute=350)
    assert (logs.zendesk_requests, logs.s3_gets) == (3, 2 + 7)


def test_a_month_is_730_hours_of_the_same() -> None:
    """Worked by hand: a GB and a thousand of each request in a tenth of a month."""
    figures: dict[str, Any] = dict.fromkeys(Volume.__dataclass_fields__, 0)
    figures |= {"complete": HOURS_A_MONTH // 10, "bytes": GB, "s3_puts": 500, "s3_lists": 500, "s3_gets": 1000}
    figures["zendesk_requests"] = 100
    month = month_of(Volume(**figures))
    assert (month.zendesk_requests, month.s3_writes, month.s3_reads) == (1000, 10_000, 10_000)
    assert month.gb == pytest.approx(10)


# What a run says of itself


def test_the_windows_of_a_run_account_for_its_requests_to_s3(bucket: Bucket) -> None:
    """PUT, GET and LIST of all windows are what went over the wire, in a first run and in one that mends a crash."""
    for again in (False, True):
        wire = Wire(bucket.store.client)
        done = Deliveries(bucket=bucket).records(SPAN, RECORDS)
        sent = Counter(each.operation for each in wire.sent)
        spent = [tally.s3 for tally in done.tallies.values()]
        assert sum(each.put for each in spent) == sent["PutObject"] > 0
        assert sum(each.get for each in spent) == sent["GetObject"] >= (6 if again else 3)
        assert sum(each.list for each in spent) == sent["ListObjectsV2"] == 1
        without_ledgers(bucket)
