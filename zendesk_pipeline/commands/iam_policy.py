"""The two IAM policies, made from the settings: what the collector may do in the bucket, and what SecOps may.

Nothing is granted that a run does not use (`test_least_privilege.py` takes each statement away and sees what breaks).
`deploy/aws/zendesk-to-secops.yaml` grants the same: `test_cloudformation.py` compares them, so change both or neither.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

import click

from zendesk_pipeline.commands.secret_rights import secret_statements
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.settings import environment
from zendesk_pipeline.settings.environment import Settings, not_set

Statement = dict[str, Any]
Policy = dict[str, Any]

_QUEUE = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"]


def writer_policy(chosen: Settings, *, write_only_feed: bool = False, secrets: Sequence[Statement] = ()) -> Policy:
    """What the collector needs: it deletes nothing, and never reads the quarantine.

    With SECOPS_ACCESS_LOGS it reads the access log, which is in another bucket.

    With `write_only_feed` it cannot read the feed either; then a crash between two writes can repeat a batch.
    `secrets` are the statements of `secret_rights`.
    """
    feed, state, quarantine = chosen.s3_prefix, chosen.state_prefix, chosen.quarantine_prefix
    read = [state] if write_only_feed else [feed, state]
    return _policy(
        _objects(chosen, "Write", "s3:PutObject", feed, state, quarantine),
        _objects(chosen, "ReadLedgers" if write_only_feed else "ReadLedgersAndFeed", "s3:GetObject", *read),
        _listing(chosen, "ListLedgers" if write_only_feed else "ListLedgersAndFeed", *read),
        *_key(chosen, "kms:GenerateDataKey", "kms:Decrypt"),
        *_access_log(chosen),
        *secrets,
    )


def reader_policy(
    chosen: Settings, *, delete_after_transfer: bool = False, list_whole_bucket: bool = False, queue: str | None = None
) -> Policy:
    """What a SecOps feed needs: the feed prefix and nothing else, and for the kind Amazon SQS V2 its queue's ARN.

    Google's transfer service asks for these rights on the bucket and does not say whether it works with a condition on
    the prefix: `list_whole_bucket` leaves the condition out. It shows names of objects, never their contents.

    Of the rights on a queue Google names `sqs:DeleteMessage` only; the others are what it takes to receive from one:
    https://docs.cloud.google.com/chronicle/docs/reference/feed-management-api
    """
    deletion = [_objects(chosen, "DeleteWhatWasRead", "s3:DeleteObject", chosen.s3_prefix)]
    listing = _listing(chosen, "Find", chosen.s3_prefix)
    if list_whole_bucket:
        del listing["Condition"]
    return _policy(
        _objects(chosen, "Read", "s3:GetObject", chosen.s3_prefix),
        listing,
        {"Sid": "Locate", "Effect": "Allow", "Action": "s3:GetBucketLocation", "Resource": _bucket(chosen)},
        *(deletion if delete_after_transfer else []),
        *([{"Sid": "TakeFromTheQueue", "Effect": "Allow", "Action": _QUEUE, "Resource": queue}] if queue else []),
        *_key(chosen, "kms:Decrypt"),
    )


def _policy(*statements: Statement) -> Policy:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _bucket(chosen: Settings) -> str:
    if not chosen.s3_bucket:
        raise not_set("S3_BUCKET", "the bucket that the policy is for")
    return f"arn:aws:s3:::{chosen.s3_bucket}"


def _objects(chosen: Settings, name: str, action: str, *prefixes: str) -> Statement:
    places = [f"{_bucket(chosen)}/{prefix}*" for prefix in prefixes]
    return {"Sid": name, "Effect": "Allow", "Action": action, "Resource": places}


def _listing(chosen: Settings, name: str, *prefixes: str) -> Statement:
    """S3 answers 404 instead of 403 for a missing object only to those who may list its prefix."""
    condition = {"StringLike": {"s3:prefix": [f"{prefix}*" for prefix in prefixes]}}
    return {
        "Sid": name,
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": _bucket(chosen),
        "Condition": condition,
    }


def _access_log(chosen: Settings) -> list[Statement]:
    """The right to read the access log that SECOPS_ACCESS_LOGS names, and nothing else of its bucket."""
    if not chosen.secops_access_logs:
        return []
    bucket, _, prefix = chosen.secops_access_logs.removeprefix("s3://").partition("/")
    arn = f"arn:aws:s3:::{bucket}"
    return [
        {"Sid": "ReadAccessLog", "Effect": "Allow", "Action": "s3:GetObject", "Resource": f"{arn}/{prefix}*"},
        {
            "Sid": "ListAccessLog",
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": arn,
            "Condition": {"StringLike": {"s3:prefix": f"{prefix}*"}},
        },
    ]


def _key(chosen: Settings, *actions: str) -> list[Statement]:
    """The right to use S3_KMS_KEY_ID, if it is set."""
    key = chosen.s3_kms_key_id
    if key is None:
        return []
    if "alias/" in key:
        raise SettingsError("S3_KMS_KEY_ID is an alias, and a policy has to name the key: set it to the key's ARN.")
    resource = key if key.startswith("arn:") else f"arn:aws:kms:*:*:key/{key}"
    return [{"Sid": "UseTheKey", "Effect": "Allow", "Action": list(actions), "Resource": resource}]


@click.group("iam-policy")
def iam_policy() -> None:
    """Print an IAM policy for the bucket, made from the settings."""


@iam_policy.command
@click.option("--write-only-feed", is_flag=True, help="Without rights to read and list the feed.")
def writer(*, write_only_feed: bool) -> None:
    """Print the policy of the collector."""
    secrets = secret_statements(os.environ)
    policy = writer_policy(environment.load(), write_only_feed=write_only_feed, secrets=secrets)
    click.echo(json.dumps(policy, indent=2))


@iam_policy.command
@click.option("--delete-after-transfer", is_flag=True, help="For a feed that deletes what it has read.")
@click.option("--list-whole-bucket", is_flag=True, help="If the feed is refused with a condition on the prefix.")
@click.option("--queue", metavar="ARN", help="For a feed of the kind Amazon SQS V2: the queue it is told by.")
def reader(*, delete_after_transfer: bool, list_whole_bucket: bool, queue: str | None) -> None:
    """Print the policy of the SecOps feed."""
    policy = reader_policy(
        environment.load(),
        delete_after_transfer=delete_after_transfer,
        list_whole_bucket=list_whole_bucket,
        queue=queue,
    )
    click.echo(json.dumps(policy, indent=2))
