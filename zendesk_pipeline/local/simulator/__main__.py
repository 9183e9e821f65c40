"""`python -m zendesk_pipeline.local.simulator`."""

from zendesk_pipeline.local.simulator.command import simulate

if __name__ == "__main__":
    simulate()
