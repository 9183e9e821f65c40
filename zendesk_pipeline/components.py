"""A Dagster component: one Zendesk account, described in YAML. `dg` finds it by an entry point of this package.

One instance is one account. The first instance of a code location also brings the sensors, which look at all of them.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from textwrap import dedent
from typing import Annotated, Any, Literal, Self

import dagster as dg
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.model.streams import STREAMS
from zendesk_pipeline.model.windows import timestamp
from zendesk_pipeline.orchestration.accounts import (
    FIRST_MINUTE,
    LAST_MINUTE,
    Account,
    checked_name,
    checked_source,
)
from zendesk_pipeline.settings import environment
from zendesk_pipeline.settings.environment import ACCOUNT_SECRETS, OF_THE_LOCATION, Settings, sentence
from zendesk_pipeline.wiring import account_definitions, shared_definitions

PLACEHOLDERS = {"zendesk_base_url": "https://SUBDOMAIN.zendesk.com", "s3_bucket": "BUCKET"}
"""What a scaffolded file has in the place of what has no default."""
PREFIXES = {"s3_prefix": "crm", "state_prefix": "state", "quarantine_prefix": "quarantine"}
"""What an account's prefixes end with where they are not set: `zendesk/acme/crm/`."""
_TEMPLATE = r"\{\{.*\}\}"


class AccountSettings(Settings):
    """The settings of one account: nothing of it is from the environment."""

    model_config = SettingsConfigDict(extra="forbid")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is given."""
        del settings_cls
        return (init_settings,)


# What the YAML may hold


def _unless_template(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """The value as it is written; a template is validated when it is filled in."""
    if not _is_template(value):
        validate(value)
    return value


def _filled_in(value: object) -> object:
    if value in PLACEHOLDERS.values():
        raise ValueError(f"{value} is what the file was scaffolded with: write the account's own in its place")
    return value


def _is_template(value: object) -> bool:
    return isinstance(value, str) and "{{" in value


def _unknown(_: object) -> object:
    raise ValueError(f"there is no setting of this name; there are {', '.join(_fields())}")


@cache
def _fields() -> Mapping[str, Any]:
    """Name to type and field, as pydantic's create_model takes them."""
    chosen = {name: field for name, field in Settings.model_fields.items() if name not in OF_THE_LOCATION}
    name = Field(description="What the account is called here: a-z, 0-9 and _. Assets and jobs begin with it.")
    minute = Field(
        default=None,
        ge=FIRST_MINUTE,
        le=LAST_MINUTE,
        description="The minute of the hour in which the collection begins; by the account's name if unset.",
    )
    profile = Field(
        default=None,
        min_length=1,
        description="A profile of the AWS configuration that the bucket is read and written with, as with a role of its"
        " own; by default what the process has.",
    )
    return {
        "account": (Annotated[str, AfterValidator(checked_name)], name),
        "minute": (int | None, minute),
        "aws_profile": (str | None, profile),
        **{
            setting: (
                Annotated[
                    _type(setting, field.annotation),
                    *field.metadata,
                    *([BeforeValidator(_filled_in)] if setting in PLACEHOLDERS else []),
                    WrapValidator(_unless_template),
                ],
                Field(default=... if setting in PLACEHOLDERS else None, description=field.description),
            )
            for setting, field in chosen.items()
        },
        **{
            secret.lower(): (
                str | None,
                Field(
                    default=None,
                    description=f"Where the account's {secret} is stored: the NAME of a variable, or a reference"
                    " (aws-sm:NAME, aws-ssm:/PATH). By default the variable ACCOUNT_" + secret + ".",
                ),
            )
            for secret in ACCOUNT_SECRETS
        },
    }


def _type(setting: str, annotation: Any) -> Any:
    """YAML has lists of names, which an editor can complete; the rest is what the environment takes."""
    if setting == "resources":
        return list[Literal[tuple(STREAMS)]]  # pyright: ignore[reportInvalidTypeForm]  # known when it runs only
    return annotation


def _explained(schema: dict[str, Any]) -> None:
    """So that `dg check yaml` says what is allowed: templates aside, and without alternatives that say nothing."""
    properties: dict[str, Any] = schema["properties"]
    schema["properties"] = {
        name: {
            **{key: rules[key] for key in ("title", "description") if key in rules},
            "if": {"type": "string", "pattern": _TEMPLATE},
            "else": {key: rule for key, rule in rules.items() if key not in {"title", "description", "default"}},
        }
        for name, rules in properties.items()
    }
    # a rule for what is none of them, whose message names them: `additionalProperties: false` would not
    schema["additionalProperties"] = {"const": f"one of these settings: {', '.join(properties)}"}


class _Attributes(BaseModel):
    """The base of what `_model` makes."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_explained)
    # pydantic validates what is not a field by this annotation; its own says that there may be none
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_unknown)]]  # pyright: ignore[reportIncompatibleVariableOverride] - as said above


@cache
def _model() -> type[BaseModel]:
    return create_model("ZendeskToS3Attributes", __base__=_Attributes, **_fields())


# From YAML to an account


class DefsYaml(dg.Scaffolder[Any]):
    """Writes a defs.yaml to be filled in."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        if request.scaffold_format != "yaml":
            dg.scaffold_component(request)
            return
        name = "_".join("".join(c if c.isalnum() else " " for c in request.target_path.stem.lower()).split())
        text = _scaffolded(request.type_name, "acme" if request.append else name, Clock().now())
        if request.append:
            with request.target_path.open("a", encoding="utf-8") as file:
                file.write(f"---\n{text}")
        else:
            (request.target_path / "defs.yaml").write_text(text, encoding="utf-8")


def _scaffolded(type_name: str, account: str, now: float) -> str:
    today = timestamp(int(now))[:10]
    variable = account.upper()
    collected: Sequence[str] = Settings.model_fields["resources"].default
    return dedent(f"""\
        type: {type_name}

        attributes:
          # Assets, jobs and pools are called after it, and so are the variables of its secrets.
          account: {account}
          zendesk_base_url: {PLACEHOLDERS["zendesk_base_url"]}
          s3_bucket: {PLACEHOLDERS["s3_bucket"]}
          # The first window; older ones cannot be collected later without moving it.
          start_date: {today}
          # There are more: {", ".join(name for name in STREAMS if name not in collected)}
          resources: [{", ".join(collected)}]

          # The credential, by AUTH_MODE. Secrets are never written here, only where they are. Without these lines they
          # are the variables {variable}_ZENDESK_CLIENT_ID and {variable}_ZENDESK_CLIENT_SECRET.
          auth_mode: oauth
          # zendesk_client_id: NAME_OF_A_VARIABLE
          # zendesk_client_secret: aws-sm:zendesk/{account}#client_secret

          # By default: zendesk/{account}/crm/, zendesk/{account}/state/, zendesk/{account}/quarantine/
          # s3_prefix: zendesk/crm/
          # state_prefix: zendesk/state/
          # quarantine_prefix: zendesk/quarantine/

          # The profile of ~/.aws/config that the bucket is written with; by default what the process has.
          # aws_profile: PROFILE

          # The minute of the hour in which the collection begins, 5 to 55; by default one that belongs to the name.
          # minute: 5
        """)


@dg.scaffold_with(DefsYaml)
class ZendeskToS3Component(dg.Component, dg.Resolvable):
    """Collects the streams of one Zendesk account into S3 for Google SecOps, each record once."""

    def __init__(self, account: Account) -> None:
        self.account = account

    @classmethod
    def model(cls) -> type[BaseModel]:
        return _model()

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: BaseModel) -> Self:
        """Raises SettingsError for what is wrong of an account as a whole, or where a template is filled in."""
        given: dict[str, Any] = {name: value for name, value in model if value is not None}
        secrets = {name: given.pop(name.lower()) for name in ACCOUNT_SECRETS if name.lower() in given}
        values: dict[str, Any] = {
            name: context.resolve_value(each) if _is_template(each) else each for name, each in given.items()
        }
        try:
            name = checked_name(str(values.pop("account")))
        except ValueError as wrong:
            raise SettingsError(f"ACCOUNT is wrong: {wrong}.") from None
        for setting, source in secrets.items():
            try:
                checked_source(setting, source)
            except ValueError as wrong:
                raise SettingsError(f"The account {name}: {setting.lower()} is wrong: {wrong}.") from None
        return cls(account_of(name, values, secrets))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """What belongs to the account; raises SettingsError where it gets into another one's way."""
        beside = context.component_tree.get_all_components(of_type=ZendeskToS3Component) or [self]
        own = account_definitions(self.account)
        if beside[0] is not self:
            return own
        shared = shared_definitions([each.account for each in beside], environment.load_location())
        return dg.Definitions.merge(own, shared)


def account_of(name: str, values: Mapping[str, Any], secrets: Mapping[str, str]) -> Account:
    """An account by its settings in lower case, `minute` and `aws_profile`.

    Raises SettingsError, with one sentence for each that is wrong.
    """
    chosen: dict[str, Any] = {**{setting: f"zendesk/{name}/{end}/" for setting, end in PREFIXES.items()}, **values}
    minute, profile = chosen.pop("minute", None), chosen.pop("aws_profile", None) or ""
    try:
        made = AccountSettings(**chosen)
    except ValidationError as wrong:
        raise SettingsError(f"The account {name}: {' '.join(map(sentence, wrong.errors()))}") from None
    return Account(name=name, settings=made, secrets=secrets, minute=minute, aws_profile=profile)
