"""From the recipe to the pipeline: hours of the one, the command, a backfill by the other, and every record counted."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from zendesk_pipeline.cli import main
from zendesk_pipeline.delivery.batches import records_in
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.delivery.recipe_keys import recipe_object
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.model.records import record_reader
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import HOUR, Span, Window, timestamp
from zendesk_pipeline_tests.collected import COLLECTED
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.recipe import Recipe
from zendesk_pipeline_tests.runs import QUIET, Project, project

pytestmark = QUIET

BEGIN = Window.of_partition("2026-11-12-01:00").start
SPAN = Span(BEGIN, BEGIN + 14 * HOUR)
"""Twelve hours of the recipe, and two that nobody has collected."""
TO = ("--to", timestamp(SPAN.end))

Run = Callable[..., Result]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Identities of one stream under the feed prefix, by who wrote them, as often as they are there."""

    recipe: Counter[str]
    pipeline: Counter[str]


def held(bucket: Bucket, stream: Stream, span: Span = SPAN) -> Held:
    found = Held(recipe=Counter(), pipeline=Counter())
    for key, body in bucket.feed().items():
        if f"-zendesk-{stream.name}" in key:
            counter = found.recipe if recipe_object(key, bucket.layout.feed) else found.pipeline
            counter.update(each.identity for each in records_in(stream, body) if Window.of(each.time) in span)
    return found


def at_source(zendesk: SimulatedZendesk, stream: Stream) -> set[str]:
    record_of = record_reader(stream)
    return {record_of(line).identity for line in zendesk.control.source(stream.name, SPAN.start, SPAN.end)}


@pytest.fixture
def bucket(store: Store, layout: Layout) -> Bucket:
    return Bucket(store=store, layout=layout)


@pytest.fixture
def recipe(zendesk: SimulatedZendesk, s3: LocalS3, layout: Layout) -> Recipe:
    """The recipe after twelve hours; at Zendesk it is two hours later."""
    zendesk.control.set(canonical_host=zendesk.url)  # it follows addresses as they are
    made = Recipe(zendesk=zendesk, s3=s3, prefix=layout.feed)
    made.run_hourly(SPAN.start, SPAN.end - 2 * HOUR)
    zendesk.control.set_clock(SPAN.end + HOUR)
    return made


@pytest.fixture
def pipeline(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    with project(environment, monkeypatch) as running:
        yield running


@pytest.fixture
def takeover(pipeline: Project) -> Run:
    """The command, in the pipeline's environment."""
    assert pipeline
    return lambda *arguments: CliRunner().invoke(main, ["takeover", *arguments], catch_exceptions=False)


@pytest.mark.usefixtures("recipe")
def test_exactly_what_the_recipe_lacks_is_added(
    takeover: Run, pipeline: Project, zendesk: SimulatedZendesk, bucket: Bucket
) -> None:
    """Every record that Zendesk shows is in the bucket, what the recipe lost exactly once, what it had not again."""
    before = {name: held(bucket, stream) for name, stream in COLLECTED.items()}
    shown = {name: at_source(zendesk, stream) for name, stream in COLLECTED.items()}

    assert takeover(*TO, "--yes").exit_code == 0
    for name in COLLECTED:
        assert pipeline.run(name, SPAN).success

    for name, stream in COLLECTED.items():
        after = held(bucket, stream)
        lost, added = shown[name] - before[name].recipe.keys(), after.pipeline
        repeated = sum(before[name].recipe.values()) - len(before[name].recipe)
        figures = f"{len(shown[name])} at Zendesk, {len(lost)} lost and {repeated} repeated by the recipe"
        print(f"{name}: {figures}, {len(added)} added")  # noqa: T201 - the figures, for `pytest -rP`
        assert after.recipe == before[name].recipe
        assert lost
        assert added == Counter(lost)
    verified = CliRunner().invoke(main, ["verify", "--from", timestamp(SPAN.start), *TO])
    assert (verified.exit_code, "Nothing differs" in verified.stdout) == (0, True), verified.stdout


@pytest.mark.usefixtures("recipe")
def test_it_says_what_lacks_and_what_is_there_again(
    takeover: Run, zendesk: SimulatedZendesk, bucket: Bucket, layout: Layout
) -> None:
    """Without `--yes` nothing is written; the figures are those of the bucket, and the way on is in commands."""
    everything = bucket.stored(layout.feed.removesuffix("crm/"))

    said = takeover(*TO)

    assert said.exit_code == 0
    assert bucket.stored(layout.feed.removesuffix("crm/")) == everything
    for name, stream in COLLECTED.items():
        shown, recipe = at_source(zendesk, stream), held(bucket, stream).recipe
        missing, again = len(shown - recipe.keys()), sum(recipe.values()) - len(recipe)
        assert (
            f"  {len(shown):,} records at Zendesk, {missing:,} missing; {len(recipe):,} delivered by the recipe,"
            f" with {again:,} copies too many; 0 by the pipeline\n" in said.stdout
        )
        assert f"--select {name} --partition-range" in said.stdout
    assert "aws events disable-rule --name" in said.stdout
    assert f"aws s3 rm {bucket.store.uri(layout.feed)}state.json\n" in said.stdout
    assert "zendesk-pipeline takeover --yes\n" in said.stdout
    assert f"zendesk-pipeline verify --from {timestamp(SPAN.start)[:16]}Z" in said.stdout


@pytest.mark.usefixtures("recipe")
def test_a_second_time_notes_nothing(takeover: Run, bucket: Bucket, layout: Layout) -> None:
    """The command can be run as often as one likes; after a crash it goes on where it was."""
    takeover(*TO, "--yes", "--without-source")
    ledgers = {key: bucket.body(key) for key in bucket.stored(layout.state)}
    (marker, lost, *_) = sorted(ledgers)
    assert marker == layout.account
    bucket.delete([marker, lost])

    assert takeover(*TO, "--yes", "--without-source").exit_code == 0
    assert {key: bucket.body(key) for key in bucket.stored(layout.state)} == ledgers

    said = takeover(*TO, "--yes", "--without-source")

    assert "noted 0 records as delivered, in 0 ledgers" in said.stdout
    assert "Is the recipe's rule disabled?" in said.stdout


def test_the_recipe_may_have_written_elsewhere(
    takeover: Run, pipeline: Project, recipe: Recipe, bucket: Bucket, layout: Layout
) -> None:
    """`--prefix` says where; a backfill repeats nothing although it writes under another prefix."""
    elsewhere = f"{layout.feed.removesuffix('crm/')}old/"
    for key, body in bucket.feed().items():
        bucket.put(key.replace(layout.feed, elsewhere), body)
    bucket.delete(bucket.stored())
    there = Bucket(store=bucket.store, layout=Layout(feed=elsewhere, state=layout.state, quarantine=layout.quarantine))
    delivered = held(there, COLLECTED["audit_logs"]).recipe

    said = takeover(*TO, "--without-source", "--prefix", elsewhere)
    takeover(*TO, "--without-source", "--prefix", elsewhere, "--yes")

    assert f"takeover --yes --prefix {elsewhere}\n" in said.stdout
    assert pipeline.run("audit_logs", SPAN).success
    added = held(bucket, COLLECTED["audit_logs"]).pipeline
    assert added.keys() | delivered.keys() == at_source(recipe.zendesk, COLLECTED["audit_logs"])
    assert not added.keys() & delivered.keys()


def test_a_bucket_without_the_recipe(takeover: Run, bucket: Bucket, layout: Layout) -> None:
    """There is nothing to do, and it says so; nor is anything written."""
    said = takeover("--without-source", "--yes")

    assert (said.exit_code, "there is nothing to take over" in said.stdout) == (0, True)
    assert bucket.stored(layout.state) == []


@pytest.mark.usefixtures("recipe")
@pytest.mark.parametrize("source", [[], ["--without-source"]])
def test_an_account_that_does_not_answer_takes_nothing_over(
    takeover: Run, bucket: Bucket, layout: Layout, monkeypatch: pytest.MonkeyPatch, source: list[str]
) -> None:
    """The prefixes are claimed with the first ledger: a mistyped address keeps the right one out of nothing."""
    here = os.environ["ZENDESK_BASE_URL"]
    with monkeypatch.context() as mistyped:
        mistyped.setenv("ZENDESK_BASE_URL", here.replace("127.0.0.1", "localhost"))
        mistyped.setenv("ZENDESK_API_TOKEN", "wrong")
        assert takeover(*TO, "--yes", *source).exit_code == 1
        assert bucket.stored(layout.state) == []

    assert takeover(*TO, *source).exit_code == 0
    assert bucket.stored(layout.state) == []
    assert takeover(*TO, "--yes", *source).exit_code == 0
    assert b'"127.0.0.1"' in bucket.body(layout.account)


@pytest.mark.usefixtures("recipe")
def test_a_range_without_a_settled_window_is_a_mistake(takeover: Run) -> None:
    """Exit status 2, before anything is written."""
    said = takeover("--from", timestamp(SPAN.end), *TO, "--yes")

    assert (said.exit_code, "later than --from" in said.stderr) == (2, True)


@pytest.mark.usefixtures("recipe")
def test_assets_downstream_get_the_records_of_their_window(
    takeover: Run, pipeline: Project, zendesk: SimulatedZendesk
) -> None:
    """A page of the recipe's holds other windows too: what is loaded of a window is the window's, each record once."""
    takeover(*TO, "--yes", "--without-source")
    hour = Span(SPAN.start + 2 * HOUR, SPAN.start + 3 * HOUR)
    assert pipeline.run("audit_logs", hour).success
    stream = COLLECTED["audit_logs"]
    manager: Any = (pipeline.definitions.resources or {})["s3_io_manager"]
    key = dg.AssetKey("audit_logs")
    partitions = pipeline.definitions.resolve_asset_graph().get(key).partitions_def
    with dg.build_resources({"s3_io_manager": manager}) as resources:
        context = dg.build_input_context(
            asset_key=key,
            partition_key=Window(hour.start).partition_key,
            asset_partitions_def=partitions,
            asset_partition_key_range=dg.PartitionKeyRange(*[Window(hour.start).partition_key] * 2),
        )
        loaded = Counter(record_reader(stream)(line).identity for line in resources.s3_io_manager.load_input(context))

    assert loaded == Counter(
        record_reader(stream)(line).identity for line in zendesk.control.source("audit_logs", hour.start, hour.end)
    )
