"""A small JSON object under the state prefix that runs replace, each only the version that it has read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.model.errors import DeliveryError

Shape = TypeVar("Shape", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateObject(Generic[Shape]):
    """One of them. Its methods raise what `Store` does."""

    store: Store
    key: str
    shape: type[Shape]
    meaning: str
    """What it says, as the middle of a sentence."""
    made_by: str
    """What writes it anew."""
    check: Callable[[Shape], object] = lambda _: None
    """Raises ValueError for what cannot be meant: somebody may have edited it."""

    def read(self) -> tuple[Shape | None, str | None]:
        """What it says, and its version; None where there is none. Raises DeliveryError where it cannot be read."""
        stored = self.store.get(self.key)
        if stored is None:
            return None, None
        try:
            found = msgspec.json.decode(stored.body, type=self.shape)
            self.check(found)
        except (ValueError, RecursionError) as problem:  # msgspec's errors are ValueErrors
            raise DeliveryError(
                f"{self.store.uri(self.key)}, {self.meaning}, cannot be read ({problem}). Delete it: the next"
                f" {self.made_by} it anew."
            ) from None
        return found, stored.version

    def write(self, value: Shape, version: str | None) -> bool:
        """Write it over this version, or where there is none; False where another has written since."""
        body = msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1) + b"\n"
        return self.store.put_over(self.key, body, version) is not None
