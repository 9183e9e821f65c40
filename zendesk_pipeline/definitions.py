"""What Dagster loads: the account of the environment. To import this is to read the settings."""

from zendesk_pipeline.settings import environment
from zendesk_pipeline.wiring import build

defs = build(environment.load())
