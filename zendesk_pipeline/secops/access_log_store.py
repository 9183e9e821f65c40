"""The objects of S3's access log in the bucket where S3 delivers them.

Their names, of the two forms that S3 has: https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerLogs.html
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from zendesk_pipeline.delivery.bucket import Listed, Store
from zendesk_pipeline.model.windows import DAY

DAYS_BEFORE = 2
"""Of a log object that is named by the day of its requests, and comes later: so many days before are listed as well."""
MOST_SOURCES = 50
"""Buckets that may have their logs under one prefix."""
_PARTITION = re.compile(r"\d{12}/[a-z0-9-]+/(?P<bucket>[^/]+)/(?=\d{4}/\d\d/\d\d/)")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogs:
    """The log of one bucket. Its methods raise what `Store` does."""

    store: Store
    """The bucket that has the log."""
    prefix: str
    bucket: str
    """Whose requests are logged."""

    @classmethod
    def at(cls, uri: str, store: Store) -> "AccessLogs":
        """The log that S3 delivers to `s3://bucket/prefix`, of the store's bucket; asked for as the store is."""
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        return cls(store=replace(store, bucket=bucket, encryption={}), prefix=prefix, bucket=store.bucket)

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.store.uri(self.prefix)

    def listed(self, since: float, until: float) -> list[Listed]:
        """The log objects that came from `since` on, seconds since the epoch, in the order in which they came.

        A few requests for each day, however long the log is.
        """
        first = int(since) // DAY - DAYS_BEFORE
        days = [datetime.fromtimestamp(day * DAY, UTC) for day in range(first, int(until) // DAY + 2)]
        prefixes = [
            f"{root}{day:{form}}" for root in self._roots() for day in days for form in ("%Y/%m/%d/", "%Y-%m-%d-")
        ]
        found = (entry for prefix in prefixes for entry in self.store.listing(prefix))
        return sorted((entry for entry in found if entry.modified >= since), key=lambda each: (each.modified, each.key))

    def lines(self, key: str) -> list[str]:
        """The lines of a log object; none where it has expired meanwhile. What clients send need not be UTF-8."""
        stored = self.store.get(key)
        return stored.body.decode(errors="replace").split("\n") if stored else []

    def _roots(self) -> Iterator[str]:
        """What stands before the date: the prefix, and that of the bucket's own partition where there is one."""
        yield self.prefix
        after = ""
        for _ in range(MOST_SOURCES):
            first = next(self.store.listing(self.prefix, after=after), None)
            match = _PARTITION.match(first.key, len(self.prefix)) if first else None
            if first is None or match is None:
                return
            root = first.key[: match.end()]
            if match["bucket"] == self.bucket:
                yield root
            after = f"{root}~"  # behind every year
