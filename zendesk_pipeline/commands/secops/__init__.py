"""`zendesk-pipeline feed` and `parser-check`: what is asked of Google SecOps."""
