"""docs/settings.md, made from the code: `python -m zendesk_pipeline_tests.project.settings_doc` writes it."""

from datetime import datetime
from typing import Any, Literal, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from zendesk_pipeline.commands.secops.feed import SECRET, create
from zendesk_pipeline.orchestration.zendesk_resource import HOW_TO_GET
from zendesk_pipeline.settings.environment import CREDENTIALS, REQUIRED, Settings
from zendesk_pipeline_tests.root import ROOT

PATH = ROOT / "docs" / "settings.md"

ALERTS = {
    "ALERT_URLS": (
        "Where alerts go: [Apprise addresses](operations.md#alerts) (Slack, Teams, mail, PagerDuty, SNS, webhook …)"
        " with white space or commas between. A secret. None: problems are in the log of `alert_sensor`'s ticks."
    ),
    "HEARTBEAT_URL": (
        "Where a service outside hears each minute that all is well, and"
        " [alarms you when it does not](operations.md#a-dead-mans-signal). A secret."
    ),
}

REDACTION = {
    "REDACTION_KEY": (
        "The key of hashes in the [redaction rules](redaction.md#hash), 32 characters or more. A secret. Needed where"
        " a rule hashes."
    ),
}

COMMANDS = {
    **{
        str(option.envvar): (option.opts[0], option.help or "")
        for option in create.params
        if isinstance(option, click.Option)
        and option.envvar
        and str(option.envvar).lower() not in Settings.model_fields
    },
    SECRET: ("", "The secret of the reader's access key, where it is not typed in. A secret."),
}
"""Variables behind options of `zendesk-pipeline feed` and `parser-check` that are no settings of the collector."""

DEPLOYMENT = {
    "DAGSTER_PG_HOST": "PostgreSQL's host.",
    "DAGSTER_PG_PORT": "On [Celery workers](deployment.md#celery-workers): its port.",
    "DAGSTER_PG_DB": "Its database.",
    "DAGSTER_PG_USERNAME": "Its user.",
    "DAGSTER_PG_PASSWORD": "That user's password. A secret, and no reference: Dagster reads it, not the collector.",
    "DAGSTER_LOG_BUCKET": "The bucket for what steps print; not the collector's.",
    "DAGSTER_CODE_HOST": "Where daemon and UI find the code server.",
    "DAGSTER_RUN_TASK": "On ECS: the task definition of runs.",
    "CELERY_BROKER_URL": "On Celery workers: where runs wait for one, `redis://…/0`.",
    "CELERY_RESULT_BACKEND": "On Celery workers: where they note what they are at, `redis://…/1`.",
    "DAGSTER_EVENT_BATCH_SIZE": "Events that a run stores at once on PostgreSQL; the image sets 500.",
}
"""Variables that the instances in deploy/ read."""

OF_OTHERS = {
    "AWS_CONFIG_FILE": "The file of profiles, where it is not `~/.aws/config`.",
    "AWS_PROFILE": "A profile of `~/.aws/config`; or one of the next two lines, or a role of the machine.",
    "AWS_ACCESS_KEY_ID": "With `AWS_SECRET_ACCESS_KEY`: a key of the writer.",
    "AWS_SECRET_ACCESS_KEY": "Its secret.",
    "AWS_SESSION_TOKEN": "For temporary keys.",
    "AWS_ROLE_ARN": "With `AWS_WEB_IDENTITY_TOKEN_FILE`: a role taken by web identity, as Kubernetes sets it.",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "The file that holds its token.",
    "AWS_DEFAULT_REGION": "The bucket's region.",
    "AWS_ENDPOINT_URL_S3": "Another S3 than Amazon's; it has to refuse conditional writes as S3 does.",
    "GOOGLE_APPLICATION_CREDENTIALS": "For [SecOps](feed.md#watch-it): a file that Google's libraries sign in with.",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER": "Where [references](secrets.md) `aws-sm:` are read, if not at Amazon's.",
    "AWS_ENDPOINT_URL_SSM": "The same for `aws-ssm:`.",
    "DAGSTER_HOME": "The folder of `dagster.yaml`, where Dagster keeps its runs.",
    "REQUESTS_CA_BUNDLE": "Certificates to trust, behind a proxy that opens TLS.",
    "HTTPS_PROXY": "A proxy on the way to Zendesk.",
}
"""Variables that boto3, Dagster and requests read by themselves."""

HEAD = """\
<!-- Made by `.venv/bin/python -m zendesk_pipeline_tests.project.settings_doc`; a test fails when it is stale. -->
# Settings

Every environment variable that the collector reads, with its default: for looking things up.
[.env.example](../.env.example) has every setting.

- The commands of Dagster and of `zendesk-pipeline` read `.env` in the folder they start in, and **what it says wins
  over the environment**. `demo`, `dev` and `simulate` do not read it. So a `.env` in a service's working directory wins
  over its `EnvironmentFile=`.
- **Never leave an optional line empty** in `.env` (`REDACTION_RULES=`): it would take an exported value away, and is
  refused. An exported variable that is empty counts as not set.
- A wrong value is refused when Dagster loads the code, in a sentence that names the variable. The run that needs a
  missing one names it, so the UI opens without any.
- A secret may be [a reference](secrets.md#where-a-secret-is-kept) to AWS.
- Write `NAME=value` with nothing behind it. Quotes and comments are not for every reader of such a file:

| reader | quotes | a comment behind a value | `$OTHER` |
|---|---|---|---|
| `.env` | taken away | taken away | replaced |
| systemd's `EnvironmentFile=` | taken away | **kept** | kept |
| `kubectl --from-env-file`, `docker run --env-file` | **kept** | **kept** | kept |
| Compose's `--env-file` | taken away | taken away | replaced |

"""


def settings_doc() -> str:
    """The page's text."""
    required = [_row(name, Settings.model_fields[name]) for name in REQUIRED]
    optional = [_row(name, field) for name, field in Settings.model_fields.items() if name not in REQUIRED]
    modes = {
        variable: ", ".join(f"`{mode}`" for mode, variables in CREDENTIALS.items() if variable in variables)
        for variable in HOW_TO_GET
    }
    credentials = [
        f"| `{name}` | {modes[name]} | {how[0].upper()}{how[1:].replace('`zendesk-pipeline ', '`')}. |"
        for name, how in HOW_TO_GET.items()
    ]
    commands = [
        f"| `{name}` | {f'`{option}`' if option else ''} | {text} |" for name, (option, text) in COMMANDS.items()
    ]
    deployment = [f"| `{name}` | {meaning} |" for name, meaning in DEPLOYMENT.items()]
    others = [f"| `{name}` | {meaning} |" for name, meaning in OF_OTHERS.items()]
    return HEAD + "\n\n".join(
        (
            _section("Required", "| variable | default | meaning |", required),
            _section("Zendesk credentials", "| variable | `AUTH_MODE` | where it comes from |", credentials),
            _section(
                "Alerts", "| variable | meaning |", [f"| `{name}` | {meaning} |" for name, meaning in ALERTS.items()]
            ),
            _section(
                "Redaction", "| variable | meaning |", [f"| `{name}` | {text} |" for name, text in REDACTION.items()]
            ),
            _section("With defaults", "| variable | default | meaning |", optional),
            _section("Google SecOps commands", "| variable | option | meaning |", commands),
            _section("Deployment", "| variable | meaning |", deployment),
            _section("Read by the libraries", "| variable | meaning |", others),
        )
    )


def _section(title: str, header: str, rows: list[str]) -> str:
    return "\n".join((f"## {title}", "", header, "|---" * (header.count("|") - 1) + "|", *rows)) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    return f"| `{name.upper()}` | {_default(field.default)} | {field.description}{_bounds(field)} |"


def _default(value: Any) -> str:
    text = as_variable(value)
    return f"`{text}`" if text else ""


def as_variable(value: Any) -> str:
    """A setting's value as the environment holds it; empty for none."""
    match value:
        case None:
            return ""
        case tuple():
            return ",".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType]  # whatever the setting holds
        case datetime():
            return f"{value:%Y-%m-%dT%H:%MZ}"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _bounds(field: FieldInfo) -> str:
    """What a value may be, where the description does not say it."""
    signs = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    limits = [
        f"{words} {getattr(limit, sign):,}"
        for limit in field.metadata
        for sign, words in signs.items()
        if hasattr(limit, sign)
    ]
    choices = [choice for choice in _choices(field.annotation) if f"`{choice}`" not in (field.description or "")]
    if choices:
        limits.append("one of " + ", ".join(f"`{choice}`" for choice in _choices(field.annotation)))
    return f" ({', '.join(limits)})" if limits else ""


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


if __name__ == "__main__":
    PATH.write_text(settings_doc())
