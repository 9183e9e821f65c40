"""The text of the records of the streams that are not collected unless asked for.

Keys as the documentation shows them (no recorded answers are known): access_logs, ticket_metric_events,
incremental_exports, users and organizations below https://developer.zendesk.com/api-reference/ticketing/.
"""

from collections.abc import Callable, Mapping

from zendesk_pipeline.local.simulator.history import (
    ACCESS_LOGS,
    METRIC_EVENTS,
    ORGANIZATIONS,
    TICKET_EVENTS,
    USERS,
    Entry,
)
from zendesk_pipeline.local.simulator.settings import CANONICAL_HOST
from zendesk_pipeline.local.simulator.ticket_records import iso

_HOST = CANONICAL_HOST.encode()
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ULID_LENGTH = 26
_RANDOM_BITS = 80

_REQUESTS = (
    (
        b"GET",
        rb"\/api\/v2\/tickets\/4711.json?include=users",
        b"200",
        b"Mozilla/5.0 (X11; Linux x86_64)",
        b"Tickets",
        b"null",
    ),
    (b"POST", b"/graphql", b"200", "Zendesk/1.0 (請求 🎫)".encode(), b"null", b"graphql"),
    (b"PUT", b"/api/v2/users/6130907990001", b"422", b"curl/8.5.0", "Benutzer\u2028(2)".encode(), b"null"),
    (b"DELETE", b"/api/v2/triggers/99", b"204", rb"agent \"x\" \u0000", b"Rules", b"null"),
)
_GRAPHQL = (
    rb'{"operation_name":"ticket","operation_type":"QUERY","query":"query ticket($id: ID!) {\n  id\n}",'
    rb'"variables":"{\"id\":\"1\"}"}'
)
_ACCESS_LOG = (
    b'{"id":"%s","timestamp":"%s","user_id":%d,"ip_address":"203.0.113.%d","method":"%s","url":"%s","status":%s,'
    b'"authorization_type":"%s","client":"%s","graphql":%s,"referer":null,"bytes_sent":%d,"category":%s,'
    b'"origin_service":"Zendesk"}'
)
_TICKET_EVENT = (
    b'{"child_events":[{"id":%d,"via":"Web form","via_reference_id":null,"comment_present":true,"comment_public":false,'
    b'"event_type":"Comment"},{"id":%d,"via":"Web form","status":"%s","previous_value":%s,"event_type":"Change"}],'
    b'"id":%d,"ticket_id":%d,"timestamp":%d,"created_at":"%s","updater_id":%d,"via":"Web form","system":{"client":'
    rb'"Mozilla\/5.0","location":"K\u00f6ln","latitude":50.950,"longitude":6.90},"metadata":{},"event_type":"Audit"}'
)
_METRIC_EVENT = (
    b'{"id":%d,"ticket_id":%d,"metric":"%s","instance_id":%d,"type":"%s","time":"%s"%s}',
    (b"reply_time", b"agent_work_time", b"requester_wait_time", b"resolution_time"),
    (
        (b"activate", b""),
        (b"pause", b""),
        (b"apply_sla", rb',"sla":{"target":1.0e2,"business_hours":false,"policy":{"id":25,"title":"VIP \u2b50"}}'),
        (b"breach", b',"deleted":true'),
    ),
)
_USER = (
    b'{"id":%d,"url":"' + _HOST + rb'\/api\/v2\/users\/%d.json","name":"Zo\u00eb %d","email":%s,"created_at":"%s",'
    b'"updated_at":"%s","time_zone":"Europe/Berlin","phone":null,"role":"%s","verified":true,"active":%s,'
    b'"suspended":false,"last_login_at":null,"tags":[],"user_fields":{"score":%d.0,"notiz":"\xe2\x80\xa8"}}'
)
_ORGANIZATION = (
    b'{"url":"' + _HOST + rb'\/api\/v2\/organizations\/%d.json","id":%d,"name":"Stra\u00dfe & S\u00f6hne %d",'
    b'"shared_tickets":false,"created_at":"%s","updated_at":"%s","domain_names":["example.org"],"details":null,'
    b'"tags":["a/b","%s"],"organization_fields":{"rate":0.%d0},"deleted_at":%s}'
)


def ulid(milliseconds: int, number: int) -> str:
    """The text of a ULID: a time and what makes it unique, in 26 characters that sort by time."""
    value = milliseconds << _RANDOM_BITS | number
    return "".join(_DIGITS[value >> 5 * place & 31] for place in reversed(range(ULID_LENGTH)))


def ulid_parts(text: str) -> tuple[int, int]:
    """Milliseconds and number of a ULID; raises ValueError for other texts."""
    if len(text) != ULID_LENGTH:
        raise ValueError("not a ULID")
    value = sum(_DIGITS.index(digit) << 5 * place for place, digit in enumerate(reversed(text)))
    return value >> _RANDOM_BITS, value & ((1 << _RANDOM_BITS) - 1)


def _access_log(entry: Entry) -> bytes:
    drawn = entry.id * 2_654_435_761 >> 9
    method, url, status, client, category, graphql = _REQUESTS[drawn % len(_REQUESTS)]
    return _ACCESS_LOG % (
        ulid(entry.at * 1000 + drawn % 1000, entry.id).encode(),
        iso(entry.at),
        6130907990000 + drawn % 23,
        drawn % 255,
        method,
        url,
        status,
        b"bearer" if drawn % 3 else b"session",
        client,
        _GRAPHQL if graphql == b"graphql" else b"null",
        drawn % 90_000,
        b"null" if category == b"null" else b'"%s"' % category,
    )


def _ticket_event(entry: Entry) -> bytes:
    drawn = entry.id * 2_654_435_761 >> 9
    before, after = ((b"null", b"new"), (b'"new"', b"open"), (b'"open"', b"solved"))[drawn % 3]
    people = -1 if drawn % 7 == 0 else 6130907990000 + drawn % 23
    ids = entry.id * 4
    return _TICKET_EVENT % (
        ids + 1,
        ids + 2,
        after,
        before,
        ids,
        5_000_000 + drawn % 9_999,
        entry.at,
        iso(entry.at),
        people,
    )


def _metric_event(entry: Entry) -> bytes:
    drawn = entry.id * 2_654_435_761 >> 9
    text, metrics, kinds = _METRIC_EVENT
    kind, more = kinds[drawn % len(kinds)]
    metric = metrics[drawn // 7 % len(metrics)]
    return text % (entry.id * 3, 5_000_000 + drawn % 9_999, metric, drawn % 4, kind, iso(entry.at), more)


def _user(entry: Entry) -> bytes:
    email = b"null" if entry.deleted else b'"user%d@example.org"' % entry.id
    role = b"agent" if entry.id % 9 == 0 else b"end-user"
    active = b"false" if entry.deleted else b"true"
    times = (iso(entry.created), iso(entry.at))
    return _USER % (entry.id, entry.id, entry.id % 997, email, *times, role, active, entry.version)


def _organization(entry: Entry) -> bytes:
    deleted = b'"%s"' % iso(entry.at) if entry.deleted else b"null"
    times = (iso(entry.created), iso(entry.at))
    return _ORGANIZATION % (entry.id, entry.id, entry.id % 997, *times, b"x" * (1 + entry.version), 5, deleted)


FURTHER_RECORDS: Mapping[str, Callable[[Entry], bytes]] = {
    ACCESS_LOGS: _access_log,
    TICKET_EVENTS: _ticket_event,
    USERS: _user,
    ORGANIZATIONS: _organization,
    METRIC_EVENTS: _metric_event,
}
"""What makes the record of an entry, by stream."""
