"""The text of an audit log record.

Keys: https://developer.zendesk.com/api-reference/ticketing/account-configuration/audit_logs/ (no recorded answer
is known). The document marks none of them mandatory, so some are null here.
"""

from zendesk_pipeline.local.simulator.history import Entry
from zendesk_pipeline.local.simulator.settings import CANONICAL_HOST
from zendesk_pipeline.local.simulator.ticket_records import CUT, iso

SMALLEST = 400
"""Bytes that a record has without the text of what changed."""

_ACTIONS = (
    (
        "login",
        "Signed in",
        "user",
        "Ana Müller",
        r"Successful sign-in using Zendesk password from https:\/\/x.example",
    ),
    ("create", "Created", "rule", "Notify 请求者 🎫", r"Name is: \"Notify\"\nActive: true"),
    ("update", "Updated", "user", "Ó Briain\u2028(on call)", r"Role changed from Agent to Administrator"),
    ("destroy", "Deleted", "api_token", r"siem\/collector", r"Token \u0000 ending in f00d"),
    ("exported", "Exported", "ticket", r"View: all\tunsolved", r"Exported 1,234 tickets"),
    ("update", "Updated", "account_setting", "Password policy", r"Changed from 1.0 to 2.50"),
    ("create", "Created", "zendesk/app_market/app", "Tymeshift", r"Installed by \u0022Zendesk\u0022"),
)
_RECORD = (
    b'{"url":"' + CANONICAL_HOST.encode() + b'/api/v2/audit_logs/%d","id":%d,"action_label":"%s","actor_id":%d,'
    b'"source_id":%s,"source_type":"%s","source_label":%s,"action":"%s","change_description":%s,"ip_address":%s,'
    b'"created_at":"%s","actor_name":%s}'
)


def audit_log_record(entry: Entry, size: int = 0, *, cut: bool = False) -> bytes:
    """The record of one audit log entry.

    It is about `size` bytes long, where that is more than a record needs; `cut` is whether what changed is a text that
    was cut inside an emoji.
    """
    drawn = entry.id * 2_654_435_761 >> 9
    action, label, source, name, change = (part.encode() for part in _ACTIONS[drawn % len(_ACTIONS)])
    system = drawn % 10 == 0
    changed = CUT if cut else b"null" if drawn % 19 == 0 else b'"' + change + b'"'
    if size:
        changed = b'"' + (b"Before: %d. After: " % drawn * (size // 20))[: max(0, size - SMALLEST)] + b'"'
    return _RECORD % (
        entry.id,
        entry.id,
        label,
        -1 if system else 6130907990000 + drawn % 23,
        b"null" if drawn % 13 == 0 else b"%d" % (6130800000000 + drawn % 100_003),
        source,
        b"null" if drawn % 17 == 0 else b'"' + name + b'"',
        action,
        changed,
        b"null" if system else b'"203.0.113.%d"' % (drawn % 255),
        iso(entry.at),
        b'"Zendesk"' if system else b'"Agent %d"' % (drawn % 23),
    )
