"""Fields that Zendesk never showed before: noted in the bucket, told in the UI, held where no rule speaks of them."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore.awsrequest import AWSResponse
from click.testing import CliRunner, Result

from zendesk_pipeline.cli import main
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.field_catalogue import LEARNING, MOST_SEEN, Catalogue, CatalogueStore, FieldWatch
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.model.errors import DeniedError, RedactionError
from zendesk_pipeline.model.fields_seen import is_value
from zendesk_pipeline.model.malformed import Malformed
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.redaction import Redaction, RedactionRule
from zendesk_pipeline.model.streams import INCREMENTAL_TICKETS
from zendesk_pipeline.model.windows import Span
from zendesk_pipeline_tests.by_hand import FIRST, hours, leaves, ticket
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.s3_wire import Sent, Wire, denying, refusal
from zendesk_pipeline_tests.runs import QUIET, Project, description, metadata, project

pytestmark = QUIET
NEW = "via.channel"
RULES = "incremental_tickets:\n  - drop: [description, via.source]\n"
LONG_AGO = LEARNING + 3600
BEFORE = hours(6)
"""Has the rare fields too."""


@pytest.fixture
def bucket(store: Store, layout: Layout) -> Bucket:
    return Bucket(store=store, layout=layout)


@pytest.fixture
def collecting(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Collects a span of tickets with some settings changed; each run has an instance of its own."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)

    def collect(span: Span, *, redacted: bool = False, stream: str = "incremental_tickets", **changed: str) -> Any:
        chosen = {
            **environment,
            "RESOURCES": stream,
            **({"REDACTION_RULES": str(rules)} if redacted else {}),
            **changed,
        }
        with monkeypatch.context() as patched, project(chosen, patched) as running:
            return _Run(running, running.run(stream, span), stream)

    return collect


class _Run:
    """What a run has left in the UI."""

    def __init__(self, running: Project, result: Any, stream: str) -> None:
        self.success = result.success
        self.failure = "" if result.success else description(result)
        self.told = {
            str(event.partition): {
                name: value for name, value in metadata(event).items() if name in {"new_fields", "unruled_fields"}
            }
            for event in running.materialized(stream)
        }
        verdicts = {each.check_name: each for each in result.get_asset_check_evaluations()}
        known = verdicts.get("fields_are_known")
        self.passes, self.says = (known.passed, known.description or "") if known else (None, "")


def _catalogue(bucket: Bucket, stream: str = "incremental_tickets") -> dict[str, Any]:
    return json.loads(bucket.body(bucket.layout.catalogue(stream)))


def _age(bucket: Bucket, *, seconds: float = LONG_AGO, forget: str = NEW, stream: str = "incremental_tickets") -> None:
    """Have the catalogue be as if it were begun some time ago, before Zendesk showed a field."""
    catalogue = _catalogue(bucket, stream)
    del catalogue["seen"][forget]
    catalogue["begun"] = time.time() - seconds
    bucket.put(bucket.layout.catalogue(stream), json.dumps(catalogue).encode())


@pytest.fixture
def fields(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command as somebody types it."""

    def run(*arguments: str) -> Result:
        with monkeypatch.context() as patched:
            for name, value in {**environment, "RESOURCES": "incremental_tickets"}.items():
                patched.setenv(name, value)
            return CliRunner().invoke(main, ["fields", *arguments])

    return run


def test_the_first_run_begins_the_catalogue_and_tells_nothing(
    collecting: Callable[..., Any], bucket: Bucket, zendesk: SimulatedZendesk
) -> None:
    """All that its records have is there, each with a window; the check passes, and so does that of the next hour."""
    first = collecting(hours(1))
    lines = [json.loads(line) for line in bucket.lines()]
    seen = _catalogue(bucket)["seen"]
    assert {leaf for line in lines for leaf in leaves(line)} <= seen.keys()
    assert set(seen.values()) <= {"2026-11-12-04:00", FIRST.partition_key}, "an export shows what is before, too"
    second = collecting(hours(1, skip=1))
    assert [first.passes, second.passes] == [True, True]
    assert [told for run in (first, second) for told in run.told.values()] == [{}, {}]
    assert zendesk.control.source("incremental_tickets", FIRST.start, FIRST.end)


def test_a_new_field_is_told_once(collecting: Callable[..., Any], bucket: Bucket) -> None:
    """In the metadata of the first window that has it, and by the check of that run; the next hour passes again."""
    collecting(BEFORE)
    _age(bucket)
    run = collecting(hours(2, skip=6))
    assert [told.get("new_fields") for _, told in sorted(run.told.items())] == [[NEW], None]
    assert (run.success, run.passes) == (True, False)
    assert f"seen for the first time: {NEW}" in run.says
    assert _catalogue(bucket)["seen"][NEW] in {"2026-11-12-10:00", "2026-11-12-11:00"}
    again = collecting(hours(1, skip=8))
    assert (again.passes, list(again.told.values())) == (True, [{}])


def test_in_the_first_week_much_is_new_and_nothing_is_told(collecting: Callable[..., Any], bucket: Bucket) -> None:
    """Rare fields come one by one: they are noted all the same."""
    collecting(BEFORE)
    _age(bucket, seconds=LEARNING - 3600)
    run = collecting(hours(1, skip=6))
    assert (run.passes, list(run.told.values())) == (True, [{}])
    assert NEW in _catalogue(bucket)["seen"]


def test_a_new_action_of_audit_logs_is_told(collecting: Callable[..., Any], bucket: Bucket) -> None:
    """What somebody did that was never done before is worth a look: the values of `action` and `source_type`."""
    collecting(BEFORE, stream="audit_logs")
    seen = _catalogue(bucket, "audit_logs")["seen"]
    lines = [json.loads(line) for line in bucket.lines()]
    values = {f"{name}={line[name]}" for line in lines for name in ("action", "source_type") if line.get(name)}
    assert {name for name in seen if is_value(name)} == values
    _age(bucket, forget=(value := min(values)), stream="audit_logs")
    assert f"seen for the first time: {value}" in collecting(hours(3, skip=6), stream="audit_logs").says


def test_a_new_field_that_no_rule_speaks_of_is_told_until_somebody_decides(
    collecting: Callable[..., Any], bucket: Bucket, fields: Callable[..., Result]
) -> None:
    """Each hour, also in the first week; it is delivered; accepting it ends that. A field with a rule is no matter."""
    collecting(BEFORE, redacted=True)
    _age(bucket, seconds=60)
    for hour in (1, 2):
        run = collecting(hours(1, skip=hour + 5), redacted=True)
        assert (run.success, run.passes) == (True, False)
        assert f"no redaction rule speaks of these new fields, which are stored as they are: {NEW}" in run.says
    assert f"{NEW}  NO RULE" in fields().stdout
    wrong = fields("--accept", "nosuch")
    assert (wrong.exit_code, "nosuch waits for no decision" in wrong.stderr) == (2, True)
    accepted = fields("--accept", NEW)
    assert "NO RULE" not in accepted.stdout
    assert collecting(hours(1, skip=8), redacted=True).says == "All is well."
    _age(bucket, seconds=60, forget="subject")
    assert not collecting(hours(1, skip=9), redacted=True).passes
    keeping = {"REDACTION_RULES": "builtin:without-personal-data", "REDACTION_KEY": "k" * 40}
    ruled = collecting(hours(1, skip=10), **keeping)
    assert ruled.passes, "all its rules are of `keep`, which speak of every field"


def test_all_that_waits_can_be_accepted_at_once(
    collecting: Callable[..., Any], bucket: Bucket, fields: Callable[..., Result]
) -> None:
    """Rare fields come one by one in the first weeks."""
    collecting(BEFORE, redacted=True)
    _age(bucket, seconds=60)
    _age(bucket, seconds=60, forget="subject")
    assert not collecting(hours(1, skip=6), redacted=True).passes
    assert _catalogue(bucket)["unruled"] == ["subject", NEW]
    assert "NO RULE" not in fields("--accept-all").stdout
    assert collecting(hours(1, skip=7), redacted=True).passes


def test_a_catalogue_has_a_bound(bucket: Bucket) -> None:
    """A stream whose records have ever new names fills it, and no more; what is in it stays."""
    watch = FieldWatch(
        stream=INCREMENTAL_TICKETS,
        catalogues=CatalogueStore(stream="incremental_tickets", store=bucket.store, layout=bucket.layout),
        redaction=None,
        holds=False,
        now=0,
    )
    seen = {f"f{number}": "2026-11-12-05:00" for number in range(MOST_SEEN - 1)}
    full = Catalogue(stream="incremental_tickets", begun=0, seen=seen)
    assert watch.catalogues.write(full, None)
    watch.look(Page(number=1, records=[ticket(1, FIRST.start)], requests=1, waited=0))
    watch.note()
    assert len(_catalogue(bucket)["seen"]) == MOST_SEEN
    assert seen.items() <= _catalogue(bucket)["seen"].items()


def test_with_hold_nothing_is_delivered_before_somebody_decides(
    collecting: Callable[..., Any], bucket: Bucket, fields: Callable[..., Result]
) -> None:
    """The run fails with the field's name and what to do, however often; then the window is there, each record once."""
    collecting(BEFORE, redacted=True)
    _age(bucket, seconds=60)
    before = bucket.lines()
    for _ in range(2):
        run = collecting(hours(1, skip=6), redacted=True, REDACTION_NEW_FIELDS="hold")
        assert not run.success
        assert f"for the first time {NEW}, and no" in run.failure
        assert f"fields --stream incremental_tickets --accept {NEW}" in run.failure
        assert bucket.lines() == before
    assert fields("--accept", NEW).exit_code == 0
    assert collecting(hours(1, skip=6), redacted=True, REDACTION_NEW_FIELDS="hold").success
    assert len(set(bucket.lines())) == len(bucket.lines()) > len(before)


def test_hold_is_nothing_without_rules(collecting: Callable[..., Any], bucket: Bucket) -> None:
    """Where records go as Zendesk sends them, a new field is news and no reason to wait."""
    collecting(BEFORE)
    _age(bucket)
    assert collecting(hours(1, skip=6), REDACTION_NEW_FIELDS="hold").success


def test_what_a_rule_hides_is_not_in_the_catalogue(
    collecting: Callable[..., Any], bucket: Bucket, tmp_path: Path
) -> None:
    """Neither a value of a field that is hashed nor one that is dropped; names of fields are."""
    rules = tmp_path / "hiding.yaml"
    rules.write_text("audit_logs:\n  - hash: action\n  - drop: source_type\n")
    key = {"REDACTION_KEY": "k" * 40}
    assert collecting(BEFORE, stream="audit_logs", REDACTION_RULES=str(rules), **key).success
    seen = _catalogue(bucket, "audit_logs")["seen"]
    assert {"action", "source_type"} <= seen.keys()
    assert not [*filter(is_value, seen)]


@pytest.mark.parametrize("redacted", [False, True])
def test_of_a_large_page_some_are_looked_at_and_under_rules_all(bucket: Bucket, *, redacted: bool) -> None:
    """A field that one record of a thousand has is found at once under rules, and else when others are looked at."""
    records = [ticket(number, FIRST.start + number) for number in range(1000)]
    records[778] = msgspec.structs.replace(records[778], line=b'{"id":778,"generated_timestamp":1,"rare":1}')
    drop = Redaction([RedactionRule(action="drop", path=(b"subject",))], always=[])
    found: list[bool] = []
    for number in range(1, 5):
        watch = FieldWatch(
            stream=INCREMENTAL_TICKETS,
            catalogues=CatalogueStore(stream="incremental_tickets", store=bucket.store, layout=bucket.layout),
            redaction=drop if redacted else None,
            holds=False,
            now=0,
        )
        watch.look(Page(number=number, records=records, requests=1, waited=0))
        watch.note()
        found.append("rare" in _catalogue(bucket)["seen"])
    assert found == [redacted, True, True, True]


def test_a_catalogue_that_cannot_be_read_fails_no_run_and_is_not_written_over(
    collecting: Callable[..., Any], bucket: Bucket
) -> None:
    """The records are delivered all the same; with hold they are not, since nobody can say what is new."""
    bucket.put(bucket.layout.catalogue("incremental_tickets"), b"<html>")
    assert collecting(BEFORE, redacted=True).success
    assert bucket.body(bucket.layout.catalogue("incremental_tickets")) == b"<html>"
    held = collecting(hours(1, skip=6), redacted=True, REDACTION_NEW_FIELDS="hold")
    assert not held.success
    assert "cannot be read" in held.failure
    assert "Delete it" in held.failure


def test_fields_are_printed_for_people_and_programs(
    collecting: Callable[..., Any], bucket: Bucket, fields: Callable[..., Result]
) -> None:
    """A line each with the hour it was seen first; nothing before the first run."""
    assert fields().stdout == "Nothing was collected yet.\n"
    collecting(BEFORE)
    assert re.search(rf"^  2026-11-12-0[45]:00  {NEW}$", fields().stdout, re.MULTILINE)
    assert json.loads(fields("--json").stdout)[0]["seen"] == _catalogue(bucket)["seen"]


def test_a_run_that_fails_leaves_what_is_new_to_one_that_can_tell_it(
    collecting: Callable[..., Any], bucket: Bucket
) -> None:
    """The windows of a failed run have no check: what it saw is news to the run that collects them in the end."""
    collecting(BEFORE)
    _age(bucket)
    failed = collecting(hours(20, skip=6), MAX_PAGES="1")
    assert "MAX_PAGES" in failed.failure
    assert NEW not in _catalogue(bucket)["seen"]
    assert f"seen for the first time: {NEW}" in collecting(hours(20, skip=6)).says


def _holding(bucket: Bucket) -> FieldWatch:
    return FieldWatch(
        stream=INCREMENTAL_TICKETS,
        catalogues=CatalogueStore(stream="incremental_tickets", store=bucket.store, layout=bucket.layout),
        redaction=Redaction([RedactionRule(action="drop", path=(b"subject",))], always=["id", "generated_timestamp"]),
        holds=True,
        now=FIRST.end,
    )


def _page(*lines: bytes) -> Page:
    records = [msgspec.structs.replace(ticket(1, FIRST.start), line=line) for line in lines]
    return Page(number=1, records=records, requests=1, waited=0)


def test_hold_begins_without_the_right_to_list(bucket: Bucket) -> None:
    """AWS answers 403 for a catalogue that is not there yet: what the first run sees passes, and later news is held.

    Also where a first run has died before it came to write anything down.
    """

    def as_without_list_bucket(sent: Sent, send: Callable[[], AWSResponse]) -> AWSResponse | None:
        answer = send() if sent.operation == "GetObject" else None
        return refusal(403, "AccessDenied") if answer and answer.status_code == 404 else answer

    Wire(bucket.store.client, fault=as_without_list_bucket)
    _holding(bucket).begin()
    first, later = _holding(bucket), _holding(bucket)
    first.begin()
    first.look(_page(b'{"id":1,"other":1}'))
    first.note()
    later.begin()
    with pytest.raises(RedactionError, match="for the first time later"):
        later.look(_page(b'{"id":1,"other":1,"later":1}'))


def test_hold_does_not_begin_anew_where_the_catalogue_may_not_be_read(bucket: Bucket) -> None:
    """What is there and refused is an error: it may say that a field is new."""
    first, denied = _holding(bucket), _holding(bucket)
    first.look(_page(b'{"id":1}'))
    first.note()
    Wire(bucket.store.client, fault=denying("GetObject", within=bucket.layout.state))
    with pytest.raises(DeniedError, match="s3:GetObject"):
        denied.begin()


def test_hold_looks_at_malformed_records_too(bucket: Bucket) -> None:
    """They go into quarantine as the rules leave them, which speak of no new field."""
    first, later = _holding(bucket), _holding(bucket)
    first.look(_page(b'{"id":1}'))
    first.note()
    later.begin()
    broken = Malformed(
        line=b'{"id":1,"later":1}',
        position=2,
        why="no time",
        identity="1",
        time=None,
        near=FIRST.start,
        behind=None,
        is_json=True,
    )
    with pytest.raises(RedactionError, match=f"{FIRST}: Zendesk shows for the first time later"):
        later.look(replace(_page(b'{"id":1}'), malformed=[broken]))


def test_a_catalogue_with_a_name_that_is_no_path_cannot_be_read(collecting: Callable[..., Any], bucket: Bucket) -> None:
    """Somebody has edited it: the run delivers all the same."""
    key = bucket.layout.catalogue("incremental_tickets")
    content = {"stream": "incremental_tickets", "begun": 0, "seen": {"id": "x"}, "unruled": ["a b"]}
    bucket.put(key, json.dumps(content).encode())
    assert collecting(hours(1), redacted=True).success
    assert json.loads(bucket.body(key)) == content
