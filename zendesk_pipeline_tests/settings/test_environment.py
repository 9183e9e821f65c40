"""Settings as the environment holds them: what is taken, what is refused, and in which words.

That each of them changes what happens is in test_resources, for S3's in the tests of the other side.
"""

import re
from datetime import UTC, datetime

import pytest

from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline.settings.environment import SECRETS, Settings, checked_base_url
from zendesk_pipeline_tests.conftest import is_set_outside

WRONG = {
    "ZENDESK_BASE_URL": {
        "acme.zendesk.com": "such as https://acme.zendesk.com",
        "acme": "such as https://acme.zendesk.com",
        "http://acme.zendesk.com": "begin with https://",
        "http://localhost.example": "begin with https://",
        "ftp://127.0.0.1": "begin with https://",
        "https://": "such as https://acme.zendesk.com",
        "https://acme.zendesk.com/api/v2": "such as https://acme.zendesk.com",
        "https://acme.zendesk.com?brand=1": "such as https://acme.zendesk.com",
        "https://acme.zendesk.com#agent": "such as https://acme.zendesk.com",
        "https://ada:Sesame@acme.zendesk.com": "credentials do not belong into the address",
        "https://Sesame@acme.zendesk.com": "credentials do not belong into the address",
        "https://acme.zendesk.com@evil.example": "credentials do not belong into the address",
        "https://-müller.de": "not a name that a host can have",
        "https://[::1": "`https://SUBDOMAIN.zendesk.com`",
        "   ": "such as https://acme.zendesk.com",
    },
    "AUTH_MODE": {
        "basic": "'oauth', 'token', 'bearer' or 'oauth_refresh'",
        "OAuth": "'oauth', 'token', 'bearer' or 'oauth_refresh'",
    },
    "RESOURCES": {
        "audit_logs,tickets": "no stream tickets; there are audit_logs, incremental_tickets",
        ",": "there are audit_logs, incremental_tickets",
    },
    "START_DATE": {
        "yesterday": "2026-11-12 or 2026-11-12T05:00Z",
        "1763000000": "2026-11-12 or 2026-11-12T05:00Z",
        "2026-02-30": "2026-11-12 or 2026-11-12T05:00Z",
        "2026-11-12T05:30Z": "full hour (UTC)",
        "2026-11-12T05:00+05:30": "full hour (UTC)",
    },
    "SETTLE_SECONDS": {"59": "greater than or equal to 60", "901": "less than or equal to 900", "5m": "valid integer"},
    "LOOKBACK_SECONDS": {"-1": "greater than or equal to 0", "1h": "valid integer", "1.5": "valid integer"},
    "COMPARISON_PAGES": {"-1": "greater than or equal to 0", "all": "valid integer", "1.5": "valid integer"},
    "MAX_PAGES": {"0": "greater than or equal to 1", "-1": "greater than or equal to 1", "all": "valid integer"},
    "HTTP_TIMEOUT": {
        "0": "greater than 0",
        "-1": "greater than 0",
        "60s": "valid number",
        "inf": "finite number",
        "nan": "finite number",
        "1e999": "finite number",
    },
    "HTTP_RETRIES": {"-1": "greater than or equal to 0", "many": "valid integer", "2.5": "valid integer"},
    "ZENDESK_EXPORT_RATE": {
        "0": "greater than or equal to 1",
        "0.5": "greater than or equal to 1",
        "inf": "finite number",
        "ten": "valid number",
    },
    "ZENDESK_RATE_SHARE": {
        "0": "greater than 0",
        "1.1": "less than or equal to 1",
        "50%": "valid number",
        "nan": "less than or equal to 1",
    },
    "SECOPS_ACCESS_LOGS": {
        "acme-log/s3/": "s3://BUCKET/PREFIX",
        "s3://": "s3://BUCKET/PREFIX",
        "s3://Acme/s3/": "s3://BUCKET/PREFIX",
        "https://acme-log.s3.amazonaws.com/s3/": "s3://BUCKET/PREFIX",
        "s3://acme-log/s3 /": "s3://BUCKET/PREFIX",
    },
    "SECOPS_READER": {
        "secops-reader": "the ARN of the reader's role or user",
        "AKIAIOSFODNN7EXAMPLE": "the ARN of the reader's role or user",
        "arn:aws:sts::123456789012:assumed-role/secops-reader/x": "the ARN of the reader's role or user",
        "arn:aws:iam::123456789012:root": "the ARN of the reader's role or user",
    },
}


READER = "arn:aws-us-gov:iam::123456789012:role/secops/reader"


def _load(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return settings.load()


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        pytest.param(name, value, remedy, id=f"{name}={value}")
        for name, values in WRONG.items()
        for value, remedy in values.items()
    ],
)
def test_a_wrong_value_is_refused_in_a_sentence(
    name: str, value: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence that names the variable, what is wrong with its value, and what the setting is for."""
    with pytest.raises(SettingsError) as raised:
        _load(monkeypatch, **{name: value})
    message = str(raised.value)
    assert re.fullmatch(rf"{name} is wrong: .+\. \(.+\.\)", message)
    assert message.count(" is wrong: ") == 1
    assert remedy in message
    assert message.endswith(f"({Settings.model_fields[name.lower()].description})")
    assert "Sesame" not in message


def test_each_wrong_value_gets_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them at once: nobody mends one after the other."""
    wrong = {name: next(iter(values)) for name, values in WRONG.items()}
    with pytest.raises(SettingsError) as raised:
        _load(monkeypatch, **wrong)
    assert sorted(re.findall(r"(\w+) is wrong: ", str(raised.value))) == sorted(wrong)


@pytest.mark.parametrize("name", sorted(WRONG.keys() - {"RESOURCES"}))
def test_an_error_shows_no_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret pasted into the wrong variable is not repeated; only names of streams are, for their typing errors."""
    with pytest.raises(SettingsError) as raised:
        _load(monkeypatch, **{name: "https://ada:Sesame@acme.zendesk.com/Sesame"})
    assert "Sesame" not in repr(raised.value)


@pytest.mark.parametrize("name", [*WRONG, "ZENDESK_OAUTH_SCOPE"])
def test_an_empty_variable_is_not_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a line `NAME=` of a .env file: the default counts."""
    assert _load(monkeypatch, **{name: ""}) == Settings()


def test_nothing_has_to_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code loads without any variable, and with variables of others."""
    assert _load(monkeypatch, ZENDESK_SOMETHING="else", PATH="/bin").resources == ("audit_logs", "incremental_tickets")


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        pytest.param("ZENDESK_BASE_URL", " https://acme.zendesk.com/ ", "https://acme.zendesk.com", id="url-trimmed"),
        pytest.param("AUTH_MODE", "bearer", "bearer", id="auth-mode"),
        pytest.param("ZENDESK_OAUTH_SCOPE", "tickets:read auditlogs:read", "tickets:read auditlogs:read", id="scope"),
        pytest.param("RESOURCES", "incremental_tickets", ("incremental_tickets",), id="one-stream"),
        pytest.param(
            "RESOURCES",
            " incremental_tickets, audit_logs,,audit_logs ",
            ("incremental_tickets", "audit_logs"),
            id="streams-with-blanks-and-twice",
        ),
        pytest.param("START_DATE", "2026-11-12", datetime(2026, 11, 12, tzinfo=UTC), id="day"),
        pytest.param("START_DATE", "2026-11-12T05:00Z", datetime(2026, 11, 12, 5, tzinfo=UTC), id="hour"),
        pytest.param("START_DATE", "2026-11-12T05", datetime(2026, 11, 12, 5, tzinfo=UTC), id="no-zone-is-utc"),
        pytest.param("START_DATE", "2026-11-12T05:30+05:30", datetime(2026, 11, 12, tzinfo=UTC), id="other-zone"),
        pytest.param("SETTLE_SECONDS", "60", 60, id="settle-least"),
        pytest.param("SETTLE_SECONDS", "900", 900, id="settle-most"),
        pytest.param("LOOKBACK_SECONDS", "0", 0, id="lookback-none"),
        pytest.param("COMPARISON_PAGES", "0", 0, id="comparison-none"),
        pytest.param("MAX_PAGES", "1", 1, id="max-pages"),
        pytest.param("HTTP_TIMEOUT", "0.5", 0.5, id="timeout"),
        pytest.param("HTTP_RETRIES", "0", 0, id="retries-none"),
        pytest.param("ZENDESK_EXPORT_RATE", "30", 30, id="rate"),
        pytest.param("ZENDESK_RATE_SHARE", "1", 1, id="share"),
        pytest.param("SECOPS_ACCESS_LOGS", "s3://acme-log", "s3://acme-log", id="log-in-a-bucket"),
        pytest.param("SECOPS_ACCESS_LOGS", "s3://acme.log/of-it-", "s3://acme.log/of-it-", id="log-with-a-prefix"),
        pytest.param("SECOPS_READER", READER, READER, id="a-reader-in-gov-cloud"),
        pytest.param("SECOPS_READER", "0c" * 32, "0c" * 32, id="an-account-as-reader"),
    ],
)
def test_a_right_value_is_taken(name: str, value: str, taken: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is meant, blanks around it aside."""
    assert getattr(_load(monkeypatch, **{name: value}), name.lower()) == taken


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8642", "127.0.0.1", "127.1.2.3:80", "[::1]:8642"])
def test_http_is_for_this_machine(host: str) -> None:
    """Without TLS credentials go no further than here: that is for the simulated Zendesk."""
    assert checked_base_url(f"http://{host}") == f"http://{host}"


@pytest.mark.parametrize(
    "host", ["acme.zendesk.com", "10.0.0.1", "0.0.0.1", "127.0.0.1.nip.io", "2130706433", "[::]", "[fe80::1]"]
)
def test_http_is_for_no_other_machine(host: str) -> None:
    """However it is written."""
    with pytest.raises(ValueError, match="https://"):
        checked_base_url(f"http://{host}")


@pytest.mark.parametrize("name", [*Settings.model_fields, *SECRETS, "FEED_SECRET_ACCESS_KEY"])
def test_no_test_takes_a_setting_from_whoever_runs_it(name: str) -> None:
    """Each setting is taken away before a test, however it is written; what has nothing to do with us stays."""
    assert is_set_outside(name)
    assert is_set_outside(name.upper())
    assert not is_set_outside("PATH")


@pytest.mark.parametrize(
    ("uri", "inside"),
    [
        ("s3://acme/zendesk/crm/log/", True),
        ("s3://acme/zendesk/crm/", True),
        ("s3://acme/zendesk/log/", False),
        ("s3://acme-log/zendesk/crm/", False),
    ],
)
def test_the_access_log_is_not_delivered_to_secops(uri: str, monkeypatch: pytest.MonkeyPatch, *, inside: bool) -> None:
    """SecOps would read it as logs of Zendesk, and each read would be logged and read again."""
    if not inside:
        assert _load(monkeypatch, S3_BUCKET="acme", SECOPS_ACCESS_LOGS=uri).secops_access_logs == uri
        return
    with pytest.raises(SettingsError, match="lies inside S3_PREFIX=zendesk/crm/"):
        _load(monkeypatch, S3_BUCKET="acme", SECOPS_ACCESS_LOGS=uri)
