"""The three stories of self-healing, each printed as a timeline: `python -m zendesk_pipeline_tests.promise.stories`.

The daemon is down for six hours; Zendesk is down for two; one window can never be read. Afterwards every window is
there, and the poisoned one was named. Dagster's own scheduler, sensors and queue run by a clock of ours (`time_lapse`);
Zendesk is simulated over HTTP and goes by the same clock, S3 is SeaweedFS, and alerts go through Apprise to a webhook.
"""

import json
import sys
import tempfile
import time as wall
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby, pairwise
from pathlib import Path

import click
import dagster as dg
from rich.console import Console
from rich.table import Table

from zendesk_pipeline.alerts.snapshot import failed_runs
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local import pipeline as local
from zendesk_pipeline.local.delivery_proof import Bucket, Proof, prove
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, local_s3, simulated_zendesk
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.local.simulator.zendesk import RequestSeen
from zendesk_pipeline.model.windows import HOUR, Span, Window, timestamp
from zendesk_pipeline.orchestration.accounts import FIRST_MINUTE as SCHEDULED
from zendesk_pipeline.orchestration.catch_up import FIRST_PAUSE, GRACE, LONGEST_PAUSE, SUSPICIOUS
from zendesk_pipeline.orchestration.run_history import ours, windows_of
from zendesk_pipeline_tests import engines, read_once
from zendesk_pipeline_tests.collected import COLLECTED
from zendesk_pipeline_tests.fakes.scripted_server import Reply, ScriptedServer, answering
from zendesk_pipeline_tests.promise.time_lapse import Daemon, SimulatedTime, daemon, home, on_the_clock

BEGIN = int(datetime(2026, 11, 13, tzinfo=UTC).timestamp())
"""Of the first window, and the hour 0 of every timeline."""
MINUTE = 60
ACCOUNT = (
    *("--since", timestamp(BEGIN - 24 * HOUR), "--now", timestamp(BEGIN), "--empty-hours", "0"),
    *("--tickets-per-hour", "60", "--ticket-bytes", "300", "--bulk-update", "300"),
    *("--late-share", "0.1", "--account-limit", "100000"),
)
SCHEDULE, SENSOR = "hourly_collection_schedule", "catch_up_sensor"
KEYS = [dg.AssetKey(name) for name in COLLECTED]


# What happens


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run that somebody asked for, and what became of it."""

    at: float
    """Seconds since the epoch, as everywhere here; of the simulated clock."""
    by: str
    """The schedule or sensor that asked for it."""
    stream: str
    span: Span
    failure: str
    """The sentence it failed with; empty where it succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A message as the webhook received it."""

    at: float
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Check:
    """Something that has to hold, in words."""

    sentence: str
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The services and the folder that a story takes place in."""

    folder: Path
    zendesk: SimulatedZendesk
    s3: LocalS3
    layout: Layout
    webhook: ScriptedServer

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a pipeline between these services."""
        return {
            **self.zendesk.environment,
            **self.s3.environment,
            "S3_PREFIX": self.layout.feed,
            "STATE_PREFIX": self.layout.state,
            "QUARANTINE_PREFIX": self.layout.quarantine,
            "START_DATE": timestamp(BEGIN),
            "ALERT_URLS": f"json://{self.webhook.url.removeprefix('http://')}/",
            "DAGSTER_HOME": str(self.folder / "dagster"),
        }

    def bucket(self, stream: str) -> Bucket:
        store = Store(client=self.s3.client(), bucket=self.s3.bucket, encryption={})
        return Bucket(stream=COLLECTED[stream], store=store, layout=self.layout)


@dataclass(slots=True, kw_only=True)
class Story:
    """A story while it happens, and what is known of it afterwards."""

    stage: Stage
    time: SimulatedTime
    say: Callable[[str], object]
    every: int
    """Minutes between two ticks of the daemon."""
    ran: list[Ran] = field(default_factory=list[Ran])
    alerts: list[Alert] = field(default_factory=list[Alert])
    named: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    """When the catch-up sensor's ticks said something else of windows at which runs break off, and what."""
    checks: list[Check] = field(default_factory=list[Check])
    proofs: dict[str, Proof] = field(default_factory=dict[str, Proof])
    _seen: set[str] = field(default_factory=set[str])

    @property
    def holds(self) -> bool:
        return all(check.holds for check in self.checks)

    # Time passes

    def note(self, what: str) -> None:
        """A line of the timeline."""
        self.say(f"{clock(self.time.now)}  {what}")

    @contextmanager
    def daemon(self) -> Generator[Daemon]:
        """Dagster's daemon is up."""
        with daemon(self.stage.folder / "dagster") as running:
            yield running

    def live(self, running: Daemon, until: float) -> None:
        """Tick by tick up to a moment."""
        step, offset = self.every * MINUTE, SCHEDULED % self.every * MINUTE
        while (following := ((self.time.now - offset) // step + 1) * step + offset) <= until:
            self.time.move_to(following)
            running.tick(self.time)
            self._look(running.instance)

    def _look(self, instance: dg.DagsterInstance) -> None:
        """Tell what has happened since the last look."""
        self._tell_runs([*self._new_runs(instance)])
        for received in self.stage.webhook.received[len(self.alerts) :]:
            body = json.loads(received.body)
            alert = Alert(at=self.time.now, title=body["title"], text=body["message"])
            self.alerts.append(alert)
            self.note(f"[bold]alert: {alert.title}[/bold]")
            for line in _first_lines(alert.text):
                self.say(f"         {line}")
        self._tell_names(instance)

    def _new_runs(self, instance: dg.DagsterInstance) -> Iterator[Ran]:
        records = [each for each in instance.get_run_records(limit=20) if each.dagster_run.run_id not in self._seen]
        reasons = (
            {run.run_id: run.sentence for run in failed_runs(instance, ours(KEYS), since=float(BEGIN))}
            if records
            else {}
        )
        for record in reversed(records):
            run, span = record.dagster_run, windows_of(record.dagster_run)
            if span is None or not run.is_finished:
                continue
            self._seen.add(run.run_id)
            key = next(iter(run.asset_selection or KEYS))
            yield Ran(
                at=record.create_timestamp.timestamp(),
                by=run.tags.get("dagster/schedule_name") or run.tags.get("dagster/sensor_name", ""),
                stream=key.to_user_string(),
                span=span,
                failure="" if run.is_success else reasons.get(run.run_id, "for a reason that nobody knows"),
            )

    def _tell_runs(self, ran: Sequence[Ran]) -> None:
        self.ran += ran
        for (by, span), group in groupby(ran, lambda run: (run.by, run.span)):
            runs = [*group]
            failed = [run for run in runs if run.failure]
            good = ", ".join(run.stream for run in runs if not run.failure)
            windows = f"{span_of(span)}{f' ({len(span)} windows in one run)' if len(span) > 1 else ''}"
            if good:
                self.note(f"{_who(by)} {windows}: [green]{good} delivered[/green]")
            for run in failed:
                self.note(f"{_who(by)} {windows}: [red]{run.stream} failed[/red]")

    def _tell_names(self, instance: dg.DagsterInstance) -> None:
        """What the catch-up sensor says of windows that fail."""
        (state,) = [each for each in instance.all_instigator_state() if each.name == SENSOR]
        (tick,) = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        said = tick.skip_reason or ""
        if "broke off" in said and (not self.named or self.named[-1][1] != said):
            self.named.append((self.time.now, said))

    # What has to hold

    def check(self, sentence: str, holds: bool) -> None:  # noqa: FBT001  # it reads as a sentence
        """Note whether something holds."""
        self.checks.append(Check(sentence, holds))

    def prove(self, span: Span) -> None:
        """Compare every byte of the range with what Zendesk has."""
        control = self.stage.zendesk.control
        for stream in COLLECTED:
            proof = self.proofs[stream] = prove(self.stage.bucket(stream), span, control)
            self.check(
                f"{stream}: all {len(span)} windows are there, nothing is missing or repeated",
                proof.holds and proof.at_source > 0,
            )

    def complete(self, stream: str, span: Span) -> list[Window]:
        """The windows whose ledger says that they were read to their end."""
        bucket = self.stage.bucket(stream)
        return [window for window in span if (ledger := bucket.ledger(window)) and ledger.complete]

    def runs_of(self, stream: str, *, by: str, since: float = 0) -> list[Ran]:
        """A stream's runs that somebody asked for."""
        return [run for run in self.ran if run.stream == stream and run.by == by and run.at >= since]


@contextmanager
def story(stage: Stage, say: Callable[[str], object], *, every: int) -> Generator[Story]:
    """A story that begins at one past the first window, with nothing collected so far."""
    time = SimulatedTime(BEGIN + HOUR, stage.zendesk.control.set_clock)
    time.move_to(time.now)
    home(stage.folder / "dagster")
    with on_the_clock(time, stage.environment):
        yield Story(stage=stage, time=time, say=say, every=every)


def clock(moment: float) -> str:
    """`02:05`, or `1 d 02:05` from the next midnight on."""
    days, seconds = divmod(int(moment) - BEGIN, 24 * HOUR)
    return f"{f'{days} d ' if days else ''}{seconds // HOUR:02}:{seconds % HOUR // MINUTE:02}"


def span_of(span: Span) -> str:
    """The hours of windows: `03:00`, `03:00 to 07:00`."""
    first, last = clock(span.start), clock(span.end - HOUR)
    return first if first == last else f"{first} to {last}"


def _who(by: str) -> str:
    return {SCHEDULE: "schedule", SENSOR: "catch-up"}.get(by, by)


def _first_lines(text: str) -> list[str]:
    """Of each problem in a message, its first line and the sentence below it."""
    return [line for part in text.split("\n\n") for line in part.splitlines()[:2] if not line.startswith("Since ")]


# The stories


def daemon_down(told: Story, *, hours: int = 6) -> None:
    """The daemon is down for hours: what the schedule missed is asked for as one range for each stream."""
    with told.daemon() as running:
        told.note("the daemon is up")
        down = BEGIN + 2 * HOUR + 30 * MINUTE
        told.live(running, down)
    told.note(f"[yellow]the daemon goes down, for {hours} hours[/yellow]")
    told.time.move_to(back := down + hours * HOUR)
    with told.daemon() as running:
        told.note("[yellow]the daemon is up again[/yellow]")
        told.live(running, back + 50 * MINUTE)
    missed = Span(Window.of(down).start, Window.of(down).start + (hours - 1) * HOUR)
    for stream in COLLECTED:
        asked = told.runs_of(stream, by=SENSOR)
        told.check(
            f"{stream}: the newest window was the schedule's, the {len(missed)} before it were asked for as one range",
            [run.span for run in asked] == [missed],
        )
        told.check(
            f"{stream}: within {2 * told.every} minutes of its return",
            bool(asked) and asked[0].at - back <= 2 * told.every * MINUTE,
        )
    told.check("no run failed", not any(run.failure for run in told.ran))
    told.prove(_judged(told))


def zendesk_down(told: Story, *, hours: int = 2) -> None:
    """Zendesk is down for hours: pauses grow, nothing is hammered, people are told once, afterwards all is there."""
    control = told.stage.zendesk.control
    with told.daemon() as running:
        told.note("the daemon is up")
        down = BEGIN + 2 * HOUR + MINUTE
        told.live(running, down)
        control.add_faults(Rule(path="^/api/", kind="status", code=503, times=0))
        control.forget_requests()
        told.note(f"[yellow]Zendesk goes down, for {hours} hours[/yellow]")
        told.live(running, back := down + hours * HOUR)
        requests = control.requests()
        control.clear_faults()
        told.note(f"[yellow]Zendesk is back; it was asked {len(requests)} times meanwhile[/yellow]")
        told.live(running, back + 105 * MINUTE)
    _check_patience(told, requests, down, back)
    opened = [alert for alert in told.alerts if "failed" in alert.text and alert.at < back]
    told.check(
        "the first alert names both streams and the sentence, in one message",
        bool(opened) and all(f"{stream}: 1 window failed" in opened[0].text for stream in COLLECTED),
    )
    failures = len([run for run in told.ran if run.failure])
    told.check(f"{len(opened)} messages for {failures} failed runs", 0 < len(opened) <= failures // 3)
    told.check("the last alert says that all of it is solved", bool(told.alerts) and _all_clear(told.alerts[-1]))
    told.prove(_judged(told))


def _check_patience(told: Story, requests: Sequence[RequestSeen], down: float, back: float) -> None:
    """Runs fail with growing pauses, and each asks a handful of times."""
    for stream in COLLECTED:
        window = Window.of(int(down) - HOUR)
        tried = [run.at for run in told.ran if run.failure and run.stream == stream and run.span.start == window.start]
        pauses = [later - earlier for earlier, later in pairwise(tried)]
        told.check(
            f"{stream}: the first window was tried again after {_minutes(pauses)} minutes",
            len(pauses) > 1 and _grow(pauses, told.every),
        )
    runs = [run for run in told.ran if run.failure and down <= run.at <= back]
    told.check(
        f"{len(requests)} requests by {len(runs)} runs in {(back - down) / HOUR:.0f} h: four a run, the retries of one",
        0 < len(requests) <= 4 * len(runs),
    )


def _minutes(pauses: Sequence[float]) -> str:
    return ", ".join(f"{pause / MINUTE:.0f}" for pause in pauses)


def _grow(pauses: Sequence[float], every: int, *, cut_short: int = 0) -> bool:
    """Whether each pause is what `catch_up` says, as far as ticks and the grace of the newest window let it be.

    The end of an outage cuts a pause short: the first window that is delivered looks like one.
    """
    wanted = [min(FIRST_PAUSE * 2**number, LONGEST_PAUSE) for number in range(len(pauses))]
    most = [max(GRACE, wanted[0]), *wanted[1:]]
    short = sum(pause < least for pause, least in zip(pauses, wanted, strict=True))
    in_time = all(pause <= longest + 2 * every * MINUTE for pause, longest in zip(pauses, most, strict=True))
    return in_time and short <= cut_short


def _all_clear(alert: Alert) -> bool:
    return "SOLVED" in alert.text and "Nothing else is wrong." in alert.text


def poisoned_window(told: Story, *, hours: int = 12) -> None:
    """One window can never be read: all others go on, it is tried alone with growing pauses, named, and then healed."""
    control, poisoned = told.stage.zendesk.control, Window(BEGIN + HOUR)
    poison = dict.fromkeys(COLLECTED, (poisoned.start + 20 * MINUTE, poisoned.start + 40 * MINUTE))
    with told.daemon() as running:
        told.note("the daemon is up")
        control.set(unreadable=poison)
        told.note(f"[yellow]no page that holds records of {clock(poisoned.start)} can be read from now on[/yellow]")
        told.live(running, until := BEGIN + HOUR + hours * HOUR)
        others = [window for window in Span(BEGIN, Window.of(int(until) - GRACE).start) if window != poisoned]
        for stream in COLLECTED:
            told.check(f"{stream}: every other window was delivered meanwhile", _has(told, stream, others))
            told.check(f"{stream}: the poisoned one was not", not _has(told, stream, [poisoned]))
        control.set(unreadable={})
        told.note("[yellow]the poison is gone[/yellow]")
        while any(not _has(told, stream, [poisoned]) for stream in COLLECTED) and told.time.now < until + LONGEST_PAUSE:
            told.live(running, told.time.now + HOUR / 4)
        told.live(running, told.time.now + HOUR / 2)
    _check_naming(told, poisoned)
    told.prove(_judged(told))


def _has(told: Story, stream: str, windows: Sequence[Window]) -> bool:
    span = Span(windows[0].start, windows[-1].end)
    return {*windows} <= {*told.complete(stream, span)}


def _check_naming(told: Story, poisoned: Window) -> None:
    for stream in COLLECTED:
        tried = [run for run in told.ran if run.stream == stream and run.failure and poisoned in run.span]
        alone = [run for run in tried[SUSPICIOUS:] if len(run.span) == 1]
        pauses = [later.at - earlier.at for earlier, later in pairwise(tried)]
        told.check(f"{stream}: after {SUSPICIOUS} failures it was tried alone", alone == tried[SUSPICIOUS:] != [])
        told.check(
            f"{stream}: tried again after {_minutes(pauses)} minutes",
            _grow(pauses, told.every, cut_short=1),
        )
        others = [run for run in told.ran if run.failure and run.stream == stream and poisoned not in run.span]
        told.check(
            f"{stream}: {len(others)} other runs failed (one may: the schedule's of the next hour, which looks back)",
            [(run.by, run.span.start) for run in others] in ([], [(SCHEDULE, poisoned.end)]),
        )
        told.check(
            f"{stream}: the sensor's ticks named it", any(f"{stream} {poisoned}" in said for _, said in told.named)
        )
        told.check(
            f"{stream}: an alert named it",
            any(
                f"Runs break off at {poisoned}" in a.text and f"{stream}: 1 window failed again" in a.text
                for a in told.alerts
            ),
        )
    told.check("the last alert says that it is solved", bool(told.alerts) and _all_clear(told.alerts[-1]))


def _judged(told: Story) -> Span:
    """Every window but the last: what shows late of that one is collected with the next."""
    return Span(BEGIN, Window.of(int(told.time.now) - GRACE).start - HOUR)


STORIES: dict[str, Callable[[Story], None]] = {
    "daemon": daemon_down,
    "zendesk": zendesk_down,
    "poison": poisoned_window,
}


# The command


def table(told: Story) -> Table:
    """Windows and records of each stream."""
    drawn = Table("", "windows", "records at the source", "in S3", "missing", "repeated", title_justify="left")
    for stream, proof in told.proofs.items():
        windows = f"{proof.complete} of {proof.windows}"
        counts = (proof.at_source, proof.in_s3, proof.missing, proof.repeated)
        drawn.add_row(stream, windows, *(f"{count:,}" for count in counts))
    return drawn


@contextmanager
def stage(folder: Path, name: str, s3: LocalS3) -> Generator[Stage]:
    """A stage of the story's own: a Zendesk, a webhook, a folder and prefixes."""
    place = folder / name
    place.mkdir()
    layout = Layout(feed=f"{name}/crm/", state=f"{name}/state/", quarantine=f"{name}/long/")
    with simulated_zendesk(place, *ACCOUNT) as zendesk, answering(Reply(b"ok")) as webhook:
        yield Stage(folder=place, zendesk=zendesk, s3=s3, layout=layout, webhook=webhook)


def tell(name: str, place: Stage, console: Console, *, every: int) -> bool:
    """Tell one story, and whether all of it held."""
    began = wall.monotonic()
    console.rule(f"[bold]{name}[/bold]", align="left")
    console.print((STORIES[name].__doc__ or "").strip(), "\n")
    with story(place, console.print, every=every) as told:
        STORIES[name](told)
    console.print(table(told))
    for check in told.checks:
        console.print(f"{'[green]yes[/green]' if check.holds else '[bold red]NO[/bold red] '} {check.sentence}")
    console.print(f"({wall.monotonic() - began:.0f} s)\n")
    return told.holds


@click.command()
@click.option("--only", type=click.Choice([*STORIES]), help="Tell this story alone.")
@click.option("--every", default=1, show_default=True, help="Minutes between two ticks of the daemon: 1, 5 or 10.")
def main(only: str | None, every: int) -> None:
    """Tell the stories of self-healing; exit status 1 unless every window is there in the end, and each record once."""
    console = Console(highlight=False, soft_wrap=True)
    local.forget_account()
    read_once.from_now_on()
    engines.keep(connected=True)
    with tempfile.TemporaryDirectory() as folder, local_s3(Path(folder)) as s3:
        ends: list[bool] = []
        for name in [only] if only else STORIES:
            with stage(Path(folder), name, s3) as place:
                ends.append(tell(name, place, console, every=every))
    console.print(
        "Every window is there, each record once." if all(ends) else "[bold red]It did not end well.[/bold red]"
    )
    sys.exit(0 if all(ends) else 1)


if __name__ == "__main__":
    main()
