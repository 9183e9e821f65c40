"""The fault matrix, cell by cell: each fault on one stream, and a third of those that meet several cursors.

With --thorough all of them.
"""

from collections.abc import Iterator

import pytest

from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.streams import COLLECTED_BY_DEFAULT
from zendesk_pipeline_tests.promise.fault_matrix import (
    FAULTS,
    FURTHER,
    SEVERAL,
    SEVERAL_HISTORY,
    Fault,
    Services,
    run_cell,
    services,
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A cell a test."""
    thorough = metafunc.config.getoption("--thorough")
    if "met_by_several" in metafunc.fixturenames:
        faults = SEVERAL if thorough else SEVERAL[1::3]
        metafunc.parametrize("met_by_several", faults, ids=[fault.name for fault in faults])
    if "fault" in metafunc.fixturenames:
        cells = [(fault, stream) for fault in FAULTS for stream in COLLECTED_BY_DEFAULT]
        others = [(fault, stream) for fault in FAULTS for stream in FURTHER]
        chosen = cells + others if thorough else cells[::4] + cells[3::4] + others[::14]
        metafunc.parametrize(("fault", "stream"), chosen, ids=[f"{fault.name}-{stream}" for fault, stream in chosen])


@pytest.fixture(scope="module")
def running() -> Iterator[Services]:
    with services() as started:
        yield started


def test_whatever_goes_wrong_every_record_is_in_s3_once(
    running: Services, layout: Layout, fault: Fault, stream: str
) -> None:
    """The run copes, or says why it cannot and the next one completes it: every record once, bytes equal."""
    cell = run_cell(running, layout, fault, stream)

    assert cell.verdict.exact, (cell.verdict, cell.log[-3000:])
    assert cell.passed, (cell.first_exit, cell.log[-3000:])


@pytest.fixture(scope="module")
def slow() -> Iterator[Services]:
    with services(SEVERAL_HISTORY) as started:
        yield started


def test_whatever_several_cursors_meet_every_record_is_in_s3_once(
    slow: Services, layout: Layout, met_by_several: Fault
) -> None:
    """At least three cursors are asking when it goes wrong: no window is called complete that is not, and all are."""
    cell = run_cell(slow, layout, met_by_several, "audit_logs")

    assert cell.verdict.exact, (cell.verdict, cell.log[-3000:])
    assert not cell.gaps
    assert cell.at_once >= met_by_several.cursors
    assert cell.passed, (cell.first_exit, cell.log[-3000:])


def test_a_504_halves_the_page(running: Services, layout: Layout) -> None:
    """The requests after a 504 ask for fewer records a page."""
    fault = next(fault for fault in FAULTS if fault.name.startswith("504"))

    run_cell(running, layout, fault, "incremental_tickets")

    sizes = [dict(seen.pairs)["per_page"] for seen in running.zendesk.control.requests()]
    assert sizes[:5] == ["1000", "1000", "500", "250", "125"]
