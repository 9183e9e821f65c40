"""Tests of `zendesk_pipeline/model`."""
