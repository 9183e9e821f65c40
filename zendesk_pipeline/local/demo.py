"""`zendesk-pipeline demo`: collect 48 hours from a simulated Zendesk with trouble switched on, and prove the result.

Everything runs here, in a temporary folder, and is gone at the end.
"""

import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
import msgspec

from zendesk_pipeline.local import pipeline as local
from zendesk_pipeline.local.delivery_proof import Proof, prove
from zendesk_pipeline.local.pipeline import LocalPipeline
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.streams import INCREMENTAL_TICKETS
from zendesk_pipeline.model.windows import HOUR, Span, timestamp
from zendesk_pipeline.settings.programs import ours

if TYPE_CHECKING:
    from zendesk_pipeline.local.display import Display

BEFORE_HOURS = 24
"""History before the range: tickets that change within the range were created then."""
BULK_UPDATE = 2500

HISTORY = (
    *("--audit-logs-per-hour", "60", "--late-share", "0.25"),
    *("--tickets-per-hour", "80", "--bulk-update", str(BULK_UPDATE)),
)
"""Sized so that two walks over 48 hours stay below the limit of 30 export requests a minute, which is on."""

_AUDIT_LOGS, _TICKETS = "/api/v2/audit_logs", "/api/v2/incremental/"
TROUBLE = {
    "429 Too Many Requests": (
        Rule(path=_TICKETS, kind="status", code=429, retry_after="seconds:2", times=2, skip=1),
        Rule(path=_AUDIT_LOGS, kind="status", code=429, retry_after="date:2", skip=1),
    ),
    "503 Service Unavailable": (
        Rule(path=_TICKETS, kind="status", code=503, skip=2),
        Rule(path=_AUDIT_LOGS, kind="status", code=503, body="html", times=2, skip=6),
    ),
    "connection reset": (
        Rule(path=_TICKETS, kind="reset"),
        Rule(path=_AUDIT_LOGS, kind="reset_mid_body", skip=10),
    ),
    "page that breaks off": (Rule(path=_TICKETS, kind="truncate", skip=3),),
    "page of HTML with status 200": (Rule(path=_AUDIT_LOGS, kind="html", skip=14),),
    "empty page in the middle": (Rule(path=_AUDIT_LOGS, kind="empty_page", skip=18),),
    "record sent twice": (Rule(path=_TICKETS, kind="repeat_record", skip=4),),
}
"""What the simulated Zendesk does on the way."""


class _Ticket(msgspec.Struct):
    generated_timestamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What the steps of the demo share."""

    pipeline: LocalPipeline
    display: "Display"
    span: Span


@click.command()
@click.option("--hours", default=48, show_default=True, type=click.IntRange(1, 240), help="How many to collect.")
@click.option(
    "--keep", type=click.Path(file_okay=False, path_type=Path), help="Copy the bucket into this folder, to look at."
)
def demo(hours: int, keep: Path | None) -> None:
    """Collect two days from a simulated Zendesk into a local S3 server, and prove the result. Needs no account."""
    display = local.display()
    try:
        with local.one_interruption():
            holds = _demo(display, hours, keep)
    except KeyboardInterrupt:
        display.say("\nStopped: nothing is left running, and nothing of it on disk.")
        sys.exit(130)
    display.say(
        "Nothing is left running, and nothing of it on disk." if keep is None else f"The bucket is copied to {keep}."
    )
    sys.exit(not holds)


def _demo(display: "Display", hours: int, keep: Path | None) -> bool:
    """Run the demo; returns whether each record is in S3 once."""
    began = time.monotonic()
    if local.forget_account():
        display.say("ZENDESK_BASE_URL is set here; the demo uses a simulated account and never that one.")
    end = local.settled_until() - HOUR  # the demo collects one more hour after the range
    span = Span(end - hours * HOUR, end)
    display.say("Starting a simulated Zendesk and an S3 server (SeaweedFS) on this machine …")
    with TemporaryDirectory(prefix="zendesk-pipeline-demo-") as folder:
        options = _simulator_options(span)
        instance = local.SETTINGS_OF_THE_INSTANCE
        with local.local_pipeline(Path(folder), *options, start=span.start, instance=instance) as pipeline:
            stage = Stage(pipeline=pipeline, display=display, span=span)
            holds = all([_collect(stage), _again(stage), _next_hour(stage)])
            _show_one_window(stage)
            _verdict(display, time.monotonic() - began, holds=holds)
            if keep is not None:
                _copy_bucket(stage, keep)
    return holds


def _simulator_options(span: Span) -> tuple[str, ...]:
    since, now = timestamp(span.start - BEFORE_HOURS * HOUR), timestamp(span.end + local.SETTLED)
    return (*HISTORY, "--since", since, "--now", now)


def _collect(stage: Stage) -> bool:
    display, hours = stage.display, len(stage.span)
    display.step(f"1. Collect {hours} hours, {stage.span} UTC, one Dagster run for each stream")
    stage.pipeline.zendesk.control.add_faults(*(rule for rules in TROUBLE.values() for rule in rules))
    with display.progress(list(local.buckets(stage.pipeline)), hours) as tell:
        local.collect(stage.pipeline, stage.span, tell)
    display.say("\n  What came up on the way:")
    display.counts(_trouble(stage))
    display.step("2. Proof: the bytes in the bucket against the simulated Zendesk's own records")
    proofs = _proofs(stage, stage.span)
    materialized = {name: len(local.materialized(stage.pipeline, name)) for name in proofs}
    display.proofs(proofs, materialized)
    unseen = proofs[INCREMENTAL_TICKETS.name].unseen
    display.say(f"  ({unseen:,} ticket states were replaced by newer ones before this run: no export shows those.)")
    return all(proof.holds for proof in proofs.values()) and set(materialized.values()) == {hours}


def _trouble(stage: Stage) -> dict[str, object]:
    """What the simulated Zendesk counted, and the waiting that the run says it cost."""
    control, span = stage.pipeline.zendesk.control, stage.span
    kinds = {rule: name for name, rules in TROUBLE.items() for rule in rules}
    fired = Counter[str]()
    for rule, armed in zip(kinds, control.faults(), strict=True):
        fired[kinds[rule]] += armed.fired
    seconds = Counter(
        msgspec.json.decode(record, type=_Ticket).generated_timestamp
        for record in control.source(INCREMENTAL_TICKETS.name, span.start, span.end, ever=True)
    )
    bulk = sum(count >= BULK_UPDATE for count in seconds.values())
    reported = [local.materialized(stage.pipeline, name) for name in local.buckets(stage.pipeline)]
    waited = sum(window["rate_limit_wait_seconds"] for windows in reported for window in windows.values())
    return {
        "requests": sum(control.counts().path.values()),
        **{name: count for name, count in fired.items() if count},
        f"bulk update of {BULK_UPDATE:,} tickets in one second": bulk,
        "seconds of waiting for rate limits": f"{waited:.1f}",
    }


def _again(stage: Stage) -> bool:
    stage.display.step("3. The same hours again")
    control = stage.pipeline.zendesk.control
    control.forget_requests()
    before = _all_keys(stage)
    with stage.display.working():
        local.collect(stage.pipeline, stage.span)
    new = len(_all_keys(stage) - before)
    requests = sum(control.counts().path.values())
    stage.display.say(f"  {requests} requests read all of it again: {new} new objects.")
    return new == 0


def _next_hour(stage: Stage) -> bool:
    """Let an hour pass at the simulated Zendesk, and collect it; records that show up late come with it."""
    hour, display = Span(stage.span.end, stage.span.end + HOUR), stage.display
    display.step(f"4. The next hour: {hour} UTC")
    stage.pipeline.zendesk.control.set_clock(hour.end + local.SETTLED)
    with display.working():
        before = _proofs(stage, stage.span)
        local.collect(stage.pipeline, hour)
        after, whole = _proofs(stage, stage.span), _proofs(stage, Span(stage.span.start, hour.end))
    late = sum(proof.missing for proof in before.values())
    delivered = sum(after[name].in_s3 - before[name].in_s3 for name in after)
    display.say(f"  {late} audit logs of earlier hours had shown up late: {delivered} delivered, into their own hours.")
    for name, proof in whole.items():
        display.say(
            f"  {name}: {proof.in_s3:,} records of {proof.complete} hours in S3, {proof.missing} missing,"
            f" {proof.repeated} repeated, {proof.foreign} never at the source."
        )
    replaced = whole[INCREMENTAL_TICKETS.name].replaced
    display.say(f"  ({replaced} of these ticket states were replaced at the source since; they were right when read.)")
    return all(proof.holds for proof in whole.values())


def _proofs(stage: Stage, span: Span) -> dict[str, Proof]:
    control = stage.pipeline.zendesk.control
    return {name: prove(bucket, span, control) for name, bucket in local.buckets(stage.pipeline).items()}


def _all_keys(stage: Stage) -> set[str]:
    (bucket, *_) = local.buckets(stage.pipeline).values()
    return set(bucket.store.keys(""))


def _show_one_window(stage: Stage) -> None:
    """One object's key, and the ledger that names it; never a record."""
    bucket = local.buckets(stage.pipeline)[INCREMENTAL_TICKETS.name]
    keys = bucket.objects(stage.span)
    ledger = bucket.ledger(bucket.window(keys[-1])) if keys else None
    if ledger is None:
        return
    key = keys[-1]
    first = next(delivered for delivered in ledger.objects if delivered.key == key)
    stage.display.step("One object of the feed, and what its ledger says")
    stage.display.say(f"  {bucket.store.uri(key)}")
    stage.display.say(
        f"  {ledger.window}, complete: {ledger.complete}, sha256 {first.sha256[:12]}…, {first.bytes:,} bytes,"
        f" {len(first.identities):,} identities: {first.identities[0]} …"
    )


def _verdict(display: "Display", seconds: float, *, holds: bool) -> None:
    if not holds:
        display.say(f"\n[bold red]The proof FAILED[/bold red] ({seconds:.0f} s): this is a bug, please report it.")
        return
    display.say(f"\n[bold green]Every record is in S3, each once.[/bold green] This took {seconds:.0f} s.")
    display.say(f"Go on:  {ours('dev')}   opens the Dagster UI over the same services")
    display.say("        README.md and docs/production.md show the way to your own account")


def _copy_bucket(stage: Stage, folder: Path) -> None:
    (bucket, *_) = local.buckets(stage.pipeline).values()
    for key in bucket.store.keys(""):
        if stored := bucket.store.get(key):
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(stored.body)
