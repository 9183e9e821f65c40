"""Freshness that means: the newest complete window is delivered.

Dagster's own evaluation takes any materialization for fresh, that of an old window in a backfill too. So dagster.yaml
switches it off (`freshness.enabled: false`), and a sensor tells Dagster the state of each asset instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import dagster as dg

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.asset_checks import keep_verdicts
from zendesk_pipeline.orchestration.catch_up_sensor import INTERVAL, newest_delivered
from zendesk_pipeline.orchestration.instance import FreshnessState, FreshnessStateChange

WARN_HOURS = 2
"""From the end of the newest delivered window on: the next one ended an hour ago."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Whole hours since the end of the newest delivered window.

    Dagster's UI (1.13.29) rounds what it shows of a policy, and differently in two places: an hour and a half is "an
    hour" here and "2 hours" there. Whole hours are the same everywhere.
    """

    warn: int
    """From here on the state is WARN."""
    fail: int
    """From here on it is FAIL."""

    @property
    def policy(self) -> dg.FreshnessPolicy:
        """The bounds as the UI shows them; there is no warning where the failure comes first."""
        warn = timedelta(hours=self.warn) if self.warn < self.fail else None
        return dg.FreshnessPolicy.time_window(warn_window=warn, fail_window=timedelta(hours=self.fail))


def bounds(fail_hours: int, delay: float = 0) -> Bounds:
    """A window may be late by an hour, and by `fail_hours`.

    An hour more where the account's collection begins more than half an hour later than the earliest may (`delay`, in
    seconds).
    """
    later = int(delay > HOUR / 2)
    return Bounds(warn=WARN_HOURS + later, fail=1 + fail_hours + later)


def policy(account: Account) -> dg.FreshnessPolicy:
    """That of the account's assets, by its minute and ALERT_STALE_HOURS."""
    return bounds(account.settings.alert_stale_hours, account.delay).policy


def age_of(newest: Window | None, first: Window, now: float) -> float:
    """Seconds since the end of the newest delivered window; since the start of the first there can be, if none is."""
    return now - (newest.end if newest else first.start)


def state(newest: Window | None, first: Window, now: float, limits: Bounds) -> FreshnessState:
    """The state of an asset whose newest delivered window is `newest`; `first` is the first there can be."""
    age = age_of(newest, first, now)
    if age >= limits.fail * HOUR:
        return FreshnessState.FAIL
    if age >= limits.warn * HOUR:
        return FreshnessState.WARN
    return FreshnessState.PASS if newest else FreshnessState.UNKNOWN


def state_of(account: Account, newest: Window | None, now: float) -> FreshnessState:
    """The state of an asset of an account, by the account's first window, minute and ALERT_STALE_HOURS."""
    return state(newest, account.first, now, bounds(account.settings.alert_stale_hours, account.delay))


def freshness_sensor(accounts: Sequence[Account], clock: Clock) -> dg.SensorDefinition:
    """The sensor that tells Dagster what is true of assets and checks where it would show something else.

    `clock` has the time.
    """
    keys = [key for account in accounts for key in account.stream_keys]

    @dg.sensor(
        name="freshness_sensor",
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Keeps the freshness of the assets: is the newest complete window delivered? Keeps the verdict of a"
        " check that a failed collection did not come to.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        kept = keep_verdicts(context.instance, accounts)
        if kept:
            checks = ", ".join(f"{key.asset_key.to_user_string()} {key.name}" for key in kept)
            context.log.info("Kept the verdicts of checks that a failed collection did not come to: %s", checks)
        if context.instance.freshness_enabled:
            return dg.SkipReason(
                "Dagster's own freshness is on, and takes any materialization for fresh:"
                " set `freshness: {enabled: false}` in dagster.yaml."
            )
        now = clock.now()
        records = context.instance.get_freshness_state_records(keys)
        states: list[str] = []
        for account, key in [(each, key) for each in accounts for key in each.stream_keys]:
            record, fail_hours = records.get(key), account.settings.alert_stale_hours
            recent = Span(Window.of(int(now) - account.delay).start - (fail_hours + 2) * HOUR, int(now) + HOUR)
            newest = newest_delivered(context.instance, key, recent)
            before = record.freshness_state if record else FreshnessState.UNKNOWN
            current = state_of(account, newest, now)
            if current != before:
                changed = FreshnessStateChange(
                    key=key, new_state=current, previous_state=before, state_change_timestamp=now
                )
                context.instance.report_runless_asset_event(changed)
            states.append(f"{key.to_user_string()}: {current.value}, newest window {newest or 'none'}")
        return dg.SkipReason("; ".join(states))

    return sensor
