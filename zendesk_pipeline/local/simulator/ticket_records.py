"""The text of a ticket record, with everything that would betray a collector that decodes and encodes again.

Key set and order are those of recorded answers (2023) and `support_type`, which came later:
https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from time import gmtime, strftime

from zendesk_pipeline.local.simulator.history import Entry
from zendesk_pipeline.local.simulator.settings import CANONICAL_HOST

FLAVOURS = 64  # texts to choose from: enough to look varied, few enough to make a page in milliseconds
BARE_BYTES = 1420  # a record's size before any filling

_SUBJECTS = (
    r"Rechnung \u00fcber 1\/2 Jahr",
    "Où est ma commande\u2028n° 42 ?",
    "配送が届きません 🚚",
    r"NUL \u0000 and TAB\tinside",
    r"Printer says \"PC LOAD LETTER\"",
    "Cannot sign in",
    r"Re: Re: Fwd: https:\/\/shop.example\/cart?id=7",
    "Refund please 🙏🏽",
)
_WORDS = (
    "order", "refund", "login", "größer", "naïve", "доставка", "請求書", "🎉", r"a\/b", r"\u0007", r"\n", r"\t",
    r"\\", "please", "thanks", "since", "yesterday", "again", "invoice", "\u2029", "🧾", "customer", "screen", "error",
)  # fmt: skip
_PLAIN_WORDS = tuple(word for word in _WORDS if word.isascii() and word.isalpha())
_PLAIN_SUBJECTS = tuple(filter(str.isascii, _SUBJECTS))
_NUMBERS = (
    "1.0",
    "1e5",
    "12345678901234567890",
    "-0.0",
    "0.10",
    "9007199254740993",
    "1E-7",
    "true",
    "null",
    '"1"',
)
CUT = rb'"Thank you so much \ud83d"'
"""A text that was cut inside an emoji: half of a surrogate pair is JSON, and no text."""
_RECORD = (
    b'{"url":"' + CANONICAL_HOST.encode() + b'/api/v2/tickets/%d.json","id":%d,"external_id":%s,'
    b'"via":{"channel":"%s","source":{"from":{},"to":{},"rel":null}},"created_at":"%s","updated_at":"%s",'
    b'"type":%s,"subject":%s,"raw_subject":%s,"description":%s,"priority":%s,"status":"%s","recipient":null,'
    b'"requester_id":%d,"submitter_id":%d,"assignee_id":%s,"organization_id":%s,"group_id":%s,'
    b'"collaborator_ids":[],"follower_ids":[],"email_cc_ids":[],"forum_topic_id":null,"problem_id":null,'
    b'"has_incidents":false,"is_public":true,"due_at":null,"tags":%s,"custom_fields":%s,'
    b'"satisfaction_rating":%s,"sharing_agreement_ids":[],"custom_status_id":%d,"fields":%s,"followup_ids":[],'
    b'"ticket_form_id":6130830344474,"brand_id":6130830354842,"allow_channelback":false,'
    b'"allow_attachments":true,"from_messaging_channel":false,"support_type":"%s","generated_timestamp":%d}'
)


@dataclass(frozen=True, slots=True)
class Flavour:
    """The long parts of a record, as JSON text."""

    subject: bytes
    description: bytes
    tags: bytes
    fields: bytes


@lru_cache(maxsize=FLAVOURS)
def flavour(number: int, ticket_bytes: int, *, plain: bool) -> Flavour:
    """One of the texts, sized so that records are about `ticket_bytes` long on average."""
    rng = Random(number)
    subjects, words = (_PLAIN_SUBJECTS, _PLAIN_WORDS) if plain else (_SUBJECTS, _WORDS)
    subject = f'"{rng.choice(subjects)}"'.encode()
    fields = ",".join(
        f'{{"id":{6130830000000 + i},"value":{_NUMBERS[(number + i) % len(_NUMBERS)]}}}' for i in range(4)
    )
    tags = ",".join(f'"tag_{rng.randrange(100)}"' for _ in range(number % 4))
    room = max(0, ticket_bytes - BARE_BYTES) * (75 + number % FLAVOURS * 50 // (FLAVOURS - 1)) // 100
    return Flavour(subject, b'"' + _text(rng, room, words) + b'"', f"[{tags}]".encode(), f"[{fields}]".encode())


def ticket_record(entry: Entry, ticket_bytes: int, *, plain: bool = False, cut: bool = False) -> bytes:
    """The record of one ticket state; `cut` is whether its subject was cut inside an emoji."""
    drawn = (entry.id * 2_654_435_761 + entry.version * 40_503) >> 7
    text = flavour(drawn % FLAVOURS, ticket_bytes, plain=plain)
    scrubbed = entry.deleted and drawn % 3 == 0
    subject = b'"SCRUBBED"' if scrubbed else CUT if cut else text.subject
    people = 6130907990000 + drawn % 997
    return _RECORD % (
        entry.id,
        entry.id,
        b"null" if drawn % 9 else b'"ext-%d"' % entry.id,
        (b"web", b"email", b"api", b"native_messaging")[drawn % 4],
        iso(entry.created),
        iso(_updated_at(entry, drawn)),
        (b"null", b'"incident"', b'"question"')[drawn % 3],
        subject,
        subject,
        b'"X"' if scrubbed else text.description,
        (b"null", b'"normal"', b'"urgent"')[drawn % 3],
        b"deleted" if entry.deleted else (b"new", b"open", b"pending", b"solved")[min(entry.version, 3)],
        people,
        people,
        b"null" if entry.version == 0 else b"%d" % (6130907980000 + drawn % 13),
        b"null" if drawn % 5 == 0 else b"6130869157658",
        b"null" if entry.version == 0 else b"6130830364826",
        text.tags,
        text.fields,
        b"null" if drawn % 4 else b'{"score":"unoffered"}',
        6130830355738 + min(entry.version, 3),
        text.fields,
        b"ai_agent" if entry.ai_agent else b"agent",
        entry.at,
    )


@lru_cache(maxsize=20_000)
def iso(epoch: int) -> bytes:
    """`YYYY-MM-DDTHH:MM:SSZ`."""
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(epoch)).encode()


def _updated_at(entry: Entry, drawn: int) -> int:
    """Up to 5 s before generated_timestamp as recorded; after a system update it stays where it was long before."""
    system_update = entry.version > 0 and drawn % 11 == 0
    return entry.created if system_update else max(entry.created, entry.at - max(0, drawn % 12 - 6))


def _text(rng: Random, size: int, of: Sequence[str]) -> bytes:
    """Words up to a size in bytes, each whole so that no escape or character is cut."""
    words: list[bytes] = []
    while size > 0:
        words.append(rng.choice(of).encode())
        size -= len(words[-1]) + 1
    return b" ".join(words)
