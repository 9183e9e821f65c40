"""Tests of `zendesk_pipeline/.`."""
