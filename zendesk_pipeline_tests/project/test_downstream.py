"""An asset of somebody else's that reads what was collected, exactly as docs/accounts.md writes it."""

import json
import re
from pathlib import Path

from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline_tests.by_hand import FIRST
from zendesk_pipeline_tests.project.foreign import foreign
from zendesk_pipeline_tests.root import ROOT

PAGE = ROOT / "docs" / "accounts.md"


def test_an_asset_of_ones_own_reads_the_records_of_an_hour(
    tmp_path: Path, zendesk: SimulatedZendesk, s3: LocalS3, layout: Layout
) -> None:
    """The example counts deletions: as many as Zendesk shows, in a run of its own after that of the collection."""
    email, token = zendesk.environment["ZENDESK_EMAIL"], zendesk.environment["ZENDESK_API_TOKEN"]
    project = foreign(tmp_path, {**s3.environment, "ACME_ZENDESK_EMAIL": email, "ACME_ZENDESK_API_TOKEN": token})
    project.write(
        "acme",
        zendesk_base_url=zendesk.url,
        auth_mode="token",
        s3_bucket=s3.bucket,
        s3_prefix=layout.feed,
        state_prefix=layout.state,
        quarantine_prefix=layout.quarantine,
        start_date=FIRST.partition_key[:10],
        resources=["audit_logs"],
    )
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (text,) = (example for example in examples if "AssetIn" in example)
    (project.defs / "deletions.py").write_text(text.replace("2026-11-01", FIRST.partition_key[:10]))

    said = ""
    for key in ("acme/audit_logs", "deletions"):
        launched = project.real_dg("launch", "--partition", FIRST.partition_key, "--assets", f"key:{key}")
        said = launched.stdout + launched.stderr
        assert launched.returncode == 0, said

    source = zendesk.control.source("audit_logs", FIRST.start, FIRST.end)
    deleted = sum(json.loads(record)["action"] == "destroy" for record in source)
    assert deleted > 0
    assert f" {deleted} deletions" in said
