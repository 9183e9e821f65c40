"""What can go wrong, by what has to be done about it.

    PipelineError
    ├── SettingsError       a setting is missing or wrong: a person fixes it
    ├── ZendeskError        Zendesk's side
    │   ├── TransientError  a connection, a 5xx, a broken body: trying again may help
    │   │   ├── PageTooHeavyError  504, or a body without end: a smaller page may help
    │   │   └── MaybeTooHeavyError  no answer in time, 502 and the like: the same again may help, or a smaller page
    │   ├── TooEarlyError   the window is not over, or Zendesk does not show it yet: later
    │   ├── StarvedError    the rate limit let nothing through for too long: later
    │   ├── RefusedError    401, 404 and their like, or a firewall on the way: a person fixes it
    │   │   └── ForbiddenError  403: plan or role
    │   ├── GoneError       Zendesk keeps the records no longer: never
    │   ├── ProtocolError   an answer that contradicts what Zendesk promises
    │   └── PageLimitError  MAX_PAGES is reached
    ├── SecretStoreError    AWS Secrets Manager or Parameter Store gives no answer: later
    ├── RedactionError      a record cannot be redacted as the rules want: it stays here
    └── DeliveryError       S3's side
        └── DeniedError     403: the writer may not do that there

Messages are sentences for people. They never hold a credential or anything of a record.
"""

from click import ClickException


class PipelineError(ClickException):
    """Anything this package raises on purpose.

    A ClickException, because click's commands, Dagster's among them, print such a one as its sentence without a trace.
    """


class SettingsError(PipelineError):
    """A setting is missing or wrong; the message names it and the remedy."""


class ZendeskError(PipelineError):
    """Zendesk did not give what was asked for."""


class TransientError(ZendeskError):
    """Trying again may help; `retry_after` is what Zendesk asked us to wait, in seconds, if it did."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PageTooHeavyError(TransientError):
    """The page is more than Zendesk can build in time (504), or more than we take."""


class MaybeTooHeavyError(TransientError):
    """What an outage looks like, and a page that is more than Zendesk, or a proxy before it, can build in time."""


class TooEarlyError(ZendeskError):
    """The window is not complete at the source yet."""


class StarvedError(ZendeskError):
    """Zendesk's rate limit kept us waiting for longer than a run should wait."""


class RefusedError(ZendeskError):
    """The request is refused, by Zendesk or by what is on the way to it."""

    def __init__(self, message: str, *, unclear: int | None = None) -> None:
        """`unclear` is the status of an answer that can mean several things: whoever catches it may ask further."""
        super().__init__(message)
        self.unclear = unclear


class ForbiddenError(RefusedError):
    """The credential is known, and this is not for its user or the account's plan (403)."""


class GoneError(ZendeskError):
    """The window is older than Zendesk keeps its records."""


class ProtocolError(ZendeskError):
    """Zendesk's answer contradicts its own documentation; going on could lose records."""


class PageLimitError(ZendeskError):
    """The run read MAX_PAGES pages and the range is not finished."""


class SecretStoreError(PipelineError):
    """The store that a secret is read from gave no answer, or one that passes."""


class DeliveryError(PipelineError):
    """S3 refused, or holds something it should not."""


class DeniedError(DeliveryError):
    """The credential may not do that here."""


class RedactionError(PipelineError):
    """A record cannot be taken apart as the redaction rules want; nothing of it leaves this machine."""
