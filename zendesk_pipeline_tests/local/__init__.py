"""Tests of `zendesk_pipeline/local`."""
