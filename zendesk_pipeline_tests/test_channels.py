"""The way out: to real receivers over their own protocols, whatever some of them do."""

import json
import time
from pathlib import Path

import pytest

from zendesk_pipeline.channels import KILL_AFTER, Address, Message, Outcome, addresses, send
from zendesk_pipeline_tests.receivers import post_office, silence, slack
from zendesk_pipeline_tests.scripted_server import Reply, ScriptedServer, answering

MESSAGE = Message(
    title="Zendesk collection: audit_logs: 3 windows failed",
    body="ERROR: audit_logs: 3 windows failed\nZendesk answered 500 <b> & _more_.\n\nhttp://127.0.0.1:3000/runs/1",
    kind="failure",
)
SALT = b"salt"
SECONDS = 6.0


def _webhook(server: ScriptedServer, path: str = "/hook") -> str:
    return f"json://{server.url.removeprefix('http://')}{path}"


# Addresses


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        (" \n, ", []),
        ("json://a/b", ["json://a/b"]),
        ("json://a,slack://b", ["json://a", "slack://b"]),
        ("json://a, slack://b\n\tmailto://c ,", ["json://a", "slack://b", "mailto://c"]),
        ("mailto://c?to=x@y.z,v@w.x,json://a", ["mailto://c?to=x@y.z,v@w.x", "json://a"]),
        ("json://a nonsense", ["json://a", "nonsense"]),
        ("json://a json://b json://a", ["json://a", "json://b"]),
    ],
)
def test_addresses_stand_in_a_list(text: str, values: list[str]) -> None:
    """White space or commas between; a comma inside an address stays; what comes twice is told once."""
    found = addresses(text)
    assert [address.value for address in found] == values
    assert [address.position for address in found] == list(range(1, len(values) + 1))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXr", "address 2 of ALERT_URLS (slack)"),
        ("HTTPS://hooks.slack.com/services/T1/B2/s3cret", "address 2 of ALERT_URLS (https)"),
        ("s3cret", "address 2 of ALERT_URLS (no scheme)"),
    ],
)
def test_an_address_shows_no_more_than_its_place_and_scheme(value: str, shown: str) -> None:
    """In messages as in a debugger."""
    address = Address(2, value)
    assert str(address) == shown
    assert repr(address) == "Address(position=2)"


def test_an_address_is_known_by_a_salted_hash() -> None:
    """Another salt, another hash: the same address in two cursors cannot be matched."""
    address = Address(1, "json://a/s3cret")
    assert address.key(SALT) == Address(7, "json://a/s3cret").key(SALT)
    assert address.key(SALT) != address.key(b"pepper")
    assert address.key(SALT) != Address(1, "json://a/another").key(SALT)
    assert len(address.key(SALT)) == 16


# Sending


def test_every_address_gets_the_message_whatever_the_others_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A webhook, mail and Slack get it, in the time there is, beside one that refuses and one that hangs."""
    with (
        answering(Reply(b"ok")) as web,
        answering(Reply(b"go away", status=503)) as refusing,
        answering(Reply(status=302, headers={"Location": f"{web.url}/elsewhere"})) as redirecting,
        post_office() as office,
        silence() as silent,
        slack(tmp_path) as workspace,
    ):
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, workspace.proxy)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "")
        wanted = {
            _webhook(web): Outcome("sent"),
            f"mailto://127.0.0.1:{office.port}?from=dagster@example.com&to=a@example.com,b@example.com": Outcome(
                "sent"
            ),
            "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ?verify=no": Outcome("sent"),
            _webhook(refusing): Outcome("failed", "HTTP 503"),
            _webhook(redirecting): Outcome("failed", "HTTP 302"),
            "json://127.0.0.1:1": Outcome("failed", "it cannot be reached, or refuses"),
            f"json://127.0.0.1:{silent}?rto=300": Outcome("failed", "no answer within 6 s"),
            "slakc://T1JJ3T3L2": Outcome("unknown", "Apprise does not understand it"),
            "nonsense": Outcome("unknown", "Apprise does not understand it"),
        }
        began = time.monotonic()
        outcomes = send([(address, MESSAGE) for address in addresses(" ".join(wanted))], SECONDS)
        took = time.monotonic() - began
    assert dict(zip(wanted, outcomes, strict=True)) == wanted
    assert took < SECONDS + KILL_AFTER
    (posted,) = web.received
    assert (posted.method, posted.path) == ("POST", "/hook")
    body = json.loads(posted.body)
    assert (body["title"], body["message"], body["type"]) == (MESSAGE.title, MESSAGE.body, MESSAGE.kind)
    assert sorted(str(mail["To"]) for mail in office.mails) == ["a@example.com", "b@example.com"]
    assert {str(mail["Subject"]) for mail in office.mails} == {MESSAGE.title}
    assert {mail.get_content().strip() for mail in office.mails} == {MESSAGE.body}
    ((where, said),) = workspace.posts
    assert where == "hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    (shown,) = json.loads(said)["attachments"]
    assert shown["title"] == MESSAGE.title
    assert "Zendesk answered 500 &lt;b&gt; &amp; _more_." in shown["text"]


def test_an_address_can_be_checked_without_a_message() -> None:
    """Nothing is sent for that."""
    with answering(Reply(b"ok")) as web:
        outcomes = send([(address, None) for address in addresses(f"{_webhook(web)} slakc://x")])
    assert [outcome.state for outcome in outcomes] == ["sent", "unknown"]
    assert web.received == []


def test_nothing_to_send_costs_nothing() -> None:
    """No process is started."""
    began = time.monotonic()
    assert send([]) == []
    assert time.monotonic() - began < 0.01
