"""What Apprise's services take, and the process that sends to them: no other one imports Apprise, which is slow.

https://appriseit.com/services/
"""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from queue import Empty, SimpleQueue
from typing import Any, BinaryIO

import msgspec
import requests
from apprise import Apprise, AppriseAsset, NotifyBase, NotifyFormat, OverflowMode, conversion, plugins
from apprise.plugins import jira, opsgenie

from zendesk_pipeline.alerts.channels import Order, Report
from zendesk_pipeline.alerts.messages import Message, Notice, NoticeKind, Room, SendResult, fitted

SLACK_BLOCK, SLACK_HEADER = 3000, 150
"""Characters, where an address says `blocks=yes`. https://docs.slack.dev/reference/block-kit/blocks/section-block/"""
AT_ONCE = 8
"""Incidents of one address."""
BY_ALIAS = "alias"
INCIDENT_KEYS = ("dedup", "entity_id", BY_ALIAS)
"""What services that open and close incidents call an incident's name; the first that one has."""


def main() -> None:
    """Send what standard input asks for, and write line by line what became of it."""
    with _our_output() as output:
        Apprise.instantiate("json://localhost", asset=_asset())  # loads all services of Apprise's
        began = time.monotonic()
        order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
        reports: SimpleQueue[Report] = SimpleQueue()
        for index, (address, message) in enumerate(order.letters):
            threading.Thread(target=_report, args=(index, address, message, reports), daemon=True).start()
        open_letters = len(order.letters)
        while open_letters:
            try:
                report = reports.get(timeout=max(0.0, began + order.seconds - time.monotonic()))
            except Empty:
                return
            output.write(msgspec.json.encode(report) + b"\n")
            output.flush()
            open_letters -= not report.cause


def _our_output() -> BinaryIO:
    """Standard output for us alone: what a library prints goes nowhere."""
    ours = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return ours


def _report(index: int, address: str, message: Message | None, reports: SimpleQueue[Report]) -> None:
    result = deliver(address, message, lambda cause: reports.put(Report(index, "sent", cause=cause)))
    reports.put(Report(index, result.state, result.reason))


def deliver(address: str, message: Message | None, took: Callable[[str], None]) -> SendResult:
    """Send a message; None only asks whether the address is understood.

    `took` hears of each cause that an incident was opened or closed for.
    """
    try:
        return _sent(address, message, took)
    except Exception as error:  # noqa: BLE001  # a plug-in of Apprise's may raise anything; only its kind is reported
        return _raised(error)


def _raised(error: Exception) -> SendResult:
    return SendResult("failed", type(error).__name__)


def _sent(address: str, message: Message | None, took: Callable[[str], None]) -> SendResult:
    service: Any = Apprise.instantiate(address, asset=_asset())
    if service is None:
        return SendResult("unknown", "Apprise does not understand it")
    if message is None:
        return SendResult("sent")
    given: dict[str, Any] = plugins.url_to_dict(address)  # pyright: ignore[reportUnknownVariableType, reportAssignmentType]  # it has no types
    key = incident_key(service)
    if key and message.digest:  # a good one would close what is open, and a bad one wake somebody up
        return SendResult("sent")
    if key and message.parts and (key == BY_ALIAS or not given.get(key)):
        return _incidents(given, key, message, took)
    if key == BY_ALIAS:  # Apprise takes an info for an end, and drops it without a word
        service = _made({**given, "action": "new"})
    return tell(service, message)


def _made(given: Mapping[str, Any]) -> Any:
    return Apprise.instantiate({**given}, asset=_asset(), suppress_exceptions=False)


def tell(service: NotifyBase, message: Message) -> SendResult:
    """Send a message by a service of Apprise's: as much of it as the service takes, all at once.

    An address with `?overflow=split` gets everything, in as many messages as that takes.
    """
    title, body = message.title, message.body
    if (
        service.overflow_mode == OverflowMode.UPSTREAM
    ):  # Apprise's default: as it is, whether the service takes it or not
        title, body = fitted(message, room(service))
    return _notified(service, title, body, message.kind)


def room(service: NotifyBase) -> Room:
    """What a service takes, by what Apprise knows of it and in the form in which Apprise sends it."""
    form = service.resolve_format(NotifyFormat.TEXT)
    blocks = bool(getattr(service, "use_blocks", False))

    def written(text: str) -> str:
        converted = conversion.convert_between(NotifyFormat.TEXT, form, text)  # pyright: ignore[reportUnknownVariableType]  # as above
        return service.dialect_convert(str(converted), form)  # pyright: ignore[reportUnknownArgumentType]  # as above

    return Room(
        body=min(service.body_maxlen, SLACK_BLOCK) if blocks else service.body_maxlen,
        title=min(service.title_maxlen, SLACK_HEADER) if blocks else service.title_maxlen,
        lines=service.body_max_line_count,
        shared=service.overflow_amalgamate_title,
        written=written,
    )


def _notified(service: NotifyBase, title: str, body: str, kind: NoticeKind) -> SendResult:
    """Anything but Apprise's plain word that the service has taken it is a failure."""
    service.optional = False  # by `?optional=yes` in an address Apprise would call every failure a success
    sender = Apprise(asset=service.asset)
    sender.add(service)
    result = sender.notify(body=body, title=title, notify_type=kind, body_format=NotifyFormat.TEXT)
    if result.status.name == "SUCCESS" and result.success_count == 1:
        return SendResult("sent")
    codes = [found[1] for entry in result.logs() if (found := re.search(r"error=(\d{3})\b", entry.message))]
    return SendResult("failed", f"HTTP {codes[0]}" if codes else "it cannot be reached, or refuses")


# Incidents


def incident_key(service: Any) -> str:
    """The argument by which a service knows an incident that it opens and closes; empty for other services."""
    takes: Mapping[str, Any] = service.template_args
    name = next((name for name in INCIDENT_KEYS if name in takes and "action" in takes), "")
    return takes[name].get("alias_of") or takes[name].get("map_to") or name if name else ""


def _incidents(given: Mapping[str, Any], key: str, message: Message, took: Callable[[str], None]) -> SendResult:
    """Open an incident for each problem, and close it when the problem has ended. Infos wake nobody up.

    An address that names an incident itself (`?dedup=…`) does not come here: that one stands for everything.
    """

    def settled(part: Notice) -> SendResult:
        try:
            named = {**given, key: part.incident, "action": "map"}
            return SendResult("sent") if part.kind == "info" else _opened_or_closed(_made(named), part)
        except Exception as error:  # noqa: BLE001  # as in `deliver`: one incident must not stand in another's way
            return _raised(error)

    failed: list[SendResult] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for part, outcome in zip(message.parts, pool.map(settled, message.parts), strict=True):
            if outcome.state == "sent":
                took(part.cause)
            else:
                failed.append(outcome)
    return failed[0] if failed else SendResult("sent")


def _opened_or_closed(service: Any, part: Notice) -> SendResult:
    if part.kind == "success" and incident_key(service) == BY_ALIAS:
        return _closed_by_alias(service)
    if hasattr(service, "click"):
        service.click = service.click or part.link
    if service.title_maxlen:
        return tell(service, Message(title=part.title, kind=part.kind, parts=[part], link=part.link))
    service.details = {"what": part.whole, **service.details}  # PagerDuty: its summary is what is read aloud
    return tell(service, Message(title="", kind=part.kind, text=part.title))


def _closed_by_alias(service: Any) -> SendResult:
    """Opsgenie and Jira Service Management: Apprise closes only what the same process has opened.

    https://docs.opsgenie.com/docs/alert-api#close-alert; Jira's are the same (Apprise 2.3).
    """
    of_jira = isinstance(service, jira.NotifyJira)
    hosts: Mapping[str, str] = jira.JIRA_API_LOOKUP if of_jira else opsgenie.OPSGENIE_API_LOOKUP
    answer = requests.post(
        f"{hosts[str(service.region_name)]}/{service.alias}/close",
        params={"identifierType": "alias"},
        json={"source": service.app_desc},
        headers={"Authorization": f"GenieKey {service.apikey}"},
        verify=service.verify_certificate,  # Apprise's, of the address: on, but for who wrote `verify=no` into it
        timeout=service.request_timeout,
        allow_redirects=False,
    )
    taken = answer.status_code == HTTPStatus.ACCEPTED
    return SendResult("sent") if taken else SendResult("failed", f"HTTP {answer.status_code}")


def _asset() -> AppriseAsset:
    """The sender's name in messages; no picture, no redirect."""
    return AppriseAsset(
        app_id="zendesk-pipeline",
        app_desc="Zendesk to S3",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        http_redirects=False,
        service_timeout=0,
    )


if __name__ == "__main__":
    main()
