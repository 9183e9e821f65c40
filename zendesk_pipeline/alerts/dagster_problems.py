"""What is wrong around the collection: asset checks, freshness, the credential, schedules, sensors and daemons.

Dagster's open-source edition alerts on none of it. What cannot be seen from inside a sensor is that the daemon is down:
then no sensor runs.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, assert_never
from urllib.parse import quote

import dagster as dg

from zendesk_pipeline.alerts.messages import some_words
from zendesk_pipeline.alerts.problems import DAY, MINUTE, Problem, Severity, error_chain, first_line, moment
from zendesk_pipeline.delivery.inspection import NO_LEDGER
from zendesk_pipeline.orchestration.comparison import LEDGER_LOST, NONE_FINISHED, NOT_COMPARED
from zendesk_pipeline.orchestration.instance import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
    FreshnessState,
    InstigatorState,
    InstigatorStatus,
    InstigatorTick,
    ScheduleInstigatorData,
    SensorInstigatorData,
    SerializableErrorInfo,
    TickStatus,
    get_latest_completed_cron_tick,
)
from zendesk_pipeline.orchestration.run_history import FINISHED
from zendesk_pipeline.orchestration.run_logs import JOB as PRUNING
from zendesk_pipeline.settings.environment import AuthMode

LATE = 10 * MINUTE
"""A tick or a daemon's heartbeat may be late by this much."""
FAILED_TICKS = 2
"""So many in a row, of a sensor: a single one is what a restart of the code server looks like."""

LONGEST_FINDING = 400
"""Characters of what a check has found; its page has all of it."""
UNSEEN = "it could not be looked at"
"""How a finding begins where a check of ours could not do its work."""
_WRITTEN_OVER = (
    "Somebody else writes under the feed prefix, or has written over an object: find out who may, and send the window"
    " again (docs/operations.md)."
)
REMEDIES: Mapping[str, str] = {
    "objects_match_ledgers": _WRITTEN_OVER,
    "lines_are_readable": _WRITTEN_OVER,
    "own_requests_show": "Switch the access log on: Admin Center > Account > Logs > Access log > Manage settings."
    " Zendesk writes nothing down before.",
    "volume_is_usual": "Look at Zendesk: is the account in use, was a rule or an integration or logging switched off?",
    "records_are_well_formed": "Look at each where it is named, and at Zendesk; tell Zendesk's support.",
    "times_are_usual": "Collect the windows of that time again, which delivers what is missing.",
    "holds_nothing_else": "SecOps reads each of them as logs: move them elsewhere.",
    "_match_source": "What was missing is in its window now, and SecOps reads it: nothing to do. If this recurs, raise"
    " LOOKBACK_SECONDS, and report it.",
}
"""What to do, by how the name of the check ends."""
_OF_FINDINGS: Mapping[str, str] = {
    LEDGER_LOST: "If S3_BUCKET or STATE_PREFIX was changed, copy the ledgers to where they are looked for; if they"
    " were deleted, restore them. Materialize what was only marked as materialized.",
    **dict.fromkeys(
        (NOT_COMPARED, NONE_FINISHED),
        "Raise COMPARISON_PAGES, or compare these windows with `zendesk-pipeline verify`, and collect again what it"
        " names.",
    ),
    NO_LEDGER: "Collect these windows again: what the feed has of them is not sent twice.",
}
"""What to do in its place about findings that say this."""
_MORE = re.compile(r"and [\d,]+ more")

MOST_PRUNINGS = 50
"""Runs of one name that are looked through for the latest of this code location."""

TOKENS_END = datetime(2027, 4, 30, tzinfo=UTC)
"""https://developer.zendesk.com/documentation/api-basics/authentication/oauth-migration/"""
WARN_BEFORE, ALARM_BEFORE = 90 * DAY, 14 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Automation:
    """The schedules, sensors and checks to look after, and where they are from."""

    schedules: Sequence[dg.ScheduleDefinition] = ()
    sensors: Sequence[dg.SensorDefinition] = ()
    checks: Sequence[dg.AssetCheckKey] = ()
    repository: str = ""
    location: str = ""
    """The code location's name, if it is known."""


# Checks and freshness


def failed_checks(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> Iterator[Problem]:
    """Asset checks whose latest evaluation failed or did not come about."""
    for record in instance.event_log_storage.get_latest_asset_check_execution_by_key(checks).values():
        if record.status is AssetCheckExecutionRecordStatus.PLANNED:
            yield from _planned_check(instance, record)
        else:
            yield from _evaluated_check(record)


def _planned_check(instance: dg.DagsterInstance, record: AssetCheckExecutionRecord) -> Iterator[Problem]:
    """While a check is under way, the evaluation before counts; so it does where its run failed before the check."""
    run = instance.get_run_by_id(record.run_id)
    if run and run.status is dg.DagsterRunStatus.FAILURE and _was_its_turn(instance, run, record):
        yield _check_problem(record, "The run that was to evaluate it failed; its log says why.", "error")
        return
    done = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
    for before in instance.event_log_storage.get_asset_check_execution_history(record.key, limit=1, status=done):
        yield from _evaluated_check(before)


def _was_its_turn(instance: dg.DagsterInstance, run: dg.DagsterRun, record: AssetCheckExecutionRecord) -> bool:
    """Whether a run was for checks alone, or had collected what this one looks at and then broke at it."""
    if record.key.asset_key not in (run.asset_selection or ()):
        return True
    step = record.event.step_key if record.event else None
    return bool(step) and any(each.start_time for each in instance.get_run_step_stats(run.run_id, [step]))


def _evaluated_check(record: AssetCheckExecutionRecord) -> Iterator[Problem]:
    evaluation = record.evaluation
    if evaluation and not evaluation.passed:
        severity = "warning" if evaluation.severity is dg.AssetCheckSeverity.WARN else "error"
        number = _findings(evaluation)
        counted = f"{number:,} finding{'s' if number > 1 else ''}: " if number else ""
        found = (evaluation.description or "It says no more.").split("\n", 1)[0]
        text = f"{counted}{some_words(found, LONGEST_FINDING)}\n{_remedy(record.key.name, found)}"
        yield _check_problem(record, text, severity, size=max(number, 1))


def _findings(evaluation: dg.AssetCheckEvaluation) -> int:
    """How many there are, of a check of ours; 0 of another's, which need not say."""
    entry = evaluation.metadata.get("findings")
    return entry.value or 0 if isinstance(entry, dg.IntMetadataValue) else 0


def _remedy(check: str, found: str) -> str:
    others = [each for each in found.split("; ") if not any(said in each for said in (*_OF_FINDINGS, UNSEEN))]
    steps = [what for said, what in _OF_FINDINGS.items() if said in found]
    if found.startswith(UNSEEN):
        steps.insert(0, "Nothing is known of the data before the check can look again.")
    elif not all(map(_MORE.fullmatch, others)):
        steps.insert(0, next((what for end, what in REMEDIES.items() if check.endswith(end)), "Its page says more."))
    return " ".join(dict.fromkeys(steps))


def _check_problem(record: AssetCheckExecutionRecord, text: str, severity: Severity, size: int = 1) -> Problem:
    asset, name = record.key.asset_key.to_user_string(), record.key.name
    return Problem(
        cause=f"check {asset} {name}",
        title=f"{asset}: the check {name} failed",
        text=text,
        since=record.create_timestamp,
        link_path=f"/assets/{quote(asset)}?view=checks&checkDetail={quote(name)}",
        severity=severity,
        size=size,
        over=f"{asset}: the check {name} passes again",
    )


def freshness(instance: dg.DagsterInstance, assets: Sequence[dg.AssetKey]) -> Iterator[Problem]:
    """What Dagster's own freshness policies say, of assets that have one."""
    severities: dict[FreshnessState, Severity] = {FreshnessState.WARN: "warning", FreshnessState.FAIL: "error"}
    for key, record in instance.get_freshness_state_records(assets).items():
        if severity := severities.get(record.freshness_state):
            asset = key.to_user_string()
            yield Problem(
                cause=f"freshness {asset}",
                title=f"{asset} is not fresh",
                text="Its newest complete window is not delivered, although a run may be at work: see what takes it so"
                " long. A backfill of the same stream, or one that shares its rate limit, goes first.",
                since=record.updated_at.timestamp(),
                link_path=f"/assets/{quote(asset)}",
                severity=severity,
                over=f"{asset} is fresh again",
            )


# The credential


def credential(auth_mode: AuthMode, now: float, account: str = "") -> Iterator[Problem]:
    """Credentials that end and that only a person can replace.

    Tokens of oauth_refresh replace themselves; where they cannot, the runs that fail say so, and are told of as such.
    """
    left = TOKENS_END.timestamp() - now
    match auth_mode:
        case "token":
            if left > WARN_BEFORE:
                return
            time_left = f"works for {math.ceil(left / DAY)} more days" if left > 0 else "does not work any more"
            yield _credential_problem(
                auth_mode,
                account,
                title=f"Zendesk's API tokens end on {TOKENS_END:%Y-%m-%d}",
                text=f"AUTH_MODE=token {time_left}.",
                since=now,
                severity="error" if left <= ALARM_BEFORE else "warning",
            )
        case "bearer":
            yield _credential_problem(
                auth_mode,
                account,
                title="The access token cannot be renewed",
                text="AUTH_MODE=bearer works until its token ends, 30 minutes to 48 hours after it was made as a rule.",
                since=now,
                severity="info",
            )
        case "oauth" | "oauth_refresh":
            return
        case _:
            assert_never(auth_mode)


def _credential_problem(
    auth_mode: AuthMode, account: str, *, title: str, text: str, since: float, severity: Severity
) -> Problem:
    of = f" {account}" if account else ""
    return Problem(
        cause=f"credential {auth_mode}{of}",
        title=f"{account}: {title}" if account else title,
        text=f"{text} AUTH_MODE=oauth renews itself: make an OAuth client in Zendesk's Admin Center, and set"
        " ZENDESK_CLIENT_ID and ZENDESK_CLIENT_SECRET.",
        since=since,
        link_path="/deployment",
        severity=severity,
        once=True,
    )


# Schedules, sensors and daemons


@dataclass(frozen=True, slots=True)
class _Instigator:
    """A schedule or a sensor that should be running."""

    kind: Literal["schedule", "sensor"]
    name: str
    due: float
    """There should have been a tick since then."""
    failures: int
    """So many failed ticks in a row are a problem."""


def _instigators(watched: Automation, now: float) -> Iterator[_Instigator]:
    """Those that are off by default may be off."""
    for schedule in watched.schedules:
        if schedule.default_status is dg.DefaultScheduleStatus.RUNNING:
            yield _Instigator("schedule", schedule.name, _latest_cron_tick(schedule, now - LATE), 1)
    for sensor in watched.sensors:
        if sensor.default_status is dg.DefaultSensorStatus.RUNNING:
            due = now - max(LATE, 10 * (sensor.minimum_interval_seconds or MINUTE))
            yield _Instigator("sensor", sensor.name, due, FAILED_TICKS)


def _latest_cron_tick(schedule: dg.ScheduleDefinition, before: float) -> float:
    crons = [schedule.cron_schedule] if isinstance(schedule.cron_schedule, str) else schedule.cron_schedule
    zone, at = schedule.execution_timezone, datetime.fromtimestamp(before, UTC)
    return max(get_latest_completed_cron_tick(cron, at, zone).timestamp() for cron in crons)


def automation(instance: dg.DagsterInstance, watched: Automation, now: float, awake_since: float) -> Iterator[Problem]:
    """Schedules and sensors that fail, do not run or are switched off."""
    selector = dg.RepositorySelector(location_name=watched.location, repository_name=watched.repository)
    known = instance.all_instigator_state(repository_selector_id=selector.selector_id if watched.location else None)
    states = {state.name: state for state in known}
    for each in _instigators(watched, now):
        state = states.get(each.name)
        if state and state.status is InstigatorStatus.STOPPED:
            yield _automation_problem(each, state, "is switched off", "Nothing else does its work: switch it on.", now)
        else:
            yield from _ticks(each, state, _latest_ticks(instance, state, each.failures), awake_since)


def _ticks(
    each: _Instigator, state: InstigatorState | None, ticks: Sequence[InstigatorTick], awake_since: float
) -> Iterator[Problem]:
    if len(ticks) == each.failures and all(tick.status is TickStatus.FAILURE for tick in ticks):
        yield _automation_problem(each, state, "fails", _tick_error(ticks[0].error), ticks[-1].timestamp)
    latest = ticks[0].timestamp if ticks else 0.0
    if max(latest, awake_since, _on_since(state)) < each.due:
        last = f"Its latest tick was at {moment(latest)}" if ticks else "It has not had a tick"
        yield _automation_problem(each, state, "does not run", f"{last}. Restart dagster-daemon.", each.due)


def _on_since(state: InstigatorState | None) -> float:
    """When it was switched on, or was new; a nightly schedule then has its first tick up to a day later."""
    match state and state.instigator_data:
        case ScheduleInstigatorData(start_timestamp=began) | SensorInstigatorData(last_sensor_start_timestamp=began):
            return began or 0.0
        case _:
            return 0.0


def _latest_ticks(instance: dg.DagsterInstance, state: InstigatorState | None, limit: int) -> Sequence[InstigatorTick]:
    if state is None:
        return ()
    done = [TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE]
    return instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=limit, statuses=done)


def _tick_error(error: SerializableErrorInfo | None) -> str:
    """A sentence of ours if there is one among the causes; else the kinds of the exceptions alone."""
    chain = error_chain(error)
    for each in chain:
        if each.message.startswith("zendesk_pipeline.model.errors."):
            return first_line(each.message.partition(": ")[2])
    kinds = " because of ".join(str(each.cls_name) for each in chain)
    return f"Its latest tick ended with {kinds or 'an error'}; its page says more."


AGAIN = {"is switched off": "is switched on again", "fails": "works again", "does not run": "runs again"}


def _automation_problem(
    each: _Instigator, state: InstigatorState | None, what: str, text: str, since: float
) -> Problem:
    location = state.repository_selector.location_name if state else ""
    return Problem(
        cause=f"{each.kind} {each.name} {what}",
        title=f"The {each.kind} {each.name} {what}",
        over=f"The {each.kind} {each.name} {AGAIN[what]}",
        text=text,
        since=since,
        link_path=f"/locations/{quote(location)}/{each.kind}s/{quote(each.name)}" if location else "/automation",
        severity="error",
    )


def daemons(instance: dg.DagsterInstance, now: float, awake_since: float) -> Iterator[Problem]:
    """Parts of Dagster's daemon that have gone silent while the one that runs sensors works."""
    heartbeats: Mapping[str, float] = {kind: beat.timestamp for kind, beat in instance.get_daemon_heartbeats().items()}
    for kind in instance.get_required_daemon_types():
        seen = max(heartbeats.get(kind, 0.0), awake_since)
        if now - seen > LATE:
            yield Problem(
                cause=f"daemon {kind}",
                title=f"Dagster's {kind.lower().replace('_', ' ')} daemon is silent",
                text="Restart dagster-daemon; its log says why this part of it stopped.",
                since=seen,
                link_path="/deployment/daemons",
                severity="error",
                over=f"Dagster's {kind.lower().replace('_', ' ')} daemon is heard again",
            )


def pruning(instance: dg.DagsterInstance, location: str) -> Iterator[Problem]:
    """The nightly job that keeps Dagster's own records small, where its latest run failed: no asset shows that."""
    ended = dg.RunsFilter(job_name=PRUNING, statuses=FINISHED)
    for record in instance.get_run_records(ended, limit=MOST_PRUNINGS):
        run = record.dagster_run
        if run.remote_job_origin and run.remote_job_origin.location_name == location:
            if run.status is dg.DagsterRunStatus.FAILURE:
                yield Problem(
                    cause=f"job {PRUNING}",
                    title=f"The job {PRUNING} fails",
                    text="The logs of old runs stay, and Dagster's own records grow; no window is touched. The run's"
                    " log says why. It runs again the next night.",
                    since=record.end_time or record.update_timestamp.timestamp(),
                    link_path=f"/runs/{run.run_id}",
                    severity="warning",
                    over=f"The job {PRUNING} works again",
                )
            return
