"""Lines of S3's access log, taken apart: every field that AWS documents, and whatever clients have sent."""

import pytest

from zendesk_pipeline.secops.access_log import Entry, parsed

OWNER = "5f2c7a91d04e4b8fa6c3e2d1908b7f65a4c3b2e1d0f9e8d7c6b5a4f3e2d1c0b9"
KEY = "zendesk/crm/2026/11/12/050000-zendesk-audit_logs-0001-00112233445566778899aabbccddeeff.json"
SESSION = "arn:aws:sts::123456789012:assumed-role/zendesk-reader/google-transfer-7"
HEAD = f"{OWNER} acme-zendesk [12/Nov/2026:06:17:38 +0000] 192.0.2.33 {SESSION} 7C0D4E1A9B2F5836 REST.GET.OBJECT {KEY}"
REQUEST = f'"GET /{KEY}?x-id=GetObject HTTP/1.1"'
NUMBERS = "200 - 4406 4406 61 44"
CLIENTS = '"-" "Google-StorageTransferService/1.0"'
END = "v1xKq8ZpL0aRt7 k2Vb7TzQ9+mR4xWc1= SigV4 ECDHE-RSA-AES128-GCM-SHA256 AuthHeader"
NEWEST = (
    "acme-zendesk.s3.eu-central-1.amazonaws.com TLSv1.3 arn:aws:s3:eu-central-1:123456789012:accesspoint/a Yes eu-1"
)
LINE = f"{HEAD} {REQUEST} {NUMBERS} {CLIENTS} {END} {NEWEST}"
AT = 1_794_464_258.0


def test_every_field_is_read() -> None:
    """In AWS's order, with each of those that were added over the years."""
    assert parsed(LINE) == Entry(
        owner=OWNER,
        bucket="acme-zendesk",
        at=AT,
        address="192.0.2.33",
        requester=SESSION,
        request_id="7C0D4E1A9B2F5836",
        operation="REST.GET.OBJECT",
        key=KEY,
        request=f"GET /{KEY}?x-id=GetObject HTTP/1.1",
        status=200,
        error="",
        sent=4406,
        size=4406,
        total_time=61,
        turnaround_time=44,
        referrer="",
        client="Google-StorageTransferService/1.0",
        version="v1xKq8ZpL0aRt7",
        rest={
            "host_id": "k2Vb7TzQ9+mR4xWc1=",
            "signature_version": "SigV4",
            "cipher_suite": "ECDHE-RSA-AES128-GCM-SHA256",
            "authentication_type": "AuthHeader",
            "host_header": "acme-zendesk.s3.eu-central-1.amazonaws.com",
            "tls_version": "TLSv1.3",
            "access_point": "arn:aws:s3:eu-central-1:123456789012:accesspoint/a",
            "acl_required": "Yes",
            "region": "eu-1",
        },
    )


def test_fields_that_are_added_later_are_kept_and_change_nothing() -> None:
    """AWS says that it adds fields at the end."""
    newer = parsed(f"{LINE} one two")
    assert newer.added == ("one", "two")
    assert newer.rest == parsed(LINE).rest
    assert (newer.key, newer.sent) == (KEY, 4406)


@pytest.mark.parametrize("end", ["-", "- hostid= SigV4", f"{END} -"])
def test_a_line_that_is_older_than_a_field_has_it_not(end: str) -> None:
    """The version's id was the last field once."""
    older = parsed(f"{HEAD} {REQUEST} {NUMBERS} {CLIENTS} {end}")
    assert older.client == "Google-StorageTransferService/1.0"
    assert "region" not in older.rest
    assert "host_header" not in older.rest


def test_a_dash_is_nothing() -> None:
    """In every field that may be one; zero bytes are a dash as well."""
    nothing = parsed(f"- - [12/Nov/2026:06:17:38 +0000] - - - - - - - - - - - - - - -{' -' * 9}")
    assert nothing == Entry(
        owner="",
        bucket="",
        at=AT,
        address="",
        requester="",
        request_id="",
        operation="",
        key="",
        request="",
        status=None,
        error="",
        sent=0,
        size=None,
        total_time=None,
        turnaround_time=None,
        referrer="",
        client="",
        version="",
    )


@pytest.mark.parametrize(
    ("clients", "referrer", "client"),
    [
        ('"-" "-"', "", ""),
        ('"https://a.example/?q=1" "Mozilla/5.0 (X11; Linux)"', "https://a.example/?q=1", "Mozilla/5.0 (X11; Linux)"),
        ('"-" "a "quoted" name"', "", 'a "quoted" name'),
        ('"-" ""quoted""', "", '"quoted"'),
        ('- "name"', "", "name"),
        ('"https://a.example/" -', "https://a.example/", ""),
    ],
)
def test_what_clients_say_of_themselves_may_hold_quotes(clients: str, referrer: str, client: str) -> None:
    """Nothing else moves by it."""
    entry = parsed(f"{HEAD} {REQUEST} {NUMBERS} {clients} {END} {NEWEST}")
    assert (entry.referrer, entry.client) == (referrer, client)
    assert (entry.sent, entry.version, entry.rest["region"]) == (4406, "v1xKq8ZpL0aRt7", "eu-1")


def test_a_request_may_hold_quotes_and_numbers() -> None:
    """The numbers that count are those behind it."""
    request = '"GET /a?q="x" 404 NoSuchKey 1 HTTP/1.1"'
    entry = parsed(f"{HEAD} {request} {NUMBERS} {CLIENTS} {END} {NEWEST}")
    assert (entry.request, entry.status, entry.sent) == (request[1:-1], 200, 4406)


@pytest.mark.parametrize(
    "encoded",
    [
        "a%2520b/%25C3%25A4%252B.json",
        "a%20b/%C3%A4%2B.json",
        "a b/ä+.json".replace(" ", "%20"),
    ],
)
def test_keys_are_decoded_however_often_they_are_encoded(encoded: str) -> None:
    """By the client in its request, and once more by S3."""
    line = LINE.replace(f"OBJECT {KEY}", f"OBJECT {encoded}")
    assert parsed(line).key == "a b/ä+.json"


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("06/Feb/2019:00:00:38 +0000", 1_549_411_238.0),
        ("06/Feb/2019:02:00:38 +0200", 1_549_411_238.0),
        ("05/Feb/2019:18:30:38 -0530", 1_549_411_238.0),
        ("29/Feb/2028:23:59:59 +0000", 1_835_481_599.0),
    ],
)
def test_times_are_of_their_zone(time: str, seconds: float) -> None:
    """AWS writes UTC."""
    assert parsed(LINE.replace("12/Nov/2026:06:17:38 +0000", time)).at == seconds


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x",
        HEAD,
        f"{HEAD} {REQUEST} {NUMBERS} {CLIENTS}",
        LINE.replace("12/Nov/2026:06:17:38 +0000", "12/Foo/2026:06:17:38 +0000"),
        LINE.replace("12/Nov/2026:06:17:38 +0000", "31/Feb/2026:06:17:38 +0000"),
        LINE.replace("12/Nov/2026:06:17:38 +0000", "2026-11-12T06:17:38Z"),
        LINE.replace(" 200 ", " OK "),
        LINE.replace(" 4406 ", " many "),
        LINE[: len(HEAD) // 2],
        '{"bucket_name": "acme-zendesk"}',
        '" ' * 5000,
        HEAD + ' "" ""' * 4000,
    ],
    ids=lambda line: line[:20],
)
def test_what_is_no_line_is_an_error_of_one_kind(line: str) -> None:
    """A ValueError, whatever it is, so that whoever reads a log can count it and go on."""
    with pytest.raises(ValueError, match=r"S3 access log|out of range"):
        parsed(line)
