"""`zendesk-pipeline feed`: the feed of Google SecOps that reads the bucket, made and watched from the command line."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import click

from zendesk_pipeline.commands.secops.options import Command, access_of, access_options
from zendesk_pipeline.delivery.bucket import Store, signed_once
from zendesk_pipeline.model.errors import PipelineError, SettingsError
from zendesk_pipeline.model.windows import DAY
from zendesk_pipeline.secops.access import Access, connect
from zendesk_pipeline.secops.feed_model import (
    LONGEST_AGE,
    AccessKey,
    AlreadyThere,
    Deletion,
    Feed,
    FeedPlan,
    Role,
    already_read,
    body_of,
    both_feeds_to_confirm,
    bucket_of,
    choices_to_confirm,
    hidden,
    prefix_of,
    second_feed_to_confirm,
    uri_of,
)
from zendesk_pipeline.secops.feed_watch import failed, reading
from zendesk_pipeline.secops.instance import SecopsError
from zendesk_pipeline.settings import aws_clients, aws_errors, environment
from zendesk_pipeline.settings.programs import ours

SECRET = "FEED_SECRET_ACCESS_KEY"  # noqa: S105  # the name of a variable, no secret
SECONDS = 10
"""That S3 may take for an answer: somebody waits."""
MOST_LISTED = 100_000
"""Objects that are looked at, in a hundred requests."""
MOVED = "it reads no more, because the instance has moved: docs/feed.md, When your instance moves"
DELETION: dict[str, Deletion] = {"never": "NEVER", "on-success": "ON_SUCCESS"}


def _labels(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    if any(not key or not equals or not value for key, equals, value in pairs):
        raise click.BadParameter("KEY=VALUE is wanted")
    return {key: value for key, _, value in pairs}


def _key_id(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value and not re.fullmatch(r"[A-Z0-9]{16,128}", value):
        raise click.BadParameter("that is no access key ID (and the secret access key must not stand here)")
    return value


def _role_arn(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value and not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+", value):
        raise click.BadParameter("an ARN such as arn:aws:iam::123456789012:role/secops-reader is wanted")
    return value


def _queue_arn(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value and value.endswith(".fifo"):
        raise click.BadParameter("S3 tells no FIFO queue of objects: a standard queue is wanted")
    if value and not re.fullmatch(r"arn:aws[a-z-]*:sqs:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,80}", value):
        raise click.BadParameter("an ARN such as arn:aws:sqs:eu-central-1:123456789012:zendesk is wanted")
    return value


OPTIONS = (
    click.option("--display-name", default="Zendesk CRM", show_default=True, help="The feed's name in SecOps."),
    click.option(
        "--access-key-id",
        envvar="FEED_ACCESS_KEY_ID",
        show_envvar=True,
        callback=_key_id,
        help=f"The reader's access key. Its secret comes from {SECRET}, a prompt or standard input.",
    ),
    click.option(
        "--role-arn",
        envvar="FEED_ROLE_ARN",
        show_envvar=True,
        callback=_role_arn,
        help="Instead of a key: a role that SecOps takes by web identity.",
    ),
    click.option(
        "--subject-id",
        envvar="FEED_SUBJECT_ID",
        show_envvar=True,
        help="With --role-arn: the identity that takes it, as `feed subject-id` prints it.",
    ),
    click.option(
        "--queue-arn",
        envvar="FEED_QUEUE_ARN",
        show_envvar=True,
        callback=_queue_arn,
        help="Make a feed of the kind Amazon SQS V2: the queue that S3 tells of new objects.",
    ),
    click.option(
        "--deletion",
        type=click.Choice(list(DELETION)),
        default="never",
        show_default=True,
        help="Whether the feed deletes what it has read.",
    ),
    click.option(
        "--max-age-days",
        type=click.IntRange(1, LONGEST_AGE),
        default=LONGEST_AGE,
        show_default=True,
        help="Older objects are not read. It counts from an object's last change.",
    ),
    click.option("--namespace", default="", help="Asset namespace of the logs.  [default: none]"),
    click.option("--label", "labels", multiple=True, callback=_labels, help="Ingestion label, KEY=VALUE; repeatable."),
)

dry_run_option = click.option("--dry-run", is_flag=True, help="Print the request, and send nothing.")
yes_option = click.option("--yes", is_flag=True, help="Go on although something is to be confirmed.")


def plan_options(command: Command) -> Command:
    """The options that describe a feed; `_plan` reads them."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.group
def feed() -> None:
    """Create, show and switch the Google SecOps feed that reads the bucket (docs/feed.md)."""


@feed.command("print")
@access_options
@plan_options
def print_feed(**options: Any) -> None:
    """Print the feed's description as it would be sent, without the secret. Nothing is sent."""
    access = access_of(options)
    click.echo(_as_json(hidden(body_of(_plan(options, secret=_no_secret), access.instance))))


@feed.command
@access_options
@plan_options
@click.option(
    "--retention-days",
    type=click.IntRange(1),
    help="When a lifecycle rule deletes objects of the feed prefix.  [default: never]",
)
@dry_run_option
@yes_option
def create(*, retention_days: int | None, dry_run: bool, yes: bool, **options: Any) -> None:
    """Create the feed. Try it with --dry-run first.

    It asks for --yes where a feed reads the prefix already, where the feed is to delete, and where objects are kept
    for longer than they are read. It says how many objects are there already, as far as it may list the bucket.
    """
    access = access_of(options)
    plan = _plan(options, secret=_no_secret)
    to_confirm = list(choices_to_confirm(plan, retention_days))
    if dry_run:
        _say_what_is_there(plan)
        for sentence in to_confirm:
            click.echo(f"To be confirmed with --yes: {sentence}", err=True)
        _show_request(access, "feeds", hidden(body_of(plan, access.instance)))
        return
    client = connect(access)
    feeds = client.feeds()
    _say_what_is_there(plan)
    _confirmed([*to_confirm, *second_feed_to_confirm(plan, feeds)], yes=yes)
    made = client.create_feed(body_of(_plan(options, secret=_secret), access.instance))
    click.echo(_described(made))
    reads = "reads the queue" if plan.queue else "looks for new objects every 15 minutes"
    click.echo(f"SecOps {reads}. Look again with: {ours('feed show')}")


@feed.command
@access_options
@click.pass_context
def show(context: click.Context, /, **options: Any) -> None:
    """Show the feeds that read the bucket.

    The exit status is 1 where one of them is FAILED or read-only, or none reads the whole feed prefix.
    """
    uri = uri_of(environment.load())
    client = connect(access_of(options))
    found = [each for each in client.feeds() if bucket_of(each.uri) == bucket_of(uri)]
    for each in found:
        click.echo(_described(each))
    read = reading(uri, found)
    if not read:
        click.echo(f"No feed reads {uri}.", err=True)
    context.exit(int(not read or any(failed(each) or each.read_only for each in found)))


@feed.command
@access_options
@click.argument("feed_id", required=False)
@dry_run_option
def disable(*, feed_id: str | None, dry_run: bool, **options: Any) -> None:
    """Disable the feed: it reads nothing until it is enabled. Without FEED_ID: the only one of the feed prefix."""
    _switch(access_of(options), feed_id, enabled=False, dry_run=dry_run, yes=True)


@feed.command
@access_options
@click.argument("feed_id", required=False)
@dry_run_option
@yes_option
def enable(*, feed_id: str | None, dry_run: bool, yes: bool, **options: Any) -> None:
    """Enable the feed again. It asks for --yes where another feed reads the same objects."""
    _switch(access_of(options), feed_id, enabled=True, dry_run=dry_run, yes=yes)


@feed.command("subject-id")
@access_options
def subject_id(**options: Any) -> None:
    """Print the identity that SecOps has towards AWS, for the trust policy of a role."""
    click.echo(connect(access_of(options)).subject_id())


def _switch(access: Access, feed_id: str | None, *, enabled: bool, dry_run: bool, yes: bool) -> None:
    client = connect(access)
    feeds = client.feeds()
    chosen = _chosen(feeds, feed_id, uri_of(environment.load()))
    if dry_run:
        _show_request(access, f"feeds/{chosen.feed_id}:{'enable' if enabled else 'disable'}", None)
        return
    if enabled:
        _confirmed(both_feeds_to_confirm(chosen, feeds), yes=yes)
    click.echo(_described(client.switch_feed(chosen.feed_id, enabled=enabled)))


def _chosen(feeds: list[Feed], feed_id: str | None, uri: str) -> Feed:
    found = (
        [each for each in feeds if each.feed_id == feed_id] if feed_id else [each for each in feeds if each.uri == uri]
    )
    if len(found) == 1:
        return found[0]
    if feed_id:
        raise SecopsError(f"There is no feed {feed_id!r}: {ours('feed show')} lists those of the bucket.")
    if found:
        named = ", ".join(each.feed_id for each in found)
        raise SecopsError(f"More than one feed reads {uri}: name one of {named}.")
    raise SecopsError(f"No feed reads {uri}.")


def _plan(options: dict[str, Any], *, secret: Callable[[], str]) -> FeedPlan:
    return FeedPlan(
        display_name=options["display_name"],
        uri=uri_of(environment.load()),
        deletion=DELETION[options["deletion"]],
        max_age_days=options["max_age_days"],
        namespace=options["namespace"],
        labels=options["labels"],
        reader=_reader(options["access_key_id"], options["role_arn"], options["subject_id"], secret),
        queue=options["queue_arn"] or "",
    )


def _say_what_is_there(plan: FeedPlan) -> None:
    """How many objects the feed finds; whoever makes it may be without rights in the bucket."""
    try:
        there = _already_there(plan)
    except PipelineError as problem:
        click.echo(f"How many objects are under {plan.uri} could not be seen: {problem}", err=True)
        return
    for sentence in already_read(plan, there):
        click.echo(sentence, err=True)


def _already_there(plan: FeedPlan) -> AlreadyThere:
    client = signed_once(aws_errors.asks_for_the_region_once(aws_clients.client("s3", seconds=SECONDS)))
    store = Store(client=client, bucket=bucket_of(plan.uri), encryption={})
    since = time.time() - plan.max_age_days * DAY
    listed = list(islice(store.listing(prefix_of(plan.uri)), MOST_LISTED + 1))
    young = sum(each.modified >= since for each in listed[:MOST_LISTED])
    return AlreadyThere(objects=young, whole=len(listed) <= MOST_LISTED)


def _reader(key_id: str | None, arn: str | None, subject: str | None, secret: Callable[[], str]) -> AccessKey | Role:
    if bool(key_id) == bool(arn):
        raise click.UsageError("Name the reader by --access-key-id or by --role-arn: one of them.")
    if key_id:
        return AccessKey(key_id=key_id, secret=secret())
    if not arn or not subject:
        raise click.UsageError(f"--role-arn needs --subject-id: {ours('feed subject-id')} prints it.")
    return Role(arn=arn, subject_id=subject)


def _no_secret() -> str:
    """What is printed needs none."""
    return "***"


def _secret() -> str:
    """Never from the command line, which other users of the machine can see and shells remember."""
    text = os.environ.get(SECRET) or (
        click.prompt("Secret access key of the reader", hide_input=True, err=True)
        if sys.stdin.isatty()
        else sys.stdin.readline()
    )
    if not text.strip():
        raise SettingsError(f"There is no secret access key: set {SECRET}, or give it on standard input.")
    return text.strip()


def _confirmed(sentences: Iterable[str], *, yes: bool) -> None:
    said = list(sentences)
    for sentence in said:
        click.echo(f"{'Confirmed' if yes else 'To be confirmed'}: {sentence}", err=True)
    if said and not yes:
        raise SecopsError("Nothing was sent. If that is what you want, say so with --yes.")


def _show_request(access: Access, path: str, body: dict[str, Any] | None) -> None:
    click.echo(f"POST {access.instance.url('v1', path)}")
    if body is not None:
        click.echo(_as_json(body))
    click.echo("This was not sent.", err=True)


def _as_json(body: dict[str, Any]) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False)


def _described(feed: Feed) -> str:
    kind = f"{feed.details.get('feedSourceType', '?')}, {str(feed.details.get('logType', '?')).rpartition('/')[2]}"
    failure = feed.failure_details
    code = failure.error_code + (f" (HTTP {failure.http_error_code})" if failure.http_error_code else "")
    rows = {
        "id": feed.feed_id,
        "reads": f"{feed.uri} ({kind})",
        "deletes": str(feed.source.get("sourceDeletionOption", "")),
        "maximum age": f"{feed.source['maxLookbackDays']} days" if "maxLookbackDays" in feed.source else "",
        "last transfer": feed.last_feed_initiation_time,
        "read-only": MOVED if feed.read_only else "",
        "error": code,
        "cause": failure.error_cause or feed.failure_msg,
        "what to do": failure.error_action,
    }
    shown = [f"  {name:<14} {_printable(value)}" for name, value in rows.items() if value]
    return "\n".join((f"{_printable(feed.display_name)}: {feed.state}", *shown))


def _printable(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
