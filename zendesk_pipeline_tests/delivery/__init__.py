"""Tests of `zendesk_pipeline/delivery`."""
