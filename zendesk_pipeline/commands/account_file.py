"""The account of a component's defs.yaml, for the commands: they see its settings and secrets as their environment."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from pydantic import ValidationError

from zendesk_pipeline.components import ZendeskToS3Component
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.orchestration.accounts import Account, secret_value
from zendesk_pipeline.orchestration.instance import ResolutionException
from zendesk_pipeline.settings.environment import ACCOUNT_SECRETS, CREDENTIALS, OF_THE_LOCATION, Settings

TYPE = f"{ZendeskToS3Component.__module__}.{ZendeskToS3Component.__qualname__}"
TYPES = (TYPE, f"zendesk_pipeline.{ZendeskToS3Component.__qualname__}")
"""The names by which Dagster finds the component."""
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""What boto3 takes before a profile."""


def read(file: Path, name: str | None) -> Account:
    """The account of a file, by its name where there are several.

    Raises SettingsError for a file that Dagster would not load either, and where it is not clear which one is meant.
    """
    found = _accounts(file)
    meant = [each for each in found if name in {None, each.get("account")}]
    if len(meant) != 1:
        raise SettingsError(_unclear(file, [str(each.get("account")) for each in found], name))
    return _resolved(file, meant[0])


def read_all(file: Path) -> list[Account]:
    """All accounts of a file; raises SettingsError where there is none, and as `read` does."""
    found = _accounts(file)
    if not found:
        raise SettingsError(_unclear(file, [], None))
    return [_resolved(file, each) for each in found]


def _accounts(file: Path) -> list[dict[str, Any]]:
    """The attributes of each account that is described."""
    try:
        documents: list[Any] = list(yaml.safe_load_all(file.read_text("utf-8")))
        return [dict(each["attributes"]) for each in documents if each["type"] in TYPES]
    except OSError as problem:
        raise SettingsError(f"{file} cannot be read ({problem.strerror}).") from None
    except (ValueError, TypeError, KeyError, yaml.YAMLError):
        raise SettingsError(f"{file} is no defs.yaml that can be read: `dg check yaml` says where.") from None


def _unclear(file: Path, names: Sequence[str], name: str | None) -> str:
    if not names:
        return f"{file} describes no account: nothing in it is of the type {TYPE}."
    if name is None:
        return f"{file} describes several accounts: name one with --account, {', '.join(names)}."
    return f"{file} describes no account {name}: there is {', '.join(names)}."


def _resolved(file: Path, attributes: dict[str, Any]) -> Account:
    """As Dagster does it, with its templates."""
    try:
        model = ZendeskToS3Component.model().model_validate(attributes)
        return ZendeskToS3Component.resolve_from_model(dg.ResolutionContext.default(), model).account
    except ValidationError as wrong:
        problems = "; ".join(
            f"{each['loc'][0]}: {each['msg'].removeprefix('Value error, ')}" for each in wrong.errors()
        )
        raise SettingsError(f"{file} is wrong: {problems}.") from None
    except ResolutionException:
        raise SettingsError(f"{file}: only {{{{ env.NAME }}}} can be filled in here, and no other template.") from None


def variables(account: Account, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that would describe an account; empty are those that it does not have.

    Args:
        account: Of the file.
        environment: Where the variables of its secrets are.
    """
    given = account.settings.model_dump(exclude_unset=True, exclude_none=True)
    return {
        **{name.upper(): "" for name in Settings.model_fields if name not in OF_THE_LOCATION},
        **{name.upper(): _text(value) for name, value in given.items()},
        **{name: secret_value(account.source(name), environment) for name in ACCOUNT_SECRETS},
        **({"AWS_PROFILE": account.aws_profile, **dict.fromkeys(_KEYS, "")} if account.aws_profile else {}),
    }


def _text(value: str | float | datetime | tuple[str, ...]) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)


def described(account: Account) -> str:
    """A line that says where the secrets are that messages call by the names of their settings."""
    chosen = account.settings
    names = (*CREDENTIALS[chosen.auth_mode], *(["REDACTION_KEY"] if chosen.redaction_rules else []))
    return f"Account {account.name}: {', '.join(f'{name} is {account.source(name)}' for name in names)}."
