"""The options of the commands that talk to Google SecOps: which instance is meant, and who asks."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zendesk_pipeline.commands.secops.instance import Instance
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.settings.addresses import checked_address
from zendesk_pipeline.settings.programs import install

if TYPE_CHECKING:
    from zendesk_pipeline.commands.secops.client import SecopsClient

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """An instance, and the file that says who asks: none means Application Default Credentials."""

    instance: Instance
    service_account: Path | None


def connect(access: Access) -> "SecopsClient":
    """A client for the instance; raises SettingsError where Google's package is not installed."""
    try:
        from zendesk_pipeline.commands.secops import client  # noqa: PLC0415  # the extra may not be installed
    except ImportError as missing:
        raise SettingsError(
            f"Google's package for signing in is not installed ({missing.name}): {install('google-auth')}"
        ) from None
    return client.SecopsClient(access.instance, client.sign_in(access.service_account))


def _matching(pattern: str, meant: str) -> Callable[[click.Context, click.Parameter, str], str]:
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
        return checked_address(value, "the API's address, such as https://us-chronicle.googleapis.com")
    except ValueError as wrong:
        raise click.BadParameter(str(wrong)) from None


OPTIONS = (
    click.option(
        "--customer-id",
        envvar="SECOPS_CUSTOMER_ID",
        required=True,
        show_envvar=True,
        callback=_matching(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", "a UUID"),
        help="The instance's customer ID, as SecOps' settings show it.",
    ),
    click.option(
        "--project",
        envvar="SECOPS_PROJECT",
        required=True,
        show_envvar=True,
        callback=_matching(r"[a-z0-9][a-z0-9.:-]*", "the id or number of a Google Cloud project"),
        help="The Google Cloud project that the instance is bound to.",
    ),
    click.option(
        "--region",
        envvar="SECOPS_REGION",
        required=True,
        show_envvar=True,
        callback=_matching(r"[a-z]+[a-z0-9-]*", "a region such as us, eu or europe-west3"),
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


def access_options(command: Command) -> Command:
    """The options that say which instance is meant; `access_of` reads them."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def access_of(options: dict[str, Any]) -> Access:
    """The access that a command's options describe; takes them out."""
    service_account, endpoint = options.pop("service_account"), options.pop("endpoint")
    region: str = options.pop("region")
    instance = Instance(
        customer_id=options.pop("customer_id"),
        project=options.pop("project"),
        region=region,
        endpoint=endpoint or f"https://{region}-chronicle.googleapis.com",
    )
    return Access(instance=instance, service_account=service_account)
