"""Runs on Celery workers: the launcher in the daemon, and what a worker executes."""
