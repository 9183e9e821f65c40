"""Tests of `zendesk_pipeline/commands/takeover`."""
