"""Tests of `zendesk_pipeline/commands/verify`."""
