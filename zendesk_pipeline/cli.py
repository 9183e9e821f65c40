"""The command line: what is beside Dagster's own commands."""

import click

from zendesk_pipeline.authorize import authorize
from zendesk_pipeline.demo import demo
from zendesk_pipeline.dev import dev
from zendesk_pipeline.doctor.command import doctor
from zendesk_pipeline.feed_command import feed
from zendesk_pipeline.parser_check import parser_check
from zendesk_pipeline.policies import iam_policy
from zendesk_pipeline.redact_command import redact
from zendesk_pipeline.simulator.command import simulate
from zendesk_pipeline.volume import volume


@click.group
@click.version_option(package_name="zendesk-pipeline")
def main() -> None:
    """Zendesk logs to Amazon S3 for Google SecOps. The pipeline itself runs in Dagster (make dev)."""


main.add_command(authorize)
main.add_command(demo)
main.add_command(dev)
main.add_command(feed)
main.add_command(doctor)
main.add_command(iam_policy)
main.add_command(parser_check)
main.add_command(redact)
main.add_command(simulate)
main.add_command(volume)
