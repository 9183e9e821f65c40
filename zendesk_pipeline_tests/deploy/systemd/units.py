"""The unit files, as systemd itself reads them."""

import subprocess
import sys
from pathlib import Path

import pytest

from zendesk_pipeline_tests.deploy.unit_files import PROGRAM, UNITS

EXPOSED = {"zendesk-pipeline-revive.service": 60}
"""Tenths of systemd's points; this one is root, to restart another unit, and has no network."""
LEAST = 20


def copied(folder: Path) -> list[Path]:
    """The units with the programs of this environment: those of a real installation are not here."""
    programs = str(Path(sys.executable).parent)
    paths = [folder / path.name for path in UNITS.iterdir() if path.suffix in {".service", ".timer"}]
    for path in paths:
        path.write_text((UNITS / path.name).read_text().replace(f"{PROGRAM}/.venv/bin", programs))
    return paths


def verified(paths: list[Path]) -> "subprocess.CompletedProcess[str]":
    """What systemd says; without the option a warning leaves its exit status at 0."""
    command = ["systemd-analyze", "verify", "--recursive-errors=yes", "--man=no", *paths]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """No unknown setting, no missing program, no unit that is named and not there."""
    said = verified(copied(tmp_path))
    assert (said.returncode, said.stderr) == (0, "")


def test_a_misspelled_line_is_found(tmp_path: Path) -> None:
    """The look above can fail."""
    paths = copied(tmp_path)
    spoiled = paths[0]
    spoiled.write_text(spoiled.read_text().replace("\n[", "\nNoSuchSetting=true\n[", 1))
    assert verified(paths).returncode != 0


@pytest.mark.parametrize("name", sorted(path.name for path in UNITS.glob("*.service")))
def test_each_service_may_do_little(name: str, tmp_path: Path) -> None:
    """By systemd's own points, of which a service that may do everything has 96."""
    path = next(each for each in copied(tmp_path) if each.name == name)
    threshold = EXPOSED.get(name, LEAST)
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={threshold}", "--no-pager", path]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout[-500:]
