"""What is stored under the feed prefix: SecOps reads all of it as logs."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Literal

from zendesk_pipeline.commands.doctor import s3_answers
from zendesk_pipeline.commands.doctor.context import Context
from zendesk_pipeline.commands.doctor.verdicts import Verdict, failed, not_visible, ok, warning
from zendesk_pipeline.delivery.inspection import RECIPE_IS_OFF
from zendesk_pipeline.delivery.object_keys import is_batch
from zendesk_pipeline.delivery.recipe_keys import is_recipe_state, recipe_object
from zendesk_pipeline.model.errors import DeniedError
from zendesk_pipeline.model.windows import HOUR

MOST_KEYS = 10_000
"""That are listed: a request for each thousand."""
_YEAR = re.compile(r"(^|/)\d{4}/$")

KeyKind = Literal[
    "ours",
    "pages of the recipe",
    "pages of the recipe that are not taken over",
    "new pages of the recipe",
    "the recipe's state",
    "with an empty folder name (//)",
    "folders that are objects",
    "foreign",
]
REMEDIES: Mapping[KeyKind, str] = {
    "pages of the recipe that are not taken over": "Take them over before anything is collected, or what they hold is"
    " delivered again (docs/moving-over.md).",
    "new pages of the recipe": f"Disable the rule that starts the recipe: it wrote in the last {RECIPE_IS_OFF // HOUR}"
    " hours. Then take over, again if need be (docs/moving-over.md).",
    "the recipe's state": "Disable the rule that starts the recipe, then delete its state: SecOps reads it as a log"
    " each time.",
    "with an empty folder name (//)": "SecOps does not work with empty folder names: move or delete them.",
    "folders that are objects": "Delete them (an object whose key ends with /): folders need not be made.",
    "foreign": "Find out who writes them and move them: SecOps reads whatever is stored here as logs of Zendesk.",
}
"""What to do about them; the first two kinds are as they should be."""


def kind(rest: str, age: float, *, collected: bool) -> KeyKind:
    """What a key is.

    Args:
        rest: What follows the feed prefix.
        age: Seconds since the object was written.
        collected: Whether there are ledgers.
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


def leftovers(context: Context) -> Verdict:
    """Only batches are under the feed prefix, as far as was listed."""
    chosen, prefix = context.settings, context.settings.s3_prefix
    # the first level by itself: in a full bucket its last keys, such as state.json, are beyond any bound
    top = s3_answers.ask(context.s3.list_objects_v2, Bucket=chosen.s3_bucket, Prefix=prefix, Delimiter="/")
    if top.denied:
        return not_visible("The writer may not list the feed.", "See s3_list.")
    if top.code:
        return failed(f"S3 answers {top.code} to a listing of the feed.", "Try again; else look at the bucket.")
    now = context.clock.now()
    listed = list(islice(context.store.listing(prefix), MOST_KEYS + 1))
    ages = {entry.key: now - entry.modified for entry in listed[:MOST_KEYS]}
    ages |= {entry["Key"]: now - entry["LastModified"].timestamp() for entry in top.content.get("Contents", [])}
    folders = [entry["Prefix"] for entry in top.content.get("CommonPrefixes", []) if not _YEAR.search(entry["Prefix"])]
    ages |= {f"{folder}…": 0.0 for folder in folders if not any(key.startswith(folder) for key in ages)}
    rests = {key.removeprefix(prefix): age for key, age in ages.items()}
    # a takeover leaves ledgers, as every collection does: asked only where the recipe wrote
    collected = any(recipe_object(rest, "") for rest in rests) and _has_ledgers(context)
    kinds: dict[str, KeyKind] = {rest: kind(rest, age, collected=collected) for rest, age in rests.items()}
    return feed_verdict(kinds, whole=len(listed) <= MOST_KEYS)


def _has_ledgers(context: Context) -> bool:
    prefixes = map(context.layout.ledgers, context.settings.resources)
    try:
        return any(next(context.store.listing(prefix), None) for prefix in prefixes)
    except DeniedError:  # `s3_list` says so
        return False


def feed_verdict(kinds: Mapping[str, KeyKind], *, whole: bool) -> Verdict:
    """`kinds`: by what follows the prefix in each key; `whole`: whether these are all there are."""
    counts = Counter(kinds.values())
    strange: dict[KeyKind, int] = {name: count for name, count in counts.items() if name in REMEDIES}
    listed = f"{len(kinds):,} objects" if whole else f"the first {len(kinds):,} objects, and the names above them"
    if not strange:
        taken_over = counts["pages of the recipe"]
        beside = f", and {taken_over:,} pages of the recipe from before it was switched off" if taken_over else " alone"
        return ok(f"Listed {listed}: batches{beside} are under the feed prefix.")
    examples = {name: _shown(rest for rest, found in kinds.items() if found == name) for name in strange}
    what = ", ".join(f"{count:,} {name} (such as {examples[name]})" for name, count in strange.items())
    return warning(
        f"Of {listed} under the feed prefix, these are no batches: {what}.",
        " ".join(REMEDIES[name] for name in strange),
    )


def _shown(rests: Iterable[str]) -> str:
    """The first of them, printable and short."""
    rest = next(iter(rests))
    return "".join(letter if letter.isprintable() else "?" for letter in rest)[:80] or "the prefix itself"
