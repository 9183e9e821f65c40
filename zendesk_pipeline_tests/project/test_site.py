"""The documentation as a site."""

import re
from pathlib import Path

import yaml
from mkdocs.commands.build import build
from mkdocs.config import load_config  # pyright: ignore[reportUnknownVariableType] - half typed

from zendesk_pipeline_tests.root import ROOT

SITE = ROOT / "docs" / "site" / "mkdocs.yml"


class _Loader(yaml.SafeLoader):
    """Takes the tags of MkDocs for plain values."""


def _plain(_loader: yaml.SafeLoader, _tag: str, node: yaml.Node) -> str:
    return str(node.value)


_Loader.add_multi_constructor("", _plain)


def test_every_page_is_in_the_navigation() -> None:
    """And nothing else: a page that nobody finds is not written."""
    config = yaml.load(SITE.read_text(), _Loader)  # noqa: S506 # a SafeLoader
    named = re.findall(r"[\w/.-]+\.md", str(config["nav"]))
    pages = [str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")]
    assert sorted(named) == sorted(pages)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Strictly: every link and anchor within it leads somewhere, and those beside it are no links."""
    build(load_config(str(SITE), site_dir=str(tmp_path), repo_url=""))
    page = (tmp_path / "architecture" / "index.html").read_text()
    assert ">settings<" not in re.findall(r'href="[^"]*zendesk_pipeline/settings/environment.py"', page)
    assert "zendesk_pipeline/settings/environment.py" not in page
    assert 'class="mermaid"' in page


def test_with_a_repository_links_beside_the_site_lead_there(tmp_path: Path) -> None:
    """DOCS_REPOSITORY is where the code lies."""
    build(load_config(str(SITE), site_dir=str(tmp_path), repo_url="https://git.example.com/zendesk-pipeline"))
    page = (tmp_path / "architecture" / "index.html").read_text()
    assert 'href="https://git.example.com/zendesk-pipeline/blob/main/zendesk_pipeline/settings/environment.py"' in page


def test_a_page_asks_nobody_else_for_anything(tmp_path: Path) -> None:
    """No font, script or picture of others is loaded, but what draws diagrams."""
    build(load_config(str(SITE), site_dir=str(tmp_path), repo_url=""))
    page = (tmp_path / "delivery" / "index.html").read_text()
    assert re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="https?://[^"]*"', page) == []
