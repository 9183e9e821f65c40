"""The writer's rights, tried with requests that change nothing: exactly those that a run needs, and no more.

What is denied is answered 403 before S3 looks for anything; what is allowed fails for another reason.

- `s3:PutObject`: the end of a multipart upload that was never begun (CompleteMultipartUpload, which needs that right):
  404 NoSuchUpload. Nothing can come of it, in any store, so it is tried under the feed prefix too.
- `s3:GetObject`: a key that does not exist: 404 to whoever may also list there.
- `s3:ListBucket`: a listing of one key.
- `s3:DeleteObject`: a key that does not exist, on condition that it does (`If-Match: *`): 404 or 412 without a
  delete marker. Asked only where conditions of writes count, under the state prefix first, and nowhere else where a
  condition of a deletion does not count.

The keys are random, so that nobody has an object there. The one write is that of `conditional_writes`: an object under
the state prefix, `doctor.json`, which no run reads.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Literal
from uuid import uuid4

from zendesk_pipeline.commands.doctor import s3_answers
from zendesk_pipeline.commands.doctor.context import Context
from zendesk_pipeline.commands.doctor.s3_answers import S3Answer
from zendesk_pipeline.commands.doctor.verdicts import Verdict, failed, ok, together, warning
from zendesk_pipeline.delivery.bucket import checked
from zendesk_pipeline.settings.programs import ours

PROBE = b'{"what": "zendesk-pipeline doctor tries conditional writes on this object; it is no ledger"}\n'
CHECKSUM = base64.b64encode(hashlib.sha256(PROBE).digest()).decode()
NO_ETAG = '"00000000000000000000000000000000"'
WRONG_CHECKSUM = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
CONDITION_FAILED = {"PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchKey"}
"""The store checked the condition; 409 where two of these commands run at once, 404 for an object just deleted."""


def _policy() -> str:
    return f"`{ours('iam-policy writer')}` prints it"


Right = Literal["allowed", "denied", "unclear"]


def right_of(answer: S3Answer) -> Right:
    """What the answer to a probe says; a fault of S3's says nothing."""
    if answer.denied:
        return "denied"
    return "unclear" if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "allowed"


def _probe(context: Context, operation: str, key: str, **arguments: Any) -> Right:
    """Whether the writer may do it; `operation` is boto3's method."""
    call = getattr(context.s3, operation)
    return right_of(s3_answers.ask(call, Bucket=context.settings.s3_bucket, Key=key, **arguments))


def _may_put(context: Context, prefix: str) -> Right:
    name = uuid4().hex
    upload = {"UploadId": name, "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": NO_ETAG}]}}
    # with a condition, for a bucket whose policy demands one
    return _probe(context, "complete_multipart_upload", f"{prefix}{name}", **upload, IfNoneMatch="*")


def _may_get(context: Context, prefix: str) -> Right:
    return _probe(context, "get_object", f"{prefix}{uuid4().hex}")


def _may_list(context: Context, prefix: str) -> Right:
    where = {"Prefix": prefix} if prefix else {}
    bucket = context.settings.s3_bucket
    return right_of(s3_answers.ask(context.s3.list_objects_v2, Bucket=bucket, MaxKeys=1, **where))


def _with(right: Right, found: Mapping[str, Right]) -> list[str]:
    return [what for what, each in found.items() if each == right]


# What is needed


def write(context: Context) -> Verdict:
    """`s3:PutObject` under the three prefixes."""
    layout = context.layout
    return write_verdict({each: _may_put(context, each) for each in (layout.feed, layout.state, layout.quarantine)})


def write_verdict(found: Mapping[str, Right]) -> Verdict:
    """`found`: the right to each prefix."""
    if unclear := [] if _with("denied", found) else _with("unclear", found):
        return warning(
            f"S3 did not refuse writing under {' and '.join(unclear)}, and did not answer as it should either.",
            "A run will show it. Of stores other than Amazon's, some do not know multipart uploads.",
        )
    remedy = (
        f"Give it s3:PutObject there: the statement Write of its policy ({_policy()}). With S3_KMS_KEY_ID it also needs"
        " the statement UseTheKey."
    )
    return _needed("write under", found, failed, "", remedy)


def read(context: Context) -> Verdict:
    """`s3:GetObject` under the state prefix, and under the feed prefix to recover from crashes."""
    layout = context.layout
    state, feed = _may_get(context, layout.state), _may_get(context, layout.feed)
    if state == "denied":  # S3 denies a missing object, too, to a writer that may not list: ask for one that exists
        state = _probe(context, "head_object", context.probe_key)
    hidden = feed == "denied" and _may_list(context, layout.feed) == "denied"
    return together([state_verdict(layout.state, state), feed_verdict(layout.feed, feed, hidden=hidden)])


def state_verdict(prefix: str, right: Right) -> Verdict:
    """Reading ledgers."""
    remedy = f"Give it s3:GetObject there: the statement ReadLedgersAndFeed of its policy ({_policy()})."
    return _needed("read under", {prefix: right}, failed, ": it cannot see its own ledgers", remedy)


def feed_verdict(prefix: str, right: Right, *, hidden: bool) -> Verdict:
    """Reading batches; `hidden` where the right to list is missing, too, which S3 answers in the same way."""
    remedy = (
        f"Give it {'s3:GetObject and s3:ListBucket' if hidden else 's3:GetObject'} there: the statements"
        f" ReadLedgersAndFeed and ListLedgersAndFeed of its policy ({_policy()}); unless a write-only feed is meant."
    )
    return _needed("read under", {prefix: right}, warning, ": a crash between two writes can repeat a batch", remedy)


def listing(context: Context) -> Verdict:
    """`s3:ListBucket` for the state prefix and the feed prefix."""
    return listing_verdict({each: _may_list(context, each) for each in (context.layout.state, context.layout.feed)})


def listing_verdict(found: Mapping[str, Right]) -> Verdict:
    """`found`: the right to each prefix."""
    remedy = (
        f"Give it s3:ListBucket there, the statement ListLedgersAndFeed of its policy ({_policy()}): without it for the"
        " feed a crash between two writes can repeat a batch, without it for the ledgers each first write of one costs"
        " another."
    )
    return _needed("list", found, warning, "", remedy)


def _needed(
    verb: str, found: Mapping[str, Right], worse: Callable[[str, str], Verdict], cost: str, remedy: str
) -> Verdict:
    """A right that runs need: `worse` where it is denied, for what that costs."""
    if denied := _with("denied", found):
        return worse(f"The writer may not {verb} {' and '.join(denied)}{cost}.", remedy)
    return ok(f"The writer may {verb} {', '.join(found)}.")


# What is not


def too_wide(context: Context) -> Verdict:
    """Nothing beyond that: no deleting, no reading of quarantine, nothing outside of the prefixes."""
    layout, beside = context.layout, f"{uuid4().hex}/"
    tried: dict[str, Right] = {
        "write into the root of the bucket": _may_put(context, ""),
        "write beside the prefixes": _may_put(context, beside),
        "list the whole bucket": _may_list(context, ""),
        f"list {layout.quarantine}": _may_list(context, layout.quarantine),
        f"read {layout.quarantine}": _may_get(context, layout.quarantine),
        "read the root of the bucket": _may_get(context, ""),
    }
    for prefix in (layout.state, layout.feed, layout.quarantine):
        where = {"Bucket": context.settings.s3_bucket, "Key": f"{prefix}{uuid4().hex}", "IfMatch": "*"}
        answer = s3_answers.ask(context.s3.delete_object, **where)
        tried[f"delete under {prefix}"] = right_of(answer)
        if not answer.code:  # the condition was ignored: nothing is lost, but the feed is left alone
            break
    return too_wide_verdict(tried)


def too_wide_verdict(found: Mapping[str, Right]) -> Verdict:
    """`found`: the right to each thing that no run does."""
    if wide := _with("allowed", found):
        return warning(
            f"The writer may do more than it needs: {', '.join(wide)}.",
            f"Give it its policy and no other ({_policy()}).",
        )
    return ok("The writer may do nothing else that was tried: write, read or list elsewhere, or delete.")


# What the store does


INEXACT = "Delivery would not be exact."
UNSAFE = "Use a store that refuses them as S3 does (docs/adr/0007-local-s3-server.md has a table of some)."


def conditional_writes(context: Context) -> Verdict:
    """`If-None-Match` and `If-Match` of a write count: exact delivery depends on it."""
    first = _put(context, IfNoneMatch="*")
    second = _put(context, IfNoneMatch="*") if not first.code else first
    third = _put(context, IfMatch=NO_ETAG) if second.code in CONDITION_FAILED else second
    if first.code and first.code not in CONDITION_FAILED and not first.denied and not _put(context).code:
        return failed(f"S3 answers {first.code} to a write with If-None-Match, and takes one without.", UNSAFE)
    return conditional_verdict(context.probe_key, first, second, third)


def _put(context: Context, checksum: str = CHECKSUM, **condition: Any) -> S3Answer:
    """A write of the probe, as a run writes: without a condition it changes nothing but the probe's time."""
    return s3_answers.ask(
        context.s3.put_object,
        Bucket=context.settings.s3_bucket,
        Key=context.probe_key,
        Body=PROBE,
        ContentType="application/json",
        **checked(checksum),
        **condition,
        **context.store.encryption,
    )


def conditional_verdict(key: str, first: S3Answer, second: S3Answer, third: S3Answer) -> Verdict:
    """Answers to a write of what may not exist, to the same again, and to one over a version that never was."""
    may_write = (
        f"Give it s3:PutObject under the state prefix: the statement Write of its policy ({_policy()}). With a KMS key"
        " it also needs kms:GenerateDataKey and kms:Decrypt on that."
    )
    may_read = f"Give it the statement ReadLedgersAndFeed of its policy ({_policy()})."
    faulty = first.code and first.code not in CONDITION_FAILED
    faults = (
        (first.denied, f"The writer may not write {key}.", may_write),
        (faulty, f"S3 answers {first.code} to any write of {key}: {first.remedy}.", ""),
        (not second.code, f"The store ignores If-None-Match: it replaced {key}. {INEXACT}", UNSAFE),
        (third.denied, "The writer may not replace a version of a ledger: If-Match needs s3:GetObject, too.", may_read),
        (not third.code, f"The store ignores If-Match: it replaced {key}. {INEXACT}", UNSAFE),
        (third.code not in CONDITION_FAILED, f"S3 answers {third.code} to a write with If-Match.", UNSAFE),
    )
    fault = next((failed(found, remedy) for is_so, found, remedy in faults if is_so), None)
    return fault or ok("Conditional writes are refused where their condition fails.")


def checksums(context: Context) -> Verdict:
    """The store refuses a body that does not fit its checksum. What is sent is what is stored: nothing changes."""
    stored = s3_answers.ask(context.s3.head_object, Bucket=context.settings.s3_bucket, Key=context.probe_key)
    if stored.code:
        return failed(f"S3 answers {stored.code} to a HEAD of {context.probe_key}.", "Try again; else see s3_read.")
    answer = _put(context, WRONG_CHECKSUM, IfMatch=stored.content["ETag"])
    if answer.code:
        return ok(f"A body that does not fit its SHA-256 is refused ({answer.code}).")
    _put(context, IfMatch=answer.content["ETag"])  # the store keeps the wrong checksum as well
    return warning(
        "The store takes a body that does not fit its SHA-256: it would not notice damage on the way.",
        "Reach it over https:// alone, which notices damage as well; or use a store that compares.",
    )
