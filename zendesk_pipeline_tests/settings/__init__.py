"""Tests of `zendesk_pipeline/settings`."""
