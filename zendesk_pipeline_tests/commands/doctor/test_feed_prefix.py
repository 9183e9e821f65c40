"""What `doctor` finds under the feed prefix: batches, what the recipe left, and what is somebody else's."""

import time

import pytest

from zendesk_pipeline.commands.doctor import feed_prefix
from zendesk_pipeline.commands.doctor.feed_prefix import KeyKind, feed_verdict, kind
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.inspection import RECIPE_IS_OFF
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.streams import STREAMS
from zendesk_pipeline.model.windows import Window
from zendesk_pipeline_tests.commands.doctor.contexts import MakeContext, context_maker, verdict_of
from zendesk_pipeline_tests.fakes.s3_proxy import Answer, s3_proxy


@pytest.fixture
def store(moto: LocalS3) -> Store:
    """Moto keeps every key as it is; SeaweedFS folds `//`."""
    return Store(client=moto.client(), bucket=moto.bucket, encryption={})


@pytest.fixture
def make_context(
    zendesk: SimulatedZendesk, moto: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> MakeContext:
    """Contexts with prefixes of the test's own."""
    prefixes = {"S3_PREFIX": layout.feed, "STATE_PREFIX": layout.state, "QUARANTINE_PREFIX": layout.quarantine}
    return context_maker(monkeypatch, zendesk.environment, moto.environment, prefixes)


OLD = RECIPE_IS_OFF
BATCH = Layout(feed="", state="s/", quarantine="q/").batch("audit_logs", Window(0), 12345, "a1" * 32, ".json")
KINDS: dict[str, KeyKind] = {
    BATCH: "ours",
    f"{BATCH}.gz": "ours",
    "state.json": "the recipe's state",
    "old/state.json": "the recipe's state",
    "2026/11/12/050000-zendesk-audit_logs.json": "pages of the recipe",
    "2026/11/12/050112-zendesk-incremental_tickets.json": "pages of the recipe",
    "2026/11/12/050112-zendesk-incremental_tickets.json.gz": "pages of the recipe",
    "2026/13/12/050112-zendesk-audit_logs.json": "foreign",
    "/2026/11/12/050112-zendesk-tickets.json": "with an empty folder name (//)",
    "2026//x": "with an empty folder name (//)",
    "": "folders that are objects",
    "2026/": "folders that are objects",
    f"{BATCH}.bak": "foreign",
    BATCH.replace("/000000-", "/000100-"): "foreign",
    "readme.txt": "foreign",
    "logs…": "foreign",
}


@pytest.mark.parametrize("rest", KINDS)
def test_each_key_is_of_its_kind(rest: str) -> None:
    """By what follows the feed prefix, as the layout of keys knows it."""
    assert kind(rest, OLD, collected=True) == KINDS[rest]


def test_pages_of_the_recipe_are_told_apart_by_age_and_by_what_was_collected() -> None:
    """New ones mean that its rule still runs; old ones without a ledger, that nobody has taken over yet."""
    page = "2026/11/12/050112-zendesk-audit_logs.json.gz"
    assert kind(page, OLD - 1, collected=True) == "new pages of the recipe"
    assert kind(page, OLD, collected=False) == "pages of the recipe that are not taken over"


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_every_key_that_a_run_writes_is_ours(suffix: str, layout: Layout) -> None:
    """Of each stream, by the code that makes keys."""
    for name in STREAMS:
        key = layout.batch(name, Window(1_794_650_400), 7, "0f" * 32, suffix)
        assert kind(key.removeprefix(layout.feed), 0, collected=False) == "ours"


def test_a_feed_of_batches_is_fine(make_context: MakeContext, store: Store, layout: Layout) -> None:
    """Empty as well as filled."""
    assert verdict_of(make_context(), "s3_feed").status == "ok"
    store.put_over(f"{layout.feed}{BATCH}", b"{}\n", None)
    verdict = verdict_of(make_context(), "s3_feed")
    assert (verdict.status, "1 objects" in verdict.found) == ("ok", True)


STRANGE = [rest for rest, name in KINDS.items() if name in feed_prefix.REMEDIES and "…" not in rest]


@pytest.mark.parametrize("rest", STRANGE)
def test_what_is_no_batch_is_a_warning_with_an_example(
    make_context: MakeContext, store: Store, layout: Layout, rest: str
) -> None:
    """What it is, how many there are, and what to do; contents are not read."""
    store.put_over(f"{layout.feed}{rest}", b'{"secret": "record-content-4711"}', None)
    verdict = verdict_of(make_context(), "s3_feed")
    assert (verdict.status, f"1 {KINDS[rest]} (such as" in verdict.found) == ("warning", True)
    assert verdict.remedy == feed_prefix.REMEDIES[KINDS[rest]]
    assert "4711" not in verdict.found


def test_a_prefix_that_was_taken_over_is_fine(make_context: MakeContext, store: Store, layout: Layout) -> None:
    """As docs/moving-over.md leads there: under the recipe's prefix, beside its pages, none of which has to move."""
    for suffix in ("json", "json.gz"):
        store.put_over(f"{layout.feed}2026/11/12/050112-zendesk-audit_logs.{suffix}", b"{}\n", None)
    store.put_over(f"{layout.feed}{BATCH}", b"{}\n", None)
    running = verdict_of(make_context(), "s3_feed")
    assert (running.status, "2 new pages of the recipe" in running.found) == ("warning", True)
    assert "Disable the rule" in running.remedy
    later = Clock(now=lambda: time.time() + OLD)
    store.put_over(f"{layout.state}doctor.json", b"{}\n", None)
    waiting = verdict_of(make_context(clock=later), "s3_feed")
    assert (waiting.status, "2 pages of the recipe that are not taken over" in waiting.found) == ("warning", True)
    assert "docs/moving-over.md" in waiting.remedy
    store.put_over(layout.ledger("audit_logs", Window(0)), b"", None)
    verdict = verdict_of(make_context(clock=later), "s3_feed")
    assert verdict.status == "ok"
    assert "3 objects: batches, and 2 pages of the recipe from before it was switched off" in verdict.found


def test_a_full_feed_is_looked_at_in_part_and_says_so(
    make_context: MakeContext, store: Store, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of the first level are seen beyond the bound: state.json and a folder that is none of a year."""
    monkeypatch.setattr(feed_prefix, "MOST_KEYS", 0)
    for rest in (BATCH, "state.json", "zzz/deep/object"):
        store.put_over(f"{layout.feed}{rest}", b"{}\n", None)
    verdict = verdict_of(make_context(), "s3_feed")
    assert verdict.status == "warning"
    assert "the first 2 objects" in verdict.found
    assert "1 the recipe's state (such as state.json), 1 foreign (such as zzz/…)" in verdict.found


def test_a_feed_that_may_not_be_listed_is_not_visible(make_context: MakeContext, moto: LocalS3) -> None:
    """s3_list says what to do; other answers fail by their name."""
    with s3_proxy(moto.endpoint) as proxy:
        proxy.decide = lambda _: Answer(status=403, code="AccessDenied")
        assert verdict_of(make_context(AWS_ENDPOINT_URL_S3=proxy.endpoint), "s3_feed").status == "not visible"
        proxy.decide = lambda _: Answer(status=400, code="InvalidArgument")
        verdict = verdict_of(make_context(AWS_ENDPOINT_URL_S3=proxy.endpoint), "s3_feed")
    assert (verdict.status, "InvalidArgument" in verdict.found) == ("failed", True)


def test_a_state_that_may_not_be_listed_hides_nothing_of_the_feed(
    make_context: MakeContext, moto: LocalS3, store: Store, layout: Layout
) -> None:
    """Whether anything was collected cannot be seen then; what is in the feed can."""
    for rest in ("2026/11/12/050112-zendesk-audit_logs.json", "notes.txt"):
        store.put_over(f"{layout.feed}{rest}", b"{}\n", None)
    with s3_proxy(moto.endpoint) as proxy:
        proxy.decide = lambda request: (
            Answer(status=403, code="AccessDenied") if request.key.startswith(layout.state) else "pass"
        )
        verdict = verdict_of(make_context(AWS_ENDPOINT_URL_S3=proxy.endpoint), "s3_feed")
    assert verdict.status == "warning"
    assert "1 new pages of the recipe" in verdict.found
    assert "1 foreign (such as notes.txt)" in verdict.found


def test_names_are_shown_short_and_printable() -> None:
    """Whoever may write there chooses them, escape sequences for terminals included."""
    verdict = feed_verdict({f"\x1b[31m{'x' * 200}": "foreign"}, whole=True)
    assert "\x1b" not in verdict.found
    assert len(verdict.found) < 300
