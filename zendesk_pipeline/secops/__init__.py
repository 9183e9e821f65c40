"""Asking Google SecOps: its feeds, its parsers, and what they say of themselves. No Dagster."""
