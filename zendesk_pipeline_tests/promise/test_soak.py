"""The soak in short: real processes, kill -9, twins and faults over some days, and every record counted."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from click.testing import CliRunner

from zendesk_pipeline.model.records import Record
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline_tests.by_hand import audit_log
from zendesk_pipeline_tests.promise import soak
from zendesk_pipeline_tests.promise.soak import BEGIN, LAYOUT, Figures, Line, Soak, Stage, count, judge, stage

SEED = 9
WINDOWS = 110
KEY = LAYOUT.batch("audit_logs", Window(BEGIN), 9999, "0" * 64, ".json")
"""Of an object of the first window that no run writes."""


@dataclass(frozen=True, slots=True)
class Done:
    """A soak that has ended, and where it took place."""

    stage: Stage
    soak: Soak
    figures: Figures


@pytest.fixture(scope="module")
def done() -> Iterator[Done]:
    with stage() as running:
        short = Soak(running, SEED, lambda _: None)
        yield Done(running, short, short.run(windows=WINDOWS, seconds=600))


def test_every_record_is_there_once_whatever_went_wrong(done: Done) -> None:
    """Killed runs, twins, faults on both sides and a feed that deletes: nothing is missing, repeated or foreign."""
    figures = done.figures

    assert figures.exact, (figures, done.stage.log.read_text()[-3000:])
    assert figures.windows >= WINDOWS
    assert figures.in_s3 >= figures.at_source > 5 * WINDOWS


def test_everything_went_wrong(done: Done) -> None:
    """Each kind of trouble came up; a soak in which nothing happens would say nothing.

    How many rounds had several cursors is up to the clock: their faults and kills are in test_faults and test_crashes.
    """
    figures = done.figures

    assert min(figures.kills, figures.twins, figures.deleted) > 1
    assert min(figures.zendesk_faults, figures.s3_faults) > 1
    assert figures.runs > figures.kills + figures.failures


def test_what_is_wrong_in_the_bucket_is_counted(done: Done) -> None:
    """A lost object, a copied one, an invented record and a lost ledger: none of them escapes the count."""
    store, span = done.stage.store, Span(BEGIN, BEGIN + WINDOWS // 2 * HOUR)
    lost, copied = store.keys(LAYOUT.feed)[:2]
    stored = store.get(copied)
    assert stored is not None
    copy = re.sub(r"-\d{4}-", "-9998-", copied)
    for key, body in {copy: stored.body, KEY: audit_log(1, BEGIN).line + b"\n"}.items():
        store.client.put_object(Bucket=store.bucket, Key=key, Body=body)
    for key in (lost, store.keys(f"{LAYOUT.state}audit_logs/")[0]):
        store.client.delete_object(Bucket=store.bucket, Key=key)
    figures = Figures(seed=SEED)

    count(done.stage, done.soak.feed, span, figures)

    assert min(figures.missing, figures.repeated) > 0
    assert (figures.foreign, figures.incomplete, figures.exact) == (1, 1, False)


RECORDS = [audit_log(number, BEGIN + number) for number in range(4)]
ELSEWHERE = audit_log(4, BEGIN + HOUR)


@pytest.mark.parametrize(
    ("records", "wrong"),
    [
        pytest.param(RECORDS, (0, 0, 0), id="exact"),
        pytest.param(RECORDS[1:], (1, 0, 0), id="missing"),
        pytest.param([*RECORDS, RECORDS[2], RECORDS[2]], (0, 2, 0), id="repeated"),
        pytest.param([*RECORDS, audit_log(9, BEGIN)], (0, 0, 1), id="invented"),
        pytest.param([*RECORDS[:3], audit_log(3, BEGIN + 3, "changed")], (1, 0, 1), id="changed"),
        pytest.param([*RECORDS, ELSEWHERE], (0, 0, 1), id="of-another-window"),
    ],
)
def test_the_count_tells_what_is_wrong(records: Sequence[Record], wrong: tuple[int, int, int]) -> None:
    """Missing, repeated and foreign records are told apart, and none of them passes for exact."""
    figures, shown = Figures(seed=SEED), [record.line for record in RECORDS]

    judge(figures, [Line(key=KEY, record=record) for record in records], shown, [*shown, ELSEWHERE.line])

    assert (figures.missing, figures.repeated, figures.foreign) == wrong
    assert figures.exact == (wrong == (0, 0, 0))
    assert bool(figures.examples) != figures.exact


def test_a_state_that_was_replaced_since_is_no_mistake() -> None:
    """What Zendesk showed once and no longer shows may be in S3, and need not."""
    figures, ever = Figures(seed=SEED), [record.line for record in RECORDS]

    judge(figures, [Line(key=KEY, record=record) for record in RECORDS[:3]], ever[1:2], ever)

    assert figures.exact


@pytest.mark.parametrize(("repeated", "status", "said"), [(0, 0, "exact"), (3, 1, "NOT EXACT (again: --seed 7)")])
def test_the_command_fails_unless_the_count_is_exact(
    monkeypatch: pytest.MonkeyPatch, repeated: int, status: int, said: str
) -> None:
    """The exit status says whether every record is there once; the seed is printed before and after."""

    def soaked(seed: int, **_: object) -> Figures:
        return Figures(seed=seed, at_source=9, repeated=repeated)

    monkeypatch.setattr(soak, "soaked", soaked)

    result = CliRunner().invoke(soak.main, ["--seed", "7"])

    assert result.exit_code == status
    assert result.output.startswith("seed 7\n")
    assert result.output.endswith(f"{said}\n")
