"""What is wrong around the collection: asset checks, freshness, the credential, schedules, sensors and daemons.

Dagster's open-source edition alerts on none of it. No sensor can report that the daemon itself is down.
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
from zendesk_pipeline.alerts.problem import MINUTE, Problem, Severity, asset_path, first_line, moment
from zendesk_pipeline.alerts.snapshot import Snapshot, error_chain
from zendesk_pipeline.delivery.inspection import NO_LEDGER
from zendesk_pipeline.model.windows import DAY, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.comparison import LEDGER_LOST, NONE_FINISHED, NOT_COMPARED, UNSEEN
from zendesk_pipeline.orchestration.freshness import state_of
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
from zendesk_pipeline.orchestration.verdicts import is_planned, latest_records
from zendesk_pipeline.settings.environment import AuthMode

LATE = 10 * MINUTE
"""Seconds that a tick or a daemon's heartbeat may be late."""
FAILED_TICKS = 2
"""In a row, of a sensor: a restart of the code server makes a single one fail."""

LONGEST_FINDING = 400
"""Characters of what a check has found; its page has all of it."""
_WRITTEN_OVER = (
    "Somebody else writes under the feed prefix, or has written over an object: find out who may, and send the window"
    " again (docs/operations.md)."
)
REMEDIES: Mapping[str, str] = {
    "objects_match_ledgers": _WRITTEN_OVER,
    "lines_are_readable": _WRITTEN_OVER,
    "own_requests_show": "Switch the access log on: Admin Center > Account > Logs > Access log > Manage settings."
    " Zendesk records nothing before.",
    "volume_is_usual": "Look at Zendesk: is the account in use, was a rule or an integration or logging switched off?",
    "records_are_well_formed": "Look at each where it is named, and at Zendesk; tell Zendesk's support.",
    "fields_are_known": "Look whether SecOps' parser and your redaction rules should know of them: docs/redaction.md.",
    "times_are_usual": "Collect the windows of that time again, which delivers what is missing.",
    "holds_nothing_else": "SecOps reads each of them as logs: move them elsewhere.",
    "secops_reads": "Until it is solved, S3 keeps what SecOps has not read: docs/feed.md says what to do.",
    "secops_parser": "Look with the command parser-check, and pin the version before in SIEM Settings > Parsers.",
    "secops_receipts": "Until SecOps has read it, S3 keeps it: docs/feed.md says what to do.",
    "secops_counts": "S3 has every record, whatever SecOps has: docs/feed.md says what each difference means.",
    "secops_finds": "S3 has every record: docs/feed.md says how they are looked for.",
    "_match_source": "What was missing is in its window now, and SecOps reads it: nothing to do. If this recurs, raise"
    " LOOKBACK_SECONDS, and report it.",
}
"""What to do, by how the name of the check ends."""
_OF_FINDINGS: Mapping[str, str] = {
    LEDGER_LOST: "If S3_BUCKET or STATE_PREFIX was changed, copy the ledgers there; if they"
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
"""Runs of that name, for the latest of this code location."""

TOKENS_END = datetime(2027, 4, 30, tzinfo=UTC)
"""https://developer.zendesk.com/documentation/api-basics/authentication/oauth-migration/"""
WARN_BEFORE, ALARM_BEFORE = 90 * DAY, 14 * DAY


# Checks and freshness


def failed_checks(snapshot: Snapshot) -> Iterator[Problem]:
    """Asset checks whose latest evaluation failed or did not come about."""
    for record in latest_records(snapshot.instance, snapshot.automation.checks).values():
        yield from check_problems(snapshot.instance, record)


def check_problems(instance: dg.DagsterInstance, record: AssetCheckExecutionRecord) -> Iterator[Problem]:
    """The problem of a check, by its latest record; none where it passes."""
    if is_planned(record):
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
    """Whether a run was for checks alone, or had collected what this one reads and then failed at it."""
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
        steps.insert(0, "Nothing is known of the data until the check works again.")
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


def freshness(snapshot: Snapshot) -> Iterator[Problem]:
    """Assets that are late now and that Dagster's freshness policies call late.

    Only both together count: what `freshness_sensor` has reported may be older than the deliveries.
    """
    if not snapshot.caught_up:
        return
    late = [key for account in snapshot.accounts for key in account.stream_keys if _is_late(snapshot, account, key)]
    yield from not_fresh(snapshot.instance, late)


def _is_late(snapshot: Snapshot, account: Account, key: dg.AssetKey) -> bool:
    """Whether the newest window is late; not of an asset whose windows cannot be read."""
    asset = key.to_user_string()
    newest = max(filter(None, map(Window.if_hour, snapshot.delivered.get(asset, ()))), default=None)
    return asset not in snapshot.unreadable and state_of(account, newest, snapshot.now) is not FreshnessState.PASS


def not_fresh(instance: dg.DagsterInstance, assets: Sequence[dg.AssetKey]) -> Iterator[Problem]:
    """What Dagster's own freshness policies say, of assets that have one."""
    severities: dict[FreshnessState, Severity] = {FreshnessState.WARN: "warning", FreshnessState.FAIL: "error"}
    for key, record in instance.get_freshness_state_records(assets).items():
        if severity := severities.get(record.freshness_state):
            asset = key.to_user_string()
            yield Problem(
                cause=freshness_cause(asset),
                title=f"{asset} is not fresh",
                text="Its newest complete window is not delivered, although a run may be at work: see what takes it so"
                " long. A backfill of the same stream, or one that shares its rate limit, goes first.",
                since=record.updated_at.timestamp(),
                link_path=asset_path(asset),
                severity=severity,
                over=f"{asset} is fresh again",
            )


def freshness_cause(asset: str) -> str:
    """What other problems of an asset make superfluous: they say more."""
    return f"freshness {asset}"


# The credential


def credentials(snapshot: Snapshot) -> Iterator[Problem]:
    """Those of all accounts."""
    for account in snapshot.accounts:
        yield from credential(account.settings.auth_mode, snapshot.now, account.name)


def time_left(auth_mode: AuthMode, now: float) -> float | None:
    """Seconds for which a credential works, negative where it does not any more; None where it is not known."""
    return _tokens_last(now) if auth_mode == "token" else None


def _tokens_last(now: float) -> float:
    return TOKENS_END.timestamp() - now


def credential(auth_mode: AuthMode, now: float, account: str = "") -> Iterator[Problem]:
    """Credentials that end and that only a person can replace.

    Tokens of oauth_refresh replace themselves; where they cannot, the runs that fail say so.
    """
    left = _tokens_last(now)
    match auth_mode:
        case "token":
            if left > WARN_BEFORE:
                return
            severity: Severity = "error" if left <= ALARM_BEFORE else "warning"
            title = f"Zendesk's API tokens end on {TOKENS_END:%Y-%m-%d}"
            lasts = f"works for {math.ceil(left / DAY)} more days" if left > 0 else "does not work any more"
        case "bearer":
            severity, title = "info", "The access token cannot be renewed"
            lasts = "works until its token ends, 30 minutes to 48 hours after it was made as a rule"
        case "oauth" | "oauth_refresh":
            return
        case _:
            assert_never(auth_mode)
    yield Problem(
        cause=f"credential {auth_mode}{f' {account}' if account else ''}",
        title=f"{account}: {title}" if account else title,
        text=f"AUTH_MODE={auth_mode} {lasts}. AUTH_MODE=oauth renews itself: make an OAuth client in Zendesk's Admin"
        " Center, and set ZENDESK_CLIENT_ID and ZENDESK_CLIENT_SECRET.",
        link_path="/deployment",
        severity=severity,
        once=True,
    )


# Schedules, sensors and daemons


@dataclass(frozen=True, slots=True)
class _Instigator:
    """A schedule or a sensor that has to be running."""

    kind: Literal["schedule", "sensor"]
    name: str
    due: float
    """There has to be a tick since then."""
    failures: int
    """So many failed ticks in a row are a problem."""


def _instigators(snapshot: Snapshot) -> Iterator[_Instigator]:
    """Those that are on by default."""
    for schedule in snapshot.automation.schedules:
        if schedule.default_status is dg.DefaultScheduleStatus.RUNNING:
            yield _Instigator("schedule", schedule.name, _latest_cron_tick(schedule, snapshot.now - LATE), 1)
    for sensor in snapshot.automation.sensors:
        if sensor.default_status is dg.DefaultSensorStatus.RUNNING:
            due = snapshot.now - max(LATE, 10 * (sensor.minimum_interval_seconds or MINUTE))
            yield _Instigator("sensor", sensor.name, due, FAILED_TICKS)


def _latest_cron_tick(schedule: dg.ScheduleDefinition, before: float) -> float:
    crons = [schedule.cron_schedule] if isinstance(schedule.cron_schedule, str) else schedule.cron_schedule
    zone, at = schedule.execution_timezone, datetime.fromtimestamp(before, UTC)
    return max(get_latest_completed_cron_tick(cron, at, zone).timestamp() for cron in crons)


def automation(snapshot: Snapshot) -> Iterator[Problem]:
    """Schedules and sensors that fail, do not run or are switched off."""
    instance, watched = snapshot.instance, snapshot.automation
    selector = dg.RepositorySelector(location_name=watched.location, repository_name=watched.repository)
    known = instance.all_instigator_state(repository_selector_id=selector.selector_id if watched.location else None)
    states = {state.name: state for state in known}
    for each in _instigators(snapshot):
        state = states.get(each.name)
        if state and state.status is InstigatorStatus.STOPPED:
            yield _automation_problem(each, state, "is switched off", "Nothing else does its work: switch it on.")
        else:
            yield from _ticks(each, state, _latest_ticks(instance, state, each.failures), snapshot.awake_since)


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
    """When it was switched on or added: a nightly schedule has its first tick up to a day later."""
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
    each: _Instigator, state: InstigatorState | None, what: str, text: str, since: float = math.inf
) -> Problem:
    location = state.repository_selector.location_name if state else ""
    return Problem(
        cause=f"{each.kind} {each.name} {what}",
        title=f"The {each.kind} {each.name} {what}",
        over=f"The {each.kind} {each.name} {AGAIN[what]}",
        text=text,
        since=since,
        link_path=f"/locations/{quote(location)}/{each.kind}s/{quote(each.name)}" if location else "/automation",
    )


def daemons(snapshot: Snapshot) -> Iterator[Problem]:
    """Parts of Dagster's daemon that have gone silent while the one that runs sensors works."""
    heartbeats = {kind: beat.timestamp for kind, beat in snapshot.instance.get_daemon_heartbeats().items()}
    for kind in snapshot.instance.get_required_daemon_types():
        seen, name = max(heartbeats.get(kind, 0.0), snapshot.awake_since), kind.lower().replace("_", " ")
        if snapshot.now - seen > LATE:
            yield Problem(
                cause=f"daemon {kind}",
                title=f"Dagster's {name} daemon is silent",
                text="Restart dagster-daemon; its log says why this part of it stopped.",
                since=seen,
                link_path="/deployment/daemons",
                over=f"Dagster's {name} daemon is heard again",
            )


def pruning(snapshot: Snapshot) -> Iterator[Problem]:
    """The nightly job that keeps Dagster's own records small, where its latest run failed: no asset shows that."""
    ended = dg.RunsFilter(job_name=PRUNING, statuses=FINISHED)
    records = snapshot.instance.get_run_records(ended, limit=MOST_PRUNINGS)
    ours = [each for each in records if _location_of(each.dagster_run) == snapshot.automation.location]
    if ours and ours[0].dagster_run.status is dg.DagsterRunStatus.FAILURE:
        yield Problem(
            cause=f"job {PRUNING}",
            title=f"The job {PRUNING} fails",
            text="The logs of old runs stay, and Dagster's own records grow; no window is touched. The run's log says"
            " why. It runs again the next night.",
            since=ours[0].end_time or ours[0].update_timestamp.timestamp(),
            link_path=f"/runs/{ours[0].dagster_run.run_id}",
            severity="warning",
            over=f"The job {PRUNING} works again",
        )


def _location_of(run: dg.DagsterRun) -> str | None:
    return run.remote_job_origin.location_name if run.remote_job_origin else None
