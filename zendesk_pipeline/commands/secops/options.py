"""The options of the commands that talk to Google SecOps: which instance is meant, and who asks."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from zendesk_pipeline.secops.access import Access, access
from zendesk_pipeline.settings.addresses import checked_address
from zendesk_pipeline.settings.environment import SECOPS_ADDRESS, SECOPS_FORMS

Command = TypeVar("Command", bound=Callable[..., Any])


def _matching(name: str) -> Callable[[click.Context, click.Parameter, str], str]:
    pattern, meant = SECOPS_FORMS[name]

    def checked(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise click.BadParameter(f"{meant} is wanted")
        return value

    return checked


def _endpoint(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Credentials go to https only, or to this machine."""
    if value is None:
        return None
    try:
        return checked_address(value, SECOPS_ADDRESS)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong)) from None


OPTIONS = (
    click.option(
        "--customer-id",
        envvar="SECOPS_CUSTOMER_ID",
        required=True,
        show_envvar=True,
        callback=_matching("customer_id"),
        help="The instance's customer ID, as SecOps' settings show it.",
    ),
    click.option(
        "--project",
        envvar="SECOPS_PROJECT",
        required=True,
        show_envvar=True,
        callback=_matching("project"),
        help="The Google Cloud project that the instance is bound to.",
    ),
    click.option(
        "--region",
        envvar="SECOPS_REGION",
        required=True,
        show_envvar=True,
        callback=_matching("region"),
        help="The instance's region: us, eu, europe-west3 …",
    ),
    click.option(
        "--service-account",
        envvar="SECOPS_SERVICE_ACCOUNT",
        show_envvar=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Key file of a service account.  [default: Application Default Credentials]",
    ),
    click.option(
        "--endpoint",
        envvar="SECOPS_ENDPOINT",
        show_envvar=True,
        callback=_endpoint,
        help="Another address of the API.  [default: https://REGION-chronicle.googleapis.com]",
    ),
)


NAMES = ("customer_id", "project", "region", "service_account", "endpoint")
"""Of the options, as a command gets them."""


def access_options(command: Command) -> Command:
    """The options that say which instance is meant; `access_of` reads them."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def access_of(options: dict[str, Any]) -> Access:
    """The access that a command's options describe; takes them out."""
    return access(**{name: options.pop(name) for name in NAMES})
