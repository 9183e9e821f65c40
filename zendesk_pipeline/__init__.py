"""Zendesk logs to Amazon S3 in hourly windows, each record exactly once."""
