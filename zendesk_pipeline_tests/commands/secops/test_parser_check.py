"""`zendesk-pipeline parser-check` against stand-in parsers that understand one format, both, or none."""

import base64
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from zendesk_pipeline.cli import main
from zendesk_pipeline.commands.secops.parser_check import formats_that_fit, verdict
from zendesk_pipeline.model.records import record_reader
from zendesk_pipeline.model.streams import STREAMS
from zendesk_pipeline.secops.client import Parsed, Parser
from zendesk_pipeline.secops.instance import SecopsError
from zendesk_pipeline.secops.parser_run import ParserResult, active, outcome, page_of, sample
from zendesk_pipeline_tests.collected import COLLECTED
from zendesk_pipeline_tests.fakes.secops_server import (
    CODE,
    LOG_TYPE,
    OLD_CODE,
    SecopsServer,
    Understands,
    google_error,
    secops,
)

Check = Callable[..., Result]
OWN = b'{"id":29398461000017,"actor_name":"Somebody Real","created_at":"2026-11-12T05:00:00Z","x":"198.51.100.7"}\n'


@pytest.fixture
def server() -> Generator[SecopsServer]:
    with secops() as running:
        yield running


@pytest.fixture
def check(server: SecopsServer, tmp_path: Path) -> Check:
    def run(*arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(
            main, ["parser-check", *arguments], env={**server.environment(tmp_path), **environment}
        )

    return run


def logs(server: SecopsServer) -> list[list[bytes]]:
    """The logs of each run of the parser."""
    return [[base64.b64decode(log) for log in each.body["log"]] for each in server.changes()]


@pytest.mark.parametrize(
    ("understands", "words", "fits"),
    [
        ("records", "Set OUTPUT_FORMAT=ndjson.", {"ndjson"}),
        ("pages", "Set OUTPUT_FORMAT=page.", {"page"}),
        ("both", "Both formats are parsed: keep OUTPUT_FORMAT=ndjson", {"ndjson", "page"}),
        ("neither", "Neither format is parsed", set[str]()),
        ("anything", "Neither format is parsed", set[str]()),
    ],
)
@pytest.mark.parametrize("form", ["ndjson", "page"])
def test_it_says_which_format_the_parser_wants(
    understands: Understands, words: str, fits: set[str], form: str, check: Check, server: SecopsServer
) -> None:
    """Whatever the parser understands; exit status 0 if the format that is set fits. An event without any value of a
    record is no sign that it was understood.
    """
    server.understands = understands
    said = check(OUTPUT_FORMAT=form)
    assert said.output.splitlines()[-1].startswith(words)
    assert said.exit_code == (form not in fits)


def test_both_results_stand_side_by_side(check: Check, server: SecopsServer) -> None:
    """Events, records that came out, a few fields with their values, and the parser's own error."""
    said = check("--stream", "audit_logs")
    assert "ZENDESK_CRM: parser pa_now (PREBUILT, ACTIVE)" in said.output
    rows = {line.split("  ")[0]: line.split() for line in said.output.splitlines()}
    assert rows["audit_logs"] == ["audit_logs", "a", "record", "a", "line", "a", "page", "of", "3"]
    assert rows["UDM events"] == ["UDM", "events", "3", "0"]
    assert rows["records recognised"] == ["records", "recognised", "3", "of", "3", "0", "of", "3"]
    assert rows["metadata.eventTimestamp"] == ["metadata.eventTimestamp", "2026-11-12T12:00:00Z", "-"]
    assert rows["principal.user.userid"][1:] == [str(json.loads(logs(server)[0][0])["actor_id"]), "-"]
    assert "error of a page: LOG_PARSING_CBN_ERROR: no field to map" in said.output


def test_the_parser_gets_lines_and_a_page_as_the_pipeline_writes_them(check: Check, server: SecopsServer) -> None:
    """Three records, each by itself, and the same three in the stream's envelope; with the active parser's code."""
    check()
    assert [each.body["parser"] for each in server.changes()] == [{"cbn": CODE}] * 2
    for stream, (*lines, page) in zip(COLLECTED.values(), logs(server), strict=True):
        assert lines == sample(stream)
        assert json.loads(page) == {stream.items: [json.loads(line) for line in lines]}
        assert b"\n" not in page


@pytest.mark.parametrize("name", STREAMS)
def test_made_up_records_are_records_of_the_stream(name: str) -> None:
    """The pipeline's own reader takes them; no two are alike."""
    records = [record_reader(STREAMS[name])(line) for line in sample(STREAMS[name])]
    assert len({record.identity for record in records}) == 3


def test_streams_that_are_not_collected_are_not_checked(check: Check, server: SecopsServer) -> None:
    """RESOURCES says which are."""
    said = check(RESOURCES="incremental_tickets")
    assert (said.exit_code, len(server.changes()), "audit_logs" in said.output) == (0, 1, False)


def test_records_of_ones_own_are_sent_and_not_shown(check: Check, server: SecopsServer, tmp_path: Path) -> None:
    """Which fields came out is shown, what stands in them is not; nor is the parser's error, which quotes them."""
    path = tmp_path / "own.json"
    path.write_bytes(OWN)
    said = check("--stream", "audit_logs", "--record", str(path))
    assert logs(server)[0][0] == OWN.strip()
    assert "records recognised" in said.output
    assert "error of a page: LOG_PARSING_CBN_ERROR\n" in said.output
    assert [value for value in json.loads(OWN).values() if str(value) in said.output] == []
    assert "(set)" in said.output


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "holds 0 records"), (b"{}\n" * 101, "holds 101 records"), (b"{}\n[1]", "Line 2"), (b"Real name", "Line 1")],
)
def test_a_file_that_holds_no_records_is_a_sentence(
    content: bytes, words: str, check: Check, server: SecopsServer, tmp_path: Path
) -> None:
    """Nothing is asked, and nothing of the file is shown."""
    path = tmp_path / "own.json"
    path.write_bytes(content)
    said = check("--stream", "audit_logs", "--record", str(path))
    assert (said.exit_code, words in said.output, "Real" in said.output, server.asked) == (1, True, False, [])
    assert check("--record", str(path)).exit_code == 2


UNUSABLE: list[tuple[list[dict[str, Any]], str]] = [
    ([], "no active parser"),
    ([{"name": "p", "state": "INACTIVE", "cbn": CODE}], "no active parser"),
    ([{"name": f"{LOG_TYPE}/parsers/low", "state": "ACTIVE", "lowCode": {}}], "parser low has no code"),
    ([{"name": f"{LOG_TYPE}/parsers/odd", "state": "ACTIVE", "cbn": "%"}], "parser odd has no code"),
]


@pytest.mark.parametrize(("parsers", "words"), UNUSABLE)
def test_a_parser_that_cannot_be_run_is_a_sentence(
    parsers: list[dict[str, Any]], words: str, check: Check, server: SecopsServer
) -> None:
    """Nothing is run then."""
    server.parsers = parsers
    said = check()
    assert (said.exit_code, words in said.output, server.changes()) == (1, True, [])


def test_an_extension_is_told_of(check: Check, server: SecopsServer) -> None:
    """It is not run, so the result is not the whole truth."""
    server.parsers[1]["parserExtension"] = f"{LOG_TYPE}/parserExtensions/pe_1"
    assert "It has an extension, which is not run here." in check().output


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_a_refusal_is_a_sentence(status: int, check: Check, server: SecopsServer) -> None:
    """As for feeds."""
    server.refusal = (status, google_error(status, "No."))
    said = check()
    assert (said.exit_code, f"answered {status} to POST logTypes/ZENDESK_CRM:runParser (No.)" in said.output) == (
        1,
        True,
    )


def test_a_custom_parser_takes_the_place_of_googles() -> None:
    """Where both are called active, the custom one is in use."""
    prebuilt, custom, old = (
        Parser("x/a", "ACTIVE", "PREBUILT"),
        Parser("x/b", "ACTIVE", "CUSTOM"),
        Parser("x/c", "INACTIVE", "CUSTOM"),
    )
    assert active([old, prebuilt, custom]) == custom
    assert active([old, prebuilt]) == prebuilt
    with pytest.raises(SecopsError):
        active([old])


def parsed(*events: dict[str, Any]) -> Parsed:
    return msgspec.convert({"parsedEvents": {"events": [{"event": event} for event in events]}}, Parsed)


def test_records_count_by_what_they_alone_hold() -> None:
    """A value that all share, a short one, or one inside another text proves nothing."""
    lines = [b'{"id":1111%d,"kind":"ticket","n":%d,"note":null}' % (number, number) for number in range(3)]
    assert outcome(lines, [parsed({"a": ["ticket", 0, 1, 2], "b": f"{lines}"})]).recognised == 0
    assert outcome(lines, [parsed({"a": {"b": [{"c": "11110"}]}}), parsed({"a": 11112})]).recognised == 2
    assert outcome(lines, [msgspec.convert({"error": {"message": "no"}}, Parsed)]) == ParserResult(
        events=0, recognised=0, errors=("no",), fields={}
    )


def made(recognised: int) -> ParserResult:
    return ParserResult(events=3, recognised=recognised, errors=(), fields={})


@pytest.mark.parametrize(
    ("ndjson", "page", "fit"),
    [
        (3, 0, {"ndjson"}),
        (0, 3, {"page"}),
        (3, 1, {"ndjson"}),
        (2, 2, {"ndjson", "page"}),
        (3, 3, {"ndjson", "page"}),
        (0, 0, set[str]()),
    ],
)
def test_the_format_that_brings_more_fits(ndjson: int, page: int, fit: set[str]) -> None:
    """A parser that takes only the first record of a page loses the others."""
    assert formats_that_fit({"ndjson": made(ndjson), "page": made(page)}) == fit


def test_streams_can_differ() -> None:
    """What fits one stream only decides for it; what is never recognised decides nothing and is told."""
    assert verdict({"a": {"ndjson"}, "b": {"ndjson", "page"}}) == ({"ndjson"}, "Set OUTPUT_FORMAT=ndjson.")
    fitting, said = verdict({"a": {"ndjson"}, "b": {"page"}})
    assert (fitting, "No one format fits" in said) == (set(), True)
    fitting, said = verdict({"a": {"page"}, "b": set()})
    assert (fitting, said.startswith("Set OUTPUT_FORMAT=page. The parser recognises nothing of b")) == ({"page"}, True)


def test_a_page_is_what_the_pipeline_writes() -> None:
    """The envelope of OUTPUT_FORMAT=page, without blanks."""
    assert page_of(COLLECTED["incremental_tickets"], [b'{"id":1}', b'{"id":2}']) == b'{"tickets":[{"id":1},{"id":2}]}'


def test_the_release_candidate_can_be_asked_first(server: SecopsServer, check: Check) -> None:
    """Google's next parser, on the same records; where there is none it is said."""
    assert "There is no release candidate" in check("--candidate").stderr
    server.parsers.append(
        {
            "name": f"{LOG_TYPE}/parsers/pa_next",
            "state": "INACTIVE",
            "type": "PREBUILT",
            "cbn": OLD_CODE,
            "releaseStage": "RELEASE_CANDIDATE",
        }
    )
    said = check("--candidate", "--stream", "audit_logs")
    assert said.stdout.startswith("ZENDESK_CRM: parser pa_next (PREBUILT, INACTIVE)")
    assert [each.body["parser"]["cbn"] for each in server.changes()] == [OLD_CODE]


def test_only_the_active_parser_and_all_made_up_records_can_be_accepted(check: Check) -> None:
    """What is expected is about all streams, and about the parser that is in use."""
    for other in (["--candidate"], ["--stream", "audit_logs"]):
        assert "--accept is for the active parser" in check("--accept", *other).stderr
