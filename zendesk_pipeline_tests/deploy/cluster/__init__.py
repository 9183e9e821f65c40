"""Tests on a distributed engine: Dagster on PostgreSQL, runs on Celery workers. `make cluster` runs them."""
