"""What an answer other than 200 means."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from zendesk_pipeline.model.errors import (
    ForbiddenError,
    MaybeTooHeavyError,
    PageTooHeavyError,
    RefusedError,
    TooEarlyError,
    TransientError,
    ZendeskError,
)
from zendesk_pipeline.zendesk.error_answers import LONGEST_QUOTE, error_of, is_web_page, quote, web_page
from zendesk_pipeline_tests.asking import NOW
from zendesk_pipeline_tests.model.test_records import RECORDED

PATH = "/api/v2/audit_logs"
RECORDED_ERRORS = sorted(RECORDED.glob("error_*.json"))
NO_ACCESS = b'{"error":{"title":"Forbidden","message":"You do not have access to this page. Please contact"}}'
NO_SCOPE = b'{"error":"Forbidden","description":"Missing the following required scopes: read"}'
BLOCKED = b"<!DOCTYPE html><html><head><title>Not from here</title></head><body>Your address is blocked</body></html>"
MAINTAINED = (
    b"<html><head><script>setTimeout(reload, 9)</script></head><body onload='a(timeout)'>Back soon</body></html>"
)
GAVE_UP = b"<html><head><style>" + b"a {}" * 100 + b"</style><title>503 first byte timeout</title></head></html>"
TOO_RECENT = b'{"error":"InvalidValue","description":"Too recent start_time. Use a start_time older than 5 minutes"}'


def _refusal(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> ZendeskError:
    return error_of(PATH, status, CaseInsensitiveDict(headers or {}), body, remedy="Check the key.", now=NOW)


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        pytest.param(500, b"", TransientError, "fault on Zendesk's side", id="500"),
        pytest.param(502, b"<html>Bad gateway</html>", MaybeTooHeavyError, "fault on Zendesk's side", id="502-html"),
        pytest.param(503, b"Service unavailable", TransientError, "(Service unavailable)", id="503-text"),
        pytest.param(503, MAINTAINED, TransientError, "fault on Zendesk's side", id="503-page-with-a-script"),
        pytest.param(503, GAVE_UP, MaybeTooHeavyError, "too much for one page", id="503-page-of-a-proxy"),
        pytest.param(
            500, b"upstream request timeout", MaybeTooHeavyError, "too much for one page", id="500-of-a-proxy"
        ),
        pytest.param(
            503, b"upstream request timeout", MaybeTooHeavyError, "too much for one page", id="503-of-a-proxy"
        ),
        pytest.param(599, b"", TransientError, "599", id="599"),
        pytest.param(409, b'{"error":"Conflict"}', TransientError, "(Conflict)", id="409"),
        pytest.param(429, b"", TransientError, "rate limit", id="429"),
        pytest.param(504, b"", PageTooHeavyError, "could not build the page in time", id="504"),
        pytest.param(401, b'{"error":"Couldn\'t authenticate you"}', RefusedError, "Check the key.", id="401-basic"),
        pytest.param(
            401,
            b'{"error":"invalid_token","error_description":"The access token provided is expired"}',
            RefusedError,
            "(invalid_token The access token provided is expired)",
            id="401-oauth",
        ),
        pytest.param(403, NO_ACCESS, ForbiddenError, "You do not have access to this page", id="403-object"),
        pytest.param(403, b"", ForbiddenError, "403", id="403-silent"),
        pytest.param(
            403, b'{"error":"Out of the scope of your plan"}', ForbiddenError, "your plan", id="403-of-a-plan"
        ),
        pytest.param(403, b'{"error":"insufficient_scope"}', RefusedError, "OAUTH_SCOPE=read", id="403-scope-by-name"),
        pytest.param(403, NO_SCOPE, RefusedError, "ZENDESK_OAUTH_SCOPE=read", id="403-scope"),
        pytest.param(422, TOO_RECENT, TooEarlyError, "so recent", id="422-too-recent"),
        pytest.param(422, b'{"error":"InvalidValue"}', RefusedError, "(InvalidValue)", id="422-other"),
        pytest.param(404, b'{"error":"InvalidEndpoint"}', RefusedError, "Check ZENDESK_BASE_URL", id="404"),
        pytest.param(301, b"", RefusedError, "Set ZENDESK_BASE_URL", id="301"),
        pytest.param(307, b"", RefusedError, "Set ZENDESK_BASE_URL", id="307"),
        pytest.param(400, b'{"error":"TooManyValues"}', RefusedError, "(TooManyValues)", id="400"),
        pytest.param(204, b"", RefusedError, "204", id="204"),
        pytest.param(418, b"", RefusedError, "418", id="anything-else"),
    ],
)
def test_every_status_means_something(status: int, body: bytes, kind: type[ZendeskError], says: str) -> None:
    """The error's kind says what has to be done, its sentence where, what was answered, and what to do."""
    error = _refusal(status, body)
    assert type(error) is kind
    assert f"Zendesk answered {status} to {PATH}" in str(error)
    assert says in str(error)


@pytest.mark.parametrize(
    ("status", "kind", "unclear", "says"),
    [
        pytest.param(200, TransientError, None, "wants somebody to sign in", id="200"),
        pytest.param(401, RefusedError, None, "wants a credential of its own; Zendesk's was not looked at", id="401"),
        pytest.param(403, RefusedError, 403, "which is no answer of Zendesk's API.", id="403"),
        pytest.param(404, RefusedError, 404, "There is no such address, or a proxy on the way", id="404"),
        pytest.param(422, RefusedError, None, "IP restrictions in Admin Center", id="422"),
        pytest.param(429, TransientError, None, "no rate limit of Zendesk's API", id="429"),
        pytest.param(451, RefusedError, None, "IP restrictions in Admin Center", id="451"),
    ],
)
def test_a_web_page_is_no_word_of_the_api(
    status: int, kind: type[ZendeskError], unclear: int | None, says: str
) -> None:
    """A firewall or proxy has answered: its page's title and server are told, and never credential, scope or plan."""
    error = _refusal(status, BLOCKED, {"Server": "edge/1.0"})
    assert type(error) is kind
    assert f"{PATH} was answered {status} with a web page titled Not from here, sent by edge/1.0, which" in str(error)
    assert says in str(error)
    assert "Check the key." not in str(error)
    assert getattr(error, "unclear", None) == unclear


@pytest.mark.parametrize(
    ("headers", "body", "is_one"),
    [
        pytest.param({}, BLOCKED, True, id="html"),
        pytest.param({}, b"\xef\xbb\xbf\r\n <HTML>", True, id="behind-a-mark-and-blanks"),
        pytest.param({"Content-Type": "text/html"}, b"", True, id="named-and-empty"),
        pytest.param({"content-type": "Text/HTML; charset=utf-8"}, b"Blocked", True, id="named-and-plain"),
        pytest.param({"Content-Type": "text/html"}, NO_ACCESS, False, id="json-by-a-wrong-name"),
        pytest.param({"Content-Type": "text/plain"}, b"Number of allowed API requests", False, id="text"),
        pytest.param({"Content-Type": "application/json"}, NO_ACCESS, False, id="json"),
        pytest.param({}, b"", False, id="nothing"),
    ],
)
def test_what_is_a_web_page(headers: dict[str, str], body: bytes, *, is_one: bool) -> None:
    """By its first character, or by its name where it is no JSON: Zendesk's API answers JSON or plain text."""
    assert is_web_page(CaseInsensitiveDict(headers), body) == is_one


def test_a_title_is_told_in_a_few_words() -> None:
    """On one line, and not all of a long one; a page without one is called a web page."""
    page = b"<html><TITLE lang=en>Access\n\x1b denied " + b"x" * 1000 + b"</title>"
    assert web_page(CaseInsensitiveDict({}), page) == f"a web page titled {('Access denied ' + 'x' * 1000)[:200]}"
    assert web_page(CaseInsensitiveDict({}), b"<html>") == "a web page"


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("https://login.example.com/saml?RelayState=s3cr3t", "redirects to login.example.com, and"),
        ("/elsewhere", "it redirects, and"),
        ("https://[::1", "it redirects, and"),
        ("", "it redirects, and"),
    ],
)
def test_a_redirect_says_to_which_host(location: str, says: str) -> None:
    """A sign-in page of a proxy and another address of the account are told apart by it; the rest is not repeated."""
    error = _refusal(302, headers={"Location": location})
    assert says in str(error)
    assert "s3cr3t" not in str(error)


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        pytest.param(503, {"Retry-After": "17"}, 17, id="503"),
        pytest.param(503, {"retry-after": "50, 53"}, 53, id="503-list"),
        pytest.param(500, {}, None, id="nothing-said"),
        pytest.param(409, {"Retry-After": "10"}, 10, id="409"),
        pytest.param(429, {"Retry-After": "10"}, 10, id="429"),
        pytest.param(429, {}, 60, id="429-silent"),
    ],
)
def test_a_fault_carries_how_long_to_wait(status: int, headers: dict[str, str], seconds: float | None) -> None:
    """What Zendesk asks us to wait after an error goes with it."""
    error = _refusal(status, headers=headers)
    assert isinstance(error, TransientError)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b'{"error":"RecordNotFound","description":"Not found"}', "RecordNotFound Not found", id="strings"),
        pytest.param(
            b'{"error":{"title":"Forbidden","message":"No access"}}', "Forbidden No access", id="error-is-an-object"
        ),
        pytest.param(
            b'{"errors":[{"title":"Bad","detail":"Wrong cursor"}]}', "Bad Wrong cursor", id="list-of-access-logs"
        ),
        pytest.param(b'{"errors":["a","b","c","d"]}', "a b c", id="first-of-many"),
        pytest.param(b'{"error":"a","details":{"email":"x@example.com"}}', "a", id="other-fields-are-left-out"),
        pytest.param(b'{"error":null,"description":7}', "", id="no-words"),
        pytest.param(b'"Rate limited"', "Rate limited", id="json-string"),
        pytest.param(b"4711", "", id="json-number"),
        pytest.param(b"  Number of allowed\r\nrequests ", "Number of allowed requests", id="plain-text"),
        pytest.param(b"\n<!DOCTYPE html><html>Oops</html>", "", id="html"),
        pytest.param(b"", "", id="nothing"),
        pytest.param(b'{"error":"caf\xe9"}', "caf\N{REPLACEMENT CHARACTER}", id="json-not-utf-8"),
        pytest.param(b"caf\xe9", "caf\N{REPLACEMENT CHARACTER}", id="text-not-utf-8"),
        pytest.param(b'{"error":"a\\u0000\\u001b[31mb"}', "a [31mb", id="control-characters"),
        pytest.param(b"[" * 100_000, "[" * LONGEST_QUOTE, id="depth"),
        pytest.param(b'{"error":"' + b"x" * 1000 + b'"}', "x" * LONGEST_QUOTE, id="long"),
    ],
)
def test_an_error_body_is_quoted_in_a_few_words(body: bytes, said: str) -> None:
    """Objects of three shapes, lists, text and HTML; one line of printable characters, and never all of a long one."""
    assert quote(body) == said


@given(st.binary(max_size=300))
def test_no_error_body_is_too_strange(body: bytes) -> None:
    """Whatever came: the quote is short, printable, and does not raise."""
    said = quote(body)
    assert len(said) <= LONGEST_QUOTE
    assert said.isprintable()


if RECORDED_ERRORS:  # pytest would call a test without rows a skipped one

    @pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in RECORDED_ERRORS])
    def test_recorded_errors_are_understood(path: Path) -> None:
        """A really recorded error is quoted in Zendesk's own words."""
        answer = json.loads(path.read_bytes())
        error = _refusal(answer["status"]["code"], json.dumps(answer["body"]).encode())
        assert type(error) is RefusedError
        assert "(RecordNotFound Not found)" in str(error)
