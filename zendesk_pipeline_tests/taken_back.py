"""A run that reports windows as materialized, is shown a new record of the first of them, and fails."""

from collections.abc import Iterator

import dagster as dg
import pytest

from zendesk_pipeline.model.errors import TransientError
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import HOUR, Span
from zendesk_pipeline.orchestration import long_runs
from zendesk_pipeline.orchestration.zendesk_resource import ZendeskResource
from zendesk_pipeline_tests.by_hand import audit_log, audit_logs, paged
from zendesk_pipeline_tests.runs import Project

MOST = 100_000
"""Empty pages after which a run has not reported anything: the test that waits for it fails."""


def fails_after_it_took_back(
    collector: Project, span: Span, monkeypatch: pytest.MonkeyPatch
) -> dg.ExecuteInProcessResult:
    """The failed run over audit logs; what it has reported stays materialized in Dagster."""
    before = len(collector.materialized("audit_logs"))

    def pages(_: ZendeskResource, stream: Stream, rest: Span, lookback: int) -> Iterator[Page]:
        assert (stream.name, rest, lookback) == ("audit_logs", span, lookback)
        yield from paged(audit_logs(span))
        for number in range(MOST):
            if len(collector.materialized("audit_logs")) > before:
                break
            yield Page(number=number, records=[], requests=0, waited=0, passed=span.end - HOUR)
        else:
            raise AssertionError("nothing was reported")
        yield Page(number=MOST, records=[audit_log(99, span.start + 5)], requests=1, waited=0)
        raise TransientError("Zendesk answered 503.")

    with monkeypatch.context() as changed:
        changed.setattr(long_runs, "REPORT_SECONDS", 0.0)
        changed.setattr(ZendeskResource, "pages", pages)
        failed = collector.run("audit_logs", span)
    assert not failed.success
    assert len(collector.materialized("audit_logs")) > before
    return failed
