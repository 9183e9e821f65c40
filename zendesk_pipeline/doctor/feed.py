"""What lies under the feed prefix: SecOps reads all of it as logs."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from zendesk_pipeline.doctor import replies
from zendesk_pipeline.doctor.patient import Patient
from zendesk_pipeline.doctor.verdicts import Verdict, failed, not_visible, ok, warning

MOST_PAGES = 10
"""Of a thousand keys each: what a look may cost."""

_DAY = r"\d{4}/\d\d/\d\d/"
KINDS = {
    "ours": re.compile(rf"{_DAY}\d\d0000-zendesk-[a-z_]+-\d{{4,}}-[0-9a-f]{{32}}\.json(\.gz)?"),
    "the recipe's state": re.compile(r"(.*/)?state\.json"),
    "with an empty folder name (//)": re.compile(r"/.*|.*//.*"),
    "the recipe's pages": re.compile(rf"{_DAY}\d{{6}}-zendesk-[A-Za-z_]+\.json"),
    "folders that are objects": re.compile(r"(.*/)?"),
}
"""By what follows the prefix; the first that fits."""
REMEDIES = {
    "the recipe's state": "Stop the recipe's script, then delete its state: SecOps reads it as a log each time.",
    "with an empty folder name (//)": "SecOps does not work with empty folder names: move or delete them.",
    "the recipe's pages": "Give the collector an S3_PREFIX of its own (docs/moving-over.md).",
    "folders that are objects": "Delete them (an object whose key ends with /): folders need not be made.",
    "foreign": "Find out who writes them and move them: SecOps reads whatever lies here as logs of Zendesk.",
}


def kind(rest: str) -> str:
    """What a key is, by what follows the feed prefix."""
    return next((name for name, form in KINDS.items() if form.fullmatch(rest)), "foreign")


def leftovers(patient: Patient) -> Verdict:
    """Nothing but batches lies under the feed prefix, as far as was looked."""
    chosen = patient.settings
    top = replies.ask(patient.s3.list_objects_v2, Bucket=chosen.s3_bucket, Prefix=chosen.s3_prefix, Delimiter="/")
    if top.denied:
        return not_visible("The writer may not list the feed.", "See s3_list.")
    if top.code:
        return failed(f"S3 answers {top.code} to a listing of the feed.", "Ask again; else look at the bucket.")
    # the first level by itself: in a full bucket its last keys, such as state.json, are beyond any bound
    below, whole = _first_keys(patient)
    keys = [entry["Key"] for entry in top.content.get("Contents", [])]
    folders = [entry["Prefix"] for entry in top.content.get("CommonPrefixes", []) if not _year(entry["Prefix"])]
    keys += [f"{folder}…" for folder in folders if not any(key.startswith(folder) for key in below)]
    return feed_verdict([key.removeprefix(chosen.s3_prefix) for key in dict.fromkeys([*keys, *below])], whole=whole)


def _year(prefix: str) -> bool:
    return re.search(r"/\d{4}/$", f"/{prefix}") is not None


def _first_keys(patient: Patient) -> tuple[list[str], bool]:
    """Keys from the first on, and whether these are all."""
    place = {"Bucket": patient.settings.s3_bucket, "Prefix": patient.settings.s3_prefix}
    keys: list[str] = []
    more: dict[str, str] = {}
    for _ in range(MOST_PAGES):
        page = replies.ask(patient.s3.list_objects_v2, **place, **more)
        keys += [entry["Key"] for entry in page.content.get("Contents", [])]
        if page.code or not page.content.get("IsTruncated"):
            return keys, not page.code
        more = {"ContinuationToken": page.content["NextContinuationToken"]}
    return keys, False


def feed_verdict(rests: Sequence[str], *, whole: bool) -> Verdict:
    """`rests`: what follows the prefix in each key; `whole`: whether these are all there are."""
    kinds = {rest: kind(rest) for rest in rests}
    strange = Counter(name for name in kinds.values() if name != "ours")
    looked = f"{len(rests):,} objects" if whole else f"the first {len(rests):,} objects, and the names above them"
    if not strange:
        return ok(f"Looked at {looked}: batches alone lie under the feed prefix.")
    examples = {name: _shown(rest for rest, found in kinds.items() if found == name) for name in strange}
    what = ", ".join(f"{count:,} {name} (such as {examples[name]})" for name, count in strange.items())
    return warning(
        f"Of {looked} under the feed prefix, these are no batches: {what}.",
        " ".join(REMEDIES[name] for name in strange),
    )


def _shown(rests: Iterable[str]) -> str:
    """The first of them, printable and short."""
    rest = next(iter(rests))
    return "".join(letter if letter.isprintable() else "?" for letter in rest)[:80] or "the prefix itself"
