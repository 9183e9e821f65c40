"""The file of rules: what is read, and how what is wrong in it is said; and the key of hashes."""

import re
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.model.redaction import RedactionRule, hashed, written
from zendesk_pipeline.model.redaction_rules import SHORTEST_KEY, builtin, load, parsed, path, redaction
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_TICKETS, INCREMENTAL_USERS, STREAMS
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.by_hand import hours
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.runs import QUIET, Project, description, metadata, project

pytestmark = QUIET

SECRET = "Sesame-4711-" + "0123456789abcdef" * 2
GOOD = """\
# comments and every form of YAML are fine
audit_logs:
  - drop: change_description
  - {hash: [ip_address, actor_name]}
  - keep: [id]
    in: "a.b[*]"
incremental_tickets: whole
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    place = tmp_path / "rules.yaml"
    place.write_text(GOOD)
    return place


def test_a_file_is_read(rules: Path) -> None:
    """Streams, actions, one path or several; a stream that is `whole` has no rules."""
    assert load(str(rules)) == {
        "audit_logs": [
            RedactionRule(action="drop", path=(b"change_description",)),
            RedactionRule(action="hash", path=(b"ip_address",)),
            RedactionRule(action="hash", path=(b"actor_name",)),
            RedactionRule(action="keep", path=(b"id",), within=(b"a", b"b", "[*]")),
        ],
        "incremental_tickets": [],
    }
    assert redaction(INCREMENTAL_TICKETS, str(rules), "") is None


def test_a_stream_that_the_rules_do_not_name_is_never_taken_for_whole(rules: Path) -> None:
    """Who asks for its redaction gets an error that names stream and remedy, and not "nothing to redact"."""
    with pytest.raises(SettingsError, match=r"says nothing of incremental_users, .*`incremental_users: whole`"):
        redaction(INCREMENTAL_USERS, str(rules), SECRET)


STAY = "takes in id or created_at, which say which record it is and when, and have to stay"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "line 1: names of streams, each with a list of rules, are wanted here"),
        ("[a]", "line 1: names of streams"),
        ("tickets: [{drop: a}]", "line 1: there is no stream tickets; there are audit_logs"),
        ("audit_logs:", "line 1: a list of rules is wanted for audit_logs, or `whole`"),
        ("audit_logs: all", "line 1: a list of rules is wanted for audit_logs, or `whole`"),
        ("audit_logs: [whole]", "line 1: an action and its paths are wanted here"),
        ("audit_logs: []", "line 1: a list of rules is wanted for audit_logs, or `whole`"),
        ("audit_logs: {drop: a}", "line 1: a list of rules is wanted"),
        ("audit_logs:\n- a", "line 2: an action and its paths are wanted here"),
        ("audit_logs:\n- drop: a\n- remov: b", "line 3: there is no action remov; there are drop, hash, mask, keep"),
        ("audit_logs:\n- drop: []", "line 2: the list of paths is empty"),
        ("audit_logs:\n- drop: {a: b}", "line 2: a path is wanted here"),
        ("audit_logs:\n- drop: a\n  drop: b", "line 3: drop stands here twice"),
        ("audit_logs:\n- drop: a\n- hash: [b,\n   a]", "line 4: a has a rule already, in line 2"),
        ("audit_logs:\n- drop: a\n  in: b", "line 2: `in` stands beside `keep` alone"),
        ("audit_logs:\n- drop: [a", "this is no YAML"),
        ("audit_logs: \x01", "it is no YAML"),
        ("audit_logs:\n- ? [a]\n  : b", "line 2: a name is wanted here"),
        ("audit_logs:\n- drop: '*'", f"line 2: * {STAY}"),
        ("audit_logs:\n- drop: $.id", f"line 2: id {STAY}"),
        ("audit_logs:\n- mask: id.x", f"line 2: id.x {STAY}"),
        ("audit_logs:\n- hash: created_at", f"line 2: created_at {STAY}"),
        ("audit_logs:\n- drop: '[\"\\u0069d\"]'", f"line 2: id {STAY}"),
        ("audit_logs:\n- keep: a\n  in: created_at", f"line 3: created_at {STAY}"),
        ("incremental_tickets:\n- drop: generated_timestamp", "line 2: generated_timestamp takes in id or generated_"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(content: str, complaint: str) -> None:
    """A sentence that names the line and what is wanted there."""
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parsed(content)


def test_all_that_is_wrong_is_said_at_once() -> None:
    """Nobody mends one line after the other."""
    wrong = "nobody: 1\naudit_logs:\n  - drop: [a, 'b c', id]\n  - hide: d\n  - {mask: a}\nincremental_tickets: []\n"
    with pytest.raises(ValueError, match="nobody") as raised:
        parsed(wrong)
    assert re.findall(r"line (\d):", str(raised.value)) == ["1", "3", "3", "4", "5", "6"]


@pytest.mark.parametrize(
    "text", ["", "$", ".", "a.", ".a.", "a..b", "a b", "a[0]", "a[", "a[*", "a[*]b", '["a]', "a['b']"]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    """Each with the words of how one is written."""
    with pytest.raises(ValueError, match="is no path"):
        path(text)


@pytest.mark.parametrize("text", ["a", "a.b", "a[*]", "a[*].b", "a.*", "a-b_c", '["a.b"].c', 'a["b c"][*]', "[*]"])
def test_a_path_is_written_as_it_was_read(text: str) -> None:
    """So that the labels of the counts are those of the file."""
    assert written(path(text)) == text
    assert path(f"${text}" if text.startswith("[") else f"$.{text}") == path(text)


# Settings


def test_a_wrong_file_is_refused_when_the_code_is_loaded(rules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable, every line that is wrong, and what the setting is for."""
    monkeypatch.setenv("REDACTION_RULES", str(rules))
    assert settings.load().redaction_rules == str(rules)
    rules.write_text("audit_logs:\n  - drop: id\n  - hide: b\n")
    with pytest.raises(SettingsError, match=r"REDACTION_RULES is wrong: line 2: .*; line 3: .*\(What is taken out"):
        settings.load()


@pytest.mark.parametrize("name", ["incremental_users", "access_logs", "incremental_users,access_logs"])
def test_a_collected_stream_without_a_word_is_refused(name: str, rules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RESOURCES may grow, and the rules have to grow with it; what they name may go without being collected."""
    monkeypatch.setenv("REDACTION_RULES", str(rules))
    monkeypatch.setenv("RESOURCES", f"audit_logs,{name}")
    with pytest.raises(
        SettingsError, match=f"REDACTION_RULES says nothing of {name.replace(',', ', ')}, whose records"
    ):
        settings.load()
    rules.write_text(GOOD + "".join(f"{each}: whole\n" for each in name.split(",")))
    assert settings.load().resources == ("audit_logs", *name.split(","))


@pytest.mark.parametrize(
    "value", ["no-such-Sesame", "/", "builtin:Sesame", "builtin:../redaction_rules/Sesame", "\x00"]
)
def test_what_is_no_file_is_said_and_not_repeated(value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As with every setting, a secret pasted into the wrong variable is not shown."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"REDACTION_RULES is wrong: .+") as raised:
        raise _wrong(value, monkeypatch)
    assert "Sesame" not in repr(raised.value)


def _wrong(value: str, monkeypatch: pytest.MonkeyPatch) -> Exception:
    if "\x00" in value:  # no environment variable can hold it, a file can
        Path("binary").write_bytes(b"\xff\x00")
        value = "binary"
    monkeypatch.setenv("REDACTION_RULES", value)
    try:
        settings.load()
    except SettingsError as wrong:
        return wrong
    raise AssertionError(value)


@pytest.mark.parametrize("name", builtin())
def test_the_rules_that_come_along_are_right(name: str) -> None:
    """Each of them loads by its name, and speaks of every stream that can be collected."""
    assert set(load(f"builtin:{name}")) == set(STREAMS)
    chosen = Settings(redaction_rules=f"builtin:{name}", resources=tuple(STREAMS))
    assert chosen.redaction_rules == f"builtin:{name}"


def test_the_rules_that_come_along_differ_in_the_logs_of_agents_alone() -> None:
    """The set for tickets says `whole` of audit logs and access logs, in so many words, and of nothing else."""
    everything, tickets = load("builtin:without-personal-data"), load("builtin:tickets-without-personal-data")
    assert [name for name, of in everything.items() if not of] == []
    assert {name for name, of in tickets.items() if not of} == {"audit_logs", "access_logs"}
    assert {name: of for name, of in tickets.items() if of}.items() <= everything.items()


@pytest.mark.parametrize("key", ["", "Sesame", "x" * (SHORTEST_KEY - 1), f" {SECRET}", f"{SECRET}\n"])
def test_a_key_that_protects_nothing_is_refused(rules: Path, key: str) -> None:
    """Where a rule hashes, a key is needed that nobody can guess; it is never repeated."""
    with pytest.raises(SettingsError, match=r"^REDACTION_KEY is (?:not set|shorter)") as raised:
        redaction(AUDIT_LOGS, str(rules), key)
    assert not key.strip() or key.strip() not in str(raised.value)


def test_without_a_hash_no_key_is_needed(rules: Path) -> None:
    """Dropping, masking and keeping need none."""
    rules.write_text("audit_logs: [{drop: a}, {mask: b}, {keep: c}]")
    assert redaction(AUDIT_LOGS, str(rules), "") is not None


# Runs


@pytest.fixture
def bucket(store: Store, layout: Layout) -> Bucket:
    return Bucket(store=store, layout=layout)


@pytest.fixture
def collector(environment: dict[str, str], rules: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    with project({**environment, "REDACTION_RULES": str(rules), "REDACTION_KEY": SECRET}, monkeypatch) as running:
        yield running


def test_a_run_redacts_and_tells_how_much(
    collector: Project, zendesk: SimulatedZendesk, bucket: Bucket, rules: Path
) -> None:
    """The bucket holds what the rules leave; the window says how many records and values, and by which rule."""
    collector.run("audit_logs", hours(1))
    span = hours(1)
    sent = zendesk.control.source("audit_logs", span.start, span.end)
    ready = redaction(AUDIT_LOGS, str(rules), SECRET)
    assert ready is not None
    assert bucket.lines() == sorted(ready.apply(line)[0] for line in sent) != sorted(sent)
    told = metadata(collector.materialized("audit_logs")[0])
    assert told["redacted_records"] == len(sent)
    assert told["redacted_by_rule"]["drop change_description"] == len(sent)
    assert told["redacted_values"] == sum(told["redacted_by_rule"].values())
    assert SECRET not in str(told)


def test_another_key_makes_other_hashes(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, rules: Path, bucket: Bucket
) -> None:
    """REDACTION_KEY is the key of the hashes in the bucket."""
    for key in (SECRET, SECRET[::-1]):
        with project({**environment, "REDACTION_RULES": str(rules), "REDACTION_KEY": key}, monkeypatch) as running:
            running.run("audit_logs", hours(1), redeliver=True)
        assert any(hashed(b'"Zendesk"', key.encode()) in line for line in bucket.lines())


def test_a_run_without_rules_says_nothing_of_them(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, zendesk: SimulatedZendesk, bucket: Bucket
) -> None:
    """Off by default: the bytes that Zendesk sent, and no word of redaction."""
    with project(environment, monkeypatch) as running:
        running.run("audit_logs", hours(1))
        told = metadata(running.materialized("audit_logs")[0])
    span = hours(1)
    assert bucket.lines() == sorted(zendesk.control.source("audit_logs", span.start, span.end))
    assert [name for name in told if "redact" in name] == []


def test_a_run_that_lacks_its_key_stores_nothing(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, rules: Path, bucket: Bucket
) -> None:
    """The run says which variable is missing, and Zendesk's records stay where they are."""
    with project({**environment, "REDACTION_RULES": str(rules)}, monkeypatch) as running:
        said = description(running.run("audit_logs", hours(1)))
    assert said.startswith("REDACTION_KEY is not set, and the redaction rules hash: ")
    assert bucket.stored() == bucket.stored(bucket.layout.state) == []


def test_a_run_looks_at_its_rules_again(collector: Project, bucket: Bucket, rules: Path) -> None:
    """Of a file that was changed since the code was loaded, what is there now counts: nothing is read or stored."""
    rules.write_text("incremental_tickets: whole\n")
    assert description(collector.run("audit_logs", hours(1))).startswith("REDACTION_RULES says nothing of audit_logs")
    assert bucket.stored() == bucket.stored(bucket.layout.state) == []


def test_the_key_may_be_a_reference_and_is_shown_nowhere(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, rules: Path, moto: LocalS3, bucket: Bucket
) -> None:
    """`aws-sm:` names where it lies; the definitions hold the variable's name, and nothing says the value."""
    session = boto3.Session(aws_access_key_id="any", aws_secret_access_key="any", region_name="us-east-1")
    session.client("secretsmanager", endpoint_url=moto.endpoint).create_secret(
        Name="zendesk/redaction", SecretString=SECRET
    )
    chosen = {
        **environment,
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": moto.endpoint,
        "REDACTION_RULES": str(rules),
        "REDACTION_KEY": "aws-sm:zendesk/redaction",
    }
    with project(chosen, monkeypatch) as running:
        assert running.run("audit_logs", hours(1)).success
        held = running.definitions.resources["s3_io_manager"] if running.definitions.resources else None
    assert any(hashed(b'"Zendesk"', SECRET.encode()) in line for line in bucket.lines())
    assert SECRET not in f"{held!r} {held.model_dump() if held else ''}"
