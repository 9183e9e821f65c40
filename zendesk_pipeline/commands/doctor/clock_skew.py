"""This machine's clock against theirs."""

from zendesk_pipeline.commands.doctor.verdicts import Verdict, failed, not_visible, ok, warning
from zendesk_pipeline.zendesk.rate_limits import moment_of

NOTICEABLE, TOO_MUCH = 30.0, 300.0
"""Seconds. S3 refuses requests beyond 900; a window is settled after SETTLE_SECONDS of our clock, 300 by default."""


def clock_verdict(whose: str, date: str | None, now: float) -> Verdict:
    """`date` is a Date header, `now` when it arrived, in seconds since the epoch."""
    theirs = moment_of(date) if date else None
    if theirs is None:
        return not_visible(f"{whose} answer has no date.", "")
    off = now - theirs
    what = f"This machine's clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} {whose}."
    remedy = "Set this machine's clock by NTP: windows are read once they have settled by it."
    if abs(off) > TOO_MUCH:
        return failed(what, remedy)
    if abs(off) > NOTICEABLE:
        return warning(what, remedy)
    return ok(f"This machine's clock agrees with {whose}.")
