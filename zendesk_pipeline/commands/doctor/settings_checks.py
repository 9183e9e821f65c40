"""The environment: settings, the variables of credential and redaction, and the addresses of alerts."""

import os
from collections.abc import Sequence

from zendesk_pipeline.alerts.channels import SECONDS, Address, send
from zendesk_pipeline.alerts.messages import Message, SendResult
from zendesk_pipeline.commands.doctor.context import Context
from zendesk_pipeline.commands.doctor.verdicts import Verdict, failed, ok, warning
from zendesk_pipeline.model import redaction_rules
from zendesk_pipeline.model.streams import STREAMS
from zendesk_pipeline.orchestration.zendesk_resource import HOW_TO_GET
from zendesk_pipeline.settings.env_file import where_empty
from zendesk_pipeline.settings.environment import ACCOUNT_SECRETS, CREDENTIALS, NEEDED, OPTIONAL, REQUIRED
from zendesk_pipeline.settings.secret_references import resolved

WHERE = "Put it into .env of the folder that commands start in, or into the environment (docs/settings.md)."
QUOTES = ("'", '"')
TEST_ALERT = Message(
    title="Test alert of zendesk-pipeline",
    text="Nothing is wrong: somebody ran `zendesk-pipeline doctor --send-test-alert`.",
    kind="info",
)


def environment(_: Context) -> Verdict:
    """No value has the quotes or the comment of a file that its reader took for a part of it; none is shown."""
    ours = {name: value for name, value in os.environ.items() if value and _is_ours(name)}
    quoted = sorted(name for name, value in ours.items() if len(value) > 1 and value[0] == value[-1] in QUOTES)
    commented = sorted(name for name, value in ours.items() if " #" in value and name not in quoted)
    blank = sorted(name for name, value in ours.items() if value != value.strip())
    found = [
        *([f"{', '.join(quoted)}: begins and ends with a quote."] if quoted else []),
        *([f"{', '.join(commented)}: holds a blank and #, as if a comment followed."] if commented else []),
        *([f"{', '.join(blank)}: begins or ends with a blank."] if blank else []),
    ]
    if found:
        return warning(
            " ".join(found),
            "A .env may have quotes, comments and blanks; docker --env-file and kubectl --from-env-file pass them on as"
            " part of the value. Write the value alone there.",
        )
    return ok(f"{len(ours)} variables are set, none with a file's quotes or comments in its value.")


def _is_ours(name: str) -> bool:
    """Also those of named accounts, which end as the credentials do, and what boto3 and the feed's commands read."""
    return (
        name in OPTIONAL | NEEDED
        or name.startswith(("AWS_", "SECOPS_", "DAGSTER_PG_"))
        or name.endswith(tuple(f"_{secret}" for secret in ACCOUNT_SECRETS))
    )


def loaded(context: Context) -> Verdict:
    """Every setting is understood, and what has no default is there."""
    chosen = context.settings  # raises one SettingsError for all that is wrong
    missing = [name.upper() for name in REQUIRED if not getattr(chosen, name)]
    if missing:
        return failed(f"{_named(missing)} {'are' if len(missing) > 1 else 'is'} not set.", WHERE)
    return ok(f"{', '.join(chosen.resources)} of {chosen.zendesk_base_url} into s3://{chosen.s3_bucket}.")


def credentials(context: Context) -> Verdict:
    """What AUTH_MODE needs is there; whether Zendesk takes it is another check."""
    mode = context.settings.auth_mode
    names = CREDENTIALS[mode]
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        where = " ".join(f"{name}: {HOW_TO_GET[name]}." for name in missing)
        return failed(f"AUTH_MODE={mode} needs {_named(missing)}: not set.", where)
    _ = context.zendesk  # raises SettingsError for a value that was copied badly
    return ok(f"AUTH_MODE={mode}: {' and '.join(names)} {'are' if len(names) > 1 else 'is'} set.")


def _named(missing: Sequence[str]) -> str:
    return " and ".join(f"{name}{where_empty(name)}" for name in missing)


def redacted(context: Context) -> Verdict:
    """Which streams are redacted; raises SettingsError and SecretStoreError where the key cannot be used."""
    chosen, key = context.settings, resolved(redaction_rules.KEY, os.environ.get(redaction_rules.KEY, ""))
    if not chosen.redaction_rules:
        return ok("REDACTION_RULES is not set: records go as Zendesk sent them.")
    # the other streams are `whole`, or the settings would not load
    rules = {name: redaction_rules.redaction(STREAMS[name], chosen.redaction_rules, key) for name in chosen.resources}
    found = [name for name, redaction in rules.items() if redaction]
    if not found:
        return warning(
            f"{chosen.redaction_rules} says `whole` of {' and '.join(chosen.resources)}: all goes as Zendesk sent it.",
            "Write rules below the name of a stream (docs/redaction.md); unset REDACTION_RULES if none are meant.",
        )
    whole = [name for name in rules if name not in found]
    rest = f"; whole, as they say, goes {', '.join(whole)}" if whole else ""
    return ok(f"{', '.join(found)} by {chosen.redaction_rules}{rest}.")


def alerts(context: Context) -> Verdict:
    """Each address of ALERT_URLS is one that Apprise understands; with --send-test-alert, one that takes a message."""
    addresses = context.addresses
    message = TEST_ALERT if context.send_test_alert else None
    outcomes = send([(address, message) for address in addresses], min(SECONDS, context.seconds))
    return alerts_verdict(addresses, outcomes, sent=context.send_test_alert)


def alerts_verdict(addresses: Sequence[Address], outcomes: Sequence[SendResult], *, sent: bool) -> Verdict:
    """`sent`: whether a message went out; without, an outcome only says if the address is understood."""
    if not addresses:
        return warning(
            "ALERT_URLS is not set: problems appear in the log of alert_sensor alone.",
            "Name an address that reaches the people on call (docs/operations.md#alerts).",
        )
    wrong = [
        f"{address}: {outcome.reason}"
        for address, outcome in zip(addresses, outcomes, strict=True)
        if outcome.state != "sent"
    ]
    if wrong:
        return failed(
            f"{'; '.join(wrong)}.",
            "https://appriseit.com/services/ says how addresses are written; ask the service whether it still takes"
            " messages there.",
        )
    count = f"{len(addresses)} address{'es' if len(addresses) > 1 else ''} of ALERT_URLS"
    return ok(f"{count} took a test alert." if sent else f"{count} understood; --send-test-alert tries for real.")
