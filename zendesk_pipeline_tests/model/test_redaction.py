"""What redaction leaves of a record, to the byte; and that nothing else of it is stored anywhere."""

import gzip
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from zendesk_pipeline.delivery.batches import LONGEST_LINE
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3
from zendesk_pipeline.model.errors import DeliveryError, RedactionError
from zendesk_pipeline.model.records import Record, record_reader
from zendesk_pipeline.model.redaction import Path, Redaction, RedactionRule, digest, hashed, written
from zendesk_pipeline.model.redaction_rules import BUILTIN, always, builtin, load, parsed, path
from zendesk_pipeline.model.streams import INCREMENTAL_TICKETS, STREAMS, Stream
from zendesk_pipeline.model.windows import timestamp
from zendesk_pipeline_tests.by_hand import FIRST, hours, numbered, paged, ticket
from zendesk_pipeline_tests.deliveries import SMALL, Bucket, Deliveries, without_ledgers
from zendesk_pipeline_tests.fakes.memory_s3 import CrashError, MemoryBucket, MemoryS3, Trouble, troubled

UNHURRIED = hypothesis_settings(deadline=None)
SECRET = b"a key of thirty-two characters.."
PERSON = "Erika-Mustermann-4711"


def _redaction(rules: str, stream: Stream = INCREMENTAL_TICKETS, key: bytes = SECRET) -> Redaction:
    """The rules of one stream, as a file has them."""
    indented = "".join(f"  {line}\n" for line in rules.splitlines())
    return Redaction(parsed(f"{stream.name}:\n{indented}")[stream.name], always=always(stream), key=key)


def _left(rules: str, line: bytes) -> bytes:
    return _redaction(rules).apply(line)[0]


# One rule at a time

SUBJECT = rb'"Caf\u00e9 \/ 1.0"'
SOURCE = b'{"from":{"address":"ada@example.com","name":"Ada"},"rel":null}'
FIELDS = b'[{"id":1,"value":"x"},{"id":2.0,"value":null}]'
LINE = (
    b'{"id":7,"generated_timestamp":1794460500,"subject":%s,"n":12345678901234567890,"f":1.0,"e":1E-7,'
    b'"via":{"channel":"web","source":%s},"tags":["a","b"],"fields":%s}' % (SUBJECT, SOURCE, FIELDS)
)


@pytest.mark.parametrize(
    ("rules", "taken", "put"),
    [
        pytest.param("- drop: subject", [b'"subject":%s,' % SUBJECT], b"", id="drop"),
        pytest.param("- drop: [subject, tags]", [b'"subject":%s,' % SUBJECT, b'"tags":["a","b"],'], b"", id="two"),
        pytest.param("- drop: via.source", [b',"source":%s' % SOURCE], b"", id="nested"),
        pytest.param("- drop: fields", [b',"fields":%s' % FIELDS], b"", id="last-member"),
        pytest.param("- drop: fields[*].value", [b',"value":"x"', b',"value":null'], b"", id="in-every-item"),
        pytest.param("- drop: tags[*]", [b'"a","b"'], b"", id="every-item"),
        pytest.param("- drop: via.*.rel", [b',"rel":null'], b"", id="any-field"),
        pytest.param("- mask: subject", [SUBJECT], b'"[redacted]"', id="mask"),
        pytest.param("- mask: via.source", [SOURCE], b'"[redacted]"', id="mask-object"),
        pytest.param("- mask: fields[*].value", [b'"x"'], b'"[redacted]"', id="null-stays"),
        pytest.param("- keep: [channel]\n  in: via", [b',"source":%s' % SOURCE], b"", id="keep-inside"),
        pytest.param("- keep: name\n  in: via.source.from", [b'"address":"ada@example.com",'], b"", id="keep-deeper"),
        pytest.param("- keep: id\n  in: fields[*]", [b',"value":"x"', b',"value":null'], b"", id="keep-in-items"),
        pytest.param("- drop: [absent, via.absent.x, subject.x, 'tags[*].x', 'via[*]']", [], b"", id="nothing-there"),
    ],
)
def test_a_rule_takes_what_it_names_and_not_a_byte_more(rules: str, taken: list[bytes], put: bytes) -> None:
    """Around what a rule takes or replaces every byte stays: numbers, escapes, order."""
    expected = LINE
    for part in taken:
        assert expected.count(part) == 1
        expected = expected.replace(part, put)
    assert _left(rules, LINE) == expected


def test_keep_leaves_nothing_else() -> None:
    """An allow-list: what it does not name goes, identity and event time stay unasked, hashes and masks are kept."""
    left = _left("- keep: [f, via.channel, 'fields[*].id']\n- hash: n\n- mask: via.source.from.address", LINE)
    value = hashed(b"12345678901234567890", SECRET)
    assert left == (
        b'{"id":7,"generated_timestamp":1794460500,"n":"%s","f":1.0,"via":{"channel":"web","source":{"from":{"address":'
        b'"[redacted]"}}},"fields":[{"id":1},{"id":2.0}]}' % value
    )


def test_two_lists_of_what_is_kept_are_one() -> None:
    """Rules of `keep` add up; one `in` a place narrows what another keeps."""
    split = _redaction("- keep: f\n- keep: [via]\n- keep: channel\n  in: via\n- drop: via.x")
    left = split.apply(LINE)[0]
    assert left == b'{"id":7,"generated_timestamp":1794460500,"f":1.0,"via":{"channel":"web"}}'


def test_what_is_kept_further_down_is_kept() -> None:
    """What a list of `keep` leaves of a place needs no word in lists of places around it; the rest goes."""
    left = _left("- keep: f\n- keep: rel\n  in: via.source\n- keep: id\n  in: fields[*]", LINE)
    assert left == (
        b'{"id":7,"generated_timestamp":1794460500,"f":1.0,"via":{"source":{"rel":null}},"fields":[{"id":1},{"id":2.0}]}'
    )
    assert _left("- keep: f\n- keep: id\n  in: fields[*]", b'{"f":1,"fields":["Ada"]}') == b'{"f":1,"fields":[]}'


@pytest.mark.parametrize("value", [b'"Ada"', b"4711", b"true", b'["Ada"]', b'[{"channel":"Ada"}]'])
def test_what_is_not_what_a_rule_expects_goes(value: bytes) -> None:
    """Where something of an object is kept and the field holds something else, none of that is kept."""
    line = b'{"id":7,"generated_timestamp":5,"via":%s}' % value
    for rules in ("- keep: via.channel", "- keep: channel\n  in: via"):
        assert b"Ada" not in _left(rules, line)
        assert b"4711" not in _left(rules, line)
        assert b"true" not in _left(rules, line)


@pytest.mark.parametrize(
    ("rules", "stays"),
    [
        ("- drop: subject\n- mask: sub*ject\n", None),
        ("- mask: '*.x'\n- drop: a.x", b'{"id":1,"a":{}}'),
        ("- hash: a.*\n- mask: a.x", b'{"id":1,"a":{"x":"[redacted]"}}'),
        ("- hash: a.x\n- drop: a", b'{"id":1}'),
        ("- mask: a\n- hash: a.x", b'{"id":1,"a":"[redacted]"}'),
    ],
)
def test_of_several_rules_the_strictest_counts(rules: str, stays: bytes | None) -> None:
    """Drop before mask before hash, whatever stands first, and what is further up before what is below."""
    if stays is None:
        with pytest.raises(ValueError, match=r"line 3: sub\*ject is no path"):
            _redaction(rules)
    else:
        assert _left(rules, b'{"id":1,"a":{"x":"Ada"}}') == stays


# Keys that try to slip through


@pytest.mark.parametrize(
    "key",
    [rb"subject", rb"\u0073ubject", rb"su\u0062ject", rb"\u0073\u0075\u0062\u006a\u0065\u0063\u0074", rb"subjec\u0074"],
)
@pytest.mark.parametrize("rules", ["- drop: subject", "- mask: subject", "- hash: subject", "- keep: status"])
def test_an_escaped_key_is_the_key(rules: str, key: bytes) -> None:
    """However a key is written, it is the field it reads as."""
    assert b"Ada" not in _left(rules, b'{"id":7,"generated_timestamp":5,"%s":"Ada","status":"new"}' % key)


@pytest.mark.parametrize("rules", ["- drop: subject", "- mask: subject", "- hash: subject", "- keep: status"])
def test_every_occurrence_of_a_key_counts(rules: str) -> None:
    """A key that stands in a record twice is redacted twice, whichever a reader would take."""
    line = (
        b'{"subject":"Ada","id":7,"subject":{"a":["Ada"]},"generated_timestamp":5,"\\u0073ubject":["Ada"],'
        b'"subject":"Ada"}'
    )
    assert b"Ada" not in _left(rules, line)


def test_case_and_blanks_make_another_field() -> None:
    """JSON's names are exact: `Subject` is not `subject`. An allow-list lets neither through."""
    line = b'{"id":7,"generated_timestamp":5,"Subject":"Ada","subject ":"Ada"}'
    assert _left("- drop: subject", line) == line
    assert b"Ada" not in _left("- keep: subject", line)


def test_a_name_that_no_bare_path_can_hold_is_quoted() -> None:
    """Dots, blanks, quotes and other letters in names are written in brackets, as JSON has them."""
    line = '{"id":1,"a.b":"Ada","c d":"Ada","e\\"":"Ada","größe":"Ada","größe2":1}'.encode()
    rules = """- drop: ['["a.b"]', '["c d"]', '["e\\""]', '["gr\\u00f6\\u00dfe"]']"""
    assert _left(rules, line) == '{"id":1,"größe2":1}'.encode()
    assert written(path('["a.b"].c[*]')) == '["a.b"].c[*]'


def test_text_that_looks_like_structure_is_text() -> None:
    """Quotes, brackets and keys inside strings end nothing."""
    line = (
        rb'{"id":7,"note":"\",\"subject\":\"x\"}]","generated_timestamp":5,"a":["]}",{"b":"\\"},"\\\\\""],'
        rb'"subject":"Ada"}'
    )
    assert json.loads(line)["subject"] == "Ada"
    assert _left("- drop: subject", line) == line.replace(b',"subject":"Ada"', b"")


def test_blanks_between_the_parts_are_no_hiding_place() -> None:
    """White space around keys, colons and values changes nothing; what is kept stays as it is written."""
    line = b' { "id" : 7 , "subject" : "Ada" , "a" : [ 1.0 , { "subject" : [ ] } ] ,"generated_timestamp": 5 } '
    assert _left("- drop: [subject, 'a[*].subject']", line) == b'{"id" : 7,"a" : [1.0,{}],"generated_timestamp": 5}'


def test_half_a_letter_is_taken_as_it_comes() -> None:
    """A lone surrogate in a key or a value stops nothing and hides nothing."""
    line = rb'{"id":7,"\ud83d":"Ada","subject":"\ude00 Ada","x":"\ud83d","generated_timestamp":5}'
    assert _left("- hash: subject\n- keep: x", line) == (
        rb'{"id":7,"subject":"%s","x":"\ud83d","generated_timestamp":5}' % hashed(rb'"\ude00 Ada"', SECRET)
    )


def test_depth_is_no_hiding_place() -> None:
    """What lies under a rule goes however deep it is, and what lies beside it is walked over without a stack."""
    deep = b"[" * 50_000 + b'"Ada"' + b"]" * 50_000
    line = b'{"id":7,"subject":%s,"generated_timestamp":5,"other":%s}' % (deep, deep)
    assert _left("- drop: subject", line) == line.replace(b'"subject":' + deep + b",", b"")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]x",
        b'"subject"',
        b'{"id":7',
        b'{"id":7,}',
        b'{"id":7 "subject":"Ada"}',
        b'{"id":7}{"subject":"Ada"}',
        b'{"id":7,"subject":}',
        b'{"id":7,"other":[1,2,"subject":"Ada"}',
        b'{"id":7,"other":{"a":1',
        b'{"id":7,"\\u00zz":"Ada"}',
        b'{"id":7,"\xff\\n":"Ada"}',
    ],
)
def test_what_cannot_be_taken_apart_is_an_error_and_quotes_nothing(line: bytes) -> None:
    """It never comes out as it is."""
    with pytest.raises(RedactionError) as raised:
        _left("- drop: subject", line)
    assert "Ada" not in repr(raised.value)
    assert raised.value.__cause__ is None


# Hashes


def test_a_hash_is_what_anybody_with_the_key_can_compute() -> None:
    """HMAC-SHA-256 of a string's text in UTF-8, cut to 128 bits."""
    text = 'Ärger mit "X"\n'
    expected = "hmac:" + hmac.new(SECRET, text.encode(), hashlib.sha256).hexdigest()[:32]
    line = json.dumps({"id": 7, "subject": text, "generated_timestamp": 5}).encode()
    assert json.loads(_left("- hash: subject", line))["subject"] == expected


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param(rb'"A\u00e4\/"', '"Aä/"'.encode(), True, id="escapes"),
        pytest.param(b'"4711"', b"4711", True, id="number-and-text"),
        pytest.param(b"1.0", b"1", False, id="forms-of-a-number"),
        pytest.param(b"12345678901234567890", b"12345678901234567891", False, id="beyond-floats"),
        pytest.param(b'[ "a" ,1]', b'["a",1]', True, id="blanks"),
        pytest.param(b'["a"]', b'["b"]', False, id="items"),
        pytest.param(b'"a"', b'"A"', False, id="case"),
    ],
)
def test_the_same_value_is_the_same_hash(one: bytes, other: bytes, *, same: bool) -> None:
    """Strings by their text, numbers as they are written."""
    assert (hashed(one, SECRET) == hashed(other, SECRET)) is same
    assert hashed(one, SECRET) != hashed(one, SECRET[::-1])


def test_the_digest_of_rules_follows_their_meaning() -> None:
    """Order and layout of the file do not count; actions, paths and the key of a hash do."""
    one = _redaction("- drop: [a, b]\n- hash: c")
    assert re.fullmatch("[0-9a-f]{32}", one.digest)
    assert _redaction("- hash: [c]\n- drop: b\n- drop: $.a").digest == one.digest
    changed = ("- drop: [a, b]\n- mask: c", "- drop: [a]\n- hash: c", "- drop: [a, b, d]\n- hash: c")
    assert one.digest not in {_redaction(rules).digest for rules in changed}
    assert _redaction("- drop: [a, b]\n- hash: c", key=SECRET[::-1]).digest != one.digest
    assert _redaction("- drop: a", key=b"x" * 32).digest == _redaction("- drop: a").digest
    assert digest([], b"") == digest([], SECRET)


# Any rules, any record


@dataclass(frozen=True)
class Leaf:
    """A scalar as it is written."""

    raw: bytes


@dataclass(frozen=True)
class Node:
    """An object (keys as written, names as they read) or an array (no keys)."""

    members: tuple[tuple[bytes, bytes, "Leaf | Node"], ...]
    is_object: bool

    def raw(self) -> bytes:
        parts = [
            (key + b":" if self.is_object else b"") + (each.raw if isinstance(each, Leaf) else each.raw())
            for key, _, each in self.members
        ]
        return (b"{%s}" if self.is_object else b"[%s]") % b",".join(parts)


NAMES = ("a", "b", "c", "é")


def _key_forms(name: str) -> st.SearchStrategy[tuple[bytes, bytes]]:
    forms = [f'"{name}"', "".join(['"', *(f"\\u{ord(letter):04x}" for letter in name), '"'])]
    return st.sampled_from([(form.encode(), name.encode()) for form in forms])


LEAVES = st.sampled_from(
    [b"null", b"true", b"1.0", b"-0", b"12345678901234567890", b"1E-7", b'""', rb'"\u0041\/,}]"', rb'"\ud83d"']
) | st.text(max_size=5).map(msgspec.json.encode)  # fmt: skip


def _objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Node]:
    member = st.tuples(st.sampled_from(NAMES).flatmap(_key_forms), values).map(lambda each: (*each[0], each[1]))
    return st.lists(member, max_size=5).map(lambda members: Node(tuple(members), is_object=True))


def _arrays(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Node]:
    return st.lists(values, max_size=3).map(lambda each: Node(tuple((b"", b"", one) for one in each), is_object=False))


trees: st.SearchStrategy[Any] = st.recursive(
    LEAVES.map(Leaf), lambda values: _objects(values) | _arrays(values), max_leaves=12
)
records = _objects(trees)
steps = st.sampled_from([*(name.encode() for name in NAMES), "*", "[*]"])
paths = st.lists(steps, min_size=1, max_size=3).map(tuple)
rule = st.builds(RedactionRule, action=st.sampled_from(["drop", "mask", "hash"]), path=paths) | st.builds(
    RedactionRule, action=st.just("keep"), path=paths, within=st.just(()) | paths
)
rule_lists = st.lists(rule, min_size=1, max_size=5)

Place = tuple[bytes | None, ...]
"""Names on the way to a value; None for an item."""


def _fits(path: Path, place: Place) -> bool:
    def one(step: bytes | str, name: bytes | None) -> bool:
        return name is None if step == "[*]" else name is not None and step in {"*", name}

    return len(path) == len(place) and all(map(one, path, place))


def _leads_to(path: Path, place: Place) -> bool:
    """Whether the path ends below the place."""
    return len(path) > len(place) and _fits(path[: len(place)], place)


def _model(value: Leaf | Node, place: Place, rules: Sequence[RedactionRule]) -> Leaf | Node | None:
    """What has to be left of a value, said again in the slowest way."""
    actions = {each.action for each in rules if each.action != "keep" and _fits(each.path, place)}
    if "drop" in actions or (not actions and _is_unwanted(value, place, rules)):
        return None
    if actions:
        raw = value.raw if isinstance(value, Leaf) else value.raw()
        put = b"[redacted]" if "mask" in actions else hashed(raw, SECRET)
        return value if raw == b"null" else Leaf(b'"%s"' % put)
    if isinstance(value, Leaf):
        return value
    left = [
        (key, name, _model(each, (*place, name if value.is_object else None), rules))
        for key, name, each in value.members
    ]
    return replace(value, members=tuple((key, name, each) for key, name, each in left if each is not None))


def _is_unwanted(value: Leaf | Node, place: Place, rules: Sequence[RedactionRule]) -> bool:
    """Whether a list of what is kept leaves it out."""
    changing = any(each.action in {"mask", "hash"} and _leads_to(each.path, place) for each in rules)
    for within in {each.within for each in rules if each.action == "keep"}:
        keeping = [each for each in rules if each.action == "keep"]
        kept = [each.whole for each in keeping if each.within == within or len(each.within) > len(within)]
        is_inside = any(_fits(within, place[:length]) for length in range(len(place)))
        is_kept = any(_fits(path, place[:length]) for path in kept for length in range(len(place) + 1))
        leads_on = changing or any(_leads_to(path, place) for path in kept)
        if is_inside and not is_kept and (isinstance(value, Leaf) or not leads_on):
            return True
        if _fits(within, place) and isinstance(value, Leaf):
            return True
    return False


@hypothesis_settings(UNHURRIED, max_examples=1000)
@given(record=records, rules=rule_lists)
def test_what_is_left_is_what_the_rules_say_to_the_byte(record: Node, rules: list[RedactionRule]) -> None:
    """Any rules on any record: what is kept is the original's bytes, and nothing else is there, however written."""
    expected = _model(record, (), rules)
    assert isinstance(expected, Node)
    assert Redaction(rules, always=(), key=SECRET).apply(record.raw())[0] == expected.raw()


@UNHURRIED
@given(record=records, rules=rule_lists)
def test_redacting_again_changes_nothing_more(record: Node, rules: list[RedactionRule]) -> None:
    """What was redacted stays as it is under the same rules; only a hash is hashed again."""
    without_hashes = [each for each in rules if each.action != "hash"]
    redaction = Redaction(without_hashes, always=(), key=SECRET)
    once = redaction.apply(record.raw())[0]
    assert redaction.apply(once)[0] == once


@UNHURRIED
@given(record=records, rules=rule_lists)
def test_hits_tell_whether_a_record_changed(record: Node, rules: list[RedactionRule]) -> None:
    """A record is counted as redacted where something was taken from it or replaced, and only there."""
    left, hits = Redaction(rules, always=(), key=SECRET).apply(record.raw())
    assert hits or left == record.raw()
    assert {label.split()[0] for label in hits} <= {each.action for each in rules}


# Through a delivery: nothing of it is stored

PERSONAL = {
    "external_id": PERSON,
    "subject": PERSON,
    "raw_subject": PERSON,
    "description": PERSON,
    "recipient": f"{PERSON}@example.com",
    "requester_id": PERSON,
    "submitter_id": PERSON,
    "assignee_id": PERSON,
    "collaborator_ids": [PERSON],
    "follower_ids": [PERSON, 4],
    "email_cc_ids": [PERSON],
    "forum_topic_id": PERSON,
    "tags": [PERSON, {"a": PERSON}],
    "custom_fields": [{"id": 1, "value": PERSON}, {"id": PERSON, "value": [PERSON]}],
    "fields": [{"id": 1, "value": PERSON}],
    "encoded_id": PERSON,
    "metric_set": {"a": [PERSON]},
    "not_yet_known": {PERSON: PERSON},
    "actor_id": PERSON,
    "actor_name": PERSON,
    "source_id": PERSON,
    "source_label": PERSON,
    "change_description": PERSON,
    "ip_address": PERSON,
    PERSON: 1,
}
NESTED = {
    "via": {
        "channel": "email",
        "source": {"from": {"address": PERSON, "name": PERSON, "phone": PERSON}, "to": {"name": PERSON}, "rel": None},
        PERSON: PERSON,
    },
    "satisfaction_rating": {"score": "bad", "comment": PERSON, "reason": PERSON},
}


CHANGE = {
    **PERSONAL,
    **NESTED,
    "previous_value": PERSON,
    "author_id": PERSON,
    "body": PERSON,
    "attachments": [{"file_name": PERSON}],
    "custom_ticket_fields": {"1": PERSON},
    "recipients": [PERSON],
    "added_tags": [PERSON],
}
OF_STREAMS: Mapping[str, Mapping[str, object]] = {
    "incremental_ticket_events": {
        "updater_id": PERSON,
        "system": {"client": "curl", "ip_address": PERSON, "location": PERSON, "latitude": PERSON, PERSON: PERSON},
        "metadata": {"notes": PERSON},
        "child_events": [{"id": 1, "event_type": "Change", **CHANGE}, {"id": 2, **CHANGE}],
    },
    "incremental_users": {
        **dict.fromkeys(("name", "email", "phone", "alias", "details", "notes", "signature"), PERSON),
        "photo": {"file_name": PERSON, "thumbnails": [PERSON]},
        "user_fields": {"a": PERSON},
    },
    "incremental_organizations": {
        **dict.fromkeys(("name", "details", "notes"), PERSON),
        "domain_names": [PERSON],
        "organization_fields": {"a": PERSON},
    },
    "ticket_metric_events": {"sla": {"target": 1, "policy": {"id": 1, "title": PERSON, "description": PERSON}}},
    "access_logs": {
        **dict.fromkeys(("user_id", "url", "referer"), PERSON),
        "graphql": {"operation_name": "ticket", "query": PERSON, "variables": PERSON},
    },
}
"""What a stream's own fields could hold of a person."""


def _planted(stream: Stream, number: int, filling: str = "") -> Record:
    """A record with a person in every field, once with plain keys and once with escaped ones."""
    time = FIRST.start + number
    known = {"id": number, "created_at": "2026-11-12T05:00:01Z", "generated_timestamp": time, "status": "open"}
    known |= {"timestamp": time, "updated_at": timestamp(time), "time": timestamp(time)}
    personal = {**PERSONAL, **NESTED, **OF_STREAMS.get(stream.name, {})}
    once = msgspec.json.encode({**known, **personal})
    fields = {**personal, "description": PERSON + filling}
    escaped = b",".join(
        b'"%s":%s' % ("".join(f"\\u{ord(letter):04x}" for letter in name).encode(), msgspec.json.encode(value))
        for name, value in fields.items()
        if name != PERSON
    )
    return record_reader(stream)(once[:-1] + b"," + escaped + b"}")


@pytest.fixture
def bucket(s3: LocalS3, layout: Layout) -> Bucket:
    return Bucket(store=Store(client=s3.client(), bucket=s3.bucket, encryption={}), layout=layout)


def _built_in(stream: Stream) -> Redaction:
    rules = load("builtin:without-personal-data")[stream.name]
    return Redaction(rules, always=always(stream), key=SECRET)


def _everything(bucket: Bucket) -> Mapping[str, bytes]:
    """Every byte that is stored, unpacked, by key."""
    keys = [key for prefix in vars_of(bucket.layout) for key in bucket.stored(prefix)]
    return {key: bucket.body(key) for key in keys}


def vars_of(layout: Layout) -> tuple[str, str, str]:
    return layout.feed, layout.state, layout.quarantine


@pytest.mark.parametrize("stream", STREAMS.values(), ids=lambda stream: stream.name)
def test_a_person_planted_in_every_field_is_nowhere_in_the_bucket(bucket: Bucket, stream: Stream) -> None:
    """With the rules that come along, whatever the stream: in no feed, quarantine, ledger or warning."""
    filling = "x" * LONGEST_LINE
    planted = [_planted(stream, number, filling if number == 2 else "") for number in range(4)]
    tagged = replace(SMALL, items=stream.items)
    for redaction, expected in ((_built_in(stream), False), (None, True)):
        root = f"{bucket.layout.feed}{expected}/"
        place = replace(bucket, layout=Layout(feed=f"{root}c/", state=f"{root}s/", quarantine=f"{root}q/"))
        run = Deliveries(bucket=place, stream=stream, form=tagged, redaction=redaction)
        run.records(hours(1), planted)
        stored = _everything(place)
        assert len(place.lines()) == 4
        everywhere = b"".join(stored.values()) + "".join([*stored, *run.warnings]).encode()
        assert (PERSON.encode() in everywhere) is expected
        assert any("/q/" in key for key in stored) is expected  # without its description it is no long record


def test_what_goes_to_quarantine_is_redacted_too(bucket: Bucket) -> None:
    """A record that stays too long lies whole under the quarantine prefix: whole, as the rules leave it."""
    redaction = _redaction("- drop: subject")
    run = Deliveries(
        bucket=bucket, stream=INCREMENTAL_TICKETS, form=replace(SMALL, items="tickets"), redaction=redaction
    )
    line = b'{"id":7,"subject":"%s","generated_timestamp":%d,"description":"%s"}' % (
        PERSON.encode(), FIRST.start, b"x" * LONGEST_LINE,
    )  # fmt: skip
    run.records(hours(1), [record_reader(INCREMENTAL_TICKETS)(line)])
    (key,) = bucket.stored(bucket.layout.quarantine)
    assert bucket.body(key) == line.replace(b'"subject":"%s",' % PERSON.encode(), b"")
    assert PERSON.encode() not in b"".join(_everything(bucket).values())


def test_a_record_that_cannot_be_redacted_stops_its_run(bucket: Bucket) -> None:
    """Nothing of it is stored, the error names the window, and what was before it stays."""
    broken = Record(line=b'{"id":8,"subject":"%s"' % PERSON.encode(), identity="8:1", time=FIRST.end - 1)
    run = Deliveries(bucket=bucket, stream=INCREMENTAL_TICKETS, redaction=_redaction("- drop: subject"))
    with pytest.raises(RedactionError, match=f"incremental_tickets {FIRST}: the redaction rules cannot") as raised:
        run.run(hours(1), numbered([[ticket(1, FIRST.start)], [broken]]))
    assert PERSON not in repr(raised.value)
    assert PERSON.encode() not in b"".join(_everything(bucket).values())
    assert bucket.complete(hours(1)) == [False]


# Through a delivery: the promise

TICKETS = [ticket(number, FIRST.start + 90 * number, f"{PERSON} {number}") for number in range(60)]
SPAN = hours(2)
RULES = _redaction("- hash: subject")
REDACTED = sorted(RULES.apply(record.line)[0] for record in TICKETS)


def _memory(memory: MemoryBucket, around: Any = None) -> Deliveries:
    client: Any = MemoryS3(memory, around=around) if around else MemoryS3(memory)
    layout = Layout(feed="crm/", state="state/", quarantine="quarantine/")
    place = Bucket(store=Store(client=client, bucket="memory", encryption={}, sleep=lambda _: None), layout=layout)
    return Deliveries(bucket=place, stream=INCREMENTAL_TICKETS, form=replace(SMALL, items="tickets"), redaction=RULES)


def _feed(memory: MemoryBucket) -> Iterator[bytes]:
    for key, body in memory.objects.items():
        if key.startswith("crm/"):
            yield from body.splitlines()


@pytest.mark.parametrize("trouble", ["crash before", "crash after", "error after", "sent twice", "outage"])
def test_whatever_happens_to_a_request_each_redacted_record_is_there_once(trouble: Trouble) -> None:
    """At every request of a run it crashes or fails, and runs again: the feed holds what the rules leave, once."""
    requests: list[str] = []

    def noted(method: str, act: Callable[[], Any]) -> Any:
        requests.append(method)
        return act()

    _memory(MemoryBucket(), noted).records(SPAN, TICKETS)
    assert len(requests) > 10
    for at in range(len(requests)):
        memory = MemoryBucket()
        with suppress(CrashError, DeliveryError):
            _memory(memory, troubled(trouble, at, lambda: None)).records(SPAN, TICKETS)
        _memory(memory).records(SPAN, TICKETS)
        assert sorted(_feed(memory)) == REDACTED
        states = [body for key, body in memory.objects.items() if key.startswith("state/")]
        objects = [each for body in states for each in json.loads(gzip.decompress(body))["objects"]]
        assert {each["redaction"] for each in objects} == {RULES.digest}


def test_the_same_rules_give_the_same_objects(bucket: Bucket) -> None:
    """Keys are digests of what was stored: two buckets under the same rules are alike, however the pages were cut."""
    roots = [f"{bucket.layout.feed}{number}/" for number in range(2)]
    places = [
        replace(bucket, layout=Layout(feed=f"{root}c/", state=f"{root}s/", quarantine=f"{root}q/")) for root in roots
    ]
    for place, size in zip(places, (3, 17), strict=True):
        run = Deliveries(
            bucket=place, stream=INCREMENTAL_TICKETS, form=replace(SMALL, items="tickets"), redaction=RULES
        )
        run.run(SPAN, paged(TICKETS, size))
    one, other = ({key.split("/c/")[1]: body for key, body in place.feed().items()} for place in places)
    assert one == other
    assert sorted(line for body in one.values() for line in body.splitlines()) == REDACTED


def test_rules_changed_between_a_crash_and_its_retry_repeat_nothing(bucket: Bucket) -> None:
    """What the old rules left in the feed counts as delivered, and the ledger says by which rules it was."""
    run = Deliveries(bucket=bucket, stream=INCREMENTAL_TICKETS, form=replace(SMALL, items="tickets"), redaction=RULES)
    run.records(SPAN, TICKETS)
    keys = without_ledgers(bucket)
    bucket.delete(keys[1:])
    changed = replace(run, redaction=_redaction("- drop: subject"))
    changed.records(SPAN, TICKETS)
    named = [each for window in SPAN for each in bucket.ledger(window, INCREMENTAL_TICKETS)["objects"]]
    assert {each["redaction"] for each in named if each["key"] == keys[0]} == {RULES.digest}
    assert {each["redaction"] for each in named if each["key"] != keys[0]} == {changed.redaction.digest}  # pyright: ignore[reportOptionalMemberAccess]  # it is set above
    assert sum(len(each["identities"]) for each in named) == len(TICKETS) == len(bucket.lines())


def test_without_rules_nothing_is_noted(bucket: Bucket) -> None:
    """Off means off: the bytes that Zendesk sent, no digest in the ledger, nothing beside the objects."""
    run = Deliveries(bucket=bucket, stream=INCREMENTAL_TICKETS, form=replace(SMALL, items="tickets"))
    run.records(SPAN, TICKETS)
    assert bucket.lines() == sorted(record.line for record in TICKETS)
    assert [each for each in bucket.ledger(FIRST, INCREMENTAL_TICKETS)["objects"] if "redaction" in each] == []
    heads = [bucket.store.client.head_object(Bucket=bucket.store.bucket, Key=key) for key in bucket.stored()]
    assert [head["Metadata"] for head in heads] == [{}] * len(heads)


def test_a_run_counts_what_it_redacted(bucket: Bucket) -> None:
    """Records changed and values taken, by rule, of what this run delivered; a run again has nothing to count."""
    redaction = _redaction("- hash: subject\n- drop: [generated, via.x]")
    run = Deliveries(
        bucket=bucket, stream=INCREMENTAL_TICKETS, form=replace(SMALL, items="tickets"), redaction=redaction
    )
    first, again = (run.records(SPAN, TICKETS).tallies[FIRST] for _ in range(2))
    assert (first.redacted, dict(first.redactions)) == (40, {"hash subject": 40})
    assert (again.redacted, dict(again.redactions)) == (0, {})


@pytest.mark.parametrize("name", builtin())
def test_the_rules_that_come_along_leave_what_detection_needs(name: str) -> None:
    """They load, and a ticket keeps what is no text and nobody's name, and hashes who it was."""
    rules = load(f"{BUILTIN}{name}")["incremental_tickets"]
    redaction = Redaction(rules, always=always(INCREMENTAL_TICKETS), key=SECRET)
    left = json.loads(redaction.apply(_planted(INCREMENTAL_TICKETS, 7).line)[0])
    who = hashed(PERSON.encode().join([b'"'] * 2), SECRET).decode()
    assert (left["id"], left["status"], left["generated_timestamp"]) == (7, "open", FIRST.start + 7)
    assert (left["requester_id"], left["via"]["source"]["from"]) == (who, {"address": who})
    assert left["satisfaction_rating"] == {"score": "bad"}
    assert left.keys().isdisjoint({"subject", "description", "tags", "custom_fields", "not_yet_known"})
