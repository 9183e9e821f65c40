"""A stream of another project's, exactly as docs/add-a-stream.md writes it."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.windows import timestamp
from zendesk_pipeline_tests import forked
from zendesk_pipeline_tests.by_hand import FIRST
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.scripted_server import Reply, ScriptedServer, answering
from zendesk_pipeline_tests.root import ROOT

PAGE = ROOT / "docs" / "add-a-stream.md"
NAMES = ("acme_streams.py", "acme_definitions.py")
AT = timestamp(FIRST.start + 60).encode()
RECORDS = [
    b'{"id":"01AAA","updated_at":"%b","custom_object_fields":{"price":1.0,"name":"Z\\u00fcri \xf0\x9f\x92\xbb"}}' % AT,
    b'{"id":"01BBB", "updated_at":"%b" ,"custom_object_fields":{}}' % AT,
    b'{"id":"01AAA","updated_at":"%b"}' % timestamp(FIRST.end - 1).encode(),
]
NEXT_HOUR = b'{"id":"01CCC","updated_at":"%b"}' % timestamp(FIRST.end).encode()


def _page(records: list[bytes], cursor: bytes, *, end: bool) -> Reply:
    flag = b"true" if end else b"false"
    joined = b",".join(records)
    return Reply(b'{"custom_object_records":[%b],"after_cursor":"%b","end_of_stream":%b}' % (joined, cursor, flag))


@pytest.fixture
def collect(environment: dict[str, str], tmp_path: Path) -> Callable[[ScriptedServer, str], str]:
    """Collects a window by the project of the documentation, in a folder of its own; what it said if that failed."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for name, text in zip(NAMES, blocks, strict=True):
        (tmp_path / name).write_text(text)

    def run(server: ScriptedServer, resources: str) -> str:
        own = {"ZENDESK_BASE_URL": server.url, "RESOURCES": resources, "PYTHONPATH": str(tmp_path)}
        command = forked.command("dagster", "asset", "materialize", "-m", "acme_definitions", "--select", "acme_assets")
        done = subprocess.run(
            [*command, "--partition", FIRST.partition_key],
            env={**os.environ, **environment, **own},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        return "" if done.returncode == 0 else done.stdout + done.stderr

    return run


def test_a_stream_of_ones_own_is_delivered_like_any_other(
    collect: Callable[[ScriptedServer, str], str], store: Store, layout: Layout
) -> None:
    """Two files and a name in RESOURCES: its records are in S3 byte for byte, and not again by a second run."""
    bucket = Bucket(store=store, layout=layout)
    pages = [_page(RECORDS[:2], b"a", end=False), _page([RECORDS[1], RECORDS[2], NEXT_HOUR], b"b", end=True)]
    with answering(*pages, *pages) as server:
        assert collect(server, "audit_logs,acme_assets") == ""
        (key,) = bucket.stored()
        assert bucket.body(key) == b"".join(record + b"\n" for record in RECORDS)
        assert collect(server, "acme_assets") == ""
        assert bucket.stored() == [key]
    assert "-zendesk-acme_assets-" in key
    asked = [(request.path, dict(request.query).keys()) for request in server.received]
    path = "/api/v2/incremental/custom_objects/asset/cursor"
    assert asked == [(path, {"start_time", "per_page"}), (path, {"cursor", "per_page"})] * 2


def test_a_name_that_nothing_registered_is_refused(collect: Callable[[ScriptedServer, str], str]) -> None:
    """The sentence names what there is, the project's own stream among it."""
    with answering(Reply()) as server:
        said = collect(server, "acme_laptops")
    assert "there is no stream acme_laptops" in said
    assert "ticket_metric_events, acme_assets" in said
    assert server.received == []
