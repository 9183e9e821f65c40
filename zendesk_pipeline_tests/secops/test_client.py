"""The client against a server that is as strict as the API: sign-in, lists, and what each refusal says."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from zendesk_pipeline.secops.client import SecopsClient, sign_in
from zendesk_pipeline.secops.feed_model import AccessKey, body_of
from zendesk_pipeline.secops.instance import Instance, SecopsError
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering
from zendesk_pipeline_tests.fakes.secops_server import (
    CODE,
    CUSTOMER,
    PROJECT,
    REGION,
    SUBJECT,
    TOKENS,
    SecopsServer,
    google_error,
    secops,
)
from zendesk_pipeline_tests.ports import lasting_port
from zendesk_pipeline_tests.secops.test_feed_model import SECRET, URI, plan


@pytest.fixture
def server() -> Generator[SecopsServer]:
    with secops() as running:
        yield running


@pytest.fixture
def client(server: SecopsServer, tmp_path: Path) -> SecopsClient:
    return SecopsClient(instance_at(server.url), sign_in(server.key_file(tmp_path)))


def instance_at(endpoint: str) -> Instance:
    return Instance(customer_id=CUSTOMER, project=PROJECT, region=REGION, endpoint=endpoint)


def body(client: SecopsClient, **changed: Any) -> dict[str, Any]:
    return body_of(plan(**changed), client.instance)


def test_a_feed_is_made_as_it_was_described(server: SecopsServer, client: SecopsClient) -> None:
    """The server takes no unknown field, and holds the feed afterwards; the secret goes there and nowhere else."""
    made = client.create_feed(body(client))
    assert (made.display_name, made.uri, made.state) == ("Zendesk CRM", URI, "ACTIVE")
    assert server.changes()[0].body == body(client)
    assert client.feeds() == [made]


SPOILT: dict[str, tuple[str, Any]] = {
    "bare log type": ("logType", "ZENDESK_CRM"),
    "source of the first version": ("feedSourceType", "AMAZON_S3"),
    "no such deletion": ("sourceDeletionOption", "ALWAYS"),
    "unknown field": ("region", "eu-central-1"),
    "too old": ("maxLookbackDays", 181),
    "no slash": ("s3Uri", "s3://acme-zendesk/zendesk"),
    "no authentication": ("authentication", {}),
    "two authentications": (
        "authentication",
        {
            "accessKeySecretAuth": {"accessKeyId": "a", "secretAccessKey": "s"},
            "awsIamRoleAuth": {"awsIamRoleArn": "a", "subjectId": "s"},
        },
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_the_server_is_as_strict_as_the_api(case: str, server: SecopsServer, client: SecopsClient) -> None:
    """What the other tests rest upon: a body that is wrong in one field is refused, in a sentence."""
    name, value = SPOILT[case]
    spoilt = body(client)
    details = spoilt["details"]
    (details if name in details else details["amazonS3V2Settings"])[name] = value
    with pytest.raises(SecopsError, match="answered 400 to POST feeds"):
        client.create_feed(spoilt)
    assert server.feeds == []


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lists_are_read_to_their_end(size: int, server: SecopsServer, client: SecopsClient) -> None:
    """However many pages a list has."""
    for number in range(3):
        server.holds(f"s3://bucket-{number}/a/")
    server.page_size = size
    assert [each.uri for each in client.feeds()] == [f"s3://bucket-{number}/a/" for number in range(3)]
    assert [each.parser_id for each in client.parsers()] == ["pa_old", "pa_now"]


def test_no_feeds_are_an_empty_list(client: SecopsClient) -> None:
    """Google's APIs leave empty lists out."""
    assert client.feeds() == []


def test_a_list_that_never_ends_is_an_error(server: SecopsServer, client: SecopsClient) -> None:
    """The same page twice is not read for ever."""
    for _ in range(3):
        server.holds(URI)
    server.page_size, server.same_page_again = 1, True
    with pytest.raises(SecopsError, match="same page of feeds twice"):
        client.feeds()


def test_a_feed_is_switched(server: SecopsServer, client: SecopsClient) -> None:
    """Off and on again, by its id, with an empty body."""
    server.holds(URI)
    assert client.switch_feed("feed-1", enabled=False).state == "INACTIVE"
    assert client.switch_feed("feed-1", enabled=True).state == "ACTIVE"
    assert [each.body for each in server.changes()] == [None, None]


def test_the_subject_id_is_asked_for(client: SecopsClient) -> None:
    """It is what the role's trust policy has to name."""
    assert client.subject_id() == SUBJECT


def test_a_parser_is_run_on_each_log(client: SecopsClient) -> None:
    """One result a log, in their order: events or an error."""
    one, other = client.run_parser(CODE, [b'{"id":1,"created_at":"x"}', b'{"tickets":[]}'])
    assert one.events[0]["metadata"]["productLogId"] == "1"
    assert (one.error, other.events) == (None, [])
    assert other.error
    assert "LOG_PARSING_CBN_ERROR" in other.error.message


REFUSALS = {
    401: "gcloud auth application-default login",
    403: "roles/chronicle.admin",
    404: "SECOPS_CUSTOMER_ID",
    409: "--display-name",
    429: "Wait a minute",
    500: "Whether it took effect is not known",
    503: "Whether it took effect is not known",
    302: "answered 302",
    418: "answered 418",
}


@pytest.mark.parametrize("status", REFUSALS)
def test_each_refusal_is_one_sentence_with_a_remedy(status: int, server: SecopsServer, client: SecopsClient) -> None:
    """Google's own words and what to do; the request is sent once, so that no feed is made twice."""
    server.refusal = (status, google_error(status, f"Because\nof {status}."))
    with pytest.raises(SecopsError) as raised:
        client.create_feed(body(client))
    assert str(raised.value).startswith(f"SecOps answered {status} to POST feeds (Because of {status}.)")
    assert REFUSALS[status] in str(raised.value)
    assert "\n" not in str(raised.value)
    # a 401 makes Google's library renew the token, and ask again with the new one
    assert len(server.changes()) == (3 if status == 401 else 1)


def test_a_fault_while_reading_can_be_tried_again(server: SecopsServer, client: SecopsClient) -> None:
    """A list changes nothing, so there is nothing to be unsure about."""
    server.refusal, server.refused_method = (500, b"<html>"), "GET"
    with pytest.raises(SecopsError, match=r"answered 500 to GET feeds: a fault on Google's side. Try again later"):
        client.feeds()


@pytest.mark.parametrize(
    "message",
    [
        f"Invalid value {SECRET}",
        SECRET[:9],
        f"{json.dumps(SECRET)} is wrong",
        SECRET.replace("/", "\\/"),
        SECRET.replace("/", "%2F"),
    ],
)
def test_an_answer_that_repeats_the_secret_is_not_quoted(
    message: str, server: SecopsServer, client: SecopsClient
) -> None:
    """Whole or in part, escaped or not: then status and remedy have to do."""
    server.refusal = (400, google_error(400, message))
    with pytest.raises(SecopsError) as raised:
        client.create_feed(body(client))
    assert str(raised.value) == "SecOps answered 400 to POST feeds."
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("answer", [b"", b"[]", b"null", b"<html>"])
def test_an_answer_that_is_no_object_is_an_error(answer: bytes, server: SecopsServer, client: SecopsClient) -> None:
    """A proxy's page with status 200 is not taken for an empty list."""
    server.refusal, server.refused_method = (200, answer), "GET"
    with pytest.raises(SecopsError, match="no JSON object"):
        client.feeds()


def test_an_answer_of_another_kind_is_an_error(server: SecopsServer, client: SecopsClient) -> None:
    """A feed without a name is none, and as many results are wanted as there were logs."""
    server.refusal = (200, b'{"displayName":"x"}')
    with pytest.raises(SecopsError, match="no Feed"):
        client.create_feed(body(client))
    server.refusal = (200, b'{"runParserResults":[]}')
    with pytest.raises(SecopsError, match="1 logs and gave 0 results"):
        client.run_parser(CODE, [b"{}"])


def test_nobody_there_is_a_sentence(server: SecopsServer, tmp_path: Path) -> None:
    """Nobody listens: nothing of the request is in the error."""
    client = SecopsClient(instance_at(f"http://127.0.0.1:{lasting_port()}"), sign_in(server.key_file(tmp_path)))
    with pytest.raises(SecopsError, match=r"could not be reached \(ConnectionError\)") as raised:
        client.create_feed(body(client, reader=AccessKey(key_id="A", secret=SECRET)))
    assert SECRET not in str(raised.value)


def test_no_redirect_is_followed(tmp_path: Path, server: SecopsServer) -> None:
    """Neither the token nor the secret goes to another address."""
    with (
        answering(Reply(b"{}")) as elsewhere,
        answering(Reply(status=307, headers={"Location": elsewhere.url})) as first,
    ):
        client = SecopsClient(instance_at(first.url), sign_in(server.key_file(tmp_path)))
        with pytest.raises(SecopsError, match="answered 307"):
            client.create_feed(body(client))
    assert elsewhere.received == []


def test_a_netrc_file_is_not_used(client: SecopsClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server takes the token alone."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    client._session.trust_env = True  # as it is for https
    assert client.subject_id() == SUBJECT


def test_what_is_not_encrypted_goes_through_no_proxy(client: SecopsClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """http:// is for this machine, and stays on it; the sign-in, which has an address of its own, came before."""
    assert client.feeds() == []
    with answering(Reply(b"{}")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        assert client.subject_id() == SUBJECT
    assert proxy.received == []


def test_a_credential_that_is_refused_is_a_sentence(server: SecopsServer, client: SecopsClient) -> None:
    """The sign-in's own answer is told, and nothing was asked of the API."""
    server.token_refusal = (400, b'{"error":"invalid_grant","error_description":"Invalid JWT Signature."}')
    with pytest.raises(SecopsError, match=r"does not renew the credential .*invalid_grant"):
        client.feeds()
    assert server.asked == []


def test_application_default_credentials_are_used(
    server: SecopsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key file of its own, what Google's libraries find is used."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(server.key_file(tmp_path)))
    client = SecopsClient(instance_at(server.url), sign_in(None))
    assert client.subject_id() == SUBJECT


def test_without_credentials_the_ways_to_have_some_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nobody has signed in."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(SecopsError, match="gcloud auth application-default login"):
        sign_in(None)


@pytest.mark.parametrize(
    "content", ["", "{}", '{"type":"authorized_user"}', '{"private_key":"a-secret-4711"}', "a-secret-4711"]
)
def test_a_file_that_is_no_key_is_a_sentence(content: str, tmp_path: Path) -> None:
    """It is named, and nothing of it is told."""
    path = tmp_path / "key.json"
    path.write_text(content)
    with pytest.raises(SecopsError, match=r"key\.json is not one that Google's library can use") as raised:
        sign_in(path)
    assert "4711" not in str(raised.value)


def test_the_token_is_in_no_repr(client: SecopsClient) -> None:
    """A client that is shown in a trace shows no credential."""
    assert client.feeds() == []
    shown = repr(client) + repr(client.instance) + repr(client.__dict__)
    assert not any(token in shown for token in TOKENS.values())


def test_feeds_of_every_kind_can_be_read(server: SecopsServer, client: SecopsClient) -> None:
    """Another source has other fields, and SecOps may come to send more."""
    failure = {"errorCode": "PERMISSION_DENIED", "errorCause": "c", "errorAction": "a", "newer": 1}
    server.holds("", details={"feedSourceType": "API", "oktaSettings": {}}, failureDetails=failure, newer={"x": []})
    (feed,) = client.feeds()
    assert (feed.feed_id, feed.uri, feed.failure_details.error_code) == ("feed-1", "", "PERMISSION_DENIED")
