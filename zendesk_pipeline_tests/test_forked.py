"""Programs that are forked from a warm process end, and leave behind, what started ones do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from zendesk_pipeline_tests import forked

MODULE = """
import os, sys
print("out", sys.argv[1:], __name__, os.getcwd(), os.environ.get("SAID"), sys.stdin.read())
print("err", file=sys.stderr)
sys.exit({status})
"""


def _module(folder: Path, text: str) -> list[str]:
    (folder / "program.py").write_text(text)
    return ["-m", "program", "an argument"]


@pytest.mark.parametrize("status", ["0", "None", "3", "'a sentence'", "1 / 0"])
def test_a_module_ends_as_one_that_was_started(tmp_path: Path, status: str) -> None:
    """Arguments, folder, environment, standard streams and exit status are the same."""
    arguments = _module(tmp_path, MODULE.replace("{status}", status))
    ended = [
        subprocess.run(
            command,
            cwd=tmp_path,
            env={"SAID": "yes"},
            input="asked",
            capture_output=True,
            text=True,
            check=False,
        )
        for command in ([sys.executable, *arguments], forked.command(*arguments))
    ]
    started, ours = [(each.returncode, each.stdout, each.stderr.splitlines()[-1]) for each in ended]
    assert ours == started
    assert "['an argument'] __main__" in ours[1]


ELSEWHERE = """
import boto3, tempfile, time
client = boto3.client("s3", aws_access_key_id="none", aws_secret_access_key="none")
print(client.meta.region_name, tempfile.gettempdir(), time.strftime("%Z", time.localtime(0)))
"""


def test_region_folder_and_time_zone_are_those_of_whoever_asks(tmp_path: Path) -> None:
    """Not those of the warm process, which has a session with AWS, a folder for what is temporary, and a zone."""
    for region, zone in (("eu-west-1", "AAA-1"), ("us-west-2", "BBB+3")):
        folder = tmp_path / region
        folder.mkdir()
        said = subprocess.run(
            forked.command(*_module(tmp_path, ELSEWHERE)),
            cwd=tmp_path,
            env={"AWS_DEFAULT_REGION": region, "AWS_CONFIG_FILE": os.devnull, "TMPDIR": str(folder), "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout.split() == [region, str(folder), zone[:3]]


@pytest.mark.parametrize("program", [*forked.PROGRAMS, forked.DG])
def test_a_program_says_what_it_says(tmp_path: Path, program: str) -> None:
    """Of a command that it does not know: how it is used, by its name."""
    unknown = "no-such-command"
    started, ours = [
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        for command in ([str(Path(sys.executable).with_name(program)), unknown], forked.command(program, unknown))
    ]
    assert unknown in started.stderr
    assert (ours.returncode, ours.stdout, ours.stderr) == (started.returncode, started.stdout, started.stderr)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_whoever_ends_the_command_ends_the_program(tmp_path: Path, number: signal.Signals) -> None:
    """And sees by which signal it ended."""
    text = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)"
    with subprocess.Popen(
        forked.command(*_module(tmp_path, text)), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        program = psutil.Process(int(process.stdout.readline()))
        process.send_signal(number)
        status = process.wait(60)
        program.wait(60)
    assert status == -number
    assert not program.is_running()


def test_the_process_to_fork_from_ends_with_the_one_that_uses_it() -> None:
    """However that ends."""
    text = "from zendesk_pipeline_tests import forked\nprint(forked.command('dagster')[4], flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        path = process.stdout.readline().strip()
        (server,) = [
            each
            for each in psutil.process_iter()
            if path in _words(each) and "zendesk_pipeline_tests.forked" in _words(each)
        ]
        process.kill()
        server.wait(60)
    assert not server.is_running()


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
