"""Every setting, from the environment, checked once. Of secrets it has the names of the variables alone."""

import os
import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from zendesk_pipeline.model import redaction_rules
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.model.rate_budgets import EXPORT_RATE, HIGH_VOLUME_EXPORT_RATE, SHARE, USER_EXPORT_RATE
from zendesk_pipeline.model.streams import COLLECTED_BY_DEFAULT, STREAMS
from zendesk_pipeline.settings import env_file
from zendesk_pipeline.settings.addresses import checked_address

T = TypeVar("T", bound=str)

AuthMode = Literal["oauth", "token", "bearer", "oauth_refresh"]
OutputFormat = Literal["ndjson", "page"]
Compression = Literal["none", "gzip"]
NewFields = Literal["tell", "hold"]

CREDENTIALS: dict[AuthMode, tuple[str, ...]] = {
    "oauth": ("ZENDESK_CLIENT_ID", "ZENDESK_CLIENT_SECRET"),
    "token": ("ZENDESK_EMAIL", "ZENDESK_API_TOKEN"),
    "bearer": ("ZENDESK_BEARER_TOKEN",),
    "oauth_refresh": ("ZENDESK_CLIENT_ID", "ZENDESK_CLIENT_SECRET", "ZENDESK_TOKEN_PAIR"),
}
"""The variables that hold the credential in each AUTH_MODE."""
ACCOUNT_SECRETS = (*dict.fromkeys(name for names in CREDENTIALS.values() for name in names), "REDACTION_KEY")
"""The settings that hold the secrets of an account."""
SECRETS = (*ACCOUNT_SECRETS, "ALERT_URLS", "HEARTBEAT_URL")
"""The settings that hold secrets, each as a value or as a reference."""

REQUIRED = ("zendesk_base_url", "s3_bucket")
"""Settings without a default that fits anybody; a run that needs one says so."""


def auth_mode_of(text: str) -> AuthMode:
    """The mode of a name; raises SettingsError where there is none."""
    return _one_of("AUTH_MODE", text, get_args(AuthMode))


def output_format_of(text: str) -> OutputFormat:
    """The form of a name; raises SettingsError where there is none."""
    return _one_of("OUTPUT_FORMAT", text, get_args(OutputFormat))


def compression_of(text: str) -> Compression:
    """The compression of a name; raises SettingsError where there is none."""
    return _one_of("COMPRESSION", text, get_args(Compression))


def new_fields_of(text: str) -> NewFields:
    """What becomes of new fields, by its name; raises SettingsError where there is none."""
    return _one_of("REDACTION_NEW_FIELDS", text, get_args(NewFields))


def _one_of(setting: str, text: str, choices: Collection[T]) -> T:
    for choice in choices:
        if choice == text:
            return choice
    raise SettingsError(f"{setting}={text} is none of {', '.join(choices)}.")


SECOPS_FORMS: dict[str, tuple[str, str]] = {
    "customer_id": (r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", "a UUID"),
    "project": (r"[a-z0-9][a-z0-9.:-]*", "the id or number of a Google Cloud project"),
    "region": (r"[a-z]+[a-z0-9-]*", "a region such as us, eu or europe-west3"),
}
"""What says which instance of SecOps is meant: the pattern of each, and in words."""
SECOPS_ADDRESS = "the API's address, such as https://us-chronicle.googleapis.com"


OF_THE_LOCATION = frozenset({"alert_digest_hour", "dagster_ui_url", "keep_run_logs_days"})
"""Settings that are the same for all accounts of a code location, and always stay in the environment."""


LEAST_LOG_DAYS = 31
"""Alerts look at the failures of 30 days (`problems.LOOK_BACK`)."""


def checked_base_url(url: str) -> str:
    """The account's address without a trailing slash; raises ValueError where no credential must be sent."""
    return checked_address(url, "the account's address, such as https://acme.zendesk.com")


def _base_url(url: str) -> str:
    return checked_base_url(url) if url else url


def _prefix(prefix: str) -> str:
    if not re.fullmatch(r"(?:[A-Za-z0-9_.-]+/)+", prefix):
        raise ValueError("a prefix is made of A-Z a-z 0-9 _ . - and /, ends with / and does not begin with it")
    if {".", ".."} & set(prefix.split("/")):
        raise ValueError(
            "no part of a prefix is . or ..: S3 keeps them as names, and clients and other stores take them for folders"
        )
    return prefix


def _names(names: object) -> object:
    if not isinstance(names, str):
        return names
    return tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))


def _streams(names: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in STREAMS]
    if unknown or not names:
        raise ValueError(f"there is no stream {', '.join(unknown) or 'named'}; there are {', '.join(STREAMS)}")
    return names


def _owners(names: tuple[str, ...]) -> tuple[str, ...]:
    wrong = [name for name in names if not re.fullmatch(r"team:[\w.-]+|[^@\s]+@[^@\s]+\.[^@\s]+", name)]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} is neither a mail address nor `team:` and a name")
    return names


def full_hour(text: object) -> object:
    """The hour that a text in ISO form names, in UTC where it names no zone; raises ValueError."""
    if not isinstance(text, str):
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("a date or an hour in ISO form is wanted, 2026-11-12 or 2026-11-12T05:00Z") from None
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment.minute or moment.second or moment.microsecond:
        raise ValueError("windows begin on the full hour (UTC)")
    return moment


def _code_url(url: str) -> str:
    """Where code is browsed, without a slash at its end; raises ValueError where it is no address to show people."""
    parts = urlsplit(url)
    if url and (parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment):
        raise ValueError("an address that begins with https:// is wanted, without a name or a token in it")
    return url.rstrip("/")


def _rules(setting: str) -> str:
    if setting:
        redaction_rules.load(setting)
    return setting


def _longer_than_alerts_look(days: int) -> int:
    if 0 < days < LEAST_LOG_DAYS:
        raise ValueError(f"alerts read the logs of {LEAST_LOG_DAYS - 1} days: at least {LEAST_LOG_DAYS} days, or 0")
    return days


def _secops(name: str) -> Callable[[str], str]:
    pattern, meant = SECOPS_FORMS[name]

    def checked(value: str) -> str:
        if value and not re.fullmatch(pattern, value):
            raise ValueError(f"{meant} is wanted")
        return value

    return checked


def _secops_endpoint(address: str) -> str:
    return checked_address(address, SECOPS_ADDRESS) if address else address


def _access_logs(uri: str) -> str:
    if uri and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\x21-\x7e]*)?", uri):
        raise ValueError("a place in S3 is wanted, s3://BUCKET/PREFIX")
    return uri


def _reader(name: str) -> str:
    if name and not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:(role|user)/[\x21-\x7e]+|[0-9a-f]{64}", name):
        raise ValueError(
            "the ARN of the reader's role or user is wanted, arn:aws:iam::123456789012:role/secops-reader, or the"
            " canonical id of an account"
        )
    return name


Prefix = Annotated[str, AfterValidator(_prefix)]


class Settings(BaseSettings):
    """What can be set. A field's description is its documentation."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True)

    zendesk_base_url: Annotated[str, AfterValidator(_base_url)] = Field(
        default="", description="The account's address: `https://SUBDOMAIN.zendesk.com`."
    )
    auth_mode: AuthMode = Field(
        default="oauth",
        description="`oauth` (client credentials; the way forward), `token` (e-mail and API token, until 2027-04-30),"
        " `bearer` (a ready-made access token) or `oauth_refresh` (tokens of a user who has agreed once; they replace"
        " themselves).",
    )
    zendesk_oauth_scope: str = Field(
        default="read", description="The scope asked for in AUTH_MODE=oauth and by `authorize`."
    )
    resources: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names), AfterValidator(_streams)] = Field(
        default=COLLECTED_BY_DEFAULT,
        description="The streams to collect, with commas between.",
    )
    start_date: Annotated[datetime, BeforeValidator(full_hour)] = Field(
        default=datetime(2026, 1, 1, tzinfo=UTC),
        description="The first window: an ISO date or hour, in UTC where it names no zone.",
    )
    settle_seconds: int = Field(
        default=300,
        ge=60,
        le=900,
        description="Seconds after the end of a window before it is read; Zendesk hides tickets for a minute.",
    )
    lookback_seconds: int = Field(
        default=3600,
        ge=0,
        description="Seconds before its range that a run reads again on streams that show records late; never less"
        " than an hour for access logs.",
    )
    catch_up_hours: int = Field(
        default=72,
        ge=0,
        le=24 * 31,
        description="Windows of so many last hours are collected later by themselves where they are missing or failed;"
        " 0 switches it off.",
    )
    comparison_pages: int = Field(
        default=1000,
        ge=0,
        description="The most pages a day and stream that are read to compare delivered windows with Zendesk once more,"
        " when they are a day old; 0 switches it off.",
    )
    max_pages: int | None = Field(
        default=None,
        ge=1,
        description="The most pages a run may read; more is an error that loses nothing. No bound if unset.",
    )
    http_timeout: float = Field(
        default=60,
        gt=0,
        allow_inf_nan=False,
        description="Seconds that Zendesk may take to go on with an answer.",
    )
    http_retries: int = Field(
        default=3, ge=0, description="Tries after the first for connection errors, 5xx and broken bodies."
    )
    zendesk_export_rate: float = Field(
        default=EXPORT_RATE,
        ge=1,
        allow_inf_nan=False,
        description=f"Requests a minute to the incremental exports: {EXPORT_RATE}, or {HIGH_VOLUME_EXPORT_RATE} with"
        f" the High Volume add-on. Users have {USER_EXPORT_RATE} of their own, whatever this is.",
    )
    zendesk_rate_share: float = Field(
        default=SHARE,
        gt=0,
        le=1,
        description="The part of the account's rate limit that may be used for the rest.",
    )
    asset_owners: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names), AfterValidator(_owners)] = Field(
        default=(),
        description="Who the lineage names as owners: mail addresses or `team:NAME`, with commas between.",
    )
    code_url: Annotated[str, AfterValidator(_code_url)] = Field(
        default="",
        description="Where this code is shown, for the links from the assets to it: the release of your fork that runs,"
        " as `https://github.com/acme/zendesk-pipeline/blob/v0.1.0`. No links if unset.",
    )
    alert_stale_hours: int = Field(
        default=3,
        ge=1,
        description="Hours after which a window that is missing, with no run at work on it, is an alert.",
    )
    alert_digest_hour: int | None = Field(
        default=None,
        ge=0,
        le=23,
        description="The hour of the day (UTC) at which the addresses of ALERT_URLS are told how the last day was, also"
        " that all is well. No digest if unset.",
    )
    dagster_ui_url: str = Field(
        default="http://127.0.0.1:3000",
        description="Dagster's UI as the people on call reach it, for the links in alerts.",
    )
    keep_run_logs_days: Annotated[int, AfterValidator(_longer_than_alerts_look)] = Field(
        default=90,
        ge=0,
        description="Days for which Dagster keeps what a run has logged; windows stay as they are. 0: for ever.",
    )
    s3_bucket: str = Field(default="", description="The bucket that the SecOps feed reads.")
    s3_prefix: Prefix = Field(
        default="zendesk/crm/", description="The feed prefix: what SecOps reads; nothing else may be there."
    )
    state_prefix: Prefix = Field(
        default="zendesk/state/", description="Where the ledgers are stored; outside the feed prefix."
    )
    quarantine_prefix: Prefix = Field(
        default="zendesk/quarantine/",
        description="Where records too long for a line are stored; outside the feed prefix.",
    )
    output_format: OutputFormat = Field(
        default="ndjson",
        description="`ndjson`: a record a line; `page`: the recipe's envelope, one line an object.",
    )
    compression: Compression = Field(default="none", description="`gzip` writes `.json.gz`.")
    batch_bytes: int = Field(
        default=8 * 1024 * 1024, ge=1024, description="The most bytes of an object before compression."
    )
    s3_sse: Literal["AES256", "aws:kms"] | None = Field(
        default=None, description="Encryption asked for with every write; the bucket's own default if unset."
    )
    s3_kms_key_id: str | None = Field(default=None, description="The KMS key for S3_SSE=aws:kms.")

    secops_customer_id: Annotated[str, AfterValidator(_secops("customer_id"))] = Field(
        default="",
        description="The customer ID of the SecOps instance that reads the bucket, as its settings show it. With"
        " SECOPS_PROJECT and SECOPS_REGION, SecOps is asked each hour whether its feed takes in what is delivered.",
    )
    secops_project: Annotated[str, AfterValidator(_secops("project"))] = Field(
        default="", description="The Google Cloud project that the instance is bound to."
    )
    secops_region: Annotated[str, AfterValidator(_secops("region"))] = Field(
        default="", description="The instance's region: us, eu, europe-west3 …"
    )
    secops_service_account: str = Field(
        default="",
        description="Key file of a service account that may read feeds (`roles/chronicle.viewer`); Application Default"
        " Credentials if unset.",
    )
    secops_endpoint: Annotated[str, AfterValidator(_secops_endpoint)] = Field(
        default="", description="Another address of the API than `https://REGION-chronicle.googleapis.com`."
    )
    secops_gb_a_day: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="The GB a day (of 10^9 bytes, uncompressed) that your SecOps contract has for Zendesk's logs:"
        " `volume` says how much of them is used.",
    )
    secops_access_logs: Annotated[str, AfterValidator(_access_logs)] = Field(
        default="",
        description="Where S3 delivers the bucket's server access log: `s3://BUCKET/PREFIX`. With SECOPS_READER, each"
        " window gets a receipt: when SecOps has read it.",
    )
    secops_reader: Annotated[str, AfterValidator(_reader)] = Field(
        default="",
        description="Who reads the bucket for SecOps and for nobody else: the ARN of the reader's role or user.",
    )
    redaction_rules: Annotated[str, AfterValidator(_rules)] = Field(
        default="",
        description="What is taken out of records before they leave this machine: a file of rules, or `builtin:` and"
        " the name of one that comes with the package; it has to speak of every stream of RESOURCES. Records go as"
        " Zendesk sent them if unset.",
    )
    redaction_new_fields: NewFields = Field(
        default="tell",
        description="What becomes of a field that Zendesk shows for the first time and no redaction rule speaks of:"
        " `tell` delivers and warns, `hold` delivers nothing until it has a rule or is accepted (command `fields`).",
    )

    @model_validator(mode="after")
    def _prefixes_lie_apart(self) -> Self:
        for name in ("state_prefix", "quarantine_prefix"):
            prefix = getattr(self, name)
            if prefix.startswith(self.s3_prefix):
                raise ValueError(
                    f"{name.upper()}={prefix} lies inside S3_PREFIX={self.s3_prefix}, and SecOps would read it as logs:"
                    f" set {name.upper()} to a prefix beside it, such as zendesk/{name.removesuffix('_prefix')}/"
                )
            if self.s3_prefix.startswith(prefix):
                raise ValueError(
                    f"S3_PREFIX={self.s3_prefix} lies inside {name.upper()}={prefix}:"
                    " set one of them to a prefix of its own"
                )
        if self.state_prefix.startswith(self.quarantine_prefix) or self.quarantine_prefix.startswith(self.state_prefix):
            raise ValueError(
                f"STATE_PREFIX={self.state_prefix} and QUARANTINE_PREFIX={self.quarantine_prefix} overlap:"
                " set them apart"
            )
        return self

    @model_validator(mode="after")
    def _log_lies_apart(self) -> Self:
        bucket, _, prefix = self.secops_access_logs.removeprefix("s3://").partition("/")
        if self.secops_access_logs and bucket == self.s3_bucket and prefix.startswith(self.s3_prefix):
            raise ValueError(
                f"SECOPS_ACCESS_LOGS={self.secops_access_logs} lies inside S3_PREFIX={self.s3_prefix}, and SecOps would"
                " read it as logs: have S3 deliver the access log to a bucket of its own"
            )
        return self

    @model_validator(mode="after")
    def _rules_name_what_is_collected(self) -> Self:
        if self.redaction_rules:
            problem = redaction_rules.unnamed(redaction_rules.load(self.redaction_rules), self.resources)
            if problem:
                raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _key_needs_kms(self) -> Self:
        if self.s3_kms_key_id and self.s3_sse != "aws:kms":
            raise ValueError("S3_KMS_KEY_ID is set and does nothing: set S3_SSE=aws:kms as well, or take it away")
        return self


NEEDED = frozenset({*(name.upper() for name in REQUIRED), *ACCOUNT_SECRETS}) - {"REDACTION_KEY"}
"""Variables that a run names where it needs them: a line for them may stay empty until somebody fills it in."""
OPTIONAL = frozenset({*(name.upper() for name in Settings.model_fields), *SECRETS}) - NEEDED
"""Variables that do without, so that nothing would say that an empty line has taken one away."""


OF_A_LOCATION = frozenset({*(name.upper() for name in OF_THE_LOCATION), *SECRETS}) - {*ACCOUNT_SECRETS}
"""Of those, the ones that count where accounts are described elsewhere."""


def load() -> Settings:
    """The settings of this process's environment.

    Raises SettingsError, with one sentence for each that is wrong, and where a `.env` that Dagster reads in this folder
    has empty lines that could take exported variables away.
    """
    return _loaded(Settings, OPTIONAL)


def load_location() -> Settings:
    """The settings of `OF_THE_LOCATION`, from the environment, and the defaults of all others.

    For projects of other people, whose environment may have variables that are called as ours are. Raises SettingsError
    as `load` does, for what belongs to the location alone.
    """
    return _loaded(_LocationSettings, OF_A_LOCATION)


class _LocationSettings(Settings):
    """What is the same for all accounts."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Of the environment, nothing else."""
        del init_settings
        shared = {name: value for name, value in env_settings().items() if name in OF_THE_LOCATION}
        return (InitSettingsSource(settings_cls, shared),)


def _loaded(what: type[Settings], optional: Collection[str]) -> Settings:
    refuse_empty_lines(optional)
    try:
        return what()
    except ValidationError as wrong:
        raise SettingsError(" ".join(map(sentence, wrong.errors()))) from None


def refuse_empty_lines(names: Collection[str] = OPTIONAL) -> None:
    """Raise SettingsError where a `.env` that is read in this folder could take exported variables away."""
    env_file.refuse_empty(names, Path.cwd(), os.environ)


def not_set(variable: str, what: str, because: str = "") -> SettingsError:
    """The error where a variable is missing that something needs; `what` belongs into it."""
    return SettingsError(f"{variable} is not set{env_file.where_empty(variable)}{because}: {what}.")


def sentence(error: ErrorDetails) -> str:
    """What is wrong with a setting, in words."""
    problem = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return f"{problem}."
    name = str(error["loc"][0])
    return f"{name.upper()} is wrong: {problem[0].lower()}{problem[1:]}. ({Settings.model_fields[name].description})"
