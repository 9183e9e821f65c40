"""What SecOps says of the feed that reads the bucket, for those who have a credential of Google's here."""

from zendesk_pipeline.commands.doctor.context import Context
from zendesk_pipeline.commands.doctor.verdicts import Verdict, failed, not_visible, ok, warning
from zendesk_pipeline.secops.access import NotInstalledError, access_of, connect, missing_settings
from zendesk_pipeline.secops.feed_model import uri_of
from zendesk_pipeline.secops.feed_watch import Delivered, chosen, findings
from zendesk_pipeline.secops.instance import READING, NoCredentialsError

UNWATCHED = "Set SECOPS_CUSTOMER_ID, SECOPS_PROJECT and SECOPS_REGION, and a credential of Google's (docs/feed.md)."


def read(context: Context) -> Verdict:
    """A feed reads all of the prefix, works, and is the only one."""
    chosen_settings = context.settings
    if missing := missing_settings(chosen_settings):
        return not_visible(f"SecOps is not watched: {', '.join(missing)} not set.", UNWATCHED)
    try:
        client = connect(access_of(chosen_settings), READING)
    except (NotInstalledError, NoCredentialsError) as problem:
        return not_visible(f"SecOps is not watched: {problem}", UNWATCHED)
    client.timeout = min(client.timeout, context.seconds)
    uri, feeds = uri_of(chosen_settings), client.feeds()
    waits = Delivered(objects=0, oldest=None)  # what waits is the hourly check's to count
    found = list(findings(uri, feeds, {}, waits, patience=0, now=context.clock.now()))
    if not found:
        feed = chosen(uri, feeds)
        return ok(f"{feed.display_name if feed else 'A feed'} reads {uri} ({feed.state if feed else ''}).")
    said = "; ".join(finding.what for finding in found)
    remedies = "; ".join(dict.fromkeys(finding.remedy for finding in found)).rstrip(".")
    if any(finding.stops for finding in found):
        return failed(f"{said}.", f"{remedies}.")
    return warning(f"{said}.", f"{remedies}.")
