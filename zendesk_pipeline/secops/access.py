"""An instance of Google SecOps, who asks it, and a client for that."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.secops.instance import EVERYTHING, Instance, Scope
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline.settings.programs import install

if TYPE_CHECKING:
    from zendesk_pipeline.secops.client import SecopsClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """An instance, and the file that says who asks: none means Application Default Credentials."""

    instance: Instance
    service_account: Path | None


class NotInstalledError(SettingsError):
    """Google's package for signing in is not there."""


def access(
    *, customer_id: str, project: str, region: str, service_account: Path | None = None, endpoint: str | None = None
) -> Access:
    """The instance at the region's usual address, unless another one is named."""
    address = endpoint or f"https://{region}-chronicle.googleapis.com"
    instance = Instance(customer_id=customer_id, project=project, region=region, endpoint=address)
    return Access(instance=instance, service_account=service_account)


def missing_settings(chosen: Settings) -> list[str]:
    """The variables that are not set, of those that say which instance an account is delivered to."""
    names = ("secops_customer_id", "secops_project", "secops_region")
    return [name.upper() for name in names if not getattr(chosen, name)]


def access_of(chosen: Settings) -> Access:
    """The instance that an account's settings name; all of them are set (`missing_settings`)."""
    return access(
        customer_id=chosen.secops_customer_id,
        project=chosen.secops_project,
        region=chosen.secops_region,
        service_account=Path(chosen.secops_service_account) if chosen.secops_service_account else None,
        endpoint=chosen.secops_endpoint,
    )


def connect(asking: Access, scope: Scope = EVERYTHING) -> "SecopsClient":
    """A client for the instance.

    Raises NotInstalledError, and NoCredentialsError where nothing here can sign in.
    """
    try:
        from zendesk_pipeline.secops import client  # noqa: PLC0415  # the extra may not be installed
    except ImportError as missing:
        raise NotInstalledError(
            f"Google's package for signing in is not installed ({missing.name}): {install('google-auth')}"
        ) from None
    return client.SecopsClient(asking.instance, client.sign_in(asking.service_account, scope))
