"""Whose records the prefixes hold: a marker under the state prefix, written once.

Ids of two accounts overlap. If they shared prefixes, records of one would count as delivered by the other: such as when
a sandbox is tried first and production is then collected to the same place.
"""

import msgspec

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.errors import DeliveryError, DeniedError, SettingsError


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """What the marker says."""

    account: str
    """The host that the records come from, such as `acme.zendesk.com`."""
    version: int = 1


def decode(content: bytes) -> str:
    """The account that a marker names; raises ValueError where it is none."""
    try:
        return msgspec.json.decode(content, type=Marker).account
    except msgspec.MsgspecError as problem:
        raise ValueError(str(problem)) from None


def encode(account: str) -> bytes:
    """A marker for people to read as well."""
    return msgspec.json.encode(Marker(account=account)) + b"\n"


def refusal(place: str, theirs: str, ours: str) -> str:
    """Why an account may not use the prefixes of another one, and what to do."""
    return (
        f"ZENDESK_BASE_URL leads to {ours}, and these prefixes hold records of {theirs} ({place}). The ids of two"
        " accounts are the same, so that one would hold back the other's records. Give this one prefixes or a bucket of"
        " its own (S3_PREFIX, STATE_PREFIX, QUARANTINE_PREFIX). Only if it is the same account under a new address,"
        " delete that object: the next run writes it anew."
    )


def check(store: Store, layout: Layout, account: str) -> bool:
    """Whether the marker is there; raises SettingsError where it names another account. One GET.

    Raises DeniedError, too, where S3 does not say whether it is there.
    """
    key = layout.account
    stored = store.get(key)
    if stored is None:
        return False
    try:
        theirs = decode(stored.body)
    except ValueError as problem:
        raise DeliveryError(
            f"{store.uri(key)}, which says whose records these prefixes hold, cannot be read ({problem}). Delete it:"
            " the next run writes it anew."
        ) from None
    if theirs != account:
        raise SettingsError(refusal(store.uri(key), theirs, account))
    return True


def is_claimed(store: Store, layout: Layout, account: str) -> bool:
    """Whether the marker is known to be there, and names this account; raises as `check` does, except DeniedError."""
    try:
        return check(store, layout, account)
    except DeniedError:
        return False  # without ListBucket, S3 answers 403 for a missing object: writing it tells the two apart


def write(store: Store, layout: Layout, account: str) -> None:
    """Have the marker name this account from now on, where none is known to be there; raises as `check` does."""
    if store.put_over(layout.account, encode(account), None) is None:
        check(store, layout, account)  # another first run was faster, or it may not be read


def claim(store: Store, layout: Layout, account: str) -> None:
    """Have the marker name this account from now on; raises as `check` does. Where it is there, one GET."""
    if not is_claimed(store, layout, account):
        write(store, layout, account)
