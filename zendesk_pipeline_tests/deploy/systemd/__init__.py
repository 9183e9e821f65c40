"""What needs systemd itself: `make iac` runs it."""
