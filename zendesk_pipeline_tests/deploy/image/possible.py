"""Whether `make image` can be tried on this machine: says why not, as a sentence, and ends with status 1.

Makes the base, and runs a container of it. A machine that is a container itself may lack a mount or a cgroup for that.
"""

import click

from zendesk_pipeline_tests.deploy.image import containers


@click.command
def possible() -> None:
    """Whether images can be built and containers run here."""
    try:
        why = containers.missing()
        if not why:
            containers.said_by(containers.handed_over(containers.base()), "true")
    except AssertionError as problem:  # of a command that failed: its own last words
        why = ([line for line in str(problem).splitlines() if line.strip()] or ["A command failed without a word."])[-1]
    if why:
        click.echo(why)
        raise SystemExit(1)


if __name__ == "__main__":
    possible()
