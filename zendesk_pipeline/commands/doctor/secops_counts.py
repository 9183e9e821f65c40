"""What SecOps has ingested and parsed of the last day, for those who have a credential of Google's here."""

from zendesk_pipeline.commands.doctor.context import Context
from zendesk_pipeline.commands.doctor.secops_feed import UNWATCHED
from zendesk_pipeline.commands.doctor.verdicts import Verdict, not_visible, ok, warning
from zendesk_pipeline.model.windows import HOUR
from zendesk_pipeline.secops.access import NotInstalledError, access_of, connect, missing_settings
from zendesk_pipeline.secops.count_watch import unparsed
from zendesk_pipeline.secops.counts import DashboardCounts
from zendesk_pipeline.secops.instance import LOG_TYPE, READING, NoCredentialsError

HOURS = 24


def read(context: Context) -> Verdict:
    """SecOps gives its counts, and it parses what it ingests; the comparison with the ledgers is the hourly check's."""
    if missing := missing_settings(context.settings):
        return not_visible(f"What SecOps ingests is not counted: {', '.join(missing)} not set.", UNWATCHED)
    try:
        client = connect(access_of(context.settings), READING)
    except (NotInstalledError, NoCredentialsError) as problem:
        return not_visible(f"What SecOps ingests is not counted: {problem}", UNWATCHED)
    client.timeout = min(client.timeout, context.seconds)
    now = context.clock.now()
    parsing = DashboardCounts(client).parsing(now - HOURS * HOUR, now)
    for finding in unparsed(parsing, HOURS):
        return warning(f"{finding.what}.", f"{finding.remedy}.")
    logs = f"{parsing.logs:,} logs of the type {LOG_TYPE}"
    return ok(f"SecOps has ingested {logs} in {HOURS} hours; {parsing.failed:,} were not parsed.")
