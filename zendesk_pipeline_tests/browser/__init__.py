"""The project in Dagster's real UI, driven by clicks in a headless Chromium: `make browser`."""
