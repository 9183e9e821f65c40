"""Dagster's ends: accounts, assets, IO manager, resources, schedules, sensors and checks."""
