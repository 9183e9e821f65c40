"""The writer's rights, tried with requests that change nothing: exactly those that a run needs, and no more.

What is denied is answered 403 before S3 looks for anything; what is allowed fails for another reason:

- `s3:PutObject`: the end of a multipart upload that was never begun (CompleteMultipartUpload, which needs that right):
  404 NoSuchUpload. Nothing can come of it, in any store, so it is tried under the feed prefix too.
- `s3:GetObject`: a key that does not exist: 404 to whoever may also list there.
- `s3:ListBucket`: a listing of one key.
- `s3:DeleteObject`: a key that does not exist, on condition that it does (`If-Match: *`): 404 or 412 without a
  delete marker. Asked only where conditions of writes were seen to count, under the state prefix first, and nowhere
  else where a condition of a deletion does not count.

The keys are random, so that nobody has an object there. The one write is that of `conditional_writes`: an object under
the state prefix, `doctor.json`, which no run reads.
"""

import base64
import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal
from uuid import uuid4

from zendesk_pipeline.commands.doctor import replies
from zendesk_pipeline.commands.doctor.patient import Patient
from zendesk_pipeline.commands.doctor.verdicts import Verdict, failed, ok, together, warning
from zendesk_pipeline.delivery.bucket import checked
from zendesk_pipeline.settings.programs import ours

PROBE = b'{"what": "zendesk-pipeline doctor tries conditional writes on this object; it is no ledger"}\n'
CHECKSUM = base64.b64encode(hashlib.sha256(PROBE).digest()).decode()
NO_ETAG = '"00000000000000000000000000000000"'
WRONG_CHECKSUM = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
CONDITION_FAILED = {"PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchKey"}
"""The condition was looked at; 409 where two of these commands run at once, 404 for an object that is just gone."""


def _policy() -> str:
    return f"`{ours('iam-policy writer')}` prints it"


Right = Literal["allowed", "denied", "unclear"]


def right_of(reply: replies.Reply) -> Right:
    """What an answer to a probe says; a fault of S3's says nothing."""
    if reply.denied:
        return "denied"
    return "unclear" if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "allowed"


def _places(patient: Patient) -> dict[str, str]:
    chosen = patient.settings
    return {"feed": chosen.s3_prefix, "state": chosen.state_prefix, "quarantine": chosen.quarantine_prefix}


def _may_put(patient: Patient, prefix: str) -> Right:
    name = uuid4().hex
    part = {"PartNumber": 1, "ETag": NO_ETAG}
    reply = replies.ask(
        patient.s3.complete_multipart_upload,
        Bucket=patient.settings.s3_bucket,
        Key=f"{prefix}{name}",
        UploadId=name,
        MultipartUpload={"Parts": [part]},
        IfNoneMatch="*",  # for a bucket whose policy demands a condition
    )
    return right_of(reply)


def _may_get(patient: Patient, prefix: str) -> Right:
    return right_of(replies.ask(patient.s3.get_object, Bucket=patient.settings.s3_bucket, Key=f"{prefix}{uuid4().hex}"))


def _may_list(patient: Patient, prefix: str) -> Right:
    place = {"Prefix": prefix} if prefix else {}
    return right_of(replies.ask(patient.s3.list_objects_v2, Bucket=patient.settings.s3_bucket, MaxKeys=1, **place))


def _may_delete(patient: Patient, prefix: str) -> replies.Reply:
    key = f"{prefix}{uuid4().hex}"
    return replies.ask(patient.s3.delete_object, Bucket=patient.settings.s3_bucket, Key=key, IfMatch="*")


# What is needed


def write(patient: Patient) -> Verdict:
    """`s3:PutObject` under the three prefixes."""
    return write_verdict({prefix: _may_put(patient, prefix) for prefix in _places(patient).values()})


def write_verdict(found: Mapping[str, Right]) -> Verdict:
    """`found`: the right to each prefix."""
    denied = [prefix for prefix, right in found.items() if right == "denied"]
    unclear = [prefix for prefix, right in found.items() if right == "unclear"]
    if denied:
        return failed(
            f"The writer may not write under {' and '.join(denied)}.",
            f"Give it s3:PutObject there: the statement Write of its policy ({_policy()}). With S3_KMS_KEY_ID it also"
            " needs the statement UseTheKey.",
        )
    if unclear:
        return warning(
            f"S3 did not refuse writing under {' and '.join(unclear)}, and did not answer as it should either.",
            "A run will tell. Of stores other than Amazon's, some do not know multipart uploads.",
        )
    return ok(f"The writer may write under {', '.join(found)}.")


def read(patient: Patient) -> Verdict:
    """`s3:GetObject` under the state prefix, and under the feed prefix for the mending of crashes."""
    chosen = patient.settings
    state, feed = _may_get(patient, chosen.state_prefix), _may_get(patient, chosen.s3_prefix)
    if state == "denied":  # so is what is missing to whoever may not list: look at what is there
        state = right_of(replies.ask(patient.s3.head_object, Bucket=chosen.s3_bucket, Key=patient.probe_key))
    hidden = feed == "denied" and _may_list(patient, chosen.s3_prefix) == "denied"
    return together([state_verdict(chosen.state_prefix, state), feed_verdict(chosen.s3_prefix, feed, hidden=hidden)])


def state_verdict(prefix: str, right: Right) -> Verdict:
    """Reading ledgers."""
    if right == "denied":
        return failed(
            f"The writer may not read under {prefix}: it cannot see its own ledgers.",
            f"Give it s3:GetObject there: the statement ReadLedgersAndFeed of its policy ({_policy()}).",
        )
    return ok(f"The writer may read under {prefix}.")


def feed_verdict(prefix: str, right: Right, *, hidden: bool) -> Verdict:
    """Reading batches; `hidden` where a refusal may come from the right to list, which lacks too."""
    if right == "denied":
        which = "s3:GetObject and s3:ListBucket" if hidden else "s3:GetObject"
        return warning(
            f"The writer may not read under {prefix}: a crash between two writes can repeat a batch.",
            f"Give it {which} there: the statements ReadLedgersAndFeed and ListLedgersAndFeed of its policy"
            f" ({_policy()}); unless a write-only feed is meant.",
        )
    return ok(f"The writer may read under {prefix}.")


def listing(patient: Patient) -> Verdict:
    """`s3:ListBucket` for the state prefix and the feed prefix."""
    places = _places(patient)
    return listing_verdict({places[place]: _may_list(patient, places[place]) for place in ("state", "feed")})


def listing_verdict(found: Mapping[str, Right]) -> Verdict:
    """`found`: the right to each prefix."""
    denied = [prefix for prefix, right in found.items() if right == "denied"]
    if denied:
        return warning(
            f"The writer may not list {' and '.join(denied)}.",
            f"Give it s3:ListBucket there, the statement ListLedgersAndFeed of its policy ({_policy()}): without it for"
            " the feed a crash between two writes can repeat a batch, without it for the ledgers each first write of"
            " one costs another.",
        )
    return ok(f"The writer may list {' and '.join(found)}.")


# What is not


def too_wide(patient: Patient) -> Verdict:
    """Nothing beyond that: no deleting, no reading of quarantine, nothing outside of the prefixes."""
    quarantine = patient.settings.quarantine_prefix
    tried: dict[str, Right] = {
        "write into the root of the bucket": _may_put(patient, ""),
        "write beside the prefixes": _may_put(patient, f"{uuid4().hex}/"),
        "list the whole bucket": _may_list(patient, ""),
        f"list {quarantine}": _may_list(patient, quarantine),
        f"read {quarantine}": _may_get(patient, quarantine),
        "read the root of the bucket": _may_get(patient, ""),
    }
    for prefix in sorted(_places(patient).values(), key=patient.settings.state_prefix.__ne__):
        reply = _may_delete(patient, prefix)
        tried[f"delete under {prefix}"] = right_of(reply)
        if not reply.code:  # the condition was ignored: nothing is lost, but the feed is left alone
            break
    return too_wide_verdict(tried)


def too_wide_verdict(found: Mapping[str, Right]) -> Verdict:
    """`found`: the right to each thing that no run does."""
    wide = [what for what, right in found.items() if right == "allowed"]
    if wide:
        return warning(
            f"The writer may do more than it needs: {', '.join(wide)}.",
            f"Give it its policy and no other ({_policy()}).",
        )
    return ok("The writer may do nothing else that was tried: write, read or list elsewhere, or delete.")


# What the store does


UNSAFE = "Use a store that refuses them as S3 does (docs/adr/0007-local-s3-server.md has a table of some)."


def conditional_writes(patient: Patient) -> Verdict:
    """`If-None-Match` and `If-Match` of a write count: exact delivery stands on it."""
    first = _put(patient, IfNoneMatch="*")
    second = _put(patient, IfNoneMatch="*") if not first.code else first
    third = _put(patient, IfMatch=NO_ETAG) if second.code in CONDITION_FAILED else second
    if first.code and first.code not in CONDITION_FAILED and not first.denied and not _put(patient).code:
        return failed(f"S3 answers {first.code} to a write with If-None-Match, and takes one without.", UNSAFE)
    return conditional_verdict(patient.probe_key, first, second, third)


def _put(patient: Patient, checksum: str = CHECKSUM, **condition: Any) -> replies.Reply:
    """A write of the probe, as a run writes: without a condition it changes nothing but the probe's time."""
    return replies.ask(
        patient.s3.put_object,
        Bucket=patient.settings.s3_bucket,
        Key=patient.probe_key,
        Body=PROBE,
        ContentType="application/json",
        **checked(checksum),
        **condition,
        **patient.encryption,
    )


def conditional_verdict(  # noqa: PLR0911  # a case a line
    key: str, first: replies.Reply, second: replies.Reply, third: replies.Reply
) -> Verdict:
    """Answers to a write of what may not exist, to the same again, and to one over a version that never was."""
    if first.denied:
        return failed(
            f"The writer may not write {key}.",
            f"Give it s3:PutObject under the state prefix: the statement Write of its policy ({_policy()}). With a KMS"
            " key it also needs kms:GenerateDataKey and kms:Decrypt on that.",
        )
    if first.code and first.code not in CONDITION_FAILED:
        return failed(f"S3 answers {first.code} to any write of {key}: {first.remedy}.", "")
    if not second.code:
        return failed(f"The store ignores If-None-Match: it replaced {key}. Delivery would not be exact.", UNSAFE)
    if third.denied:
        return failed(
            "The writer may not replace a version of a ledger: If-Match needs s3:GetObject as well.",
            f"Give it the statement ReadLedgersAndFeed of its policy ({_policy()}).",
        )
    if not third.code:
        return failed(f"The store ignores If-Match: it replaced {key}. Delivery would not be exact.", UNSAFE)
    if third.code not in CONDITION_FAILED:
        return failed(f"S3 answers {third.code} to a write with If-Match.", UNSAFE)
    return ok("Conditional writes are refused where their condition fails.")


def checksums(patient: Patient) -> Verdict:
    """A body that does not fit its checksum is refused. What is sent is what lies there, so that nothing changes."""
    there = replies.ask(patient.s3.head_object, Bucket=patient.settings.s3_bucket, Key=patient.probe_key)
    if there.code:
        return failed(f"S3 answers {there.code} to a look at {patient.probe_key}.", "Ask again; else see s3_read.")
    reply = _put(patient, WRONG_CHECKSUM, IfMatch=there.content["ETag"])
    if not reply.code:  # it keeps the wrong checksum as well
        _put(patient, IfMatch=reply.content["ETag"])
    return checksum_verdict(reply)


def checksum_verdict(reply: replies.Reply) -> Verdict:
    """`reply` is the answer to a write whose checksum is another body's."""
    if not reply.code:
        return warning(
            "The store takes a body that does not fit its SHA-256: damage on the way to it would not be noticed.",
            "Reach it over https:// alone, which notices damage as well; or use a store that compares.",
        )
    return ok(f"A body that does not fit its SHA-256 is refused ({reply.code}).")
