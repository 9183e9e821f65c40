"""The path of a new user, command by command and with a clock: `python -m zendesk_pipeline_tests.project.first_hour`.

Nothing is set; then AWS from the template (at moto), the doctor, the first windows, their verification, and the feed.
Each step is the command that the documentation names, as a process of its own; the test has them forked.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, cast

import boto3
import click
import requests
from dotenv import dotenv_values

from zendesk_pipeline.commands import past_range
from zendesk_pipeline.local.services import (
    ACCESS_KEY,
    SECRET_KEY,
    LocalS3,
    SimulatedZendesk,
    moto_s3,
    simulated_zendesk,
)
from zendesk_pipeline.model.streams import COLLECTED_BY_DEFAULT
from zendesk_pipeline.model.windows import HOUR, Span, timestamp
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.deploy import cloudformation

PROGRAM, DAGSTER = "zendesk-pipeline", "dagster"
HOURS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command, and how it ended."""

    name: str
    seconds: float
    status: int
    output: str


def installed(program: str, *arguments: str) -> list[str]:
    """The command of a program of this environment."""
    return [str(Path(sys.executable).with_name(program)), *arguments]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """Somebody with a checkout, an account at Zendesk and one at AWS, both simulated."""

    folder: Path
    zendesk: SimulatedZendesk
    aws: LocalS3
    span: Span
    """The first windows."""
    tell: Callable[[str], object]
    command: Callable[..., list[str]]
    """That of a program with its arguments."""
    variables: dict[str, str] = field(default_factory=dict[str, str])
    steps: list[Step] = field(default_factory=list[Step])

    def run(self, name: str, *command: str, also: Mapping[str, str] | None = None) -> Step:
        """Run a command in the user's environment."""
        home = {"HOME": str(self.folder), "DAGSTER_HOME": str(self.folder), "PATH": os.defpath}
        began = time.monotonic()
        done = subprocess.run(
            self.command(*command),
            env={**home, **self.variables, **(also or {})},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        step = Step(
            name=name,
            seconds=time.monotonic() - began,
            status=done.returncode,
            output=done.stdout + done.stderr,
        )
        self.steps.append(step)
        self.tell(f"{step.seconds:6.1f} s  exit {step.status}  {name}")
        return step

    def deploy(self) -> None:
        """The template, its settings, and a key for the writer made by the command in the outputs."""
        began = time.monotonic()
        make = cast("Callable[..., Any]", boto3.client)  # hints of S3 only are installed
        root = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
        cloud, iam = (
            make(name, endpoint_url=self.aws.endpoint, region_name="us-east-1", **root)
            for name in ("cloudformation", "iam")
        )
        parameters = {"BucketName": "acme-zendesk", "Writer": "user"}
        cloud.create_stack(
            StackName="zendesk-to-secops",
            TemplateBody=cloudformation.PATH.read_text(),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        (stack,) = cloud.describe_stacks(StackName="zendesk-to-secops")["Stacks"]
        outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
        user = outputs["WriterKeyCommand"].split()[-1].strip("'\"")
        key = iam.create_access_key(UserName=user)["AccessKey"]
        self.variables.update(
            {
                **{name: value or "" for name, value in dotenv_values(stream=StringIO(outputs["Settings"])).items()},
                **self.zendesk.environment,
                "START_DATE": timestamp(self.span.start),
                "AWS_ENDPOINT_URL_S3": self.aws.endpoint,
                "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            }
        )
        requests.post(f"{self.aws.endpoint}/moto-api/reset-auth", data="0", timeout=60).raise_for_status()
        self.steps.append(Step(name="template", seconds=time.monotonic() - began, status=0, output=""))
        self.tell(f"{self.steps[-1].seconds:6.1f} s  deployed the template, made the writer's key")


@contextmanager
def new_user(
    folder: Path, tell: Callable[[str], object], command: Callable[..., list[str]] = installed
) -> Generator[NewUser]:
    """Whoever begins, a few hours after things began to happen in the account."""
    end = past_range.settled_until(Settings.model_construct(), time.time())  # as `verify` counts
    since = timestamp(end - 2 * HOURS * HOUR)
    with moto_s3(folder, "unused") as aws, simulated_zendesk(folder, "--since", since) as zendesk:
        span = Span(end - HOURS * HOUR, end)
        yield NewUser(folder=folder, zendesk=zendesk, aws=aws, span=span, tell=tell, command=command)


def walk(user: NewUser) -> None:
    """The steps of the documentation, in their order."""
    first, *_, last = (window.partition_key for window in user.span)
    user.run("doctor, with nothing set", PROGRAM, "doctor")
    user.deploy()
    user.run("doctor, with everything set", PROGRAM, "doctor")
    for stream in COLLECTED_BY_DEFAULT:
        what = ("--select", stream, "--partition-range", f"{first}...{last}")
        user.run(
            f"{HOURS} hours of {stream}", DAGSTER, "asset", "materialize", "-m", "zendesk_pipeline.definitions", *what
        )
    user.run("verify", PROGRAM, "verify", "--from", timestamp(user.span.start), "--to", timestamp(user.span.end))
    instance = {"SECOPS_CUSTOMER_ID": "0ddba11a-0000-4000-8000-000000000000", "SECOPS_PROJECT": "acme-secops"}
    reader = {"SECOPS_REGION": "eu", "FEED_ACCESS_KEY_ID": "AKIAEXAMPLEEXAMPLE00"}
    user.run("the feed's body", PROGRAM, "feed", "print", also={**instance, **reader})


def main() -> None:
    """Print each step with its time; the exit status says whether any but the first went wrong."""
    with tempfile.TemporaryDirectory() as name, new_user(Path(name), click.echo) as user:
        walk(user)
    click.echo(f"{sum(step.seconds for step in user.steps):6.1f} s  in all")
    for step in user.steps:
        if step.name.startswith(("doctor", "verify", "the feed")):
            click.echo(f"\n== {step.name}\n{step.output.strip()}")
    sys.exit(any(step.status for step in user.steps[1:]))


if __name__ == "__main__":
    main()
