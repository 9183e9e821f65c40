"""deploy/aws/zendesk-to-secops.yaml, deployed: rights that are enough and no more, and nothing that repeats records.

Moto makes the stacks and enforces what the policies say (not their conditions; `test_least_privilege.py` has a server
that does). What moto leaves out of a stack (public access, bucket policy, versions, lifecycle, notification) is read
from the template, filled in as CloudFormation does.
"""

import itertools
import json
import re
import shlex
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote_plus

import boto3
import pytest
import requests
from botocore.exceptions import ClientError
from dotenv import dotenv_values
from pydantic import ValidationError

from zendesk_pipeline.commands.iam_policy import Statement, reader_policy, writer_policy
from zendesk_pipeline.delivery.batches import LONGEST_LINE
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import ACCESS_KEY, SECRET_KEY, LocalS3, SimulatedZendesk, moto_s3
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.by_hand import FIRST, audit_log, hours, ticket
from zendesk_pipeline_tests.collected import COLLECTED
from zendesk_pipeline_tests.conftest import SINCE
from zendesk_pipeline_tests.deliveries import Bucket, Deliveries, without_ledgers
from zendesk_pipeline_tests.deploy import cloudformation
from zendesk_pipeline_tests.deploy.cloudformation import filled_in
from zendesk_pipeline_tests.promise.collector_process import Collection, collect
from zendesk_pipeline_tests.reconcile import reconcile

SPAN = hours(2)
ACCOUNT = "123456789012"
KEY_ARN = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
PRINCIPAL = f"arn:aws:iam::{ACCOUNT}:root"
ISSUER = "oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE"

PLAIN = {"BucketName": "acme-zendesk", "Writer": "user"}
"""What a deployment says at least."""

VARIANTS: dict[str, dict[str, str]] = {
    "user": {},
    "principal": {"Writer": "principal", "WriterPrincipal": PRINCIPAL},
    "ec2": {"Writer": "ec2"},
    "ecs": {"Writer": "ecs"},
    "pod-identity": {"Writer": "eks-pod-identity", "Namespace": "logs", "ServiceAccount": "collector"},
    "oidc": {"Writer": "eks-oidc", "OidcIssuer": ISSUER},
    "write-only": {"WriteOnlyFeed": "true"},
    "federated": {"ReaderSubjectId": "117"},
    "deleting": {"DeleteAfterTransfer": "true"},
    "listing": {"ListWholeBucket": "true"},
    "queue": {"FeedQueue": "true"},
    "access-log": {"AccessLog": "true"},
    "made-key": {"KmsKey": "create"},
    "own-key": {"KmsKey": KEY_ARN},
    "prefixes": {"FeedPrefix": "a/b/", "StatePrefix": "c/", "QuarantinePrefix": "d/e.f/"},
    "all-roles": {
        "Writer": "principal",
        "WriterPrincipal": PRINCIPAL,
        "WriteOnlyFeed": "true",
        "ReaderSubjectId": "117",
        "DeleteAfterTransfer": "true",
        "ListWholeBucket": "true",
        "FeedQueue": "true",
        "AccessLog": "true",
        "KmsKey": "create",
    },
}

Client = Any
Credentials = dict[str, str]
"""As boto3's arguments."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployment."""

    bucket: str
    outputs: dict[str, str]
    policies: dict[str, str]
    """ARNs by their names in the template."""

    @property
    def environment(self) -> dict[str, str]:
        """The lines for .env, read as Dagster reads them."""
        text = "\n".join(self.outputs.get(name, "") for name in ("Settings", "ReceiptSettings"))
        lines = dotenv_values(stream=StringIO(text))
        return {name: value or "" for name, value in lines.items()}

    @property
    def settings(self) -> Settings:
        names = {name.lower(): value for name, value in self.environment.items() if value}
        return Settings.model_validate(names)

    @property
    def layout(self) -> Layout:
        chosen = self.settings
        return Layout(feed=chosen.s3_prefix, state=chosen.state_prefix, quarantine=chosen.quarantine_prefix)


@dataclass(frozen=True, slots=True)
class Aws:
    """An AWS account at moto."""

    endpoint: str
    stacks: dict[str, Stack] = field(default_factory=dict[str, Stack])
    keys: dict[tuple[str, str], Credentials] = field(default_factory=dict[tuple[str, str], Credentials])

    def client(self, service: str, credentials: Credentials | None = None) -> Client:
        make = cast("Callable[..., Client]", boto3.client)  # hints of S3 only are installed
        root = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
        return make(service, endpoint_url=self.endpoint, region_name="us-east-1", **(credentials or root))

    def stack(self, variant: str) -> Stack:
        """The deployment of a variant, made at its first use."""
        if variant not in self.stacks:
            self.stacks[variant] = self._deployed(f"stack-{variant}", VARIANTS[variant])
        return self.stacks[variant]

    def _deployed(self, name: str, variant: dict[str, str]) -> Stack:
        client, parameters = self.client("cloudformation"), {**PLAIN, "BucketName": name, **variant}
        client.create_stack(
            StackName=name,
            TemplateBody=cloudformation.PATH.read_text(),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        (stack,) = client.describe_stacks(StackName=name)["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE"
        made = client.describe_stack_resources(StackName=name)["StackResources"]
        return Stack(
            bucket=name,
            outputs={output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]},
            policies={
                each["LogicalResourceId"]: each["PhysicalResourceId"]
                for each in made
                if each.get("ResourceType") == "AWS::IAM::ManagedPolicy"
            },
        )

    def statements(self, stack: Stack, who: str) -> list[Statement]:
        """Every statement of the policies of writer or reader, as IAM has them."""
        iam, found = self.client("iam"), list[Statement]()
        for name, arn in stack.policies.items():
            if name.startswith(who):
                version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
                document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
                found += document["Statement"]
        return found

    def credentials(self, stack: Stack, who: str) -> Credentials:
        """Of writer or reader: a key made by the command in the outputs, or the role, taken."""
        if (stack.bucket, who) not in self.keys:
            self.keys[stack.bucket, who] = self._credentials(stack, who)
        return self.keys[stack.bucket, who]

    def _credentials(self, stack: Stack, who: str) -> Credentials:
        command = shlex.split(stack.outputs.get(f"{who}KeyCommand", ""))
        if command:
            assert command[:-1] == ["aws", "iam", "create-access-key", "--user-name"]
            key = self.client("iam").create_access_key(UserName=command[-1])["AccessKey"]
            return {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        sts, role = self.client("sts"), {"RoleArn": stack.outputs[f"{who}RoleArn"], "RoleSessionName": "test"}
        if who == "Reader":
            key = sts.assume_role_with_web_identity(**role, WebIdentityToken="of-google")["Credentials"]
        else:
            key = sts.assume_role(**role)["Credentials"]
        return {
            "aws_access_key_id": key["AccessKeyId"],
            "aws_secret_access_key": key["SecretAccessKey"],
            "aws_session_token": key["SessionToken"],
        }

    @contextmanager
    def checking(self) -> Generator[None]:
        """Every request within is checked against IAM."""
        self._check_after(0)
        yield
        self._check_after(10**9)

    def _check_after(self, requests_left: int) -> None:
        requests.post(f"{self.endpoint}/moto-api/reset-auth", data=str(requests_left), timeout=60).raise_for_status()


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """A server of this module's own, since checking is for all of a server's users."""
    with moto_s3(tmp_path_factory.mktemp("moto"), "unused") as server:
        yield Aws(server.endpoint)


# Deployed: the policies


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_policies_are_those_that_the_command_prints(aws: Aws, variant: str) -> None:
    """Statement by statement, for the settings that the outputs give: `iam-policy` and template cannot drift apart."""
    stack, chosen = aws.stack(variant), VARIANTS[variant]
    writer = writer_policy(stack.settings, write_only_feed="WriteOnlyFeed" in chosen)
    reader = reader_policy(
        stack.settings,
        delete_after_transfer="DeleteAfterTransfer" in chosen,
        list_whole_bucket="ListWholeBucket" in chosen,
        queue=stack.outputs.get("QueueArn"),
    )
    for who, policy in (("Writer", writer), ("Reader", reader)):
        assert _sorted(aws.statements(stack, who)) == _sorted(policy["Statement"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_policy_is_attached_to_whom_it_is_for(aws: Aws, variant: str) -> None:
    """One identity has the writer's policies, one the reader's, and nobody has anything else."""
    stack, iam = aws.stack(variant), aws.client("iam")
    holders = dict[str, set[str]]()
    for name, arn in stack.policies.items():
        entities = iam.list_entities_for_policy(PolicyArn=arn)
        names = [each["RoleName"] for each in entities["PolicyRoles"]]
        names += [each["UserName"] for each in entities["PolicyUsers"]]
        holders.setdefault(name[:6], set()).update(names)
    assert {who: len(names) for who, names in holders.items()} == {"Writer": 1, "Reader": 1}
    assert not holders["Writer"] & holders["Reader"]
    for who, (name,) in holders.items():
        assert name in stack.outputs.get(f"{who}KeyCommand", stack.outputs.get(f"{who}RoleArn", ""))


def _sorted(statements: list[Statement]) -> list[str]:
    return sorted(json.dumps(statement, sort_keys=True) for statement in statements)


# Deployed: the rights


def _collected(aws: Aws, stack: Stack, zendesk: SimulatedZendesk, folder: Path, stream: str) -> tuple[int, str]:
    """Exit code and output of a collection with the outputs' settings and the writer's rights alone."""
    log = folder / "log"
    environment = {
        **zendesk.environment,
        **stack.environment,
        **{name.upper(): value for name, value in aws.credentials(stack, "Writer").items()},
        "AWS_ENDPOINT_URL_S3": aws.endpoint,
        "START_DATE": SINCE,
        "ZENDESK_EXPORT_RATE": "100000",
    }
    log.unlink(missing_ok=True)
    with aws.checking():
        code = collect(Collection(stream=stream, span=SPAN, environment=environment, log=log))
    return code, log.read_text()


@pytest.mark.parametrize("variant", ["principal", "made-key", "prefixes"])
def test_the_writer_can_do_its_work(aws: Aws, zendesk: SimulatedZendesk, tmp_path: Path, variant: str) -> None:
    """Both streams, a re-run, a crash that is mended, a record too long for a line: exact, and never a refusal."""
    stack = aws.stack(variant)
    place = Bucket(store=Store(client=aws.client("s3"), bucket=stack.bucket, encryption={}), layout=stack.layout)
    zendesk.control.add_records("incremental_tickets", [ticket(990_001, FIRST.start + 9, "x" * 4_000_000).line])
    said = [_collected(aws, stack, zendesk, tmp_path, stream) for stream in COLLECTED]
    delivered = without_ledgers(place)
    said += [_collected(aws, stack, zendesk, tmp_path, stream) for stream in COLLECTED]

    assert [code for code, _ in said] == [0] * 4, said
    assert [text for _, text in said if "refuses" in text] == []
    assert (place.stored(), len(delivered) > 1) == (delivered, True)
    assert len(place.stored(stack.layout.quarantine)) == 1
    server = LocalS3(endpoint=aws.endpoint, bucket=stack.bucket, environment={})
    verdict = reconcile(zendesk.control, server, stack.layout, "audit_logs", SPAN)
    assert verdict.exact
    assert verdict.source > 0
    for key in (*delivered, *place.stored(stack.layout.state)):
        head = aws.client("s3").head_object(Bucket=stack.bucket, Key=key)
        assert head["ServerSideEncryption"] == ("aws:kms" if variant == "made-key" else "AES256")
        assert head.get("SSEKMSKeyId") == stack.outputs.get("KmsKeyArn")


Attempt = Callable[[Client, str, Layout], object]
ATTEMPTS: dict[str, Attempt] = {
    "read the feed": lambda s3, bucket, at: s3.get_object(Bucket=bucket, Key=f"{at.feed}x"),
    "list the feed": lambda s3, bucket, at: s3.list_objects_v2(Bucket=bucket, Prefix=at.feed),
    "say where": lambda s3, bucket, _: s3.get_bucket_location(Bucket=bucket),
    "read a ledger": lambda s3, bucket, at: s3.get_object(Bucket=bucket, Key=f"{at.state}x"),
    "read quarantine": lambda s3, bucket, at: s3.get_object(Bucket=bucket, Key=f"{at.quarantine}x"),
    "read beside": lambda s3, bucket, _: s3.get_object(Bucket=bucket, Key="beside/x"),
    "write the feed": lambda s3, bucket, at: s3.put_object(Bucket=bucket, Key=f"{at.feed}y", Body=b""),
    "write a ledger": lambda s3, bucket, at: s3.put_object(Bucket=bucket, Key=f"{at.state}y", Body=b""),
    "write quarantine": lambda s3, bucket, at: s3.put_object(Bucket=bucket, Key=f"{at.quarantine}y", Body=b""),
    "write beside": lambda s3, bucket, _: s3.put_object(Bucket=bucket, Key="beside/y", Body=b""),
    "delete a ledger": lambda s3, bucket, at: s3.delete_object(Bucket=bucket, Key=f"{at.state}x"),
    "delete quarantine": lambda s3, bucket, at: s3.delete_object(Bucket=bucket, Key=f"{at.quarantine}x"),
    "read versions": lambda s3, bucket, _: s3.list_object_versions(Bucket=bucket),
    "read the policy": lambda s3, bucket, _: s3.get_bucket_policy(Bucket=bucket),
    "stop versions": lambda s3, bucket, _: s3.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}
    ),
    "delete the bucket": lambda s3, bucket, _: s3.delete_bucket(Bucket=bucket),
    "delete from the feed": lambda s3, bucket, at: s3.delete_object(Bucket=bucket, Key=f"{at.feed}x"),
}
WRITES = {"read a ledger", "write the feed", "write a ledger", "write quarantine"}
READS = {"read the feed", "list the feed", "say where"}


@pytest.mark.parametrize(
    ("variant", "who", "allowed"),
    [
        ("user", "Writer", WRITES | {"read the feed", "list the feed"}),
        # moto evaluates no conditions: it lets list the feed whoever may list the ledgers
        ("write-only", "Writer", WRITES | {"list the feed"}),
        ("user", "Reader", READS),
        ("federated", "Reader", READS),
        ("deleting", "Reader", READS | {"delete from the feed"}),
        ("all-roles", "Reader", READS | {"delete from the feed"}),
    ],
)
def test_writer_and_reader_can_do_nothing_else(aws: Aws, variant: str, who: str, allowed: set[str]) -> None:
    """What is not their work is refused: ledgers, quarantine, other places, versions, the bucket itself."""
    stack = aws.stack(variant)
    places = [f"{prefix}x" for prefix in (stack.layout.feed, stack.layout.state, stack.layout.quarantine)]
    for key in (*places, "beside/x"):
        aws.client("s3").put_object(Bucket=stack.bucket, Key=key, Body=b"x")
    s3, done = aws.client("s3", aws.credentials(stack, who)), set[str]()
    with aws.checking():
        for name, attempt in ATTEMPTS.items():
            try:
                attempt(s3, stack.bucket, stack.layout)
                done.add(name)
            except ClientError as refused:
                assert refused.response.get("Error", {}).get("Code") == "AccessDenied", (name, refused)  # noqa: PT017  # it goes on
    assert done == allowed


def test_the_queue_tells_the_reader_of_the_feed_and_of_nothing_else(aws: Aws) -> None:
    """What is written under the feed prefix, and that alone, is announced; the reader takes it, and sends nothing."""
    stack, queue = aws.stack("queue"), aws.client("sqs")
    _notify(aws, stack)
    place = Bucket(store=Store(client=aws.client("s3"), bucket=stack.bucket, encryption={}), layout=stack.layout)
    long = audit_log(2, SPAN.start, "x" * LONGEST_LINE)
    Deliveries(bucket=place).records(SPAN, [audit_log(1, SPAN.start), long])
    assert len(place.stored(stack.layout.quarantine)) == 1

    url = queue.get_queue_url(QueueName=stack.outputs["QueueArn"].rpartition(":")[2])["QueueUrl"]
    reader, announced = aws.client("sqs", aws.credentials(stack, "Reader")), set[str]()
    with aws.checking():
        while messages := reader.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                records = json.loads(message["Body"]).get("Records", [])
                announced |= {unquote_plus(record["s3"]["object"]["key"]) for record in records}
                reader.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        with pytest.raises(ClientError, match="AccessDenied"):
            reader.send_message(QueueUrl=url, MessageBody="forged")
    assert announced == set(place.stored())
    assert len(announced) > 1


def _notify(aws: Aws, stack: Stack) -> None:
    """Give the bucket the template's notification, which moto leaves out of a stack."""
    (said,) = filled_in(**PLAIN, **VARIANTS["queue"])["Resources"]["Bucket"]["Properties"]["NotificationConfiguration"][
        "QueueConfigurations"
    ]
    assert said.pop("Queue") == "Queue.Arn"
    rules = {"Key": {"FilterRules": said["Filter"]["S3Key"]["Rules"]}}
    told = {"QueueArn": stack.outputs["QueueArn"], "Events": [said["Event"]], "Filter": rules}
    aws.client("s3").put_bucket_notification_configuration(
        Bucket=stack.bucket, NotificationConfiguration={"QueueConfigurations": [told]}
    )


# The template: what moto does not apply

COMBINATIONS = [
    {**PLAIN, "KmsKey": key, "FeedDays": feed, "QuarantineDays": quarantine, "FeedQueue": queue}
    for key, feed, quarantine, queue in itertools.product(
        ("none", "create", KEY_ARN), ("0", "1", "180"), ("0", "400"), ("true", "false")
    )
]


def test_no_parameter_lets_a_ledger_expire() -> None:
    """No rule that removes objects or versions covers the state prefix: a lost ledger lets records repeat."""
    harmless = {"Id", "Status", "ExpiredObjectDeleteMarker", "AbortIncompleteMultipartUpload"}
    for parameters in COMBINATIONS:
        for rule in _bucket(**parameters)["LifecycleConfiguration"]["Rules"]:
            assert set(rule) <= harmless or rule["Prefix"] in {"zendesk/crm/", "zendesk/quarantine/"}


def test_the_bucket_is_closed_and_kept_whatever_is_chosen() -> None:
    """No public access, no owners but one, versions; bucket, its policy and key outlive the stack."""
    closed = dict.fromkeys(("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True)
    for parameters in COMBINATIONS:
        resources, said = filled_in(**parameters)["Resources"], _bucket(**parameters)
        assert said["PublicAccessBlockConfiguration"] == closed
        assert said["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
        assert said["VersioningConfiguration"] == {"Status": "Enabled"}
        kept = [resources[name] for name in ("Bucket", "BucketPolicy", "Key") if name in resources]
        assert {(each["DeletionPolicy"], each["UpdateReplacePolicy"]) for each in kept} == {("Retain", "Retain")}
        assert len(kept) == (3 if parameters["KmsKey"] == "create" else 2)


def _bucket(**parameters: str) -> dict[str, Any]:
    return filled_in(**{**PLAIN, **parameters})["Resources"]["Bucket"]["Properties"]


def _rules(**parameters: str) -> dict[str, dict[str, Any]]:
    return {rule["Id"]: rule for rule in _bucket(**parameters)["LifecycleConfiguration"]["Rules"]}


def test_what_expires_and_when() -> None:
    """The feed after as long as a feed looks back, quarantine never, unless said; versions and leftovers do."""
    default, other = _rules(), _rules(FeedDays="0", QuarantineDays="400", OldVersionDays="7")
    assert (default["feed"]["ExpirationInDays"], "ExpirationInDays" in other["feed"]) == ("180", False)
    assert ("ExpirationInDays" in default["quarantine"], other["quarantine"]["ExpirationInDays"]) == (False, "400")
    for rules, days in ((default, "30"), (other, "7")):
        for name in ("feed", "quarantine"):
            assert rules[name]["NoncurrentVersionExpiration"] == {"NoncurrentDays": days}
        assert rules["leftovers"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
        assert rules["leftovers"]["ExpiredObjectDeleteMarker"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("none", {"SSEAlgorithm": "AES256"}),
        ("create", {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "Key.Arn"}),
        (KEY_ARN, {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY_ARN}),
    ],
)
def test_the_bucket_encrypts_as_chosen(key: str, expected: dict[str, str]) -> None:
    """By S3's keys, by a key that is made and renewed, or by one of yours."""
    (rule,) = _bucket(KmsKey=key)["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == expected
    made = filled_in(**PLAIN, KmsKey=key)["Resources"].get("Key", {})
    assert bool(made) is (key == "create")
    assert not made or made["Properties"]["EnableKeyRotation"]


def _denied() -> dict[str, Statement]:
    policy = filled_in(**PLAIN)["Resources"]["BucketPolicy"]["Properties"]["PolicyDocument"]
    assert {statement["Effect"] for statement in policy["Statement"]} == {"Deny"}
    return {statement["Sid"]: statement for statement in policy["Statement"]}


def test_the_bucket_refuses_plain_http() -> None:
    """Everything on everything, for everybody, unless it comes by TLS."""
    statement = _denied()["NothingWithoutTls"]
    assert (statement["Principal"], statement["Action"]) == ("*", "s3:*")
    assert statement["Resource"] == ["arn:aws:s3:::acme-zendesk", "arn:aws:s3:::acme-zendesk/*"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_bucket_refuses_to_replace_and_the_collector_never_tries(aws: Aws) -> None:
    """Under feed and quarantine a write without If-None-Match is denied, and each of the collector's carries it."""
    statement = _denied()["NoObjectIsReplaced"]
    assert statement["Condition"]["Null"] == {"s3:if-none-match": "true"}
    covered = [place.removeprefix("arn:aws:s3:::acme-zendesk/").rstrip("*") for place in statement["Resource"]]
    stack, conditions = aws.stack("user"), dict[str, str]()

    def remember(request: Any, **_: Any) -> None:
        key = request.url.partition(f"/{stack.bucket}/")[2]
        conditions[key] = (request.headers.get("If-None-Match") or b"").decode()

    client = aws.client("s3")
    client.meta.events.register("before-send.s3.PutObject", remember)
    place = Bucket(store=Store(client=client, bucket=stack.bucket, encryption={}), layout=stack.layout)
    long = audit_log(3, FIRST.start, "x" * LONGEST_LINE)
    Deliveries(bucket=place).records(hours(1), [audit_log(4, FIRST.start), long])
    written = {prefix: [key for key in conditions if key.startswith(prefix)] for prefix in covered}
    assert list(written) == [stack.layout.feed, stack.layout.quarantine]
    assert all(written.values())
    assert {conditions[key] for keys in written.values() for key in keys} == {"*"}


def test_only_the_bucket_may_tell_the_queue() -> None:
    """S3, for this bucket of this account, by TLS; the queue is encrypted and keeps what it was told for 14 days."""
    resources = filled_in(**PLAIN, FeedQueue="true")["Resources"]
    tells, tls = resources["QueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (tells["Effect"], tells["Principal"], tells["Action"]) == (
        *("Allow", {"Service": "s3.amazonaws.com"}),
        "sqs:SendMessage",
    )
    assert tells["Condition"] == {
        "ArnEquals": {"aws:SourceArn": "arn:aws:s3:::acme-zendesk"},
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
    }
    assert (tls["Effect"], tls["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert resources["Queue"]["Properties"] == {"SqsManagedSseEnabled": True, "MessageRetentionPeriod": 14 * 86_400}


def test_only_s3_writes_the_access_log_and_of_this_bucket_alone() -> None:
    """S3's own service, for this bucket of this account, by TLS; into a bucket of its own, by the day it delivers."""
    resources = filled_in(**PLAIN, AccessLog="true")["Resources"]
    logged, tls = resources["AccessLogBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert logged == {
        "Sid": "TheBucketIsLogged",
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": "AccessLogBucket.Arn/s3/*",
        "Condition": {
            "ArnLike": {"aws:SourceArn": "arn:aws:s3:::acme-zendesk"},
            "StringEquals": {"aws:SourceAccount": ACCOUNT},
        },
    }
    assert (tls["Effect"], tls["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert resources["Bucket"]["Properties"]["LoggingConfiguration"] == {
        "DestinationBucketName": "AccessLogBucket",
        "LogFilePrefix": "s3/",
        "TargetObjectKeyFormat": {"PartitionedPrefix": {"PartitionDateSource": "DeliveryTime"}},
    }


def test_the_access_log_is_private_and_expires() -> None:
    """Encrypted by S3's own keys, as the delivery of the log asks for; no version is kept beyond its days."""
    made = filled_in(**PLAIN, AccessLog="true", KmsKey="create")["Resources"]["AccessLogBucket"]["Properties"]
    assert set(made["PublicAccessBlockConfiguration"].values()) == {True}
    (encryption,) = made["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    (rule,) = made["LifecycleConfiguration"]["Rules"]
    assert (rule["Status"], rule["ExpirationInDays"]) == ("Enabled", "60")
    assert "VersioningConfiguration" not in made


def test_without_a_word_nothing_is_logged() -> None:
    """AccessLog is off by default."""
    made = filled_in(**PLAIN)
    assert "LoggingConfiguration" not in made["Resources"]["Bucket"]["Properties"]
    assert [name for name in (*made["Resources"], *made["Outputs"]) if "AccessLog" in name or "Receipt" in name] == []


def test_the_writer_reads_the_access_log_and_writes_none(aws: Aws) -> None:
    """Of its bucket nothing else, and the reader nothing at all."""
    stack = aws.stack("access-log")
    bucket, _, prefix = stack.settings.secops_access_logs.removeprefix("s3://").partition("/")
    for key in (f"{prefix}x", "beside/x"):
        aws.client("s3").put_object(Bucket=bucket, Key=key, Body=b"x")
    attempts: dict[str, Callable[[Client], object]] = {
        "read": lambda s3: s3.get_object(Bucket=bucket, Key=f"{prefix}x"),
        "list": lambda s3: s3.list_objects_v2(Bucket=bucket, Prefix=prefix),
        "read beside": lambda s3: s3.get_object(Bucket=bucket, Key="beside/x"),
        "write": lambda s3: s3.put_object(Bucket=bucket, Key=f"{prefix}y", Body=b""),
        "delete": lambda s3: s3.delete_object(Bucket=bucket, Key=f"{prefix}x"),
    }
    done: dict[str, set[str]] = {"Writer": set(), "Reader": set()}
    clients = {who: aws.client("s3", aws.credentials(stack, who)) for who in done}
    with aws.checking():
        for who, client in clients.items():
            for name, attempt in attempts.items():
                try:
                    attempt(client)
                except ClientError as refused:
                    code = refused.response.get("Error", {}).get("Code")
                    assert code == "AccessDenied", (who, name, refused)  # noqa: PT017  # it goes on
                else:
                    done[who].add(name)
    assert done == {"Writer": {"read", "list"}, "Reader": set()}


@pytest.mark.parametrize(("variant", "kind"), [("access-log", "user"), ("all-roles", "role")])
def test_receipts_are_told_who_reads(aws: Aws, variant: str, kind: str) -> None:
    """The outputs' SECOPS_READER is the reader of the stack, whichever it is."""
    stack = aws.stack(variant)
    named = stack.settings.secops_reader
    assert named.startswith(f"arn:aws:iam::{ACCOUNT}:{kind}/")
    given = stack.outputs.get("ReaderRoleArn") or stack.outputs["ReaderKeyCommand"]
    assert given.endswith(named.rpartition("/")[2])


# Who may take the roles


SERVICE = "sts:AssumeRole"
TRUST = {
    "ec2": ({"Service": "ec2.amazonaws.com"}, SERVICE, None),
    "ecs": ({"Service": "ecs-tasks.amazonaws.com"}, SERVICE, {"aws:SourceAccount": ACCOUNT}),
    "pod-identity": (
        {"Service": "pods.eks.amazonaws.com"},
        [SERVICE, "sts:TagSession"],
        {
            "aws:RequestTag/kubernetes-namespace": "logs",
            "aws:RequestTag/kubernetes-service-account": "collector",
        },
    ),
    "oidc": (
        {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"},
        "sts:AssumeRoleWithWebIdentity",
        {
            f"{ISSUER}:aud": "sts.amazonaws.com",
            f"{ISSUER}:sub": "system:serviceaccount:zendesk-pipeline:zendesk-pipeline",
        },
    ),
    "principal": ({"AWS": PRINCIPAL}, SERVICE, None),
}


@pytest.mark.parametrize("variant", TRUST)
def test_only_where_the_collector_runs_its_role_can_be_taken(aws: Aws, variant: str) -> None:
    """One principal, narrowed by what it says of itself: the account, the pod's service account."""
    principal, action, condition = TRUST[variant]
    (statement,) = _trust(aws, aws.stack(variant).outputs["WriterRoleArn"])
    assert (statement["Principal"], statement["Action"]) == (principal, action)
    assert statement.get("Condition") == (condition and {"StringEquals": condition})


def test_only_the_feeds_own_identity_at_google_can_take_the_readers_role(aws: Aws) -> None:
    """Google's identity provider serves the whole world: the subject id is what makes it one."""
    (statement,) = _trust(aws, aws.stack("federated").outputs["ReaderRoleArn"])
    assert statement["Principal"] == {"Federated": "accounts.google.com"}
    assert statement["Condition"] == {"StringEquals": {"accounts.google.com:sub": "117"}}


def _trust(aws: Aws, arn: str) -> list[Statement]:
    role = aws.client("iam").get_role(RoleName=arn.rpartition("/")[2])["Role"]
    return role["AssumeRolePolicyDocument"]["Statement"]


def test_an_instance_gets_the_role_by_its_profile(aws: Aws) -> None:
    """Writer=ec2 makes the profile, since an instance takes no role by itself."""
    stack = aws.stack("ec2")
    name = stack.outputs["WriterInstanceProfileName"]
    (role,) = aws.client("iam").get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]
    assert role["Arn"] == stack.outputs["WriterRoleArn"]


# Parameters

CHANGES: dict[str, tuple[dict[str, str], dict[str, str], set[str]]] = {
    "BucketName": (
        {"FeedQueue": "true"},
        {"BucketName": "other-bucket"},
        {"Bucket", "BucketPolicy", "WriterPolicy", "ReaderPolicy", "QueuePolicy", "ReaderQueuePolicy"},
    ),
    "FeedPrefix": (
        {},
        {"FeedPrefix": "other/"},
        {"Bucket", "BucketPolicy", "WriterPolicy", "ReaderPolicy", "Settings", "FeedUri"},
    ),
    "StatePrefix": ({}, {"StatePrefix": "other/"}, {"WriterPolicy", "Settings"}),
    "QuarantinePrefix": (
        {},
        {"QuarantinePrefix": "other/"},
        {"Bucket", "BucketPolicy", "WriterPolicy", "Settings"},
    ),
    "KmsKey": (
        {},
        {"KmsKey": "create"},
        {"Bucket", "Key", "WriterKeyPolicy", "ReaderKeyPolicy", "Settings", "KmsKeyArn"},
    ),
    "FeedDays": ({}, {"FeedDays": "30"}, {"Bucket"}),
    "QuarantineDays": ({}, {"QuarantineDays": "30"}, {"Bucket"}),
    "OldVersionDays": ({}, {"OldVersionDays": "7"}, {"Bucket"}),
    "Writer": (
        {},
        {"Writer": "ec2"},
        {
            *("WriterUser", "WriterKeyCommand", "WriterRole", "WriterRoleArn", "WriterInstanceProfile"),
            *("WriterInstanceProfileName", "WriterPolicy"),
        },
    ),
    "WriterPrincipal": ({"Writer": "principal"}, {"WriterPrincipal": PRINCIPAL}, {"WriterRole"}),
    "OidcIssuer": ({"Writer": "eks-oidc"}, {"OidcIssuer": ISSUER}, {"WriterRole"}),
    "Namespace": ({"Writer": "eks-oidc"}, {"Namespace": "other"}, {"WriterRole"}),
    "ServiceAccount": ({"Writer": "eks-pod-identity"}, {"ServiceAccount": "other"}, {"WriterRole"}),
    "WriteOnlyFeed": ({}, {"WriteOnlyFeed": "true"}, {"WriterPolicy"}),
    "ReaderSubjectId": (
        {},
        {"ReaderSubjectId": "117"},
        {"ReaderUser", "ReaderKeyCommand", "ReaderRole", "ReaderRoleArn", "ReaderPolicy"},
    ),
    "DeleteAfterTransfer": ({}, {"DeleteAfterTransfer": "true"}, {"ReaderDeletionPolicy"}),
    "ListWholeBucket": ({}, {"ListWholeBucket": "true"}, {"ReaderPolicy"}),
    "FeedQueue": (
        {},
        {"FeedQueue": "true"},
        {"Bucket", "Queue", "QueuePolicy", "ReaderQueuePolicy", "QueueArn"},
    ),
    "AccessLog": (
        {},
        {"AccessLog": "true"},
        {"Bucket", "AccessLogBucket", "AccessLogBucketPolicy", "WriterAccessLogPolicy", "ReceiptSettings"},
    ),
    "AccessLogDays": ({"AccessLog": "true"}, {"AccessLogDays": "30"}, {"AccessLogBucket"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_parameter_changes_what_it_says_and_nothing_else(name: str) -> None:
    """The resources and outputs that come, go or are different."""
    others, change, expected = CHANGES[name]
    before, after = (_parts(**{**PLAIN, **others, **more}) for more in ({}, change))
    assert {part for part in {*before, *after} if before.get(part) != after.get(part)} == expected


def _parts(**parameters: str) -> dict[str, Any]:
    made = filled_in(**parameters)
    return {**made["Resources"], **made["Outputs"]}


def test_every_parameter_is_tried_named_and_grouped() -> None:
    """None without a test, a description, a place in the console's form; two without a default."""
    source = cloudformation.template()
    parameters = source["Parameters"]
    groups = source["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert set(CHANGES) == set(parameters)
    assert [name for group in groups for name in group["Parameters"]] == list(parameters)
    assert [name for name, said in parameters.items() if not said["Description"]] == []
    assert [name for name, said in parameters.items() if "Default" not in said] == ["BucketName", "Writer"]


OF_SETTINGS = {
    "FeedPrefix": "s3_prefix",
    "StatePrefix": "state_prefix",
    "QuarantinePrefix": "quarantine_prefix",
}


@pytest.mark.parametrize(("parameter", "setting"), OF_SETTINGS.items())
def test_prefixes_are_those_of_the_settings(parameter: str, setting: str) -> None:
    """The same default, the same names, and whatever the collector refuses as a prefix is refused here."""
    said = cloudformation.template()["Parameters"][parameter]
    assert said["Default"] == Settings.model_fields[setting].default
    assert said["Description"].startswith(f"{setting.upper()}. ")
    well_formed = ("a/", "zendesk/crm2/", "A.b_c-1/d/", "..a/.b/")
    refused = ("/a/", "a", "a//b/", "", "ä/", "a b/", "a/*", "../", "./", "a/./b/", "a/../b/")
    for prefix in (*well_formed, *refused):
        assert bool(re.fullmatch(said["AllowedPattern"], prefix)) is _takes(setting, prefix), prefix


def _takes(setting: str, prefix: str) -> bool:
    try:
        Settings.model_validate({setting: prefix})
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_outputs_settings_are_the_deployments(aws: Aws, variant: str) -> None:
    """The lines for .env name the bucket, the prefixes and the encryption that were deployed."""
    stack, parameters = aws.stack(variant), VARIANTS[variant]
    chosen = stack.settings
    assert chosen.s3_bucket == stack.bucket
    for parameter, setting in OF_SETTINGS.items():
        assert getattr(chosen, setting) == parameters.get(parameter, Settings.model_fields[setting].default)
    assert (chosen.s3_sse, chosen.s3_kms_key_id) == (
        "aws:kms" if "KmsKey" in parameters else "AES256",
        stack.outputs.get("KmsKeyArn"),
    )
    assert stack.environment["AWS_DEFAULT_REGION"] == "us-east-1"
    assert stack.outputs["FeedUri"] == f"s3://{stack.bucket}/{chosen.s3_prefix}"


MISTAKES = {
    "FeedPrefix and StatePrefix are the same": {"StatePrefix": "zendesk/crm/"},
    "FeedPrefix and QuarantinePrefix are the same": {"QuarantinePrefix": "zendesk/crm/"},
    "StatePrefix and QuarantinePrefix are the same": {"QuarantinePrefix": "zendesk/state/"},
    "needs WriterPrincipal": {"Writer": "principal"},
    "needs OidcIssuer": {"Writer": "eks-oidc"},
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_what_cannot_work_is_refused_in_a_sentence(sentence: str) -> None:
    """Before anything is made."""
    (said,) = filled_in(**{**PLAIN, **MISTAKES[sentence]})["Refused"]
    assert sentence in said


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_can_work_is_not_refused(variant: str) -> None:
    """No rule stands in the way of a variant, and every value fits its parameter's pattern or list."""
    chosen = {**PLAIN, **VARIANTS[variant]}
    parameters = cloudformation.template()["Parameters"]
    assert filled_in(**chosen)["Refused"] == []
    for name, value in chosen.items():
        assert re.fullmatch(parameters[name].get("AllowedPattern", ".*"), value), name
        assert value in parameters[name].get("AllowedValues", [value])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KmsKey", "alias/zendesk"),
        ("KmsKey", "1234abcd-12ab-34cd-56ef-1234567890ab"),
        ("WriterPrincipal", "*"),
        ("WriterPrincipal", ACCOUNT),
        ("OidcIssuer", f"https://{ISSUER}"),
        ("OidcIssuer", f'{ISSUER}":"'),
        ("ReaderSubjectId", "*"),
        ("ServiceAccount", "*"),
        ("Namespace", 'a"b'),
        ("BucketName", "Acme"),
    ],
)
def test_values_that_would_open_a_role_or_break_a_policy_are_refused(name: str, value: str) -> None:
    """Everybody, an alias that no policy takes for its key, a text that ends the JSON it is put into."""
    assert not re.fullmatch(cloudformation.template()["Parameters"][name]["AllowedPattern"], value)


def test_no_secret_passes_through_the_stack() -> None:
    """It makes no access key, so that none is in its outputs, its events or whoever reads them."""
    text = cloudformation.PATH.read_text()
    assert "AWS::IAM::AccessKey" not in text
    assert "SecretAccessKey" not in text


def test_the_template_is_small_enough_to_be_deployed_without_a_bucket() -> None:
    """`aws cloudformation deploy` sends up to 51,200 bytes itself."""
    assert cloudformation.PATH.stat().st_size < 51_200


# The page


PAGE = (cloudformation.PATH.parents[2] / "docs" / "aws.md").read_text()


def _rows(heading: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_the_page_names_every_parameter_with_its_default() -> None:
    """In the template's order."""
    parameters = cloudformation.template()["Parameters"]
    defaults = [[name, str(said.get("Default", ""))] for name, said in parameters.items()]
    assert [row[:2] for row in _rows("Parameters")] == defaults


def test_the_page_names_every_output() -> None:
    """In the template's order, and none that is not there."""
    assert [row[0] for row in _rows("Take over the outputs")] == list(cloudformation.template()["Outputs"])


def test_the_pages_command_can_be_given_as_it_stands() -> None:
    """Its template exists, its parameters are all that have no default, and it asks for no more than it needs."""
    block = PAGE.partition("## Deploy\n\n```sh\n")[2].partition("```")[0]
    words = shlex.split(block)
    after = {word: words[number + 1] for number, word in enumerate(words[:-1]) if word.startswith("--")}
    given = dict(word.split("=") for word in words[words.index("--parameter-overrides") + 1 :])
    assert (cloudformation.PATH.parents[2] / after["--template-file"]).samefile(cloudformation.PATH)
    assert after["--capabilities"] == "CAPABILITY_IAM"
    assert set(given) == {"BucketName", "Writer"}
    named = {"BucketName", "RoleName", "UserName", "ManagedPolicyName"}
    resources = filled_in(**given)["Resources"]
    assert named & {key for said in resources.values() for key in said.get("Properties", {})} == {"BucketName"}
    assert filled_in(**given)["Refused"] == []


def test_the_outputs_settings_win_over_an_env_that_is_a_copy(aws: Aws) -> None:
    """Appended to a copy of .env.example, as the page says, they count."""
    example = (cloudformation.PATH.parents[2] / ".env.example").read_text()
    stack = aws.stack("made-key")
    values = dotenv_values(stream=StringIO(f"{example}{stack.outputs['Settings']}\n"))
    assert {name: values[name] or "" for name in stack.environment} == stack.environment
