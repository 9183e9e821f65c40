"""Records into the bucket, each once, and what is there. No Zendesk, no Dagster."""
