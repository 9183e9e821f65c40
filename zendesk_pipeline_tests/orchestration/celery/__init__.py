"""Tests of `zendesk_pipeline/orchestration/celery`."""
