"""`python -m zendesk_pipeline.simulator`."""

from zendesk_pipeline.simulator.command import simulate

if __name__ == "__main__":
    simulate()
