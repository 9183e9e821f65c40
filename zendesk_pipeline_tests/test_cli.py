"""The command line, as somebody types it."""

import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest
import requests
from click.testing import CliRunner

from zendesk_pipeline.cli import main
from zendesk_pipeline.model.errors import DeliveryError

PROGRAM = Path(sys.executable).with_name("zendesk-pipeline")


@pytest.mark.parametrize("command", ["demo", "dev", "doctor", "simulate", "takeover", "verify"])
def test_each_command_says_what_it_does(command: str) -> None:
    """`--help` lists every command with a sentence, and each has a help of its own."""
    listed = CliRunner().invoke(main, ["--help"])
    (line,) = [line.split(maxsplit=1) for line in listed.output.splitlines() if line.strip().startswith(f"{command} ")]
    assert len(line[1]) > 20
    own = CliRunner().invoke(main, [command, "--help"])
    assert (listed.exit_code, own.exit_code) == (0, 0)
    assert line[1].rstrip(".").split(":")[0] in " ".join(own.output.split())


def test_the_program_is_installed_and_knows_its_version() -> None:
    """Installing the package puts `zendesk-pipeline` beside the interpreter."""
    said = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    assert version("zendesk-pipeline") in said.stdout


def test_simulate_serves_until_it_is_told_to_end() -> None:
    """`simulate` says what its records begin with and its address, answers as Zendesk, and ends cleanly on SIGTERM."""
    with subprocess.Popen([PROGRAM, "simulate", "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Records from 20")
        address = process.stdout.readline().rpartition(" ")[2].strip()
        answer = requests.get(f"{address}/api/v2/users/me", timeout=30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert answer.json()["user"]["role"] == "end-user"


def test_a_mistake_in_an_option_is_a_sentence() -> None:
    """What was typed wrong is said, with exit code 2."""
    said = CliRunner().invoke(main, ["simulate", "--since", "yesterday"])
    assert (said.exit_code, "'yesterday' is not an ISO time" in said.output) == (2, True)


def test_what_stands_in_the_way_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is taken is named with the way out, without a trace, and nothing is started or written."""
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = CliRunner().invoke(main, ["dev", "--port", str(port)])
    assert said.exit_code == 1
    assert said.output.startswith(f"Error: Port {port} is taken: ")
    assert "--port" in said.output
    assert list(tmp_path.iterdir()) == []


def test_every_error_of_ours_is_shown_as_its_sentence() -> None:
    """Errors of the package end any command line in one line and exit code 1: ours, and Dagster's as well."""

    @click.command
    def failing() -> None:
        raise DeliveryError("S3 refuses it.")

    said = CliRunner().invoke(failing)
    assert (said.exit_code, said.output) == (1, "Error: S3 refuses it.\n")
