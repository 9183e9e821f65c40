"""What Dagster loads: the account of the environment. To import this is to read the settings."""

from zendesk_pipeline import settings
from zendesk_pipeline.wiring import build

defs = build(settings.load())
