"""Settings on their way into resources."""

from typing import Any

import pytest
from pydantic import BaseModel

from zendesk_pipeline.orchestration.io_manager import S3IOManager
from zendesk_pipeline.orchestration.setting_fields import values
from zendesk_pipeline.orchestration.zendesk_resource import ZendeskResource
from zendesk_pipeline.settings.environment import ACCOUNT_SECRETS, Settings

RESOURCES: list[type[BaseModel]] = [ZendeskResource, S3IOManager]
FIELDS = [
    pytest.param(resource, field, id=f"{resource.__name__}.{field}")
    for resource in RESOURCES
    for field, info in resource.model_fields.items()
    if info.description
]


@pytest.mark.parametrize(("resource", "field"), FIELDS)
def test_a_field_has_the_default_of_its_setting(resource: type[BaseModel], field: str) -> None:
    """A resource that somebody makes without a value does what the settings do by default; a secret is empty."""
    by_default = values(resource, Settings.model_construct(), lambda _: "")
    assert resource.model_fields[field].default == by_default[field]


@pytest.mark.parametrize("resource", RESOURCES)
def test_every_field_of_a_setting_arrives(resource: type[BaseModel]) -> None:
    """Each field holds what its setting holds, and each secret what is stored under its own name."""
    given: dict[str, Any] = {name: f"the {name}" for name in Settings.model_fields}
    held = values(resource, Settings.model_construct(**given), lambda name: f"the secret {name}")
    described = {
        field: str(info.description).partition(":")[0]
        for field, info in resource.model_fields.items()
        if info.description
    }
    assert held == {
        field: f"the secret {name}" if name in ACCOUNT_SECRETS else f"the {name.lower()}"
        for field, name in described.items()
    }
    assert len(set(held.values())) == len(held)
