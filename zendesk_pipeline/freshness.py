"""Freshness that means: the newest complete window is delivered.

Dagster's own evaluation takes any materialization for fresh, that of an old window in a backfill too. So dagster.yaml
switches it off (`freshness.enabled: false`), and a sensor tells Dagster the state of each asset instead.
"""

from collections.abc import Sequence
from datetime import timedelta

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

from zendesk_pipeline.accounts import Account
from zendesk_pipeline.clock import Clock
from zendesk_pipeline.sensors import INTERVAL, newest_delivered
from zendesk_pipeline.windows import HOUR, Span, Window

WARN_MINUTES = 30
"""After the end of a window that is not delivered."""


def policy(fail_hours: int, delay: float = 0) -> dg.FreshnessPolicy:
    """How old the end of the newest delivered window may be: an hour more than the newest complete one is late.

    `delay` are the seconds by which the account's collection begins later than the earliest may.
    """
    late = timedelta(hours=1, seconds=delay)
    return dg.FreshnessPolicy.time_window(
        warn_window=late + timedelta(minutes=WARN_MINUTES), fail_window=late + timedelta(hours=fail_hours)
    )


def state(newest: Window | None, first: Window, now: float, *, fail_hours: int) -> FreshnessState:
    """The state of an asset whose newest delivered window is `newest`; `first` is the first there can be."""
    late = now - (newest.end if newest else first.start) - HOUR
    if late >= fail_hours * HOUR:
        return FreshnessState.FAIL
    if late >= WARN_MINUTES * 60:
        return FreshnessState.WARN
    return FreshnessState.PASS if newest else FreshnessState.UNKNOWN


def state_of(account: Account, newest: Window | None, now: float) -> FreshnessState:
    """The state of an asset of an account, by the account's first window, minute and ALERT_STALE_HOURS."""
    return state(newest, account.first, now - account.delay, fail_hours=account.settings.alert_stale_hours)


def freshness_sensor(accounts: Sequence[Account], clock: Clock) -> dg.SensorDefinition:
    """The sensor that keeps the freshness of the assets, where Dagster's daemon does not; `clock` has the time."""
    keys = [key for account in accounts for key in account.stream_keys]

    @dg.sensor(
        name="freshness_sensor",
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Keeps the freshness of the assets: is the newest complete window delivered?",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
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
