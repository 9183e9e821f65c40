"""The description of a feed, and what is to be known before it is made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.secops.feed_model import (
    AccessKey,
    Feed,
    FeedPlan,
    Role,
    body_of,
    both_feeds_to_confirm,
    bucket_of,
    choices_to_confirm,
    hidden,
    overlapping,
    second_feed_to_confirm,
    uri_of,
)
from zendesk_pipeline.secops.instance import Instance
from zendesk_pipeline.settings.environment import Settings

INSTANCE = Instance(customer_id="c", project="p", region="eu", endpoint="https://eu-chronicle.googleapis.com")
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
URI = "s3://acme-zendesk/zendesk/crm/"


def plan(**changed: object) -> FeedPlan:
    fields: dict[str, object] = {
        "display_name": "Zendesk CRM",
        "uri": URI,
        "deletion": "NEVER",
        "max_age_days": 180,
        "namespace": "corp",
        "labels": {"source": "zendesk"},
        "reader": AccessKey(key_id="AKIAIOSFODNN7EXAMPLE", secret=SECRET),
    }
    return FeedPlan(**{**fields, **changed})  # pyright: ignore[reportArgumentType]  # fields of a plan


def there(uri: str, field: str = "amazonS3V2Settings", state: str = "SUCCEEDED", number: int = 1) -> Feed:
    return Feed(f"{INSTANCE.name}/feeds/f{number}", "Old", {"feedSourceType": "X", field: {"s3Uri": uri}}, state)


def test_every_field_of_the_recipe_is_sent() -> None:
    """Name, source, log type by its resource name, URI, deletion, age, key, namespace and labels."""
    assert body_of(plan(), INSTANCE) == {
        "displayName": "Zendesk CRM",
        "details": {
            "feedSourceType": "AMAZON_S3_V2",
            "logType": "projects/p/locations/eu/instances/c/logTypes/ZENDESK_CRM",
            "assetNamespace": "corp",
            "labels": {"source": "zendesk"},
            "amazonS3V2Settings": {
                "s3Uri": URI,
                "sourceDeletionOption": "NEVER",
                "maxLookbackDays": 180,
                "authentication": {
                    "accessKeySecretAuth": {"accessKeyId": "AKIAIOSFODNN7EXAMPLE", "secretAccessKey": SECRET}
                },
            },
        },
    }


def test_a_role_takes_the_place_of_the_key() -> None:
    """One kind of authentication is sent, never both."""
    body = body_of(plan(reader=Role(arn="arn:aws:iam::123456789012:role/r", subject_id="42")), INSTANCE)
    assert body["details"]["amazonS3V2Settings"]["authentication"] == {
        "awsIamRoleAuth": {"awsIamRoleArn": "arn:aws:iam::123456789012:role/r", "subjectId": "42"}
    }


def test_the_secret_is_in_the_request_alone() -> None:
    """Neither a plan's repr nor what is shown of the body holds it; the rest is shown as it is sent."""
    body = body_of(plan(), INSTANCE)
    assert SECRET not in repr(plan()) + repr(hidden(body))
    assert "AKIAIOSFODNN7EXAMPLE" in repr(hidden(body))
    assert hidden(body) == body_of(plan(reader=AccessKey(key_id="AKIAIOSFODNN7EXAMPLE", secret="***")), INSTANCE)


def test_the_uri_is_bucket_and_feed_prefix() -> None:
    """It comes from the settings, with the slash at the end; without a bucket there is none."""
    assert (
        uri_of(Settings(s3_bucket="acme-zendesk", s3_prefix="zendesk/records/")) == "s3://acme-zendesk/zendesk/records/"
    )
    with pytest.raises(SettingsError, match="S3_BUCKET"):
        uri_of(Settings(s3_bucket=""))


@pytest.mark.parametrize(
    ("uri", "overlaps"),
    [
        (URI, True),
        ("s3://acme-zendesk/", True),
        ("s3://acme-zendesk", True),
        ("s3://acme-zendesk/zendesk/", True),
        ("s3://acme-zendesk/zend", True),
        ("s3://acme-zendesk/zendesk/crm/2026/", True),
        ("s3://acme-zendesk/zendesk/crm2/", False),
        ("s3://acme-zendesk/zendesk/state/", False),
        ("s3://acme-zendesk-2/zendesk/crm/", False),
        ("gs://acme-zendesk/zendesk/crm/", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("field", ["amazonS3V2Settings", "amazonS3Settings", "amazonSqsV2Settings"])
def test_feeds_that_read_the_same_objects_are_found(uri: str, field: str, *, overlaps: bool) -> None:
    """Above the prefix and below it, through S3 or through a queue; other buckets and other clouds are not meant."""
    feed = there(uri, field)
    assert overlapping(URI, [feed]) == ([feed] if overlaps else [])
    said = list(second_feed_to_confirm(plan(), [feed]))
    assert len(said) == overlaps
    assert all("f1, SUCCEEDED" in sentence and "a second time" in sentence for sentence in said)


keys = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=4).map(lambda parts: "".join(f"{part}/" for part in parts))


@given(keys, keys, keys)
def test_two_feeds_overlap_if_and_only_if_a_key_can_belong_to_both(one: str, other: str, key: str) -> None:
    """Checked by keys: S3 lists a key for a prefix that it begins with."""
    found = overlapping(f"s3://b/{one}", [there(f"s3://b/{other}")])
    if key.startswith(one) and key.startswith(other):
        assert found
    if not found:
        assert not any(each.startswith(one) and each.startswith(other) for each in (one, other, key))


def test_feeds_of_other_sources_are_no_matter() -> None:
    """A feed that reads an API has no bucket."""
    feed = Feed("f", "Okta", {"feedSourceType": "API", "oktaSettings": {"hostname": "x"}})
    assert (feed.uri, bucket_of(feed.uri), overlapping(URI, [feed])) == ("", "", [])


def test_enabling_beside_an_enabled_feed_is_to_be_confirmed() -> None:
    """Not beside itself, nor beside a disabled one."""
    chosen, disabled, enabled = there(URI, number=1), there(URI, state="INACTIVE", number=2), there(URI, number=3)
    assert list(both_feeds_to_confirm(chosen, [chosen, disabled])) == []
    (said,) = both_feeds_to_confirm(chosen, [chosen, disabled, enabled])
    assert "f3, SUCCEEDED" in said


@pytest.mark.parametrize(
    ("deletion", "age", "retention", "words"),
    [
        ("NEVER", 180, None, []),
        ("NEVER", 180, 365, []),
        ("NEVER", 30, 30, []),
        ("NEVER", 30, 31, ["kept for 31 days and read for 30"]),
        ("NEVER", 179, None, ["kept for ever"]),
        ("ON_SUCCESS", 180, None, ["a crash left without its ledger"]),
        ("ON_SUCCESS", 30, 200, ["s3:DeleteObject", "kept for 200 days"]),
    ],
)
def test_what_can_lose_or_repeat_is_to_be_confirmed(
    deletion: str, age: int, retention: int | None, words: list[str]
) -> None:
    """A feed that deletes, and one that stops reading what is still kept."""
    said = list(choices_to_confirm(plan(deletion=deletion, max_age_days=age), retention))
    assert len(said) == len(words)
    assert all(word in sentence for word, sentence in zip(words, said, strict=True))
