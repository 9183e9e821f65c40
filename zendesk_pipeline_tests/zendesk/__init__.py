"""Tests of `zendesk_pipeline/zendesk`."""
