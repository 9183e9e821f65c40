"""What the code is made of: nothing that turns data into code, and dependencies that are what they were."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, PathDistribution, distribution
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import zendesk_pipeline
from zendesk_pipeline_tests.root import ROOT

PACKAGE = Path(zendesk_pipeline.__file__).parent
MODULES = {str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
REQUIREMENTS = ("requirements/collect.txt", "requirements/local.txt", "requirements/dev.txt")
"""Each is part of the next one."""
SBOM = "requirements/sbom.txt"
LOCKS = (*REQUIREMENTS, "requirements/production.txt", "requirements/iac.txt", SBOM)
"""The last two are for environments of their own, that check deploy/ and the image and are no part of the collector."""
LOWEST = "requirements/lowest.txt"
"""What `make lowest` tries; nobody runs it."""
STARTS_PROCESSES = {
    "alerts/channels.py",
    "local/dev.py",
    "local/pipeline.py",
    "local/services.py",
    "orchestration/lost_runs.py",
}
"""What may start a process: the sending of alerts (this very interpreter), what serves demo and tests, and a look for a
process by `ps` where there is no /proc."""


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Each call with the name it is made by, such as `os.system`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


# Code


def test_no_data_is_unpickled() -> None:
    """No module imports what makes objects, and with them code, out of bytes."""
    dangerous = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "jsonpickle", "xmlrpc"}
    found = [
        (name, each) for name, tree in MODULES.items() for each in _imports(tree) if each.split(".")[0] in dangerous
    ]
    assert found == []
    assert len(MODULES) > 30


def test_no_text_becomes_code() -> None:
    """No eval, exec or compile, no import by a name from elsewhere, no YAML that can construct objects."""
    names = {"eval", "exec", "compile", "__import__", "importlib.import_module", "yaml.load", "yaml.unsafe_load"}
    found = [(name, called) for name, tree in MODULES.items() for called, _ in _calls(tree) if called in names]
    assert found == []


def test_no_text_becomes_a_command() -> None:
    """No shell is given a text: processes are started from lists of words, and by few modules."""
    shells = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn"}
    found = [
        (name, called)
        for name, tree in MODULES.items()
        for called, call in _calls(tree)
        if called in shells
        or any(keyword.arg == "shell" for keyword in call.keywords)
        or called.startswith(("os.exec", "os.spawn"))
    ]
    starting = {name for name, tree in MODULES.items() if "subprocess" in _imports(tree)}
    assert found == []
    assert starting <= STARTS_PROCESSES


def test_what_a_run_uses_starts_no_process() -> None:
    """From the assets on, through client, records, delivery and store: no module of the data path can start one."""
    path = _reached({f"orchestration/{name}.py" for name in ("assets", "io_manager", "zendesk_resource")})
    assert {
        "zendesk/client.py",
        "model/records.py",
        "delivery/window_writer.py",
        "delivery/bucket.py",
        "delivery/oversized_records.py",
    } <= path
    assert {name for name in path if "subprocess" in _imports(MODULES[name])} == set()


def _reached(names: set[str]) -> set[str]:
    """The modules of ours that these ones import, and so on."""
    found: set[str] = set()
    while names:
        name = names.pop()
        found.add(name)
        imported = {each.removeprefix("zendesk_pipeline.") for each in _imports(MODULES[name]) if "zendesk_pip" in each}
        files = {f"{part.replace('.', '/')}.py" for each in imported for part in (each, each.rpartition(".")[0])}
        names |= {file for file in files if file in MODULES} - found
    return found


# Dependencies


def _pinned(name: str) -> list[tuple[str, str]]:
    """The requirements of a file, each with its options, continued lines joined."""
    text = re.sub(r"\\\n", " ", (ROOT / name).read_text())
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return [(parts[0], parts[-1]) for line in lines if line and (parts := line.partition(" "))]


@pytest.mark.parametrize("name", [*LOCKS, LOWEST])
def test_every_dependency_is_pinned_by_its_content(name: str) -> None:
    """One exact version each, with the SHA-256 of every file that may be installed for it."""
    pinned = _pinned(name)
    assert len(pinned) > (30 if name == SBOM else 40)
    assert [
        text for text, _ in pinned if not re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z0-9,-]+\])?==[A-Za-z0-9.+!]+", text)
    ] == []
    assert [text for text, options in pinned if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", options)] == []


@pytest.mark.parametrize("name", [*LOCKS, LOWEST, "pyproject.toml"])
def test_no_dependency_comes_from_an_address(name: str) -> None:
    """No URL, no repository, no other index: whoever installs says where packages come from."""
    text = (ROOT / name).read_text()
    assert (
        re.findall(
            r"(?:git|hg|svn|bzr)\+|^\s*-(?:i|f|e)\b|--(?:extra-)?index-url|--find-links|--trusted", text, re.MULTILINE
        )
        == []
    )
    assert [line for line in text.splitlines() if "://" in line and not line.lstrip().startswith("#")] == []


def test_what_is_locked_is_what_is_asked_for() -> None:
    """Every direct dependency is in its lock, and what is installed first stays as it is when more is added to it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = [{_name(text): text for text, _ in _pinned(name)} for name in REQUIREMENTS]
    wanted = {_name(text) for text in project["dependencies"]}
    running = {_name(text) for text in project["optional-dependencies"]["local"]}
    developing = {_name(text) for extra in project["optional-dependencies"].values() for text in extra}
    assert wanted <= set(locked[0])
    assert running <= set(locked[1])
    assert developing - {"zendesk-pipeline"} <= set(locked[2])
    for small, large in pairwise(locked):
        assert {name: large.get(name) for name in small} == small


def test_the_lowest_versions_that_are_admitted_are_the_ones_tried() -> None:
    """`make lowest` installs of each dependency the lowest version that pyproject.toml names, and no later one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for name in extras.keys() - {"dev"} for text in extras[name])]
    asked = [Requirement(text) for text in texts if not text.startswith("zendesk-pipeline")]
    tried = {_name(text): Version(text.partition("==")[2]) for text, _ in _pinned(LOWEST)}
    bounds = {each.name: [Version(one.version) for one in each.specifier if one.operator == ">="] for each in asked}
    assert len(bounds) > 30
    assert bounds == {name: [tried[name]] for name in bounds}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone in which nothing is installed, as far as `make` looks at it."""
    for name in ("Makefile", "pyproject.toml", *LOCKS):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def _made(target: str, folder: Path) -> list[str]:
    """The locks that `make` would install for a target."""
    said = subprocess.run(["make", "-n", target], cwd=folder, capture_output=True, text=True, check=True).stdout  # noqa: S607 - as usual
    assert said
    return re.findall(r"--require-hashes --no-deps -r (\S+)", said)


@pytest.mark.parametrize("target", ["demo", "dev"])
def test_a_demo_installs_what_it_needs_and_no_more(target: str, clone: Path) -> None:
    """By hash, and without the packages for development."""
    assert _made(target, clone) == ["requirements/local.txt"]


def test_the_tests_add_to_what_a_demo_has_installed(clone: Path) -> None:
    """In a clone that has run a demo, `make test` installs the rest beside it, and nothing when it is run again."""
    assert _made("test", clone) == ["requirements/local.txt", "requirements/dev.txt"]
    (clone / ".venv").mkdir()
    (clone / ".venv" / ".local").touch()
    assert _made("test", clone) == ["requirements/dev.txt"]
    (clone / ".venv" / ".installed").touch()
    assert _made("test", clone) == []


def test_an_older_or_newer_python_is_refused_by_name(clone: Path) -> None:
    """The sentence says which Pythons will do and how to name one; nothing is installed."""
    python = clone / "python"
    python.write_text(f"""#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 15, 0); $2"\n""")
    python.chmod(0o755)
    refused = subprocess.run(
        ["make", f"PYTHON={python}", "demo"],  # noqa: S607 - as usual
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Python 3.11 to 3.14 is needed, this is 3.15: make PYTHON=python3.12" in refused.stderr
    assert refused.returncode != 0
    assert not (clone / ".venv").exists()


def test_the_package_has_every_file_of_the_folder(tmp_path: Path) -> None:
    """A wheel that is built and installed elsewhere has each module, the rule sets and the licence."""
    command = [sys.executable, "-m", "flit_core.wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("zendesk_pipeline/")}
    files = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*") if path.is_file()}
    assert packed == {name for name in files if "__pycache__" not in name}
    assert "zendesk_pipeline/model/rule_sets/without-personal-data.yaml" in packed


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower()


UNDECLARED = """
import tenacity
import urllib3
from compression import zstd
from celery import Celery
from pytest import raises
"""
"""Two dependencies, a module of newer Pythons, what comes with a dependency, and what tests alone have."""


def test_what_is_imported_and_not_declared_is_found(tmp_path: Path) -> None:
    """`make check` names each import of what is installed by chance, or for tests alone."""
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "zendesk_pipeline").mkdir()
    (tmp_path / "zendesk_pipeline" / "undeclared.py").write_text(UNDECLARED)
    command = [sys.executable, "-m", "deptry", "--no-ansi", "--ignore", "DEP002", "zendesk_pipeline"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert re.findall(r"(DEP\d+) '(\w+)'", found.stderr) == [("DEP003", "celery"), ("DEP004", "pytest")]
    checked = subprocess.run(["make", "-n", "check"], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S607 - as usual
    assert re.search(r"deptry .*zendesk_pipeline$", checked, re.MULTILINE)
    assert re.search(r"deptry .*zendesk_pipeline_tests docs$", checked, re.MULTILINE)


ALLOWED = {
    *("apache-2.0", "apache 2.0", "apache license 2.0", "apache license version 2.0", "apache software license"),
    *("mit", "mit-0", "mit license"),
    *("bsd", "bsd license", "bsd-2-clause", "bsd-3-clause", "bsd 3-clause", "3-clause bsd license"),
    *("isc", "isc license", "isc license (iscl)"),
    *("psf-2.0", "python software foundation license", "cnri-python", "python-2.0"),
    *("mpl-2.0", "mozilla public license 2.0 (mpl 2.0)"),
    *("unlicense", "0bsd", "zlib", "zpl-2.1", "the unlicense (unlicense)"),
}
"""Licences that put no condition on using the collector or passing it on (MPL: only on changes of its own files)."""
TAKEN_AS_IT_IS = {"psycopg2-binary"}
"""LGPL with exceptions: the extra `postgres` links it unchanged, and Dagster has no other driver."""


def _choices(installed: Distribution) -> list[set[str]]:
    """The licences that a package may be used under: one of these sets, and all of its members."""
    said: dict[str, list[str]] = installed.metadata.json  # pyright: ignore[reportAssignmentType]  # of texts and lists of them
    stated = str(said.get("license_expression") or said.get("license") or "")
    classified = [text.rpartition("::")[2] for text in said.get("classifier", []) if text.startswith("License ::")]
    expressions = [stated] if said.get("license_expression") or not classified else classified
    choices = [choice for text in expressions for choice in re.split(r" OR ", text)]
    return [{part.strip().lower() for part in choice.split(" AND ")} for choice in choices]


def _installed(name: str) -> Distribution | None:
    """None for what this system does not need, such as packages for Windows."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


@pytest.mark.parametrize("name", LOCKS[:-1])
def test_licences_are_ones_we_take(name: str) -> None:
    """Every installed dependency may be used under licences of the allowed list alone, as its metadata say."""
    wanted = {_name(text) for text, _ in _pinned(name)}
    choices = {each: _choices(installed) for each in wanted - TAKEN_AS_IT_IS if (installed := _installed(each))}
    assert len(choices) > 40
    assert {each: sets for each, sets in choices.items() if not any(one <= ALLOWED for one in sets)} == {}


@pytest.mark.parametrize("licence", ["GPL-3.0-only", "MIT AND AGPL-3.0-only", "LGPL-2.1 OR Proprietary", ""])
def test_other_licences_are_not_taken(licence: str, tmp_path: Path) -> None:
    """What the allowed list does not have is refused, also in company."""
    (tmp_path / "METADATA").write_text(f"Metadata-Version: 2.4\nName: x\nVersion: 1\nLicense-Expression: {licence}\n")
    assert not any(one <= ALLOWED for one in _choices(PathDistribution(tmp_path)))


def test_known_vulnerabilities_can_be_looked_up() -> None:
    """`make audit` asks about every line of each lock, by their hashes, without installing or resolving anything."""
    said = subprocess.run(["make", "-n", "audit"], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S607 - as usual
    assert "pip-audit" in said
    assert all(f"-r {name}" in said for name in LOCKS)
    assert "--require-hashes" in said
    assert "--disable-pip" in said
