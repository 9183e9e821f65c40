"""Requests of the doctor's to S3."""

from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from zendesk_pipeline.commands.doctor import s3_answers
from zendesk_pipeline.commands.doctor.rights import CHECKSUM, PROBE
from zendesk_pipeline_tests.fakes.s3_wire import stored


def test_bodies_by_tls_are_signed_as_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a bucket's policy refuses unsigned bodies, what is tried here is refused too, and not only every run."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    sent: list[Any] = []

    def answer(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        sent.append(request.headers)
        return stored()

    client = s3_answers.client("s3", None, 5.0)
    client.meta.events.register("before-send.s3.PutObject", answer)
    assert s3_answers.ask(client.put_object, Bucket="b", Key="k", Body=PROBE, ChecksumSHA256=CHECKSUM).code == ""
    (headers,) = sent
    assert headers["X-Amz-Content-SHA256"] in {"UNSIGNED-PAYLOAD", b"UNSIGNED-PAYLOAD"}
