"""What an account's assets and checks work with: its Zendesk, and its bucket.

The account of the environment has two Dagster resources of its own. Named accounts share two, from which each takes its
own: with two for each, every job of Dagster would describe those of all, and 200 accounts would be 230 MB of them.
"""

from collections.abc import Iterable
from typing import Any

import dagster as dg
from dagster_aws.s3 import S3Resource

from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.io_manager import PageStream, S3IOManager
from zendesk_pipeline.orchestration.setting_fields import values
from zendesk_pipeline.orchestration.zendesk_resource import ZendeskResource


def zendesk_key(account: Account) -> str:
    """The key of the resource that gives its Zendesk."""
    return "zendesk_accounts" if account.name else "zendesk"


def bucket_key(account: Account) -> str:
    """The key of the IO manager that gives its bucket."""
    return "zendesk_buckets" if account.name else "s3_io_manager"


def zendesk_of(context: Any, account: Account) -> ZendeskResource:
    """The account's Zendesk in a run that has asked for it."""
    held = getattr(context.resources, zendesk_key(account))
    return held.of(account.name) if account.name else held


def bucket_of(context: Any, account: Account) -> S3IOManager:
    """The account's bucket in a run that has asked for it."""
    held = getattr(context.resources, bucket_key(account))
    return held.of(account.name) if account.name else held


def resources(accounts: Iterable[Account]) -> dict[str, Any]:
    """The resources of accounts."""
    every = list(accounts)
    named = {account.name: account for account in every if account.name}
    own = {
        key: value
        for account in every
        if not account.name
        for key, value in (
            (zendesk_key(account), zendesk(account)),
            (bucket_key(account), bucket(account)),
        )
    }
    if not named:
        return own
    return {**own, "zendesk_accounts": Zendesks(named), "zendesk_buckets": Buckets(named)}


class Zendesks:
    """The Zendesk of each named account, made when a run asks for it; only then its secrets are read."""

    def __init__(self, accounts: dict[str, Account]) -> None:
        self._accounts = accounts

    def of(self, name: str) -> ZendeskResource:
        """The Zendesk of an account; raises KeyError for a name that is unknown."""
        account = self._accounts[name]
        return zendesk(account).looking_in(account.source)


class Buckets(dg.IOManager):
    """The bucket of each named account, and the IO manager of its assets."""

    def __init__(self, accounts: dict[str, Account]) -> None:
        self._accounts = accounts

    def of(self, name: str) -> S3IOManager:
        """The bucket of an account; raises KeyError for a name that is unknown."""
        return bucket(self._accounts[name])

    def handle_output(self, context: dg.OutputContext, obj: PageStream) -> None:
        """As `S3IOManager` does."""
        self.of(context.asset_key.path[0]).handle_output(context, obj)

    def load_input(self, context: dg.InputContext) -> Any:
        """As `S3IOManager` does."""
        return self.of(context.asset_key.path[0]).load_input(context)


def zendesk(account: Account) -> ZendeskResource:
    """An account's Zendesk."""
    return ZendeskResource(**values(ZendeskResource, account.settings, account.secret))


def bucket(account: Account) -> S3IOManager:
    """Where an account is delivered to."""
    s3 = S3Resource(profile_name=account.aws_profile or None)
    return S3IOManager(s3=s3, **values(S3IOManager, account.settings, account.secret))
