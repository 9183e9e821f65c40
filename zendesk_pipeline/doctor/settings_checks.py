"""The environment: settings, the variables of credential and redaction, and the addresses of alerts."""

import os
from collections.abc import Collection, Mapping, Sequence

from zendesk_pipeline import redaction_rules
from zendesk_pipeline.channels import SECONDS, Address, Outcome, send
from zendesk_pipeline.doctor.patient import Patient
from zendesk_pipeline.doctor.verdicts import Verdict, failed, ok, warning
from zendesk_pipeline.messages import Message
from zendesk_pipeline.resources import HOW_TO_GET
from zendesk_pipeline.settings import CREDENTIALS, Settings
from zendesk_pipeline.streams import STREAMS

WHERE = "docs/settings.md explains every variable; .env is read by Dagster, not by this command."
TEST_ALERT = Message(
    title="Test alert of zendesk-pipeline",
    text="Nothing is wrong: somebody ran `zendesk-pipeline doctor --send-test-alert`.",
    kind="info",
)


def loaded(patient: Patient) -> Verdict:
    """Every setting is understood, and what has no default is there."""
    return settings_verdict(patient.settings)  # what is wrong is raised, all of it at once


def settings_verdict(chosen: Settings) -> Verdict:
    """What may be empty while nothing is collected must not be now."""
    missing = [name.upper() for name in ("zendesk_base_url", "s3_bucket") if not getattr(chosen, name)]
    if missing:
        return failed(f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not set.", WHERE)
    return ok(f"{', '.join(chosen.resources)} of {chosen.zendesk_base_url} into s3://{chosen.s3_bucket}.")


def credentials(patient: Patient) -> Verdict:
    """What AUTH_MODE needs is there; whether Zendesk takes it is another check."""
    verdict = credentials_verdict(patient.settings, os.environ)
    if verdict.status == "ok":
        _ = patient.zendesk  # raises SettingsError for a value that was copied badly
    return verdict


def credentials_verdict(chosen: Settings, environment: Mapping[str, str]) -> Verdict:
    """Every variable that is missing, with where it comes from."""
    names = CREDENTIALS[chosen.auth_mode]
    missing = [name for name in names if not environment.get(name)]
    if missing:
        where = " ".join(f"{name}: {HOW_TO_GET[name]}." for name in missing)
        return failed(f"AUTH_MODE={chosen.auth_mode} needs {' and '.join(missing)}: not set.", where)
    return ok(f"AUTH_MODE={chosen.auth_mode}: {' and '.join(names)} {'are' if len(names) > 1 else 'is'} set.")


def redacted(patient: Patient) -> Verdict:
    """What is taken out of which stream; raises SettingsError and SecretStoreError where the rules' key is amiss."""
    chosen, key = patient.settings, os.environ.get(redaction_rules.KEY, "")
    streams = [STREAMS[name] for name in chosen.resources]
    found = {each.name for each in streams if redaction_rules.redaction(each, chosen.redaction_rules, key)}
    return redacted_verdict(chosen, found)


def redacted_verdict(chosen: Settings, found: Collection[str]) -> Verdict:
    """`found`: the collected streams that there are rules for."""
    if not chosen.redaction_rules:
        return ok("REDACTION_RULES is not set: records go as Zendesk sent them.")
    if not found:
        return warning(
            f"{chosen.redaction_rules} has no rules for {' or '.join(chosen.resources)}: all goes as Zendesk sent it.",
            "Rules stand below the name of their stream (docs/redaction.md); unset REDACTION_RULES if none are meant.",
        )
    whole = [name for name in chosen.resources if name not in found]
    rest = f"; as Zendesk sent it goes {', '.join(whole)}" if whole else ""
    return ok(f"{', '.join(name for name in chosen.resources if name in found)} by {chosen.redaction_rules}{rest}.")


def alerts(patient: Patient) -> Verdict:
    """Each address of ALERT_URLS is one that Apprise understands; with --send-test-alert, one that takes a message."""
    addresses = patient.addresses
    message = TEST_ALERT if patient.send_test_alert else None
    outcomes = send([(address, message) for address in addresses], min(SECONDS, patient.seconds))
    return alerts_verdict(addresses, outcomes, sent=patient.send_test_alert)


def alerts_verdict(addresses: Sequence[Address], outcomes: Sequence[Outcome], *, sent: bool) -> Verdict:
    """`sent`: whether a message went out; without, an outcome only says if the address is understood."""
    if not addresses:
        return warning(
            "ALERT_URLS is not set: problems are told in the log of alert_sensor alone.",
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
