"""Why Zendesk refuses a stream: a 403 or 404 says little until Zendesk is asked whose credential it is."""

from collections.abc import Callable
from http import HTTPStatus

from zendesk_pipeline.model.errors import ForbiddenError, RefusedError, ZendeskError
from zendesk_pipeline.model.stream import Stream
from zendesk_pipeline.zendesk.error_answers import CHECK_ADDRESS, IN_FRONT


def explained(
    refused: RefusedError, stream: Stream, who: Callable[[], tuple[int | None, str | None]], remedy: str
) -> RefusedError:
    """The error with what it means for the stream, and what to do.

    `who` gives id and role of the credential's user, or raises ZendeskError; `remedy` is what to do about a credential
    that Zendesk does not know.
    """
    if refused.unclear is None:
        return refused
    try:
        identity, role = who()
    except ZendeskError as unanswered:
        return _unexplained(refused, stream, unanswered)
    if isinstance(refused, ForbiddenError):
        return ForbiddenError(f"{refused} {_forbidden(stream, identity, role, remedy)}")
    if refused.unclear == HTTPStatus.NOT_FOUND:
        return RefusedError(
            f"{refused.message.removesuffix(CHECK_ADDRESS)} The account is there, and answers users/me: it does not"
            f" offer {stream.name}. Take it out of RESOURCES, or ask Zendesk's support for it."
        )
    return RefusedError(
        f"{refused} Zendesk answers users/me, so a firewall or proxy refuses this address alone: have it let through."
    )


def _forbidden(stream: Stream, identity: int | None, role: str | None, remedy: str) -> str:
    if identity is None:
        return f"Zendesk does not know the credential. {remedy}"
    if role != "admin":
        return f"The credential belongs to a user of role {role}, an admin's is needed."
    return stream.forbidden


def _unexplained(refused: RefusedError, stream: Stream, unanswered: ZendeskError) -> RefusedError:
    """The error where Zendesk does not say who we are: a token's scope may cover the stream and not `users/me`."""
    if isinstance(unanswered, RefusedError) and unanswered.unclear == refused.unclear == HTTPStatus.FORBIDDEN:
        return RefusedError(f"{refused} Whatever is asked is refused, users/me too. {IN_FRONT}")
    if isinstance(refused, ForbiddenError):
        return ForbiddenError(f"{refused} The credential has to be an admin's. {stream.forbidden}")
    return refused if refused.unclear == HTTPStatus.NOT_FOUND else RefusedError(f"{refused} {IN_FRONT}")
