"""The code location of `bench.hourly`: the account of the environment, collected at a minute that is given."""

import os

import dagster as dg

from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.settings import environment
from zendesk_pipeline.wiring import accounts_definitions

_chosen = environment.load()
_account = Account(settings=_chosen, minute=int(os.environ["BENCH_MINUTE"]))
defs = dg.Definitions.merge(accounts_definitions([_account], _chosen), dg.Definitions(executor=dg.in_process_executor))
