"""The way out: to real receivers over their own protocols, whatever some of them do."""

import json
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote_plus

import pytest

from zendesk_pipeline.alerts import channels
from zendesk_pipeline.alerts.channels import KILL_AFTER, Address, addresses, send
from zendesk_pipeline.alerts.messages import Message, Notice, NoticeKind, SendResult, harmless
from zendesk_pipeline_tests.fakes.receivers import Abroad, Incidents, Post, abroad, post_office, silence, strict
from zendesk_pipeline_tests.fakes.scripted_server import Reply, ScriptedServer, answering

MESSAGE = Message(
    title="Zendesk collection: audit_logs: 3 windows failed",
    text="ERROR: audit_logs: 3 windows failed\nZendesk answered 500 <b> & _more_.\n\nhttp://127.0.0.1:3000/runs/1",
    kind="failure",
)
SALT = b"salt"
SECONDS = 8.0
PATIENCE = 60.0
"""For services of which none hangs: this machine may have much to do."""


def _webhook(server: ScriptedServer, path: str = "/hook") -> str:
    return f"json://{server.url.removeprefix('http://')}{path}"


def _through(host: Abroad, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything goes through the proxy."""
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, host.proxy)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")


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


def test_every_address_gets_the_message_whatever_the_others_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sender: tuple[str, ...]
) -> None:
    """A webhook, mail and Slack get it, in the time there is, beside one that refuses and one that hangs."""
    monkeypatch.setattr(channels, "SENDER", sender)
    with (
        answering(Reply(b"ok")) as web,
        answering(Reply(b"go away", status=503)) as refusing,
        answering(Reply(status=302, headers={"Location": f"{web.url}/elsewhere"})) as redirecting,
        post_office() as office,
        silence() as silent,
        abroad(tmp_path) as workspace,
    ):
        _through(workspace, monkeypatch)
        wanted = {
            _webhook(web): SendResult("sent"),
            f"mailto://127.0.0.1:{office.port}?from=dagster@example.com&to=a@example.com,b@example.com": SendResult(
                "sent"
            ),
            "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ?verify=no": SendResult("sent"),
            _webhook(refusing): SendResult("failed", "HTTP 503"),
            _webhook(redirecting): SendResult("failed", "HTTP 302"),
            "json://127.0.0.1:1": SendResult("failed", "it cannot be reached, or refuses"),
            f"json://127.0.0.1:{silent}?rto=300": SendResult("failed", "no answer within 8 s"),
            "slakc://T1JJ3T3L2": SendResult("unknown", "Apprise does not understand it"),
            "nonsense": SendResult("unknown", "Apprise does not understand it"),
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
    (posted,) = workspace.posts
    assert (posted.host, posted.path) == ("hooks.slack.com", "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ")
    (shown,) = posted.json["attachments"]
    assert shown["title"] == MESSAGE.title
    assert "Zendesk answered 500 &lt;b&gt; &amp; _more_." in shown["text"]


def test_an_address_can_be_checked_without_a_message() -> None:
    """Nothing is sent for that."""
    with answering(Reply(b"ok")) as web:
        outcomes = send([(address, None) for address in addresses(f"{_webhook(web)} slakc://x")], PATIENCE)
    assert [outcome.state for outcome in outcomes] == ["sent", "unknown"]
    assert web.received == []


def test_nothing_to_send_costs_nothing() -> None:
    """No process is started."""
    began = time.monotonic()
    assert send([]) == []
    assert time.monotonic() - began < 0.01


# More than a service takes

KEY = "zendesk/crm/audit_logs/date=2026-11-12/hour=05/part-0001-of-0003.ndjson"
TITLES = ["audit_logs", "incremental_tickets", *(f"acme_{number}/audit_logs" for number in range(8))]
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ?verify=no"
DISCORD = "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js?verify=no"
TELEGRAM = "tgram://123456789:abcdefg_hijklmnop/12315544?verify=no"
TEAMS = "workflow://prod-1.logic.azure.com:443/workflow/signature?verify=no"
PAGERDUTY = "pagerduty://integrationkey@apikey?verify=no"


def _long(kind: NoticeKind = "failure", count: int = len(TITLES)) -> Message:
    """So many problems, each with a text of 700 characters."""
    parts = [
        Notice(
            cause=f"run-failure {name}",
            incident=f"key-of-{name}",
            kind=kind,
            title=f"Zendesk collection: {name}: 3 windows failed",
            heading=f"ERROR: {name}: 3 windows failed",
            details=f"Zendesk answered 503 ({'a word of theirs ' * 30}). {KEY}.\nSince 2026-11-12 05:00 UTC.",
            link=f"https://dagster.example/runs/{name}",
        )
        for name in TITLES[:count]
    ]
    counted = f"Zendesk collection: {count} problems"
    return Message(title=counted, counted=counted, kind=kind, parts=parts, link="https://dagster.example/overview")


@pytest.mark.parametrize("address", [DISCORD, TELEGRAM, SLACK, f"{SLACK}&blocks=yes", TEAMS])
def test_what_is_too_long_for_a_service_is_told_in_brief(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message that the service takes: the gravest problem, how many there are besides, and nothing cut in two."""
    with abroad(tmp_path, strict) as host:
        _through(host, monkeypatch)
        (outcome,) = send([(Address(1, address), _long())], PATIENCE)
    assert outcome == SendResult("sent")
    (posted,) = host.posts
    shown = json.dumps(posted.json).replace("\\", "")
    assert "ERROR: audit_logs: 3 windows failed" in shown
    assert all(f"{name}: 3 windows failed" in shown for name in TITLES) or "And " in shown
    assert shown.count("zendesk/crm/") == shown.count("part-0001-of-0003.ndjson")


def test_mail_and_webhooks_get_everything() -> None:
    """They have room for it."""
    with answering(Reply(b"ok")) as web, post_office() as office:
        mail = f"mailto://127.0.0.1:{office.port}?from=dagster@example.com&to=a@example.com"
        outcomes = send([(address, _long()) for address in addresses(f"{_webhook(web)} {mail}")], PATIENCE)
    assert outcomes == [SendResult("sent")] * 2
    assert json.loads(web.received[0].body)["message"] == _long().body
    assert "".join(office.mails[0].get_content().split()) == "".join(_long().body.split())


def test_an_address_may_ask_for_all_of_it_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Apprise's own `?overflow=split`."""
    with abroad(tmp_path, strict) as host:
        _through(host, monkeypatch)
        (outcome,) = send([(Address(1, f"{DISCORD}&overflow=split"), _long(count=4))], PATIENCE)
    assert outcome == SendResult("sent")
    assert len(host.posts) > 1
    shown = "".join(post.json["content"] for post in host.posts).replace("\\", "")
    assert [name for name in TITLES[:4] if f"https://dagster.example/runs/{name}" not in shown] == []


def test_what_is_quoted_reaches_no_service_as_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands in the requests: nobody is mentioned, nothing is a tag or a link with another text."""
    quoted = harmless(
        "<!channel> <!here|x> <@U1> <users/all> @here @everyone @channel @all [a](https://evil.example) <b>x</b>"
    )
    message = Message(title=quoted, text=quoted, kind="failure")
    services = [
        SLACK,
        f"{SLACK}&blocks=yes",
        DISCORD,
        f"{DISCORD}&format=markdown",
        TELEGRAM,
        TEAMS,
        "gchat://workspace/key/token?verify=no",
        "mmosts://chat.example/3ccdd113474722377935511fc85d3dd4?verify=no",
        "zulip://bot@zulip.example/a6k4P7DLXtHnvPmxxxxxxxxxxxxxxxxx/alerts?verify=no",
        "rockets://webhook1234/tokentokentokentoken@rocket.example/#general?verify=no",
    ]
    with abroad(tmp_path) as host, answering(Reply(b"ok")) as web:
        _through(host, monkeypatch)
        send([(Address(1, address), message) for address in [*services, _webhook(web)]], PATIENCE)
    bodies = [post.body.decode() for post in host.posts] + [seen.body.decode() for seen in web.received]
    assert len(bodies) >= len(services)
    for body in bodies:
        shown = unquote_plus(body).replace("\\", "")
        for markup in ("<!channel", "<!here", "<@U1", "<users/all", "@here", "@everyone", "@channel", "@all", "](http"):
            assert markup not in shown, body
        assert "https://evil" not in shown
        assert "<b>x" not in shown


# Incidents


@pytest.mark.parametrize(
    "address",
    [
        PAGERDUTY,
        f"{PAGERDUTY}&region=eu",
        "splunk://routing_key@apikey?verify=no",
        "opsgenie://apikey?verify=no",
        "jira://apikey?verify=no",
    ],
)
def test_an_incident_is_opened_for_each_problem_and_closed_when_it_has_ended(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the key of the problem: told again with another text it is the same one; the others stay open."""
    incidents = Incidents()
    two = _long(count=2)
    again = replace(two, parts=[replace(two.parts[0], heading="ERROR (it has grown): audit_logs: 9 windows failed")])
    solved = replace(two, parts=[replace(two.parts[1], kind="success", title="Delivered now", heading="SOLVED")])
    with abroad(tmp_path, incidents) as host:
        _through(host, monkeypatch)
        taken = frozenset(part.cause for part in two.parts)
        assert send([(Address(1, address), two)], PATIENCE) == [SendResult("sent", "", taken)]
        assert set(incidents.open) == {"key-of-audit_logs", "key-of-incremental_tickets"}
        send([(Address(1, address), again)], PATIENCE)
        assert len(incidents.open) == 2
        assert [outcome.state for outcome in send([(Address(1, address), solved)], PATIENCE)] == ["sent"]
        assert set(incidents.open) == {"key-of-audit_logs"}
    assert "audit_logs: 3 windows failed" in incidents.open["key-of-audit_logs"]


def test_what_pagerduty_reads_aloud_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The title is the incident's; the text, severity and link stand beside it."""
    with abroad(tmp_path, Incidents()) as host:
        _through(host, monkeypatch)
        send([(Address(1, PAGERDUTY), _long(count=1)), (Address(2, PAGERDUTY), _long("warning", 1))], PATIENCE)
    events = [post.json for post in host.posts]
    assert sorted(event["payload"]["severity"] for event in events) == ["critical", "warning"]
    assert {event["payload"]["summary"] for event in events} == {"Zendesk collection: audit_logs: 3 windows failed"}
    assert {event["payload"]["custom_details"]["what"] for event in events} == {_long(count=1).parts[0].whole}
    assert [event["links"] for event in events] == [[{"href": "https://dagster.example/runs/audit_logs"}]] * 2


def test_infos_open_no_incident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that cannot be renewed wakes nobody up; it counts as told."""
    with abroad(tmp_path, Incidents()) as host:
        _through(host, monkeypatch)
        (outcome,) = send([(Address(1, PAGERDUTY), _long("info", 1))], PATIENCE)
    assert outcome == SendResult("sent", "", frozenset({"run-failure audit_logs"}))
    assert host.posts == []


def test_an_address_that_names_its_incident_has_one_for_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`?action=map&dedup=…` as Apprise has it: opened by the first problem, closed by all clear, in brief."""
    incidents, address = Incidents(), Address(1, f"{PAGERDUTY}&action=map&dedup=ours")
    with abroad(tmp_path, incidents) as host:
        _through(host, monkeypatch)
        assert send([(address, _long())], PATIENCE) == [SendResult("sent")]
        assert list(incidents.open) == ["ours"]
        send([(address, _long("success"))], PATIENCE)
    assert incidents.open == {}


def test_what_was_told_of_a_message_that_failed_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service refuses one incident: the other is told, and only the first is tried again."""

    def refusing(post: Post) -> tuple[int, bytes]:
        return (429, b"") if "incremental_tickets" in post.json["dedup_key"] else (202, b"{}")

    with abroad(tmp_path, refusing) as host:
        _through(host, monkeypatch)
        (outcome,) = send([(Address(1, PAGERDUTY), _long(count=2))], PATIENCE)
    assert outcome == SendResult("failed", "HTTP 429", frozenset({"run-failure audit_logs"}))


def test_a_test_alert_opens_an_alert_at_opsgenie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apprise takes an info for the end of an alert, and would send nothing."""
    incidents = Incidents()
    with abroad(tmp_path, incidents) as host:
        _through(host, monkeypatch)
        message = Message(title="Test alert", text="Nothing is wrong.", kind="info")
        (outcome,) = send([(Address(1, "opsgenie://apikey?verify=no"), message)], PATIENCE)
    assert outcome == SendResult("sent")
    assert list(incidents.open.values()) == ["Test alert"]


def test_a_failure_is_a_failure_whatever_the_address_says() -> None:
    """`?optional=yes` makes Apprise report success all the same."""
    with answering(Reply(status=500)) as web:
        (outcome,) = send([(Address(1, f"{_webhook(web)}?optional=yes"), MESSAGE)], PATIENCE)
    assert outcome == SendResult("failed", "HTTP 500")
