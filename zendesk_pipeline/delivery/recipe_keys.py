"""Keys of Google's recipe, an AWS Lambda function that writes Zendesk's pages to S3 for SecOps (ADR 11)."""

import re
from datetime import UTC, datetime

RECIPE_STATE = "state.json"
"""The last part of the key where Google's recipe keeps its place, by its own default."""


def is_recipe_state(key: str) -> bool:
    """Whether an object is the recipe's state; SecOps reads it as a log."""
    return key.rpartition("/")[2] == RECIPE_STATE


_RECIPE = re.compile(r"(?P<moment>\d{4}/\d\d/\d\d/\d{6})-zendesk-(?P<stream>[a-z_]+)\.json(?:\.gz)?")


def recipe_object(key: str, prefix: str) -> tuple[str, int] | None:
    """Stream and time of writing (seconds since the epoch) of an object of Google's recipe; None for any other."""
    match = _RECIPE.fullmatch(key.removeprefix(prefix))
    if match is None:
        return None
    try:
        moment = datetime.strptime(match["moment"], "%Y/%m/%d/%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return match["stream"], int(moment.timestamp())
