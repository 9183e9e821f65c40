"""What lies under the feed prefix: SecOps reads all of it as logs."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from zendesk_pipeline.commands.doctor import replies
from zendesk_pipeline.commands.doctor.patient import Patient
from zendesk_pipeline.commands.doctor.verdicts import Verdict, failed, not_visible, ok, warning
from zendesk_pipeline.delivery.inspection import RECIPE_IS_OFF
from zendesk_pipeline.delivery.object_keys import is_batch, is_recipe_state, recipe_object
from zendesk_pipeline.model.windows import HOUR

MOST_PAGES = 10
"""Of a thousand keys each: what a look may cost."""

Kind = Literal[
    "ours",
    "pages of the recipe",
    "pages of the recipe that are not taken over",
    "new pages of the recipe",
    "the recipe's state",
    "with an empty folder name (//)",
    "folders that are objects",
    "foreign",
]
REMEDIES: Mapping[Kind, str] = {
    "pages of the recipe that are not taken over": "Take them over before anything is collected, or what they hold is"
    " delivered again (docs/moving-over.md).",
    "new pages of the recipe": f"Disable the rule that starts the recipe: it wrote in the last {RECIPE_IS_OFF // HOUR}"
    " hours. Then take over, again if need be (docs/moving-over.md).",
    "the recipe's state": "Disable the rule that starts the recipe, then delete its state: SecOps reads it as a log"
    " each time.",
    "with an empty folder name (//)": "SecOps does not work with empty folder names: move or delete them.",
    "folders that are objects": "Delete them (an object whose key ends with /): folders need not be made.",
    "foreign": "Find out who writes them and move them: SecOps reads whatever lies here as logs of Zendesk.",
}
"""What to do about them; the first two kinds are as they should be."""


def kind(rest: str, age: float, *, collected: bool) -> Kind:
    """What a key is.

    Args:
        rest: What follows the feed prefix.
        age: Seconds since the object was written.
        collected: Whether ledgers say of anything that it was delivered.
    """
    if is_batch(rest, ""):
        return "ours"
    if is_recipe_state(rest):
        return "the recipe's state"
    if recipe_object(rest, "") is not None:
        if age < RECIPE_IS_OFF:
            return "new pages of the recipe"
        return "pages of the recipe" if collected else "pages of the recipe that are not taken over"
    if rest.startswith("/") or "//" in rest:
        return "with an empty folder name (//)"
    return "folders that are objects" if not rest or rest.endswith("/") else "foreign"


def leftovers(patient: Patient) -> Verdict:
    """Nothing but batches lies under the feed prefix, as far as was looked."""
    chosen = patient.settings
    top = replies.ask(patient.s3.list_objects_v2, Bucket=chosen.s3_bucket, Prefix=chosen.s3_prefix, Delimiter="/")
    if top.denied:
        return not_visible("The writer may not list the feed.", "See s3_list.")
    if top.code:
        return failed(f"S3 answers {top.code} to a listing of the feed.", "Ask again; else look at the bucket.")
    # the first level by itself: in a full bucket its last keys, such as state.json, are beyond any bound
    below, whole = _first_pages(patient)
    now = patient.clock.now()
    ages = {**_ages(top.content, now), **{key: age for page in below for key, age in _ages(page, now).items()}}
    folders = [entry["Prefix"] for entry in top.content.get("CommonPrefixes", []) if not _year(entry["Prefix"])]
    ages |= {f"{folder}…": 0.0 for folder in folders if not any(key.startswith(folder) for key in ages)}
    kinds = _kinds(patient, {key.removeprefix(chosen.s3_prefix): age for key, age in ages.items()})
    return feed_verdict(kinds, whole=whole)


def _ages(page: Mapping[str, Any], now: float) -> dict[str, float]:
    """Seconds since each object of a listing was written, by its key."""
    return {entry["Key"]: now - entry["LastModified"].timestamp() for entry in page.get("Contents", [])}


def _kinds(patient: Patient, ages: Mapping[str, float]) -> dict[str, Kind]:
    """Whether there are ledgers is asked where the recipe wrote: takeover and every collection leave some."""
    recipe = any(recipe_object(rest, "") for rest in ages)
    collected = recipe and any(_has_ledgers(patient, name) for name in patient.settings.resources)
    return {rest: kind(rest, age, collected=collected) for rest, age in ages.items()}


def _has_ledgers(patient: Patient, stream: str) -> bool:
    chosen = patient.settings
    place = {"Bucket": chosen.s3_bucket, "Prefix": f"{chosen.state_prefix}{stream}/", "MaxKeys": 1}
    return bool(replies.ask(patient.s3.list_objects_v2, **place).content.get("Contents"))


def _year(prefix: str) -> bool:
    return re.search(r"/\d{4}/$", f"/{prefix}") is not None


def _first_pages(patient: Patient) -> tuple[list[Mapping[str, Any]], bool]:
    """Listings from the first key on, and whether these are all."""
    place = {"Bucket": patient.settings.s3_bucket, "Prefix": patient.settings.s3_prefix}
    pages: list[Mapping[str, Any]] = []
    more: dict[str, str] = {}
    for _ in range(MOST_PAGES):
        page = replies.ask(patient.s3.list_objects_v2, **place, **more)
        pages.append(page.content)
        if page.code or not page.content.get("IsTruncated"):
            return pages, not page.code
        more = {"ContinuationToken": page.content["NextContinuationToken"]}
    return pages, False


def feed_verdict(kinds: Mapping[str, Kind], *, whole: bool) -> Verdict:
    """`kinds`: by what follows the prefix in each key; `whole`: whether these are all there are."""
    counts = Counter(kinds.values())
    strange: dict[Kind, int] = {name: count for name, count in counts.items() if name in REMEDIES}
    looked = f"{len(kinds):,} objects" if whole else f"the first {len(kinds):,} objects, and the names above them"
    if not strange:
        taken_over = counts["pages of the recipe"]
        beside = f", and {taken_over:,} pages of the recipe from before it was switched off" if taken_over else " alone"
        return ok(f"Looked at {looked}: batches{beside} are under the feed prefix.")
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
