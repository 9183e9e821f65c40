"""Asking Zendesk: one request, its limits and the credential, and the walk over pages. No S3, no Dagster."""
