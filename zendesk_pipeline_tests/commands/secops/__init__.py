"""Tests of `zendesk_pipeline/commands/secops`."""
