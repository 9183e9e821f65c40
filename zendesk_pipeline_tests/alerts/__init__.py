"""Tests of `zendesk_pipeline/alerts`."""
