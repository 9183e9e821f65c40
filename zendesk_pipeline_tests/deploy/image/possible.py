"""Whether `make image` can be tried on this machine: if not, says why, as a sentence, and ends with status 3.

Makes the base, and runs a container of it. A machine that is a container itself may not have a mount or a cgroup for
that. Any other failure is a fault of ours, with a traceback and status 1.
"""

import click

from zendesk_pipeline_tests.deploy.image import containers

IMPOSSIBLE = 3
"""The status; also that of debian-base.sh where debootstrap cannot work here."""


def reason() -> str:
    """Why not; empty where it can be tried."""
    if said := containers.missing():
        return said
    try:
        base = containers.base()
    except containers.FailedError as failed:
        if failed.status != IMPOSSIBLE:
            raise
        return _last_words(failed)
    try:
        containers.said_by(containers.handed_over(base), "true")
    except containers.FailedError as failed:  # only the engines' own work: no file of ours is in these commands
        return _last_words(failed)
    return ""


def _last_words(failed: containers.FailedError) -> str:
    return ([line for line in str(failed).splitlines() if line.strip()] or ["A command failed without a word."])[-1]


@click.command
def possible() -> None:
    """Whether images can be built and containers run here."""
    if why := reason():
        click.echo(why)
        raise SystemExit(IMPOSSIBLE)


if __name__ == "__main__":
    possible()
