"""Measures many accounts: `python -m zendesk_pipeline_tests.bench.accounts --accounts 200 --locations 4`.

Code locations of so many accounts by YAML, a real daemon with the repository's dagster.yaml, the simulated Zendesk and
SeaweedFS. The catch-up sensors ask for the last window of every stream of every account; how long that takes, or what
is done of it in the time given, is counted, and compared with the source.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import dagster as dg
import psutil

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.delivery_proof import Bucket, prove
from zendesk_pipeline.local.pipeline import settled_until
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, local_s3, simulated_zendesk
from zendesk_pipeline.model.streams import COLLECTED_BY_DEFAULT, STREAMS
from zendesk_pipeline.model.windows import HOUR, Span, timestamp
from zendesk_pipeline.orchestration.accounts import FIRST_MINUTE, LAST_MINUTE
from zendesk_pipeline.orchestration.catch_up import GRACE
from zendesk_pipeline_tests.project.foreign import Foreign, foreign
from zendesk_pipeline_tests.root import ROOT

INSTANCE = ROOT / "dagster.yaml"
LOOK_SECONDS = 5
LOAD = """
import time
import dagster
began = time.perf_counter()
from soc.definitions import defs
defs().get_repository_def()
print(f"{time.perf_counter() - began:.1f} s, of which {time.process_time():.1f} s of CPU with all imports")
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=200)
    parser.add_argument("--locations", type=int, default=1, help="that share the accounts")
    parser.add_argument("--seconds", type=int, default=3000, help="how long the daemon works at most")
    parser.add_argument("--runs", type=int, default=2, help="at once")
    chosen = parser.parse_args()
    span = Span(settled_until() - HOUR, settled_until())
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        history = ("--since", timestamp(span.start - 6 * HOUR))
        with simulated_zendesk(folder, *history) as zendesk, local_s3(folder) as s3:
            shares = [range(chosen.accounts)[number :: chosen.locations] for number in range(chosen.locations)]
            projects = [
                _project(folder / f"location_{number}", zendesk, s3, accounts, span)
                for number, accounts in enumerate(shares)
            ]
            project = projects[0]
            home = Path(project.environment["DAGSTER_HOME"])
            (home / "workspace.yaml").write_text(_workspace(projects))
            limit = f"max_concurrent_runs: {chosen.runs}"
            (home / "dagster.yaml").write_text(INSTANCE.read_text().replace("max_concurrent_runs: 4", limit))
            environment = {**os.environ, **project.environment}
            load = subprocess.run(
                [sys.executable, "-c", LOAD], env=environment, check=True, capture_output=True, text=True
            )
            click.echo(f"{len(shares[0])} accounts load in {load.stdout.strip()}")
            _work(home, environment, chosen.seconds, chosen.accounts * len(COLLECTED_BY_DEFAULT))
            with dg.DagsterInstance.from_config(str(home)) as instance:
                _report(instance, s3, zendesk, span)


def _project(folder: Path, zendesk: SimulatedZendesk, s3: LocalS3, accounts: Iterable[int], span: Span) -> Foreign:
    folder.mkdir()
    project = foreign(folder, {**zendesk.environment, **s3.environment})
    # as late as the catch-up sensor allows for windows that it is to ask for now: the next tick is far away then
    minute = min(max(int(time.time() - GRACE) % HOUR // 60, FIRST_MINUTE), LAST_MINUTE)
    for number in accounts:
        project.write(
            f"customer_{number:03d}",
            zendesk_base_url=zendesk.url,
            auth_mode="token",
            zendesk_email="ZENDESK_EMAIL",
            zendesk_api_token="ZENDESK_API_TOKEN",
            s3_bucket=s3.bucket,
            start_date=timestamp(span.start),
            minute=minute,
            zendesk_export_rate=100000,
        )
    return project


def _workspace(projects: Iterable[Foreign]) -> str:
    """What `workspace.yaml` says of projects whose modules are of one name."""
    places = [
        f"  - python_module: {{module_name: soc.definitions, working_directory: {project.folder}/src,"
        f" location_name: {project.folder.parent.name}}}\n"
        for project in projects
    ]
    return "".join(["load_from:\n", *places])


def _work(home: Path, environment: dict[str, str], seconds: int, runs: int) -> None:
    """Let the daemon work until so many runs are done, and say what memory its processes need."""
    command = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(home / "workspace.yaml")]
    began = time.monotonic()
    environment = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    with (home / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        with dg.DagsterInstance.from_config(str(home)) as instance:
            done = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])
            while time.monotonic() - began < seconds and instance.get_runs_count(done) < runs:
                time.sleep(LOOK_SECONDS)
            click.echo(f"{instance.get_runs_count(done)} of {runs} runs done {time.monotonic() - began:.0f} s after")
        processes = [psutil.Process(daemon.pid), *psutil.Process(daemon.pid).children(recursive=True)]
        for process in processes:
            used = process.cpu_times()
            click.echo(
                f"  {process.memory_info().rss / 2**20:5.0f} MB, {used.user + used.system:4.0f} s of CPU:"
                f" {' '.join(process.cmdline()[1:6])}"
            )
    finally:
        children = psutil.Process(daemon.pid).children(recursive=True)
        daemon.terminate()
        daemon.wait(60)
        for child in psutil.wait_procs(children, timeout=30)[1]:
            child.kill()


def _report(instance: dg.DagsterInstance, s3: LocalS3, zendesk: SimulatedZendesk, span: Span) -> None:
    for state in sorted(instance.all_instigator_state(), key=lambda state: state.name):
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=20)
        took = [tick.end_timestamp - tick.timestamp for tick in ticks if tick.end_timestamp]
        click.echo(
            f"{state.name}: {', '.join(f'{each:.1f}' for each in took)} s; {ticks[0].status.value if ticks else '-'}"
        )
    records = instance.get_run_records()
    done = [record for record in records if record.dagster_run.status is dg.DagsterRunStatus.SUCCESS]
    failed = [record for record in records if record.dagster_run.status is dg.DagsterRunStatus.FAILURE]
    click.echo(f"{len(records)} runs asked for, {len(done)} done, {len(failed)} failed")
    times = [(record.start_time or 0.0, record.end_time or 0.0) for record in done]
    if times:
        first, last = min(start for start, _ in times), max(end for _, end in times)
        click.echo(
            f"a run takes {statistics.median(end - start for start, end in times):.1f} s from its start to its end"
        )
        click.echo(f"{len(done) / (last - first) * 60:.1f} runs a minute, from the first start to the last end")
    proofs = list(_proofs([record.dagster_run for record in done], s3, zendesk, span))
    click.echo(f"exact: {sum(proofs)} of {len(proofs)}")


def _proofs(runs: list[dg.DagsterRun], s3: LocalS3, zendesk: SimulatedZendesk, span: Span) -> Iterator[bool]:
    store = Store(client=s3.client(), bucket=s3.bucket, encryption={})
    for run in runs:
        for key in run.asset_selection or ():
            root = f"zendesk/{key.path[0]}"
            layout = Layout(feed=f"{root}/crm/", state=f"{root}/state/", quarantine=f"{root}/quarantine/")
            proof = prove(Bucket(stream=STREAMS[key.path[-1]], store=store, layout=layout), span, zendesk.control)
            yield proof.holds


if __name__ == "__main__":
    main()
