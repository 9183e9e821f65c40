"""The dead man's signal: a service outside hears each minute that all is well, and alarms when it does not.

Whoever sends alerts can be dead, and the machine with it. So `alert_sensor` asks HEARTBEAT_URL at each tick while no
problem is an error; with one it says so, at services that know how, and is silent at others.
"""

import re
import urllib.request
from http.client import HTTPException
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from zendesk_pipeline.model.errors import PipelineError, SettingsError
from zendesk_pipeline.settings.secret_references import Recent

NAME = "HEARTBEAT_URL"
TIMEOUT = 3
"""Seconds; the next tick tries again, and the alerts of this one have been sent."""
_SUFFIXED = re.compile(r"//hc-ping\.com/.|/ping/[\w-]|/api/v1/heartbeat/\w")
"""In addresses that say a failure with `/fail` behind them: healthchecks.io, a Healthchecks elsewhere, Better Stack.

https://healthchecks.io/docs/signaling_failures/, https://betterstack.com/docs/uptime/cron-and-heartbeat-monitor/
"""
_SIGNAL = re.compile(r"/(start|fail|log|\d{1,3})$")
"""What Healthchecks takes behind its address in the place of that."""


class SilentError(PipelineError):
    """Whoever expects a sign of life could not be told."""


def checked(address: str) -> str:
    """The address; raises SettingsError for what is none.

    It is a secret, since whoever knows it can say that all is well, and never repeated.
    """
    try:
        well_formed = urlsplit(address).hostname and address.startswith(("https://", "http://"))
    except ValueError:
        well_formed = False
    if not well_formed:
        raise SettingsError(f"{NAME} is wrong: an address that begins with https:// is wanted.")
    return address


def failing(address: str, what: str) -> str | None:
    """The address that says a failure; None where the service knows none, and silence has to do.

    `what` is shown by services that show anything: a few words.
    """
    parts = urlsplit(address)
    if _SUFFIXED.search(f"//{parts.hostname}{parts.path}"):
        return urlunsplit(parts._replace(path=f"{_SIGNAL.sub('', parts.path.rstrip('/'))}/fail"))
    if "/api/push/" in parts.path:  # Uptime Kuma: https://github.com/louislam/uptime-kuma/wiki/Internal-API
        return _with(parts, status="down", msg=what)
    if parts.hostname == "cronitor.link" and parts.path.startswith("/p/"):  # https://cronitor.io/docs/telemetry-api
        return _with(parts, state="fail", message=what)
    return None


def _with(parts: SplitResult, **changed: str) -> str:
    query = {**dict(parse_qsl(parts.query, keep_blank_values=True)), **changed}
    return urlunsplit(parts._replace(query=urlencode(query)))


def tell(source: str, recent: Recent, errors: int) -> None:
    """Tell the service outside how it is; nothing where none is set.

    Args:
        source: What HEARTBEAT_URL holds: the address, or a reference to it.
        recent: Reads references.
        errors: Problems that are errors.

    Raises SettingsError, SecretStoreError and SilentError; nothing of the address is in them.
    """
    address = recent.resolved(NAME, source).strip()
    if not address:
        return
    asked: str | None = checked(address)
    if errors:
        asked = failing(address, f"{errors} problem{'' if errors == 1 else 's'}")
    if asked is not None:
        ask(asked)


def ask(address: str) -> None:
    """One request; raises SilentError where it is not answered as it should be."""
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT):  # noqa: S310 - the scheme is checked
            return
    except (OSError, HTTPException, ValueError):
        raise SilentError(f"{NAME} does not answer as it should: whoever expects a sign of life hears none.") from None
