"""What Zendesk's headers say of its limits, and how the limiter stays below them."""

from collections.abc import Mapping
from email.utils import formatdate
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from zendesk_pipeline.model.rate_budgets import BUDGETS, Rates, in_words
from zendesk_pipeline.model.streams import STREAMS
from zendesk_pipeline.zendesk.rate_limits import MINUTE, RateLimiter, account_budget, limiters, retry_after
from zendesk_pipeline_tests.asking import NOW, machine_in
from zendesk_pipeline_tests.conftest import FakeClock


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({"Retry-After": "93"}, 93, id="seconds"),
        pytest.param({"retry-after": "93"}, 93, id="small-letters"),
        pytest.param({"Retry-After": "0"}, 0, id="now"),
        pytest.param({"Retry-After": "1.5"}, 1.5, id="fraction"),
        pytest.param({"Retry-After": " 7 "}, 7, id="blanks"),
        pytest.param({"Retry-After": "50, 53"}, 53, id="two-headers-made-one"),
        pytest.param({"Retry-After": "53,50"}, 53, id="the-longer-one-counts"),
        pytest.param({"Retry-After": formatdate(NOW + 40, usegmt=True)}, 40, id="http-date"),
        pytest.param({"Retry-After": formatdate(NOW - 40, usegmt=True)}, 0, id="http-date-gone-by"),
        pytest.param({"Retry-After": "2026-11-14T12:00:30Z"}, 30, id="iso-date"),
        pytest.param({"ratelimit-reset": "2026-11-14T12:00:30Z"}, 30, id="reset-date-time"),
        pytest.param({"ratelimit-reset": "2026-11-14T13:00:30+01:00"}, 30, id="reset-in-another-zone"),
        pytest.param({"ratelimit-reset": "2026-11-14T12:00:30"}, 30, id="reset-without-zone-is-utc"),
        pytest.param({"Retry-After": "5", "ratelimit-reset": "2026-11-14T12:00:30Z"}, 5, id="retry-after-first"),
        pytest.param({"Retry-After": "soon", "ratelimit-reset": "2026-11-14T12:00:30Z"}, 30, id="reset-if-unreadable"),
        pytest.param({"ratelimit-reset": "42"}, None, id="reset-of-the-account-is-no-order-to-wait"),
        pytest.param({"Retry-After": "soon"}, None, id="unreadable"),
        pytest.param({"Retry-After": "-5"}, None, id="negative"),
        pytest.param({"Retry-After": "nan"}, None, id="not-a-number"),
        pytest.param({"Retry-After": ""}, None, id="empty"),
        pytest.param({"Retry-After": "Mon, 99 Foo 2026 25:61:61 GMT"}, None, id="no-such-date"),
        pytest.param({}, None, id="absent"),
    ],
)
def test_every_form_of_retry_after_is_understood(headers: Mapping[str, str], seconds: float | None) -> None:
    """Seconds, lists of them and dates; what cannot be read counts as not said, and never raises."""
    with machine_in("America/Los_Angeles"):
        assert retry_after(CaseInsensitiveDict(headers), NOW) == seconds


@given(
    st.text(max_size=40) | st.from_regex(r"[0-9:TZ+., -]{0,30}"), st.sampled_from(["Retry-After", "ratelimit-reset"])
)
def test_no_header_is_too_strange(text: str, name: str) -> None:
    """Whatever stands in it, the answer is a time to wait or None."""
    seconds = retry_after(CaseInsensitiveDict({name: text}), NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("headers", "budget"),
    [
        pytest.param(
            {"x-rate-limit": "700", "x-rate-limit-remaining": "650"}, (700, 650, MINUTE), id="x-rate-limit-has-no-reset"
        ),
        pytest.param(
            {"rate-limit": "700", "rate-limit-remaining": "650", "rate-limit-reset": "42"}, (700, 650, 42), id="2023"
        ),
        pytest.param(
            {"ratelimit-limit": "700", "ratelimit-remaining": "650", "ratelimit-reset": "42"},
            (700, 650, 42),
            id="newer",
        ),
        pytest.param(
            {"RateLimit-Limit": "700", "RateLimit-Remaining": "650", "RateLimit-Reset": "42"},
            (700, 650, 42),
            id="letters",
        ),
        pytest.param(
            {
                "x-rate-limit": "700",
                "x-rate-limit-remaining": "649",
                "rate-limit": "700",
                "rate-limit-remaining": "650",
            },
            (700, 650, MINUTE),
            id="two-spellings",
        ),
        pytest.param({"ratelimit-limit": "700, 700", "ratelimit-remaining": "650"}, (700, 650, MINUTE), id="list"),
        pytest.param(
            {"ratelimit-limit": "50", "ratelimit-remaining": "0", "ratelimit-reset": "2026-11-14T12:00:30Z"},
            (50, 0, MINUTE),
            id="reset-is-a-date",
        ),
        pytest.param({"x-rate-limit": "700"}, None, id="nothing-of-what-is-left"),
        pytest.param({"x-rate-limit-remaining": "650"}, None, id="nothing-of-the-limit"),
        pytest.param({"x-rate-limit": "many", "x-rate-limit-remaining": "650"}, None, id="unreadable"),
        pytest.param(
            {"zendesk-ratelimit-tickets-index": "total=100; remaining=99; resets=41"}, None, id="another-endpoint's"
        ),
        pytest.param({}, None, id="absent"),
    ],
)
def test_every_spelling_of_the_rate_headers_is_understood(
    headers: Mapping[str, str], budget: tuple[float, float, float] | None
) -> None:
    """Three spellings over the years; limit, rest and seconds to the reset."""
    assert account_budget(CaseInsensitiveDict(headers)) == budget


gaps = st.lists(st.just(0.0) | st.floats(0, 100).map(lambda gap: round(gap, 2)), max_size=80)
limits = st.integers(1, 12) | st.floats(1, 12)


@given(gaps, limits)
def test_no_minute_ever_has_more_than_the_limit(gaps: list[float], limit: float) -> None:
    """Whatever the arrival pattern: in no sixty seconds, wherever they begin, do more requests go out."""
    fake = FakeClock(NOW)
    sent = _sent(RateLimiter(clock=fake.clock, per_minute=limit), fake, gaps)
    assert all(sum(start <= at < start + MINUTE for at in sent) <= limit for start in sent)


@given(gaps, st.integers(1, 12))
def test_a_request_waits_no_longer_than_it_must(gaps: list[float], limit: int) -> None:
    """It goes out at once, or the moment the request that is `limit` before it is a minute old."""
    fake, expected = FakeClock(0), list[float]()
    sent = _sent(RateLimiter(clock=fake.clock, per_minute=limit), fake, gaps)
    for number, gap in enumerate(gaps):
        arrival = (expected[-1] if expected else 0) + gap
        expected.append(max(arrival, expected[number - limit] + MINUTE) if number >= limit else arrival)
    assert sent == pytest.approx(expected)


@given(gaps)
def test_what_was_waited_is_told(gaps: list[float]) -> None:
    """`acquire` gives back the seconds it slept."""
    fake = FakeClock(0)
    limiter = RateLimiter(clock=fake.clock, per_minute=2)
    waited = 0.0
    for gap in gaps:
        fake.time += gap
        waited += limiter.acquire()
    assert waited == pytest.approx(sum(fake.slept))


def test_without_a_limit_nothing_waits() -> None:
    """Before the first answer no limit is known."""
    fake = FakeClock(NOW)
    sent = _sent(RateLimiter(clock=fake.clock, share=0.5), fake, [0.0] * 1000)
    assert set(sent) == {NOW}


@settings(deadline=None)
@given(gaps, st.lists(st.integers(0, 40), min_size=1, max_size=5), st.sampled_from([0.1, 0.5, 1.0]))
def test_the_share_follows_the_accounts_limit(gaps: list[float], limits: list[int], share: float) -> None:
    """After each answer that tells the limit, no minute gets more than the share of it, and never less than one."""
    fake = FakeClock(NOW)
    limiter = RateLimiter(clock=fake.clock, share=share)
    for limit in limits:
        limiter.observe({"x-rate-limit": str(limit), "x-rate-limit-remaining": str(limit)})
        before = len(limiter.sent)
        sent = [*limiter.sent, *_sent(limiter, fake, gaps)]
        most = max(1, limit * share)
        assert all(sum(at - MINUTE < other <= at for other in sent) <= max(most, 1) for at in sent[before:])


@pytest.mark.parametrize(
    ("share", "limit", "at_once"),
    [
        pytest.param(0.5, 700, 350, id="half"),
        pytest.param(1.0, 700, 700, id="all"),
        pytest.param(0.1, 25, 2, id="rounded-down"),
        pytest.param(0.01, 10, 1, id="at-least-one"),
    ],
)
def test_a_share_of_the_budget_may_be_used(share: float, limit: int, at_once: int) -> None:
    """So many requests go out without a pause, the next one waits out the minute."""
    fake = FakeClock(NOW)
    limiter = RateLimiter(clock=fake.clock, share=share)
    limiter.observe({"x-rate-limit": str(limit), "x-rate-limit-remaining": str(limit)})
    sent = _sent(limiter, fake, [0.0] * (at_once + 1))
    assert (sent[-2], sent[-1]) == (NOW, NOW + MINUTE)


@pytest.mark.parametrize(
    ("remaining", "headers", "pause"),
    [
        pytest.param("69", {"rate-limit-reset": "42"}, 42, id="until-the-reset"),
        pytest.param("0", {}, MINUTE, id="a-minute-if-nothing-is-said"),
        pytest.param("0", {"ratelimit-reset": "86400"}, MINUTE, id="a-minute-at-most"),
        pytest.param("70", {"rate-limit-reset": "42"}, 0, id="a-tenth-is-left"),
    ],
)
def test_headroom_is_left_to_others(remaining: str, headers: Mapping[str, str], pause: float) -> None:
    """Where less than a tenth of the account's budget is left, whoever used it, the next request waits."""
    fake = FakeClock(NOW)
    limiter = RateLimiter(clock=fake.clock, share=0.5)
    limiter.observe({"x-rate-limit": "700", "x-rate-limit-remaining": remaining, **headers})
    assert [limiter.acquire(), limiter.acquire()] == [pause, 0]


def test_the_exports_budget_ignores_the_accounts_numbers() -> None:
    """On the export the headers tell of another budget: they neither raise its limit nor hold it up."""
    fake = FakeClock(NOW)
    limiter = RateLimiter(clock=fake.clock, per_minute=10)
    limiter.observe({"x-rate-limit": "700", "x-rate-limit-remaining": "0"})
    sent = _sent(limiter, fake, [0.0] * 11)
    assert sent == [*[NOW] * 10, NOW + MINUTE]


def test_every_budget_has_a_limiter_a_rate_and_words() -> None:
    """The fixed ones let through what is ours of them; the account's waits for what the answers say."""
    made = limiters(FakeClock(NOW).clock, export=30, share=0.2)
    fixed = {"export": 30, "user_export": 20, "access_logs": 10}
    assert {budget: made[budget].per_minute for budget in BUDGETS} == {"account": None, **fixed}
    assert (made["account"].share, made["export"].share, made["access_logs"].share) == (0.2, None, None)
    assert {stream.budget for stream in STREAMS.values()} == set(BUDGETS)
    ours = {"account": 350, "export": 10, "user_export": 20, "access_logs": 25}
    assert {budget: Rates().ours(budget) for budget in BUDGETS} == ours
    assert len({in_words(budget) for budget in BUDGETS}) == len(BUDGETS)


def _sent(limiter: RateLimiter, fake: FakeClock, gaps: list[float]) -> list[float]:
    """When requests go out that come with these pauses between them."""
    times: list[float] = []
    for gap in gaps:
        fake.time += gap
        limiter.acquire()
        times.append(fake.time)
    assert all(earlier <= later for earlier, later in pairwise(times))
    return times
