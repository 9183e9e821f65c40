"""The documentation is held to the code: links, names, snippets, policies; and nothing of a build machine is in it."""

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import boto3
import click
import dagster as dg
import pytest
import requests
import yaml
from dagster_aws.s3 import S3Resource
from dotenv import dotenv_values

from zendesk_pipeline import definitions
from zendesk_pipeline.cli import main
from zendesk_pipeline.commands.iam_policy import reader_policy, writer_policy
from zendesk_pipeline.commands.verify.comparison import Kind
from zendesk_pipeline.delivery import object_keys
from zendesk_pipeline.delivery.batches import LONGEST_LINE, BatchFormat
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.delivery_job import DeliveryJob
from zendesk_pipeline.delivery.inspection import NEW_FIELDS, UNRULED_FIELDS
from zendesk_pipeline.delivery.oversized_records import MARK
from zendesk_pipeline.delivery.tally import Tally
from zendesk_pipeline.delivery.window_writer import Delivery
from zendesk_pipeline.local.services import ACCESS_KEY, SECRET_KEY, moto_s3
from zendesk_pipeline.local.simulator import admin, faults
from zendesk_pipeline.local.simulator import settings as switches
from zendesk_pipeline.model import errors
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import DeniedError
from zendesk_pipeline.model.records import Page, Record
from zendesk_pipeline.model.streams import AUDIT_LOGS, STREAMS
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline.orchestration import io_manager
from zendesk_pipeline.settings import environment
from zendesk_pipeline.settings.environment import CREDENTIALS, Settings
from zendesk_pipeline_tests.project import settings_doc
from zendesk_pipeline_tests.root import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

BUCKET = "acme-zendesk"
LAYOUT = object_keys.Layout(feed="zendesk/crm/", state="zendesk/state/", quarantine="zendesk/quarantine/")

OF_THE_RECIPE = {"STATE_KEY"}
NOT_VARIABLES = {
    *(
        "ZENDESK_CRM",
        "AUDIT_LOGS",
        "INCREMENTAL_TICKETS",
        "AMAZON_S3_V2",
        "AMAZON_SQS_V2",
        "ON_SUCCESS",
        "ACCESS_DENIED",
    ),
    "DAGSTER_EVENT_BATCH_SIZE",  # Dagster's own
    "IMAGE_BASE",  # of `make image`
    *("SOC_CLIENT_ID", "ACME_ZENDESK_CLIENT_ID", "ACME_ZENDESK_CLIENT_SECRET"),  # of accounts.md
}
VARIABLES = (
    {name.upper() for name in Settings.model_fields}
    | {name for names in CREDENTIALS.values() for name in names}
    | settings_doc.ALERTS.keys()
    | settings_doc.REDACTION.keys()
    | settings_doc.COMMANDS.keys()
    | settings_doc.OF_OTHERS.keys()
    | settings_doc.DEPLOYMENT.keys()
)

# In pieces, so that this file does not name one itself.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("crates", "io"),
        ("rubygems", "org"),
        ("golang", "org"),
        ("maven", "org"),
        ("anaconda", "org"),
    )
]
MACHINE_PATH = re.compile(r"(?<![\w.:/~${}-])/(?:home|Users|root|work|opt|workspace|builds?|runner|mnt)/\w")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text[:60]!r}"


def blocks(*languages: str) -> list[Block]:
    found = [
        Block(page, language, text)
        for page in PAGES
        for language, text in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    ]
    return [block for block in found if block.language in languages]


def command_of(name: str) -> click.Command:
    """A command of ours."""
    found = main.get_command(click.Context(main), name)
    assert found
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def code_spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    seen = Counter[str]()
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def links(page: Path) -> Iterator[str]:
    return (target for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if not target.startswith("http"))


def section(page: str, title: str) -> str:
    """What stands under a heading, up to the next one of any level."""
    text = (ROOT / "docs" / page).read_text()
    match = re.search(rf"^#+ {re.escape(title)}$\n(.*?)(?=^#+ |\Z)", text, re.DOTALL | re.MULTILINE)
    assert match, f"{page} has no heading {title!r}"
    return match[1]


def first_cells(text: str) -> set[str]:
    """The names in code marks that the first column of a table holds."""
    rows = re.findall(r"^\| (`[^|]*?) \|", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def tracked() -> Iterator[tuple[Path, str]]:
    """The text files that are or would be in the repository."""
    listing = ("git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    try:
        names = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    for name in names.split("\0"):
        path = ROOT / name
        if name and path.is_file():
            yield path, path.read_text(errors="replace")


# Links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    """A link inside the repository names a file, and its anchor a heading there."""
    for target in links(page):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page

        assert path.exists(), f"{target} leads nowhere"
        assert path.is_relative_to(ROOT), f"{target} leads out of the repository"
        assert not anchor or anchor in anchors(path), f"{target}: no such heading; there are {sorted(anchors(path))}"


def test_every_page_can_be_reached() -> None:
    """Each page is linked from another one."""
    linked = {(page.parent / target.partition("#")[0]).resolve() for page in PAGES for target in links(page)}

    assert [page for page in PAGES if page not in linked and page.name != "README.md"] == []


# Names


def test_every_test_that_a_page_names_is_there() -> None:
    """A test's name that is a link is a function of the file that the link leads to; any other is one of some file."""
    files = {path.resolve(): path.read_text() for path in (ROOT / "zendesk_pipeline_tests").rglob("*.py")}
    functions = {path: {*re.findall(r"^def (test_\w+)\(", text, re.MULTILINE)} for path, text in files.items()}
    everywhere = {*chain.from_iterable(functions.values()), *(path.stem for path in files)}
    dead: list[str] = []
    for page in PAGES:
        text = page.read_text()
        dead += [name for name in re.findall(r"`(test_\w+)`", text) if name not in everywhere]
        for name, target in re.findall(r"\[`(test_\w+)`\]\(([^)#]+)\)", text):
            there = (page.parent / target).resolve()
            dead += [] if name in {*functions.get(there, ()), there.stem} else [f"{name} in {target}"]
    assert dead == []


def test_pages_use_the_plain_word() -> None:
    """`missing` and not `lacking`, `fix` and not `mend`, `is stored` and not `lies`."""
    riddles = re.compile(r"\b(lack(?:s|ing|ed)?|mend(?:s|ed|ing)?|lies?|whilst|ere|henceforth)\b", re.IGNORECASE)
    found = {(page.name, word) for page in PAGES for word in riddles.findall(prose(page))}

    assert found == set()


def test_make_targets_exist() -> None:
    """Every `make` command in the documentation is one of the Makefile's."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    fenced = "\n".join(block.text for block in blocks("sh", "text"))
    spans = "\n".join(span for page in PAGES for span in code_spans(page))
    named = set(re.findall(r"^make (?:[A-Z]+=\S+ )?([a-z-]+)", f"{fenced}\n{spans}", re.MULTILINE))

    assert {"demo", "test", "check", "install"} <= named <= targets


def test_variables_exist() -> None:
    """Every name that looks like a variable is a setting, a credential, or one that a library reads."""
    shaped = re.compile(r"(?<![\w-])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?![\w*-])")
    for page in PAGES:
        text = "\n".join(code_spans(page))
        assert set(shaped.findall(text)) - VARIABLES - OF_THE_RECIPE - NOT_VARIABLES == set(), page


def test_recipe_mapping_is_whole() -> None:
    """Whoever moves over finds each variable of the recipe."""
    recipe = {
        *("S3_BUCKET", "S3_PREFIX", "STATE_KEY", "ZENDESK_BASE_URL", "AUTH_MODE", "ZENDESK_EMAIL"),
        *("ZENDESK_API_TOKEN", "ZENDESK_BEARER_TOKEN", "RESOURCES", "MAX_PAGES", "HTTP_TIMEOUT", "HTTP_RETRIES"),
        "LOOKBACK_SECONDS",
    }

    assert first_cells(section("moving-over.md", "Settings")) == recipe


def test_verify_page_explains_every_option_and_difference() -> None:
    """docs/verify.md has a line for each option of the command and for each kind of difference."""
    options = {option for each in command_of("verify").params for option in each.opts}
    page = (ROOT / "docs" / "verify.md").read_text()

    assert first_cells(page) - set(get_args(Kind)) - {"kind"} == options
    assert first_cells(section("verify.md", "What differs")) - {"kind"} == set(get_args(Kind))


def test_settings_page_is_fresh() -> None:
    """docs/settings.md is what the code says; `python -m zendesk_pipeline_tests.project.settings_doc` writes it."""
    assert settings_doc.PATH.read_text() == settings_doc.settings_doc()


def test_env_example_has_every_setting() -> None:
    """Each setting and credential stands in .env.example, set or as a comment."""
    named = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    ours = VARIABLES - settings_doc.OF_OTHERS.keys() - settings_doc.COMMANDS.keys() - settings_doc.DEPLOYMENT.keys()

    assert ours <= named <= VARIABLES


def test_env_example_sets_the_defaults_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of .env.example that nobody has filled in changes nothing."""
    values = dotenv_values(ROOT / ".env.example")
    for name, value in values.items():
        monkeypatch.setenv(name, value or "")

    assert environment.load() == Settings.model_construct()
    assert [name for names in CREDENTIALS.values() for name in names if values.get(name)] == []


def test_words_of_the_simulator() -> None:
    """docs/simulator.md names every option, switch, fault and request of the simulator, and no other."""
    page = (ROOT / "docs" / "simulator.md").read_text()
    command = command_of("simulate")
    options = {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    requests = {f"{method} {action}" for method, action in admin._ACTIONS}
    shown = re.findall(r"(GET|POST|DELETE) ([a-z]+)", section("simulator.md", "The admin interface"))

    assert first_cells(section("simulator.md", "Options")) == options
    assert first_cells(section("simulator.md", "Faults")) == set(faults.Kind.__args__)
    assert {f"{method} {action}" for method, action in shown} == requests
    assert [name for name in switches.Settings.__dataclass_fields__ if f"`{name}`" not in page] == []


def test_streams_page_names_each_stream() -> None:
    """The table of docs/streams.md has a column for each stream, with what the code says."""
    page = (ROOT / "docs" / "streams.md").read_text()
    for stream in STREAMS.values():
        for word in (stream.name, stream.path, stream.event_time, stream.pool, stream.scope):
            assert f"`{word}`" in page, word


def test_operations_page_explains_every_error() -> None:
    """Each class of errors.py has a line that says what to do."""
    classes = {name for name, kind in vars(errors).items() if isinstance(kind, type) and name.endswith("Error")}
    families = {"PipelineError", "ZendeskError"}

    assert first_cells(section("operations.md", "When a run fails")) == classes - families


def test_operations_page_explains_all_metadata() -> None:
    """Each entry of a window's metadata has a line."""
    manager = io_manager.S3IOManager(s3=S3Resource(), redaction_rules="builtin:without-personal-data")
    metadata = manager.metadata(AUDIT_LOGS, Window(0), Tally(first=1, last=2))

    of_some = {NEW_FIELDS, UNRULED_FIELDS}
    assert first_cells(section("operations.md", "Metadata of a window")) == metadata.keys() | of_some


def test_layout_page_shows_keys_as_they_are() -> None:
    """The example of docs/layout.md is what the code makes of its window and digest."""
    window = Window(int(datetime(2026, 11, 12, 5, tzinfo=UTC).timestamp()))
    ledger = json.loads(next(block.text for block in blocks("json") if '"identities"' in block.text))
    delivered = ledger["objects"][0]

    assert delivered["key"] == LAYOUT.batch("audit_logs", window, 0, delivered["sha256"], ".json")
    assert LAYOUT.ledger("audit_logs", window) in (ROOT / "docs" / "layout.md").read_text()


def test_layout_page_shows_a_shortened_record_as_it_is() -> None:
    """The mark of a shortened record in docs/layout.md names a key that the code could have made."""
    record = json.loads(next(block.text for block in blocks("json") if '"shortened"' in block.text))
    whole = record[MARK]["whole"]
    digest = whole.removesuffix(".json").rpartition("-")[2]
    window = Window.of(record["generated_timestamp"])

    assert whole == f"s3://{BUCKET}/{LAYOUT.quarantined('incremental_tickets', window, digest)}"


def test_the_chart_has_the_version_of_the_lock_file() -> None:
    """Dagster's chart, which docs/deployment.md names, is of the version that the image installs."""
    named = re.search(r"dagster/dagster --version (\S+)", (ROOT / "docs" / "deployment.md").read_text())
    locked = re.search(r"^dagster==(\S+)", (ROOT / "requirements/production.txt").read_text(), re.MULTILINE)

    assert named and locked  # noqa: PT018 - both are looked for
    assert named[1] == locked[1]


def test_what_pip_installs_is_locked_or_ours() -> None:
    """Each `pip install` of a page takes a file of this project with its hashes, or this package alone."""
    lines = [line for text in _pasted() for line in text.splitlines() if "pip install" in line]
    files = {name for line in lines for name in re.findall(r"--require-hashes.* -r (\S+)", line)}

    assert lines
    assert [
        line for line in lines if "--require-hashes" not in line and not re.search(r" '?\.(\[\w+\])?'?$", line)
    ] == []
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_every_dependency_has_its_reason() -> None:
    """ADR 6 names each package of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(text for extra in extras.keys() - {"dev"} for text in extras[extra])]
    names = {re.split(r"[\[<>=]", text)[0] for text in wanted} - {"zendesk-pipeline"}
    explained = first_cells((ROOT / "docs" / "adr" / "0006-libraries.md").read_text())

    assert names <= explained


# Snippets


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_parses(block: Block) -> None:
    """A JSON block is JSON."""
    assert json.loads(block.text)


@pytest.mark.parametrize("block", blocks("sh", "bash"), ids=str)
def test_shell_parses(block: Block) -> None:
    """A shell block is one that bash can read."""
    checked = subprocess.run(("bash", "-n"), input=block.text, text=True, capture_output=True, check=False)  # noqa: S607 - as usual

    assert checked.returncode == 0, checked.stderr


def _pasted() -> list[str]:
    """What a reader may paste: shell blocks, and code in sentences, of all pages."""
    return [*(block.text for block in blocks("sh", "bash")), *(span for page in PAGES for span in code_spans(page))]


def _our_commands() -> Iterator[Any]:
    """The arguments of each command of ours that a page names, in a shell block or in a sentence.

    In a sentence the program's name may be left out: `iam-policy reader --queue ARN`.
    """
    ours = main.list_commands(click.Context(main))
    for page in PAGES:
        shell = [block.text for block in blocks("sh", "bash") if block.page == page]
        spans = code_spans(page)
        short = [f"zendesk-pipeline {span}" for span in spans if span.partition(" ")[0] in ours and " " in span]
        for text in [*shell, *spans, *short]:
            for line in text.replace("\\\n", " ").splitlines():
                before, named, arguments = line.partition("zendesk-pipeline ")
                if named and before.removesuffix(".venv/bin/") in {"", "    "}:
                    cut = re.split(r"\s(?:[|<>&#]|2>)|[…]", arguments)[0]
                    yield pytest.param(_words(cut), id=f"{page.stem}: {cut.strip()}")


def _words(command: str) -> list[str]:
    """The arguments as a shell hands them over: it has put today's date where `$(date …)` stands."""
    dated = re.sub(
        r"\$\((date [^)]*)\)",
        lambda found: subprocess.check_output(("bash", "-c", found[1]), text=True).strip(),  # noqa: S607 - as usual
        command,
    )
    return shlex.split(dated)


@pytest.mark.parametrize("arguments", list(_our_commands()))
def test_commands_are_accepted(arguments: list[str]) -> None:
    """Each command of ours that a page names is there, with these options and values."""
    command: click.Command = main
    while arguments[:1] in (["--defs"], ["--account"]):  # whose account; a command is behind it
        arguments = arguments[2:]
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        context = click.Context(command)
        name, inner, arguments = command.resolve_command(context, arguments)
        assert name and inner  # noqa: PT018 - both are there, or neither
        command = inner
    if arguments or not isinstance(command, click.Group):  # a sentence may name a group alone
        with suppress(click.exceptions.Exit, click.MissingParameter):  # what lacks comes from variables
            command.make_context(command.name, arguments)


OF_THE_VENV = {path.name for path in Path(sys.executable).parent.iterdir() if path.is_file()} | {"pip"}
OF_THE_SYSTEM = {
    *(".", "apt-get", "aws", "bash", "cd", "chmod", "cp", "curl", "docker", "echo", "export", "gcloud", "git", "helm"),
    *("install", "ln", "kubectl", "make", "mkdir", "printf", "python3", "systemctl", "tar", "useradd"),
}  # fmt: skip


def _commands(text: str) -> Iterator[str]:
    """Each command of a shell block, with its continuation lines; what a pipe feeds and what stands in quotes aside."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


FOR_READERS = [page for page in PAGES if page.name != "CHANGELOG.md" and page.parent.name != "adr"]


@pytest.mark.parametrize("page", FOR_READERS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_found_when_it_is_pasted(page: Path) -> None:
    """In the project's folder: a program of the environment is named by its path, or the page has activated it."""
    active = False
    for text in (block.text for block in blocks("sh", "bash") if block.page == page):
        for command in _commands(text):
            words = re.sub(r"^(sudo (-\w \S+ )*)?(\w+=\S* )*", "", command)
            first = words.partition(" ")[0]
            active = active or command == ". .venv/bin/activate"
            known = first in OF_THE_SYSTEM or first.startswith(".venv/bin/") or (active and first in OF_THE_VENV)
            assert known, f"{command}: {first} is not found"
            program = first.removeprefix(".venv/bin/")
            assert not first.startswith(".venv/bin/") or program in OF_THE_VENV, f"nothing installs {program}"
    bare = [span for span in code_spans(page) if " " in span and span.partition(" ")[0] in OF_THE_VENV]
    assert active or bare == [], "name the path, or leave the program's name out"


def test_dagsters_home_is_set_before_anything_needs_it() -> None:
    """production.md puts it into `.env`, which every later command reads; it is where the services have it."""
    page = (ROOT / "docs" / "production.md").read_text()
    unit = (ROOT / "deploy" / "systemd" / "zendesk-pipeline-daemon.service").read_text()
    (home,) = re.findall(r"Environment=DAGSTER_HOME=(\S+)", unit)

    assert page.index(f'echo "DAGSTER_HOME={home}" | sudo tee -a .env\n') < page.index(".venv/bin/zendesk-pipeline")
    assert page.index('echo "DAGSTER_HOME=$PWD" >> .env\n') < page.index(".venv/bin/dagster dev")


def test_units_are_installed_where_they_say() -> None:
    """The clone, the file of settings and the services' names of production.md are those of deploy/systemd."""
    page = (ROOT / "docs" / "production.md").read_text()
    units = list((ROOT / "deploy" / "systemd").glob("*.service"))
    for unit in units:
        for path in re.findall(r"(?:EnvironmentFile=|ExecStart=|--workspace )(/(?:srv|etc)/[^\s/]+)", unit.read_text()):
            assert path in page, (unit.name, path)
    (enabled,) = re.findall(r"systemctl enable --now (.*)$", page, re.MULTILINE)
    wanted = {path.name for path in (ROOT / "deploy" / "systemd").iterdir() if "[Install]" in path.read_text()}

    optional = {"zendesk-pipeline-metrics.service"}  # for who has a Prometheus
    assert units
    assert {name if name.endswith(".timer") else f"{name}.service" for name in enabled.split()} == wanted - optional
    assert all(f"`{name.removesuffix('.service')}`" in page for name in optional)


def test_other_snippets_parse() -> None:
    """YAML is YAML, Python is Python, and no block is of a kind that no test reads."""
    for block in blocks("yaml"):
        assert yaml.safe_load(block.text)
    for block in blocks("python"):
        ast.parse(block.text)
    known = {"json", "sh", "bash", "yaml", "python", "mermaid", "text"}
    for page in PAGES:
        assert set(re.findall(r"^```(\w+)$", page.read_text(), re.MULTILINE)) <= known, page


def test_redelivery_config_is_accepted() -> None:
    """The run configuration that docs/operations.md shows is valid for its asset."""
    (block,) = [block for block in blocks("yaml") if "redeliver" in block.text]
    job = definitions.build(Settings()).resolve_implicit_global_asset_job_def()

    assert dg.validate_run_config(job, yaml.safe_load(block.text))


# Policies


def policy(name: str) -> dict[str, Any]:
    text = (ROOT / "docs" / "aws.md").read_text()
    match = re.search(rf"<!-- policy: {name} -->\n```json\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert match
    return json.loads(match[1])


def rights(name: str) -> set[tuple[str, str]]:
    """Pairs of action and resource."""

    def every(value: str | list[str]) -> list[str]:
        return [value] if isinstance(value, str) else value

    return {
        (action, resource)
        for statement in policy(name)["Statement"]
        for action in every(statement["Action"])
        for resource in every(statement["Resource"])
    }


def test_policies_are_those_that_the_command_prints() -> None:
    """What aws.md shows is what `iam-policy` says for its bucket and the default prefixes."""
    chosen = Settings(s3_bucket=BUCKET)

    assert (policy("writer"), policy("reader")) == (writer_policy(chosen), reader_policy(chosen))


def test_policies_grant_the_least() -> None:
    """The writer deletes nothing and reads no quarantine; the reader sees the feed alone."""
    bucket = "arn:aws:s3:::acme-zendesk"
    feed, state, quarantine = (
        f"{bucket}/{Settings.model_fields[name].default}*"
        for name in ("s3_prefix", "state_prefix", "quarantine_prefix")
    )

    assert rights("writer") == {
        *(("s3:PutObject", prefix) for prefix in (feed, state, quarantine)),
        *(("s3:GetObject", prefix) for prefix in (feed, state)),
        ("s3:ListBucket", bucket),
    }
    assert [statement["Condition"] for statement in policy("writer")["Statement"] if "Condition" in statement] == [
        {"StringLike": {"s3:prefix": [prefix.removeprefix(f"{bucket}/") for prefix in (feed, state)]}}
    ]
    assert rights("reader") == {
        ("s3:GetObject", feed),
        ("s3:ListBucket", bucket),
        ("s3:GetBucketLocation", bucket),
    }


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Callable[[str], Store]]:
    """The example's bucket as the named user of aws.md sees it; moto evaluates the policies, as AWS would."""
    with moto_s3(tmp_path, BUCKET) as server:

        def client(service: Any, key: str = ACCESS_KEY, secret: str = SECRET_KEY) -> Any:
            return cast("Any", boto3).client(  # its overloads want the service as a literal
                service,
                endpoint_url=server.endpoint,
                region_name="us-east-1",
                aws_access_key_id=key,
                aws_secret_access_key=secret,
            )

        iam = client("iam")
        stores: dict[str, Store] = {}
        for user in ("writer", "reader"):
            iam.create_user(UserName=user)
            iam.put_user_policy(UserName=user, PolicyName=user, PolicyDocument=json.dumps(policy(user)))
            key = iam.create_access_key(UserName=user)["AccessKey"]
            s3 = client("s3", key["AccessKeyId"], key["SecretAccessKey"])
            stores[user] = Store(client=s3, bucket=BUCKET, encryption={})
        # from here on every request is checked
        requests.post(f"{server.endpoint}/moto-api/reset-auth", data="0", timeout=10).raise_for_status()
        yield stores.__getitem__


def test_writer_policy_is_enough(guarded: Callable[[str], Store]) -> None:
    """With the rights of the writer alone a window is delivered, found again, and a quarantined record is stored."""
    long = b'{"id":2,"created_at":"1970-01-01T00:00:02Z","source_label":"%s"}' % (b"x" * LONGEST_LINE)
    warnings: list[str] = []

    for expected in (2, 0):
        assert deliver(guarded("writer"), [Record(b'{"id":1}', "1", 1), Record(long, "2", 2)], warnings) == expected
    assert [warning for warning in warnings if "AccessDenied" in warning] == []


def test_writer_policy_is_not_too_much(guarded: Callable[[str], Store]) -> None:
    """The writer cannot write beside its prefixes, nor read what lies in quarantine."""
    writer = guarded("writer")

    with pytest.raises(DeniedError):
        writer.put_over("zendesk/other", b"", None)
    with pytest.raises(DeniedError):
        writer.get("zendesk/quarantine/any")


def test_reader_policy_is_enough_and_not_too_much(guarded: Callable[[str], Store]) -> None:
    """The reader lists and reads the feed; ledgers it cannot read, and it writes nothing."""
    deliver(guarded("writer"), [Record(b'{"id":1}', "1", 1)], [])
    reader = guarded("reader")
    (key,) = reader.keys(LAYOUT.feed)
    stored = reader.get(key)

    assert stored
    assert stored.body == b'{"id":1}\n'
    with pytest.raises(DeniedError):
        reader.get(LAYOUT.ledger(AUDIT_LOGS.name, Window(0)))
    with pytest.raises(DeniedError):
        reader.put_over(f"{LAYOUT.feed}any", b"", None)


def deliver(store: Store, records: list[Record], warnings: list[str]) -> int:
    """Deliver into the first window of all; how many were."""
    job = DeliveryJob(
        stream=AUDIT_LOGS,
        span=Span(0, HOUR),
        lookback=0,
        store=store,
        layout=LAYOUT,
        form=BatchFormat(items=AUDIT_LOGS.items, envelope=False, compress=False, limit=1 << 23),
        redeliver=False,
        clock=Clock(),
        warn=warnings.append,
    )
    with Delivery(job) as delivery:
        delivery.take(Page(number=1, records=records, requests=1, waited=0))
    return delivery.tallies[Window(0)].records


# Nothing of a build machine


def test_no_file_names_a_package_registry() -> None:
    """A lock file or a page that names an index would tie every user to it."""
    named = {(str(path.relative_to(ROOT)), host) for path, text in tracked() for host in REGISTRY_HOSTS if host in text}

    assert named == set()


def test_no_file_holds_a_path_of_a_machine() -> None:
    """An absolute path works on the machine it was written on."""
    named = {(str(path.relative_to(ROOT)), found) for path, text in tracked() for found in MACHINE_PATH.findall(text)}

    assert named == set()
