"""A bucket, and runs that deliver into it."""

import pytest

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3
from zendesk_pipeline_tests.deliveries import Bucket, Deliveries


@pytest.fixture
def _one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3's client does not try again, so that no test waits for its pauses."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.fixture
def bucket(s3: LocalS3, layout: Layout, _one_try: None) -> Bucket:
    """A place in SeaweedFS."""
    return Bucket(store=Store(client=s3.client(), bucket=s3.bucket, encryption={}), layout=layout)


@pytest.fixture
def moto_bucket(moto: LocalS3, layout: Layout, _one_try: None) -> Bucket:
    """A place in moto, which is quicker, for tests of many runs."""
    return Bucket(store=Store(client=moto.client(), bucket=moto.bucket, encryption={}), layout=layout)


@pytest.fixture
def deliveries(bucket: Bucket) -> Deliveries:
    return Deliveries(bucket=bucket)
