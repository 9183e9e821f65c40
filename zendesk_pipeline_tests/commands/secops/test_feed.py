"""`zendesk-pipeline feed`, as somebody types it, against a stand-in of Google SecOps."""

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zendesk_pipeline.cli import main
from zendesk_pipeline.commands.secops import feed as feed_commands
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.secops_server import LOG_TYPE, SUBJECT, SecopsServer, google_error, secops
from zendesk_pipeline_tests.secops.test_feed_model import SECRET, URI

PROGRAM = Path(sys.executable).with_name("zendesk-pipeline")
KEY = ("--access-key-id", "AKIAIOSFODNN7EXAMPLE")
ROLE = ("--role-arn", "arn:aws:iam::123456789012:role/secops", "--subject-id", SUBJECT)
QUEUE = "arn:aws:sqs:eu-central-1:123456789012:zendesk-to-secops-Queue-1A2B3C"
EVERY = (
    *("--display-name", "Ours", "--deletion", "on-success", "--max-age-days", "30", "--namespace", "corp"),
    *("--label", "source=zendesk", "--label", "team=a=b"),
)
Feed = Callable[..., Result]


@pytest.fixture
def server() -> Generator[SecopsServer]:
    with secops() as running:
        yield running


@pytest.fixture
def bucket(moto: LocalS3) -> Iterator[Bucket]:
    """The bucket that the feed is to read; empty before and after."""
    moto.client().create_bucket(Bucket="acme-zendesk")
    store = Store(client=moto.client(), bucket="acme-zendesk", encryption={})
    place = Bucket(store=store, layout=Layout(feed="zendesk/crm/", state="state/", quarantine="quarantine/"))
    yield place
    place.delete(place.stored())


@pytest.fixture
def feed(server: SecopsServer, tmp_path: Path, moto: LocalS3, bucket: Bucket) -> Feed:
    """Run a command of the group; the secret access key is in the environment unless another one is given."""
    ours = {"S3_BUCKET": bucket.store.bucket, "FEED_SECRET_ACCESS_KEY": SECRET}
    base = {**moto.environment, **server.environment(tmp_path), **ours}

    def run(*arguments: str, typed: str = "", **environment: str) -> Result:
        said = CliRunner().invoke(main, ["feed", *arguments], input=typed, env={**base, **environment})
        assert SECRET not in said.output + repr(said.exception)
        return said

    return run


def sent(server: SecopsServer) -> list[tuple[str, object]]:
    return [(each.path.rpartition("/")[2], each.body) for each in server.changes()]


@pytest.mark.parametrize("reader", [KEY, ROLE], ids=["key", "role"])
@pytest.mark.parametrize("options", [(), EVERY], ids=["defaults", "every option"])
def test_what_is_printed_is_what_is_sent(
    reader: tuple[str, ...], options: tuple[str, ...], feed: Feed, server: SecopsServer
) -> None:
    """`print`, `--dry-run` and the request agree in every field but the secret, which the request alone has."""
    printed = feed("print", *reader, *options)
    dry = feed("create", "--dry-run", *reader, *options)
    assert server.asked == []
    made = feed("create", "--yes", *reader, *options)
    assert (printed.exit_code, dry.exit_code, made.exit_code) == (0, 0, 0), made.output
    ((path, body),) = sent(server)
    shown = json.loads(json.dumps(body).replace(SECRET, "***"))
    assert path == "feeds"
    assert json.loads(printed.stdout) == shown
    address, _, text = dry.stdout.partition("\n")
    assert address == f"POST {server.url}{server.changes()[0].path}"
    assert json.loads(text) == shown
    assert (SECRET in json.dumps(body)) == (reader == KEY)


def test_a_feed_of_another_log_type_does_not_count(feed: Feed, server: SecopsServer) -> None:
    """It is shown, and its records are not parsed as Zendesk's: the hourly check says the same."""
    made = server.holds(URI)
    made["details"]["logType"] = LOG_TYPE.replace("ZENDESK_CRM", "AWS_S3")
    shown = feed("show")
    assert shown.exit_code == 1
    assert f"No feed reads {URI}." in shown.output


def test_a_feed_that_is_read_only_is_a_failure(feed: Feed, server: SecopsServer) -> None:
    """It says that it succeeded, and reads no more: the instance has moved."""
    server.holds(URI, readOnly=True)
    shown = feed("show")
    assert shown.exit_code == 1
    assert "it reads no more, because the instance has moved" in shown.output


def test_every_option_changes_the_feed(feed: Feed, server: SecopsServer) -> None:
    """What the recipe asks for can be set, each by its option; the prefix by the pipeline's own setting."""
    feed("create", "--yes", *KEY, *EVERY, S3_PREFIX="zendesk/records/")
    ((_, body),) = sent(server)
    assert body == {
        "displayName": "Ours",
        "details": {
            "feedSourceType": "AMAZON_S3_V2",
            "logType": LOG_TYPE,
            "assetNamespace": "corp",
            "labels": {"source": "zendesk", "team": "a=b"},
            "amazonS3V2Settings": {
                "s3Uri": "s3://acme-zendesk/zendesk/records/",
                "sourceDeletionOption": "ON_SUCCESS",
                "maxLookbackDays": 30,
                "authentication": {"accessKeySecretAuth": {"accessKeyId": KEY[1], "secretAccessKey": SECRET}},
            },
        },
    }


def test_a_new_feed_is_shown(feed: Feed) -> None:
    """With its id, which other commands take."""
    said = feed("create", *KEY)
    assert said.exit_code == 0
    assert said.stdout.startswith("Zendesk CRM: ACTIVE\n  id             feed-1\n")
    assert URI in said.stdout


CONFIRMED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "the same prefix": ((), URI, "arrives in SecOps a second time"),
    "a prefix above": ((), "s3://acme-zendesk/zendesk/", "which overlaps"),
    "a prefix below": ((), f"{URI}2026/", "which overlaps"),
    "deletion": (("--deletion", "on-success"), "", "s3:DeleteObject"),
    "age below what is kept for ever": (("--max-age-days", "30"), "", "kept for ever"),
    "age below retention": (("--max-age-days", "30", "--retention-days", "60"), "", "kept for 60 days"),
}


@pytest.mark.parametrize("case", CONFIRMED)
def test_what_makes_secops_read_again_is_asked_about_first(case: str, feed: Feed, server: SecopsServer) -> None:
    """Nothing is sent before somebody says --yes; then it is."""
    options, uri, words = CONFIRMED[case]
    if uri:
        server.holds(uri)
    refused = feed("create", *KEY, *options)
    assert (refused.exit_code, sent(server)) == (1, [])
    assert words in refused.stderr
    assert refused.stderr.endswith("Error: Nothing was sent. If that is what you want, say so with --yes.\n")
    assert feed("create", *KEY, *options, "--yes").exit_code == 0
    assert len(sent(server)) == 1


def test_a_feed_on_the_second_page_of_the_list_is_found(feed: Feed, server: SecopsServer) -> None:
    """However many feeds an instance has."""
    server.page_size = 1
    server.holds("s3://another/zendesk/crm/")
    server.holds(URI)
    refused = feed("create", *KEY)
    assert (refused.exit_code, "feed-2" in refused.stderr, sent(server)) == (1, True, [])


def test_feeds_that_read_something_else_are_no_matter(feed: Feed, server: SecopsServer) -> None:
    """No question is asked where nothing is read twice."""
    server.holds("s3://acme-zendesk/other/")
    server.holds("s3://another-bucket/zendesk/crm/")
    assert feed("create", *KEY, "--max-age-days", "30", "--retention-days", "30").exit_code == 0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("S3_PREFIX", "zendesk/crm", "S3_PREFIX is wrong"),
        ("STATE_PREFIX", "zendesk/crm/state/", "SecOps would read it as logs"),
        ("QUARANTINE_PREFIX", "zendesk/crm/q/", "SecOps would read it as logs"),
        ("S3_BUCKET", "", "S3_BUCKET is not set"),
    ],
)
def test_prefixes_that_no_feed_should_read_are_refused(
    name: str, value: str, words: str, feed: Feed, server: SecopsServer
) -> None:
    """A prefix without its slash, ledgers inside the feed prefix: the pipeline's own checks hold here too."""
    said = feed("create", "--yes", *KEY, **{name: value})
    assert (said.exit_code, server.asked) == (1, [])
    assert words in said.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "--access-key-id or by --role-arn"),
        ((*KEY, *ROLE), "--access-key-id or by --role-arn"),
        (ROLE[:2], "feed subject-id"),
        (("--access-key-id", SECRET), "must not stand here"),
        (("--role-arn", "secops-reader"), "an ARN"),
        ((*KEY, "--label", "zendesk"), "KEY=VALUE"),
        ((*KEY, "--max-age-days", "181"), "1<=x<=180"),
        ((*KEY, "--max-age-days", "0"), "1<=x<=180"),
        ((*KEY, "--deletion", "always"), "on-success"),
        ((*KEY, "--queue-arn", "zendesk"), "an ARN such as arn:aws:sqs:"),
        ((*KEY, "--queue-arn", f"{QUEUE}.fifo"), "a standard queue is wanted"),
        ((*KEY, "--secret-access-key", "x"), "No such option"),
    ],
)
def test_a_mistake_is_named_before_anything_is_asked(
    options: tuple[str, ...], words: str, feed: Feed, server: SecopsServer
) -> None:
    """Exit status 2, as for any wrong option; a secret typed in the wrong place is not repeated."""
    said = feed("create", "--yes", *options)
    assert (said.exit_code, words in said.output, server.asked) == (2, True, [])


# By a queue


@pytest.mark.parametrize(
    ("reader", "authentication"),
    [
        (KEY, {"sqsV2AccessKeySecretAuth": {"accessKeyId": KEY[1], "secretAccessKey": SECRET}}),
        (ROLE, {"awsIamRoleAuth": {"awsIamRoleArn": ROLE[1], "subjectId": SUBJECT}}),
    ],
    ids=["key", "role"],
)
def test_a_queue_makes_a_feed_of_the_kind_sqs_v2(
    reader: tuple[str, ...], authentication: dict[str, object], feed: Feed, server: SecopsServer
) -> None:
    """The queue and the prefix, with one identity for both; what is printed is what is sent, and shown afterwards."""
    printed = feed("print", *reader, "--queue-arn", QUEUE)
    made = feed("create", *reader, "--queue-arn", QUEUE)
    assert made.exit_code == 0, made.output
    ((_, body),) = sent(server)
    assert body == {
        "displayName": "Zendesk CRM",
        "details": {
            "feedSourceType": "AMAZON_SQS_V2",
            "logType": LOG_TYPE,
            "assetNamespace": "",
            "labels": {},
            "amazonSqsV2Settings": {
                "queue": QUEUE,
                "s3Uri": URI,
                "sourceDeletionOption": "NEVER",
                "maxLookbackDays": 180,
                "authentication": authentication,
            },
        },
    }
    assert json.loads(printed.stdout) == json.loads(json.dumps(body).replace(SECRET, "***"))
    assert f"reads          {URI} (AMAZON_SQS_V2, ZENDESK_CRM)" in made.stdout
    assert "SecOps reads the queue." in made.stdout
    assert feed("show").exit_code == 0


def test_a_queue_beside_a_feed_that_looks_by_itself_is_asked_about_first(feed: Feed, server: SecopsServer) -> None:
    """Whether both bring an object is documented nowhere."""
    server.holds(URI)
    refused = feed("create", *KEY, "--queue-arn", QUEUE)
    assert (refused.exit_code, sent(server)) == (1, [])
    assert "assume that it does" in refused.stderr


# What is there already


@pytest.mark.parametrize("option", ["--dry-run", "--yes"])
def test_it_says_how_many_objects_the_new_feed_reads_at_once(feed: Feed, bucket: Bucket, option: str) -> None:
    """Those under the prefix alone; before anything is sent, so that a dry run shows it too."""
    for number in range(3):
        bucket.put(f"zendesk/crm/2026/11/12/0{number}0000-x.json", b"{}\n")
    bucket.put("zendesk/crm2/x.json", b"{}\n")
    said = feed("create", *KEY, option)
    assert said.exit_code == 0, said.output
    assert f"3 objects under {URI} of the last 180 days: the new feed reads them." in said.stderr
    assert "stayed behind when the instance moved" in said.stderr
    by_queue = feed("create", *KEY, "--display-name", "Q", "--queue-arn", QUEUE, "--yes")
    assert f"3 objects under {URI} of the last 180 days: the queue may never have told of them" in by_queue.stderr


def test_objects_older_than_the_maximum_age_do_not_count(
    feed: Feed, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed does not read them."""
    bucket.put("zendesk/crm/2026/11/12/000000-x.json", b"{}\n")
    now = time.time()
    monkeypatch.setattr(feed_commands.time, "time", lambda: now + 2.5 * 86_400)
    assert "1 object under" in feed("create", *KEY, "--dry-run", "--max-age-days", "3").stderr
    assert "object" not in feed("create", *KEY, "--dry-run", "--max-age-days", "2").stderr.replace(
        "Objects are kept", ""
    )


def test_of_very_many_objects_so_many_are_looked_at(
    feed: Feed, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And that there are more is said."""
    monkeypatch.setattr(feed_commands, "MOST_LISTED", 2)
    for number in range(3):
        bucket.put(f"zendesk/crm/2026/11/12/0{number}0000-x.json", b"{}\n")
    assert "More than 2 objects under" in feed("create", *KEY, "--dry-run").stderr


def test_without_rights_in_the_bucket_the_feed_is_made_all_the_same(feed: Feed, server: SecopsServer) -> None:
    """Who administers SecOps may have none; that it could not be seen is said."""
    said = feed("create", *KEY, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="", AWS_EC2_METADATA_DISABLED="true")
    assert (said.exit_code, len(sent(server))) == (0, 1)
    assert f"How many objects are under {URI} could not be seen: " in said.stderr


# The secret


def test_the_secret_is_read_from_standard_input(feed: Feed, server: SecopsServer) -> None:
    """For a pipe from a secrets manager; the line's end is not part of it."""
    assert feed("create", *KEY, typed=f"{SECRET}\n", FEED_SECRET_ACCESS_KEY="").exit_code == 0
    assert SECRET in json.dumps(server.changes()[0].body)


def test_without_a_secret_nothing_is_sent(feed: Feed, server: SecopsServer) -> None:
    """An empty input is no secret."""
    said = feed("create", *KEY, FEED_SECRET_ACCESS_KEY="")
    assert (said.exit_code, sent(server)) == (1, [])
    assert "set FEED_SECRET_ACCESS_KEY" in said.output


def test_a_terminal_is_asked_and_shows_nothing_of_it(server: SecopsServer, tmp_path: Path) -> None:
    """What is typed at the prompt is not echoed."""
    elsewhere = {"AWS_EC2_METADATA_DISABLED": "true"}  # this machine has no credentials, and no cloud to ask for any
    environment = {**server.environment(tmp_path), **elsewhere, "S3_BUCKET": "acme-zendesk", "PATH": os.defpath}
    ours, theirs = pty.openpty()
    command = [PROGRAM, "feed", "create", *KEY]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as started:
        os.close(theirs)
        shown = b""
        while b"Secret access key of the reader" not in shown:
            shown += os.read(ours, 1000)
        os.write(ours, f"{SECRET}\n".encode())
        shown += b"".join(iter(lambda: _read(ours), b""))
        status = started.wait(60)
    os.close(ours)
    assert (status, SECRET in json.dumps(server.changes()[0].body)) == (0, True)
    assert b"Zendesk CRM: ACTIVE" in shown
    assert SECRET[:8].encode() not in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1000)
    except OSError:  # how Linux says that nobody has the other side open any more
        return b""


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500])
def test_no_refusal_shows_the_secret(status: int, feed: Feed, server: SecopsServer) -> None:
    """One sentence and exit status 1, also where Google's answer repeats what was sent (`feed` looks for it)."""
    server.refusal = (status, google_error(status, f"Invalid value at 'secret_access_key': {SECRET}"))
    said = feed("create", *KEY)
    assert said.exit_code == 1
    assert said.output.startswith(f"Error: SecOps answered {status} to POST feeds")
    assert said.output.count("\n") == 1


# Show, and switch


FAILED = {
    "state": "FAILED",
    "failureDetails": {
        "errorCode": "ACCESS_DENIED",
        "httpErrorCode": 403,
        "errorCause": "The key may not\u001b[2J list the bucket.",
        "errorAction": "Grant s3:ListBucket.",
    },
}


def test_a_failed_feed_is_explained_and_fails_the_command(feed: Feed, server: SecopsServer) -> None:
    """State, code, cause and action, without control characters; exit status 1, so that CI sees it."""
    server.holds(URI, **FAILED, lastFeedInitiationTime="2026-11-22T10:00:00Z")
    said = feed("show")
    assert said.exit_code == 1
    assert said.stdout.splitlines() == [
        "Feed 1: FAILED",
        "  id             feed-1",
        f"  reads          {URI} (AMAZON_S3_V2, ZENDESK_CRM)",
        "  deletes        NEVER",
        "  maximum age    180 days",
        "  last transfer  2026-11-22T10:00:00Z",
        "  error          ACCESS_DENIED (HTTP 403)",
        "  cause          The key may not [2J list the bucket.",
        "  what to do     Grant s3:ListBucket.",
    ]


@pytest.mark.parametrize("state", ["ACTIVE", "RUNNING", "SUCCEEDED", "INACTIVE"])
def test_feeds_that_did_not_fail_are_exit_status_0(state: str, feed: Feed, server: SecopsServer) -> None:
    """Those of the bucket are listed, with one above the feed prefix; those of other buckets are not."""
    server.holds("s3://acme-zendesk/", state=state)
    server.holds("s3://another/zendesk/crm/", state="FAILED")
    said = feed("show")
    assert (said.exit_code, f"Feed 1: {state}" in said.stdout, "Feed 2" in said.stdout) == (0, True, False)


@pytest.mark.parametrize("uri", ["s3://another/zendesk/crm/", "s3://acme-zendesk/other/", f"{URI}2026/"])
def test_no_feed_on_the_prefix_is_exit_status_1(uri: str, feed: Feed, server: SecopsServer) -> None:
    """Nobody reads what the collector writes, or not all of it: that is to be seen."""
    server.holds(uri)
    said = feed("show")
    assert (said.exit_code, f"No feed reads {URI}." in said.stderr) == (1, True)


def test_a_feed_is_disabled_and_enabled(feed: Feed, server: SecopsServer) -> None:
    """The only one of the prefix needs no id."""
    server.holds(URI)
    assert "Feed 1: INACTIVE" in feed("disable").stdout
    assert "Feed 1: ACTIVE" in feed("enable").stdout
    assert [path for path, _ in sent(server)] == ["feed-1:disable", "feed-1:enable"]


def test_a_dry_run_of_a_switch_changes_nothing(feed: Feed, server: SecopsServer) -> None:
    """It says what would be sent."""
    server.holds(URI)
    said = feed("disable", "--dry-run")
    assert said.stdout.endswith("/feeds/feed-1:disable\n")
    assert (sent(server), server.feeds[0]["state"]) == ([], "SUCCEEDED")


def test_of_two_feeds_one_has_to_be_named(feed: Feed, server: SecopsServer) -> None:
    """Nothing is switched by guessing, nor one that only overlaps."""
    server.holds("s3://acme-zendesk/")
    assert "No feed reads" in feed("disable").output
    server.holds(URI)
    server.holds(URI)
    assert "name one of feed-2, feed-3" in feed("disable").output
    assert "no feed 'feed-9'" in feed("disable", "feed-9").output
    assert sent(server) == []
    assert feed("disable", "feed-3").exit_code == 0
    assert server.feeds[2]["state"] == "INACTIVE"


def test_enabling_a_second_reader_is_asked_about_first(feed: Feed, server: SecopsServer) -> None:
    """Two enabled feeds on the same objects bring everything twice."""
    server.holds(URI)
    server.holds(URI, state="INACTIVE")
    refused = feed("enable", "feed-2")
    assert (refused.exit_code, "arrives in SecOps twice" in refused.stderr, sent(server)) == (1, True, [])
    assert feed("enable", "feed-2", "--yes").exit_code == 0
    assert server.feeds[1]["state"] == "ACTIVE"


def test_the_subject_id_is_printed_alone(feed: Feed) -> None:
    """So that a script can put it into a trust policy."""
    assert feed("subject-id").output == f"{SUBJECT}\n"
