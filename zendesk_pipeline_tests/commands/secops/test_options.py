"""Which instance is meant: the options, where requests go, and what is said where Google's package is missing."""

import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zendesk_pipeline.cli import main
from zendesk_pipeline.secops.instance import Instance
from zendesk_pipeline_tests.fakes.secops_server import CUSTOMER, SUBJECT, SecopsServer, secops

TYPED = {"customer-id": CUSTOMER, "project": "acme-secops", "region": "eu"}
WITHOUT_THE_EXTRA = """
import sys
sys.modules["google.auth"] = sys.modules["google.oauth2"] = None
from zendesk_pipeline import definitions
from zendesk_pipeline.cli import main
main()
"""


@pytest.fixture
def server() -> Generator[SecopsServer]:
    with secops() as running:
        yield running


def typed(**changed: str) -> list[str]:
    options = {**TYPED, **{name.replace("_", "-"): value for name, value in changed.items()}}
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def run(*arguments: str, **environment: str) -> Result:
    names = ("CUSTOMER_ID", "PROJECT", "REGION", "ENDPOINT", "SERVICE_ACCOUNT")
    none = dict.fromkeys(f"SECOPS_{name}" for name in names)
    return CliRunner().invoke(main, arguments, env={**none, "S3_BUCKET": "acme-zendesk", **environment})


def test_names_and_addresses_are_those_of_the_api() -> None:
    """Everything lies below the instance, at the region's own host."""
    instance = Instance(customer_id="c", project="p", region="eu", endpoint="https://eu-chronicle.googleapis.com")
    assert instance.log_type == "projects/p/locations/eu/instances/c/logTypes/ZENDESK_CRM"
    assert (
        instance.url("v1", "feeds")
        == "https://eu-chronicle.googleapis.com/v1/projects/p/locations/eu/instances/c/feeds"
    )


def test_requests_go_to_the_regions_own_host() -> None:
    """Unless another address is named."""
    key = ("--access-key-id", "AKIAIOSFODNN7EXAMPLE")
    said = run("feed", "create", *typed(region="europe-west3"), *key, "--dry-run")
    assert (
        f"POST https://europe-west3-chronicle.googleapis.com/v1/projects/acme-secops/locations/europe-west3/instances/{CUSTOMER}/feeds"
        in said.output
    )


def test_options_and_variables_do_the_same(server: SecopsServer, tmp_path: Path) -> None:
    """Each option has a variable behind it; what is typed wins."""
    key = str(server.key_file(tmp_path))
    by_options = run("feed", "subject-id", *typed(endpoint=server.url, service_account=key))
    by_variables = run("feed", "subject-id", **server.environment(tmp_path))
    assert (by_options.output, by_variables.output) == (f"{SUBJECT}\n", f"{SUBJECT}\n")
    other = run("feed", "subject-id", "--project", "another", **server.environment(tmp_path))
    assert (other.exit_code, "answered 404" in other.output) == (1, True)


@pytest.mark.parametrize("name", ["customer-id", "project", "region"])
def test_what_is_missing_is_named_with_its_variable(name: str) -> None:
    """Nothing is guessed: a feed in the wrong instance would be found by nobody."""
    given = [word for each, value in TYPED.items() if each != name for word in (f"--{each}", value)]
    said = run("feed", "show", *given)
    assert said.exit_code == 2
    assert f"--{name}" in said.output
    assert f"SECOPS_{name.upper().replace('-', '_')}" in said.output


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("customer_id", "1234"),
        ("customer_id", f"{CUSTOMER}/feeds"),
        ("project", "../other"),
        ("project", ""),
        ("region", "eu/../us"),
        ("region", "evil.example#"),
        ("endpoint", "http://eu-chronicle.googleapis.com"),
        ("endpoint", "http://localhost.evil.example"),
        ("endpoint", "ftp://127.0.0.1"),
        ("endpoint", "https://user@evil.example"),
        ("endpoint", "https://:password@evil.example"),
        ("endpoint", "https://evil.example/path"),
        ("endpoint", "https://evil.example#fragment"),
        ("endpoint", "eu-chronicle.googleapis.com"),
        ("service_account", "missing.json"),
    ],
)
def test_what_cannot_be_meant_is_refused(name: str, value: str) -> None:
    """No value reaches an address that it could bend, and no credential goes out unencrypted."""
    said = run("feed", "subject-id", *typed(**{name: value}))
    assert (said.exit_code, "Invalid value" in said.output) == (2, True)


@pytest.mark.parametrize("endpoint", ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"])
def test_this_machine_may_be_asked_unencrypted(endpoint: str) -> None:
    """By name or by number, as for ZENDESK_BASE_URL."""
    said = run("feed", "create", *typed(endpoint=endpoint), "--access-key-id", "AKIAIOSFODNN7EXAMPLE", "--dry-run")
    assert (said.exit_code, f"POST {endpoint}/v1/" in said.output) == (0, True)


def without_the_extra(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = (sys.executable, "-c", WITHOUT_THE_EXTRA, *arguments, *typed())
    return subprocess.run(command, env={"S3_BUCKET": "b"}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", [("feed", "show"), ("feed", "disable"), ("parser-check",)])
def test_a_missing_package_is_a_sentence_with_the_command(command: tuple[str, ...]) -> None:
    """The pipeline and the command line load without the extra; what needs it says how to install it."""
    said = without_the_extra(*command)
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1].startswith("Error: Google's package for signing in is not installed")
    assert re.search(r"pip install .*'google-auth>=\S+'$", said.stderr)


def test_a_dry_run_needs_no_package() -> None:
    """Nothing is sent, so nobody has to sign in."""
    said = without_the_extra("feed", "create", "--dry-run", "--access-key-id", "AKIAIOSFODNN7EXAMPLE")
    assert (said.returncode, said.stdout.startswith("POST https://")) == (0, True)
