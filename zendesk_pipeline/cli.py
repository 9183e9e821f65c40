"""The command line: commands that Dagster does not have."""

import os
import shlex
from importlib import import_module
from pathlib import Path

import click

from zendesk_pipeline.settings.programs import PACKAGE, called

COMMANDS = {
    "authorize": "zendesk_pipeline.commands.authorize:authorize",
    "demo": "zendesk_pipeline.local.demo:demo",
    "dev": "zendesk_pipeline.local.dev:dev",
    "doctor": "zendesk_pipeline.commands.doctor.command:doctor",
    "feed": "zendesk_pipeline.commands.secops.feed:feed",
    "fields": "zendesk_pipeline.commands.fields:fields",
    "heartbeat": "zendesk_pipeline.commands.heartbeat:heartbeat",
    "iam-policy": "zendesk_pipeline.commands.iam_policy:iam_policy",
    "metrics": "zendesk_pipeline.commands.metrics.command:metrics",
    "parser-check": "zendesk_pipeline.commands.secops.parser_check:parser_check",
    "prepare": "zendesk_pipeline.commands.prepare:prepare",
    "redact": "zendesk_pipeline.commands.redact:redact",
    "simulate": "zendesk_pipeline.local.simulator.command:simulate",
    "takeover": "zendesk_pipeline.commands.takeover.command:takeover",
    "verify": "zendesk_pipeline.commands.verify.command:verify",
    "volume": "zendesk_pipeline.commands.volume:volume",
}
"""Where each command is. It is loaded on use: some of them need Dagster, which takes a second to import."""
WITHOUT_ACCOUNT = {"demo", "dev", "simulate"}
"""Commands that use no account, and so no `.env`."""
HELP_IS_ASKED = f"{__name__}.help"


class Commands(click.Group):
    """The commands by their names."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Notes whether only help is asked for, which needs no settings."""
        ctx.meta[HELP_IS_ASKED] = "--help" in args
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the alphabet."""
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None where there is none of the name."""
        del ctx
        module, _, name = COMMANDS.get(cmd_name, "").partition(":")
        return getattr(import_module(module), name) if module else None


@click.group(cls=Commands)
@click.version_option(package_name="zendesk-pipeline")
@click.option(
    "--defs",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The defs.yaml of the account; the account of the environment, if not given.",
)
@click.option("--account", metavar="NAME", help="Which one of several in that file.")
@click.pass_context
def main(context: click.Context, defs: Path | None, account: str | None) -> None:
    """Zendesk logs to Amazon S3 for Google SecOps. The pipeline itself runs in Dagster (make dev).

    Settings are variables of the environment, and those of the file .env in the current folder, which win.
    """
    if context.invoked_subcommand not in WITHOUT_ACCOUNT and not context.meta[HELP_IS_ASKED]:
        _read_env_file(checks_itself=context.invoked_subcommand == "doctor")
    if defs is None:
        if account is not None:
            raise click.UsageError("--account is one of the file that --defs names.")
        return
    from zendesk_pipeline.commands import account_file, past_range  # noqa: PLC0415 - slow to import, and seldom needed

    read = account_file.read(defs, account)
    os.environ.update(account_file.variables(read, os.environ))
    click.echo(account_file.described(read), err=True)
    options = ["--defs", str(defs), *(["--account", account] if account else [])]
    context.obj = past_range.Named(
        account=read.name, delay=read.delay, program=f"{called(PACKAGE)} {shlex.join(options)}"
    )


def _read_env_file(*, checks_itself: bool) -> None:
    """As Dagster's own commands do; what was read is said on standard error. Raises SettingsError.

    `checks_itself`: whether the command reports what is wrong with the file, among all else.
    """
    from zendesk_pipeline.settings import env_file, environment  # noqa: PLC0415 - slow to import, and not needed for help

    if note := env_file.put_over(os.environ, Path.cwd(), environment.OPTIONAL | environment.NEEDED):
        click.echo(note, err=True)
    if not checks_itself:
        environment.refuse_empty_lines()
