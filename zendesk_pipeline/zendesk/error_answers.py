"""What an answer other than 200 means: one place that turns status and body into one of our errors.

Error bodies come as JSON objects of three shapes, as plain text and as HTML; `error` may be a string or an object.
https://developer.zendesk.com/api-reference/introduction/requests/. A web page with another status than 5xx is not the
API's: a firewall, a proxy, or Zendesk's own guard in front of the API has answered in its place.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import msgspec

from zendesk_pipeline.model.errors import (
    ForbiddenError,
    MaybeTooHeavyError,
    PageTooHeavyError,
    RefusedError,
    TooEarlyError,
    TransientError,
    ZendeskError,
)
from zendesk_pipeline.zendesk.rate_limits import MINUTE, retry_after

SERVER_ERRORS = range(500, 600)
REDIRECTS = range(300, 400)
TIMED_OUT = frozenset({408, 502, 524})
"""What proxies answer where the server behind them took too long or gave up; 524 is Cloudflare's.

https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/
"""
_PROXY_GAVE_UP = re.compile(rb"\bupstream\b|\btime[d-]? ?out\b", re.IGNORECASE)
"""What they say of that with 503 or 500, as Envoy does: `upstream request timeout`."""
_NOT_SHOWN = re.compile(rb"<(script|style)\b.*?(?:</\1|$)|<[^<>]*>", re.IGNORECASE | re.DOTALL)
"""Of a web page."""
_SCOPE = re.compile(r"insufficient_scope|\b(missing|require[sd]?)\b.*\bscopes?\b", re.IGNORECASE)
SCOPE_IS_NARROW = "the token's scope is too narrow"
LONGEST_QUOTE = 200
LONGEST_ERROR = 100_000
"""Bytes of an error body that are looked at."""
DEEPEST_WORD = 6
"""Levels of an error body at which words are looked for; those seen have four."""
IN_FRONT = (
    "What is in front of Zendesk refuses this machine (IP restrictions in Admin Center > Account > Security, a"
    " firewall, a proxy), or the account is suspended. Open ZENDESK_BASE_URL in a browser on this machine, and have its"
    " address allowed."
)
CHECK_ADDRESS = " Check ZENDESK_BASE_URL."
TOO_MANY_FOR_OTHERS = "A firewall or proxy on the way limits this machine; it is no rate limit of Zendesk's API."
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


def is_web_page(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether an answer is HTML, which Zendesk's API never sends."""
    begin = body[:LONGEST_QUOTE].lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    is_called_one = headers.get("Content-Type", "").lower().startswith("text/html")
    return begin == b"<" or (is_called_one and begin not in {b"{", b"["})


def web_page(headers: Mapping[str, str], body: bytes) -> str:
    """A web page by its title and by the server that sent it."""
    found = _TITLE.search(body[:LONGEST_ERROR].decode(errors="replace"))
    title, server = _short(found[1] if found else ""), _short(headers.get("Server", ""))
    return "a web page" + (f" titled {title}" if title else "") + (f", sent by {server}" if server else "")


def error_of(  # noqa: C901, PLR0911  # a case a line
    path: str, status: int, headers: Mapping[str, str], body: bytes, *, remedy: str, now: float
) -> ZendeskError:
    """The error for an answer to `path`; `remedy` is what to do about the credential where that is the cause."""
    said = quote(body)
    what = f"Zendesk answered {status} to {path}" + (f" ({said})" if said else "")
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        return PageTooHeavyError(f"{what}: it could not build the page in time.")
    if _may_be_too_heavy(status, body):
        wait = retry_after(headers, now)
        return MaybeTooHeavyError(f"{what}: a fault on Zendesk's side, or too much for one page.", retry_after=wait)
    if is_web_page(headers, body) and status not in SERVER_ERRORS and status not in REDIRECTS:
        return _of_a_web_page(f"{path} was answered {status} with {web_page(headers, body)}", status, headers, now)
    if status in SERVER_ERRORS or status == HTTPStatus.CONFLICT:
        page = f", or of what sent {web_page(headers, body)}" if is_web_page(headers, body) else ""
        return TransientError(f"{what}: a fault on Zendesk's side{page}.", retry_after=retry_after(headers, now))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = retry_after(headers, now)
        return TransientError(f"{what}: the rate limit.", retry_after=MINUTE if wait is None else wait)
    if status == HTTPStatus.UNAUTHORIZED:
        return RefusedError(f"{what}: the credential is not accepted. {remedy}")
    if status == HTTPStatus.FORBIDDEN and said and not _is_json(body):  # such as Envoy's `RBAC: access denied`
        return RefusedError(f"{path} was answered 403 ({said}), which is no answer of Zendesk's API.", unclear=status)
    if status == HTTPStatus.FORBIDDEN and _SCOPE.search(said):
        return RefusedError(f"{what}: {SCOPE_IS_NARROW}. Set ZENDESK_OAUTH_SCOPE=read, or what is named.")
    if status == HTTPStatus.FORBIDDEN:
        return ForbiddenError(f"{what}.", unclear=status)
    if status == HTTPStatus.UNPROCESSABLE_ENTITY and "too recent" in said.lower():
        return TooEarlyError(f"{what}: Zendesk does not show so recent a time yet.")
    if status == HTTPStatus.NOT_FOUND:
        return RefusedError(f"{what}: there is no such address.{CHECK_ADDRESS}", unclear=status)
    if status in REDIRECTS:
        return RefusedError(
            f"{what}: it redirects{_to(headers)}, and credentials follow no redirect."
            " Set ZENDESK_BASE_URL to the account's own address, https://SUBDOMAIN.zendesk.com; if it is that, a proxy"
            " on the way wants somebody to sign in."
        )
    return RefusedError(f"{what}.")


def _may_be_too_heavy(status: int, body: bytes) -> bool:
    shown = _NOT_SHOWN.sub(b"", body[:LONGEST_ERROR]).lstrip()[:LONGEST_QUOTE]
    says_so = _PROXY_GAVE_UP.search(shown) is not None
    return status in TIMED_OUT or (
        status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INTERNAL_SERVER_ERROR} and says_so
    )


def _is_json(body: bytes) -> bool:
    """Whether it is an object or a list, as all refusals of the API are."""
    return body.lstrip()[:1] in {b"{", b"["}


def _of_a_web_page(what: str, status: int, headers: Mapping[str, str], now: float) -> ZendeskError:
    what = f"{what}, which is no answer of Zendesk's API."
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = retry_after(headers, now)
        return TransientError(f"{what} {TOO_MANY_FOR_OTHERS}", retry_after=MINUTE if wait is None else wait)
    if status == HTTPStatus.FORBIDDEN:
        return RefusedError(what, unclear=status)
    if status == HTTPStatus.UNAUTHORIZED:
        return RefusedError(
            f"{what} A proxy or gateway on the way wants a credential of its own; Zendesk's was not looked at. Let this"
            " machine through to ZENDESK_BASE_URL."
        )
    if status == HTTPStatus.NOT_FOUND:
        return RefusedError(
            f"{what} There is no such address, or a proxy on the way does not know it.{CHECK_ADDRESS}", unclear=status
        )
    if status == HTTPStatus.OK:
        return TransientError(
            f"{what} A proxy on the way wants somebody to sign in, or Zendesk is being maintained: open"
            " ZENDESK_BASE_URL in a browser on this machine if this stays."
        )
    return RefusedError(f"{what} {IN_FRONT}")


def _to(headers: Mapping[str, str]) -> str:
    """The host that a redirect leads to; the rest of it may hold a secret."""
    try:
        host = urlsplit(headers.get("Location", "")).hostname
    except ValueError:
        return ""
    return f" to {_short(host)}" if host else ""


def quote(body: bytes) -> str:
    """What an error body says, in a few words; empty for HTML and for what is not understood."""
    text = body[:LONGEST_ERROR].decode(errors="replace").strip()
    try:
        parsed: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return "" if text.startswith("<") else _short(text[:LONGEST_QUOTE])
    return _short(" ".join(_words(parsed)))


def _words(parsed: Any, depth: int = DEEPEST_WORD) -> list[str]:
    """The strings under the keys that Zendesk's error bodies use, in their order."""
    if isinstance(parsed, str):
        return [parsed]
    if not depth:
        return []
    if isinstance(parsed, list):
        return [word for item in parsed[:3] for word in _words(item, depth - 1)]  # pyright: ignore[reportUnknownVariableType]  # JSON
    if not isinstance(parsed, dict):
        return []
    keys = ("error", "title", "message", "description", "error_description", "errors", "detail")
    return [word for key in keys if key in parsed for word in _words(parsed[key], depth - 1)]  # pyright: ignore[reportUnknownArgumentType]  # JSON


def _short(text: str) -> str:
    printable = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return printable[:LONGEST_QUOTE]
