"""What `make browser` and `screenshots` stand on, as far as it needs no browser; and the pictures themselves."""

import re
import struct
from pathlib import Path

import pytest

from zendesk_pipeline_tests.browser import driving
from zendesk_pipeline_tests.browser.driving import NoChromiumError, executable
from zendesk_pipeline_tests.browser.stage import found
from zendesk_pipeline_tests.root import ROOT

IMAGES = sorted((ROOT / "docs" / "images").iterdir())
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
MOST_BYTES = 150_000


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    return tmp_path


def _program(folder: Path, name: str) -> str:
    path = folder / name
    path.touch(mode=0o755)
    return str(path)


@pytest.mark.parametrize("name", driving.NAMES)
def test_an_installed_browser_is_found(name: str, programs: Path) -> None:
    """Under each name that systems give it."""
    path = _program(programs, name)
    assert executable() == path


def test_another_browser_can_be_chosen(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CHROMIUM names one by its path, and wins over what is installed."""
    _program(programs, "chromium")
    monkeypatch.setenv("CHROMIUM", _program(programs, "my-browser"))
    assert executable() == str(programs / "my-browser")


@pytest.mark.parametrize("chosen", ["", "/no/such/browser"])
def test_without_a_browser_the_error_says_how_to_get_one(
    chosen: str, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error and never a skip or a download; a wrong CHROMIUM is named, and nothing else is taken for it."""
    if chosen:
        _program(programs, "chromium")
        monkeypatch.setenv("CHROMIUM", chosen)
    with pytest.raises(NoChromiumError, match="apt-get install chromium") as raised:
        executable()
    assert (chosen or "No Chromium was found") in raised.value.message


def test_what_comes_later_is_waited_for() -> None:
    """`found` looks again until there is something, and no longer than it may."""
    looks = iter([None, None, "it"])
    assert found(lambda: next(looks), within=60) == "it"
    with pytest.raises(TimeoutError, match="within 0 s"):
        found(lambda: "it", within=0)


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_pictures_are_small_and_of_one_size(image: Path) -> None:
    """PNG files of the size that the browser's window has, light enough for a page."""
    content = image.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    assert struct.unpack(">II", content[16:24]) == (driving.WIDTH, driving.HEIGHT)
    assert len(content) < MOST_BYTES


def test_every_picture_is_shown_and_described() -> None:
    """Each one stands in a page, with words for those who cannot see it."""
    shown = {
        (page.parent / target).resolve(): words
        for page in PAGES
        for words, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]+\.png)\)", page.read_text())
    }
    assert set(IMAGES) == set(shown)
    assert [path for path, words in shown.items() if len(words.split()) < 5] == []
