"""The objects of an access log, found in a real bucket whatever S3 calls them."""

import time
from datetime import UTC, datetime

import pytest

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.windows import DAY, HOUR
from zendesk_pipeline.secops.access_log_store import AccessLogs
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.access_log import ACCOUNT, REGION, partitioned, simple

HERE = f"{ACCOUNT}/{REGION}/acme-zendesk/"


@pytest.fixture
def bucket(store: Store, layout: Layout) -> Bucket:
    return Bucket(store=store, layout=layout)


def logs(bucket: Bucket, more: str = "") -> AccessLogs:
    """The log of acme-zendesk, in a place of the test's own."""
    prefix = f"{bucket.layout.feed.partition('/')[0]}/log/{more}"
    return AccessLogs(store=bucket.store, prefix=prefix, bucket="acme-zendesk")


def test_it_is_where_the_setting_says(store: Store) -> None:
    """In another bucket, asked for by the same client, and without the encryption of our own writes."""
    asked = AccessLogs.at("s3://a-log/s3/of-", store)
    assert (asked.store.bucket, asked.prefix, asked.bucket) == ("a-log", "s3/of-", store.bucket)
    assert (asked.store.client, asked.uri) == (store.client, "s3://a-log/s3/of-")
    assert AccessLogs.at("s3://a-log", store).prefix == ""


def test_both_forms_of_names_are_found_and_other_buckets_are_not(bucket: Bucket) -> None:
    """By the day of their delivery; several buckets may have one place for their logs."""
    now, of = time.time(), logs(bucket)
    mine = [partitioned(of.prefix, "acme-zendesk", now)]
    for other in ("a-bucket", "acme-zendesk-2", "zzz"):
        bucket.put(partitioned(of.prefix, other, now), b"x\n")
    bucket.put(mine[0], b"x\n")
    assert [each.key for each in of.listed(now - HOUR, now)] == mine
    simply = logs(bucket, "simple-")
    named = [simple(simply.prefix, now - number) for number in range(2)]
    for key in named:
        bucket.put(key, b"x\n")
    assert {each.key for each in simply.listed(now - HOUR, now)} == set(named)


def test_objects_named_by_the_day_of_their_requests_are_found_when_they_come_later(bucket: Bucket) -> None:
    """S3's other way to name them: the hour is 00, and the day that of the requests."""
    now, of = time.time(), logs(bucket)
    midnight = now - now % DAY - DAY
    key = partitioned(of.prefix, "acme-zendesk", midnight)
    assert f"{datetime.fromtimestamp(midnight, UTC):%Y/%m/%d/%Y-%m-%d-00-00-00-}" in key
    bucket.put(key, b"x\n")
    assert [each.key for each in of.listed(now - 60, now)] == [key]


def test_what_came_before_is_left_out(bucket: Bucket) -> None:
    """By the time of its coming, which is not in every name."""
    now, of = time.time(), logs(bucket)
    bucket.put(partitioned(of.prefix, "acme-zendesk", now), b"x\n")
    assert of.listed(now + HOUR, now + HOUR) == []
    assert len(of.listed(now - HOUR, now)) == 1


def test_a_prefix_that_names_the_partition_is_right_as_well(bucket: Bucket) -> None:
    """As somebody copies it from the console."""
    now, of = time.time(), logs(bucket)
    key = partitioned(of.prefix, "acme-zendesk", now)
    bucket.put(key, b"x\n")
    assert [each.key for each in logs(bucket, HERE).listed(now - HOUR, now)] == [key]


def test_lines_are_read_whatever_clients_have_sent(bucket: Bucket) -> None:
    """Bytes that are no UTF-8 hide no other line; an object that has expired meanwhile has none."""
    of = logs(bucket)
    bucket.put(f"{of.prefix}x", b"one \xff\xfe\ntwo\n")
    assert of.lines(f"{of.prefix}x") == ["one \ufffd\ufffd", "two", ""]
    assert of.lines(f"{of.prefix}gone") == []
