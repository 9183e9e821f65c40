"""Tests of `zendesk_pipeline/secops`."""
