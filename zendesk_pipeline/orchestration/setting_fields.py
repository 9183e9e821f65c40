"""Settings as fields of Dagster resources.

A field's description begins with the name of its setting: that is what ties the two together, and all that does. So a
setting is written down in `Settings`, where it is checked and explained, and in the resource that uses it.
"""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field

from zendesk_pipeline.settings.environment import ACCOUNT_SECRETS, Settings


def setting(description: str) -> Any:
    """A field with the default of the setting that its description begins with."""
    return Field(default=Settings.model_fields[_name(description).lower()].default, description=description)


def secret(name: str) -> Any:
    """A field that is not shown: neither in the UI nor in the resource's repr."""
    return Field(default="", description=name, repr=False, json_schema_extra={"is_secret": True})


def values(resource: type[BaseModel], chosen: Settings, secret: Callable[[str], Any]) -> dict[str, Any]:
    """What a resource's fields hold, by their names.

    Args:
        resource: Its class; fields without a description are left out.
        chosen: The account's settings.
        secret: Gives a secret by the name of its setting.
    """
    named = {field: _name(info.description) for field, info in resource.model_fields.items() if info.description}
    return {
        field: secret(name) if name in ACCOUNT_SECRETS else getattr(chosen, name.lower())
        for field, name in named.items()
    }


def _name(description: str) -> str:
    return description.partition(":")[0]
