"""Fields and values that the records of a walk have: each is found, none is in doubt, and no data is shown for one."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zendesk_pipeline.model.fields_seen import MOST_FIELDS, MOST_VALUES, FieldsSeen, is_value
from zendesk_pipeline.model.redaction_rules import path
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_TICKETS
from zendesk_pipeline_tests.by_hand import FIRST, leaves

NAMES = st.sampled_from(["a", "b", "from", "class", "id2", "created_at2", "f0", "with-dash"])
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def _record(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {"id": number, "generated_timestamp": FIRST.start + number, **fields}


def _seen(*records: Mapping[str, Any]) -> dict[str, int]:
    """What is seen of tickets, a page each."""
    fields = FieldsSeen(INCREMENTAL_TICKETS)
    for record in records:
        fields.look(msgspec.json.encode(record), record["generated_timestamp"])
        fields.grow()
    return {name: time - FIRST.start for name, time in fields.seen.items()}


def test_each_field_is_named_with_the_time_it_was_first_seen() -> None:
    """Fields within fields and of items too; null, an empty object and an empty array name nothing."""
    first = _record(1, via={"channel": "web", "source": {}}, tags=[], due_at=None)
    second = _record(2, via={"channel": "web", "source": {"rel": "x"}}, tags=["a"], due_at="2026-11-12")
    third = _record(3, custom=[{"id": 1}, {"id": 2, "value": None}], via=None, tags="none")
    assert _seen(first, second, third) == {
        "id": 1,
        "generated_timestamp": 1,
        "via.channel": 1,
        "via.source.rel": 2,
        "tags[*]": 2,
        "due_at": 2,
        "custom[*].id": 3,
        "tags": 3,
    }


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=4), min_size=1, max_size=6))
def test_whatever_the_records_hold_each_field_is_seen(fields: list[dict[str, Any]]) -> None:
    """However the shapes change from record to record, what is seen is what is there, and a path."""
    records = [_record(number, **each) for number, each in enumerate(fields, 1)]
    seen = _seen(*records)
    assert seen.keys() == {leaf for record in records for leaf in leaves(record)}
    for name in seen:
        assert path(name)


@pytest.mark.parametrize(
    "line",
    [
        b'{"b":"\\ud800"}',
        b'{"a":1e999,"b":123456789012345678901234567890}',
        b'{"a":' + b"[" * 900 + b"]" * 900 + b',"b":1}',
        b'{"a":1,"a":{"x":1},"b":1}',
    ],
    ids=["half a letter", "large numbers", "deep", "twice"],
)
def test_what_the_parse_stumbles_over_is_taken_apart(line: bytes) -> None:
    """Whatever the values are, the fields are found; a record that cannot be read at all teaches nothing."""
    fields = FieldsSeen(INCREMENTAL_TICKETS)
    for _ in range(3):
        fields.look(b'{"a":"plain"}', 1)
        fields.look(line, 2)
        fields.look(b"no record", 3)
        fields.grow()
    assert fields.seen["b"] == 2
    assert 3 not in fields.seen.values()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"by": {"ada@example.com": 1}}, "by.*"),
        ({"by": {"29398461000017": {"x": 1}}}, "by.*"),
        ({"by": {f"f{number}": 1 for number in range(MOST_FIELDS + 1)}}, "by.*"),
        ({"by": {"x" * 65: 1}}, "by.*"),
    ],
    ids=["address", "number", "many", "long"],
)
def test_keys_that_are_data_are_no_names(fields: dict[str, Any], named: str) -> None:
    """An object whose keys are addresses or ids is a table: it has one name, and none of its keys is shown."""
    seen = _seen(_record(1, **fields), _record(2, by={"other": 1}))
    assert seen.keys() == {"id", "generated_timestamp", named}


def test_each_occurrence_of_a_repeated_name_is_looked_at() -> None:
    """Rules see them all, and so does this: what stands in the first is stored as well."""
    fields = FieldsSeen(INCREMENTAL_TICKETS)
    fields.look(b'{"id":1,"a":{"secret":1},"a":{}}', 1)
    fields.grow()
    fields.look(b'{"id":1,"a":{"other":1},"a":{}}', 2)
    assert fields.seen == {"id": 1, "a.secret": 1, "a.other": 2}


def _audit_log(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": number, "created_at": "2026-11-12T05:00:00Z", **fields}


def test_values_are_noted_of_the_fields_that_a_stream_names() -> None:
    """Of audit logs action and kind of source, where all fields are known too; odd values are not shown."""
    records = [
        _audit_log(1, action="create", source_type="user"),
        _audit_log(2, action="create", source_type="user"),
        _audit_log(3, action="export", source_type="user"),
        _audit_log(4, action="export", source_type=None),
        _audit_log(5, action="x" * 200, source_type="ada@example.com\n"),
        _audit_log(6),
    ]
    fields = FieldsSeen(AUDIT_LOGS)
    values: list[list[str]] = []
    for record in records:
        fields.look(msgspec.json.encode(record), 1)
        fields.grow()
        values.append(sorted(filter(is_value, fields.seen)))
    assert values[0] == values[1] == ["action=create", "source_type=user"]
    assert values[2] == values[-1] == ["action=create", "action=export", "source_type=user"]


def test_values_without_end_are_bounded() -> None:
    """Where a field turns out to have any number of values, the first few hundred are noted and no more looked at."""
    fields = FieldsSeen(AUDIT_LOGS)
    for number in range(2 * MOST_VALUES):
        fields.look(msgspec.json.encode(_audit_log(number, action=f"a{number}", source_type="user")), 1)
    assert MOST_VALUES <= len([*filter(is_value, fields.seen)]) < MOST_VALUES + 20
