"""What is left of a message where there is little room, and of markup in what it quotes."""

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from apprise import Apprise, NotifyBase
from apprise.manager_plugins import NotificationManager

from zendesk_pipeline.alerts.messages import MOST_SHOWN, Message, Notice, Room, SendResult, fitted, harmless
from zendesk_pipeline.alerts.services import incident_key, tell
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering

KEY = "zendesk/crm/audit_logs/date=2026-11-12/hour=05/part-0001-of-0003.ndjson"
LINK = "https://dagster.example/overview"


def _part(number: int, words: int = 100) -> Notice:
    name = f"acme_{number}/audit_logs"
    return Notice(
        cause=f"run-failure {name}",
        incident=f"key-{number}",
        kind="failure",
        title=f"Zendesk collection: {name}: 3 windows failed",
        heading=f"ERROR: {name}: 3 windows failed",
        details=f"Zendesk answered 503 to /api/v2/audit_logs ({'more ' * words}); {KEY} is gone & 2 < 3.",
        link=f"https://dagster.example/runs/{number}?a=b&c=d",
    )


def _message(count: int = 4) -> Message:
    counted = f"Zendesk collection: {count} problems"
    parts = [_part(number) for number in range(count)]
    title = parts[0].title if count == 1 else counted
    return Message(title=title, counted=counted, kind="failure", parts=parts, text="Open besides: 2.", link=LINK)


# Room


def test_with_room_enough_everything_is_told() -> None:
    """Every problem with its text and link, and what is said besides."""
    message = _message()
    title, body = fitted(message, Room(body=32_768, title=250))
    assert (title, body) == (message.title, message.body)
    assert body == "\n\n".join([*(part.whole for part in message.parts), "Open besides: 2."])


@pytest.mark.parametrize(
    ("room", "whole", "headings", "more"),
    [(1900, 2, 4, ""), (500, 0, 4, ""), (240, 0, 4, ""), (200, 0, 3, "And 1 more"), (120, 0, 1, "And 3 more")],
)
def test_with_less_room_the_gravest_comes_first(room: int, whole: int, headings: int, more: str) -> None:
    """Whole problems, then headings with their links, then headings alone, then fewer, and how many there are more."""
    title, body = fitted(_message(), Room(body=room, title=250))
    assert title == "Zendesk collection: 4 problems"
    assert len(body) <= room
    assert (body.count(KEY), body.count("3 windows failed")) == (whole, headings)
    assert more in body
    assert ("And " in body) is bool(more)


@pytest.mark.parametrize(
    ("room", "body"),
    [
        (Room(body=100), "Zendesk collection: 4 problems\n\nhttps://dagster.example/overview"),
        (Room(body=40), "Zendesk collection: 4 problems"),
        (Room(body=40, title=60), "Zendesk collection: 4 problems"),
    ],
)
def test_with_hardly_any_room_problems_are_counted(room: Room, body: str) -> None:
    """A pager takes 67 characters."""
    assert fitted(_message(), room)[1] == body


def test_a_title_that_is_too_long_is_a_number() -> None:
    """Nothing is cut in the middle of a name."""
    message = _message(1)
    assert fitted(message, Room(body=9000, title=60))[0] == message.title
    assert fitted(message, Room(body=9000, title=40))[0] == "Zendesk collection: 1 problems"


def test_lines_are_counted_where_a_service_shows_only_a_few() -> None:
    """A desktop notification has ten."""
    _, body = fitted(_message(), Room(body=9000, title=250, lines=10))
    assert body.count("\n") < 10
    assert body.count("3 windows failed") == 4


def test_what_has_to_be_escaped_counts() -> None:
    """A text that fits as it is, and not as the service gets it."""
    _, body = fitted(_message(1), Room(body=900, title=250))
    assert KEY in body
    _, body = fitted(_message(1), Room(body=900, title=250, written=lambda text: text.replace(" ", "&nbsp;")))
    assert KEY not in body


def test_a_flood_is_counted_however_much_room_there_is() -> None:
    """Nobody reads a hundred."""
    body = _message(100).body
    assert body.count(KEY) == MOST_SHOWN
    assert f"And 90 more: {LINK}" in body


# All services of Apprise's

BY_ADDRESS = {
    "NotifySNS": "sns://AKIAIOSFODNN7EXAMPLE/wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY/us-east-1/+12223334444",
    "NotifyTwilio": "twilio://AC735c307c62944b5a:e29dfbcebf390dee9@12225554444/12223334444",
    "NotifyMatrix": "matrixs://user:password@matrix.example/#room",
    "NotifyGitHub": "github://token@owner/repository",
    "NotifyMastodon": "toot://access_token@mastodon.example",
    "NotifyMobileMessage": "mobilemessage://user:password@12225554444/61412345678",
    "NotifyNotifyre": "notifyre://apikey/12223334444",
    "NotifyTelegram": "tgram://123456789:abcdefg_hijklmnop/12315544",
    "NotifyTwitter": "twitter://user@consumerkey12/consumersecret12/accesskey1234/accesssecret1234",
    "NotifyWebexTeams": f"wxteams://{'a' * 80}",
}
"""Of services whose limit depends on the address, one with the smaller."""


def _services() -> Iterator[Any]:
    known: Any = NotificationManager()
    yield from sorted(set(known.plugins()), key=lambda plugin: plugin.__name__)


def _nothing(_: NotifyBase) -> None:
    """What is done at the end of a service."""


def _at(plugin: type[NotifyBase], url: str) -> NotifyBase:
    """The service, with a receiver of ours in the place of its own."""

    def send(self: NotifyBase, body: str, title: str = "", **_: Any) -> bool:
        limits = {"body_maxlen": self.body_maxlen, "title_maxlen": self.title_maxlen, "lines": self.body_max_line_count}
        said = {"name": plugin.__name__, "title": title, "body": body, **limits}
        return requests.post(url, json=said, timeout=60).ok

    # it is not signed in anywhere, so it need not sign out; XMPP asks for its subject
    instead: dict[str, Any] = {"send": send, "enabled": True, "__del__": _nothing, "subject": False}
    ours: Any = type(plugin.__name__, (plugin,), instead)
    if address := BY_ADDRESS.get(plugin.__name__):
        service: Any = Apprise.instantiate(address, suppress_exceptions=False)
        service.__class__ = ours
        return service
    service = object.__new__(ours)
    NotifyBase.__init__(service)
    return service


def test_every_service_gets_one_message_that_it_takes() -> None:
    """Of all the services that Apprise knows: body and title within its limits, and no word cut in two."""
    message = _message()
    words = {*f"{message.title} {message.body} {LINK} And 1 2 3 more:".split(), "#"}
    plugins = list(_services())
    with answering(Reply(b"ok")) as server:
        for plugin in plugins:
            assert tell(_at(plugin, server.url), message) == SendResult("sent"), plugin
    received: list[dict[str, Any]] = [json.loads(request.body) for request in server.received]
    assert [each["name"] for each in received] == [plugin.__name__ for plugin in plugins]
    assert len(received) > 150
    for each in received:
        assert len(each["body"]) <= each["body_maxlen"], each
        assert len(each["title"]) <= each["title_maxlen"], each
        assert not each["lines"] or each["body"].count("\n") < each["lines"], each
        plain = html.unescape(re.sub(r"</?[a-z]+ ?/?>", " ", each["body"])).replace("\u00a0", " ")
        shown = re.sub(r"(?m)\\(?=[^A-Za-z0-9\s])|^[*]+|[*]+(?=\s*$)", "", plain)
        assert set(shown.split()) <= words, each
        assert "4 problems" in f"{each['title']} {shown}", each


def test_services_that_open_and_close_incidents_are_known() -> None:
    """By what Apprise says of them; of each the argument that names an incident."""
    found = {plugin.__name__: key for plugin in _services() if (key := incident_key(plugin))}
    expected = {"NotifyPagerDuty": "dedup", "NotifyOpsgenie": "alias", "NotifyJira": "alias"}
    expected |= {"NotifySplunk": "entity_id", "NotifyPagerTree": "thirdparty", "NotifySIGNL4": "external_id"}
    assert expected.items() <= found.items()


# What is quoted


@pytest.mark.parametrize(
    ("quoted", "shown"),
    [
        ("@here and @everyone, (@channel) a@everyone", "@ here and @ everyone, (@ channel) a@ everyone"),
        ("<!channel> <@U123> <#C1> <users/all> <@&99>", "< !channel> < @ U123> < #C1> < users/all> < @ &99>"),
        ('<at user_id="all"> <img src=x onerror=y> a < b', '< at user_id="all"> < img src=x onerror=y> a < b'),
        ("@**all** **bold** _it_ ~~no~~ `code`", "@ * * all* * * * bold* * _ it_ ~~ no~~ 'code'"),
        ("[click](https://evil.example/a.b)", "[click] (https[:]//evil[.]example/a.b)"),
        ("![x](http://1.2.3.4) [r]: ftp://x.y", "! [x] (http[:]//1[.]2[.]3[.]4) [r] : ftp[:]//x[.]y"),
        ("<https://evil.example|log in>", "< https[:]//evil[.]example|log in>"),
        ("tg://resolve?x=1", "tg[:]//resolve?x=1"),
        ("# big\n> quoted", ": # big\n: > quoted"),
        ("a\u202eb\u200bc\x07d\u2028e", "abcd e"),
    ],
)
def test_what_is_quoted_mentions_formats_and_links_nothing(quoted: str, shown: str) -> None:
    """In none of the markups that services have."""
    assert harmless(quoted) == shown


@pytest.mark.parametrize(
    "text",
    [
        f"{KEY} has 3 lines, its ledger says 4; acme__zendesk_audit_logs waits.",
        "s3://acme-logs/zendesk/crm/ refuses oncall@example.com (AccessDenied)",
        "Set ZENDESK_BASE_URL to the account's own address, https://SUBDOMAIN.zendesk.com.",
        "ACME_ZENDESK_CLIENT_ID, ~/.aws/config, a_b_c, 2 * 3 > 5, 100%",
    ],
)
def test_names_keys_and_addresses_stay_as_they_are(text: str) -> None:
    """They are copied from alerts into commands."""
    assert harmless(text) == text


def test_links_to_our_own_ui_stay_links() -> None:
    """And nothing that only begins like it."""
    ui = "http://127.0.0.1:3000/"
    assert harmless(f"{ui}runs/1 http://127.0.0.1:3000.evil.example/", leave=ui) == (
        f"{ui}runs/1 http[:]//127[.]0[.]0[.]1:3000[.]evil[.]example/"
    )
