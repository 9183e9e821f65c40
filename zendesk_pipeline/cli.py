"""The command line: what is beside Dagster's own commands."""

import click

from zendesk_pipeline.simulator.command import simulate


@click.group
@click.version_option(package_name="zendesk-pipeline")
def main() -> None:
    """Zendesk logs to Amazon S3 for Google SecOps. The pipeline itself runs in Dagster (make dev)."""


main.add_command(simulate)
