"""What Zendesk shows of a past range, window by window, while the walk goes on."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from zendesk_pipeline.model.errors import ProtocolError
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.windows import Span, Window


@dataclass(slots=True)
class Shown:
    """What a walk shows of a window."""

    identities: set[str] = field(default_factory=set[str])
    lines: dict[str, bytes] | None = field(default_factory=dict[str, bytes])
    """The records by identity; None where they are too many to be kept."""


def by_window(pages: Iterable[Page], span: Span, *, keep: int = 0) -> Iterator[tuple[Window, Shown]]:
    """What a walk shows of each window of its span, in order, each as soon as it is proven to be passed.

    At most `keep` bytes of records are held at a time. Raises what the walk does, and ProtocolError where a record
    comes after that.
    """
    shown: dict[Window, Shown] = {}
    ahead = deque(span)
    held = 0
    for page in pages:
        for record in page.records:
            window = Window.of(record.time)
            if window not in span:
                continue
            if window not in shown and (not ahead or window < ahead[0]):
                raise ProtocolError(f"Zendesk shows a record of {window} behind later ones: try again.")
            found = shown.setdefault(window, Shown())
            found.identities.add(record.identity)
            if found.lines is not None:
                held += len(record.line) - len(found.lines.get(record.identity, b""))
                found.lines[record.identity] = record.line
                if held > keep:
                    held -= _bytes(found)
                    found.lines = None
        while ahead and ahead[0].end <= page.passed:
            window = ahead.popleft()
            passed = shown.pop(window, Shown())
            held -= _bytes(passed)
            yield window, passed
    for window in ahead:
        yield window, shown.pop(window, Shown())


def _bytes(shown: Shown) -> int:
    return sum(map(len, (shown.lines or {}).values()))
