"""What exists in the simulated account of the streams that are not collected unless asked for.

Each stream draws its own random numbers: none changes what another, or the audit logs and tickets, hold.
"""

from collections.abc import Iterator
from random import Random

from zendesk_pipeline.local.simulator.history import (
    ACCESS_LOGS,
    FOREVER,
    HIDDEN_SECONDS,
    HOUR,
    METRIC_EVENTS,
    TICKET_EVENTS,
    Entry,
    HistoryOptions,
    is_empty,
    seconds_of_hour,
)

OF_AI_AGENTS, OF_DELETED_TICKETS = 20, 16
"""One event of so many belongs to a ticket of an AI agent, one metric event to a deleted one."""
CHANGES_SHARE = 0.4
"""How likely a user or an organization changes once more."""
DELETED_SHARE = 0.05


def events_of_hour(options: HistoryOptions, stream: str, hour: int) -> Iterator[Entry]:
    """What happened in an hour, for a stream of events: access logs, ticket events and metric events.

    The export of ticket events holds back a minute, the other two show some records late.
    """
    if is_empty(options, stream, hour) and stream != ACCESS_LOGS:  # who collects them makes some in each hour
        return
    rng = Random(f"{options.seed}/{stream}/{hour}")
    for number, second in enumerate(seconds_of_hour(rng, options.further_per_hour)):
        at = hour * HOUR + second
        late = rng.random() < options.late_share and stream != TICKET_EVENTS
        delay = rng.randint(min(60, options.late_by), options.late_by) if late else rng.randint(0, 3)
        if stream in {TICKET_EVENTS, METRIC_EVENTS}:
            delay = max(delay, HIDDEN_SECONDS)
        identity = hour * 1_000_000 + number * 19 + rng.randrange(19)
        yield Entry(
            at=at,
            id=identity,
            visible_from=at + delay,
            created=at,
            deleted=stream == METRIC_EVENTS and identity % OF_DELETED_TICKETS == 0,
            ai_agent=stream == TICKET_EVENTS and identity % OF_AI_AGENTS == 0,
        )


class StateMaker:
    """The users or the organizations that came into being in each hour, with every change they will ever see.

    Called once for each hour, in order: ids count up.
    """

    def __init__(self, options: HistoryOptions, stream: str) -> None:
        self._options = options
        self._stream = stream
        self._next_id = 6_130_000_000_000

    def __call__(self, hour: int) -> Iterator[Entry]:
        """All their states."""
        if is_empty(self._options, self._stream, hour):
            return
        rng = Random(f"{self._options.seed}/{self._stream}/{hour}")
        for second in seconds_of_hour(rng, self._options.further_per_hour):
            self._next_id += 1 + rng.randrange(7)
            times = [hour * HOUR + second]
            while rng.random() < CHANGES_SHARE:
                at = times[-1] + 1 + int(rng.expovariate(1 / (2 * HOUR)))
                if not is_empty(self._options, self._stream, at // HOUR):
                    times.append(at)
            deleted = rng.random() < DELETED_SHARE
            for version, at in enumerate(times):
                last = version == len(times) - 1
                yield Entry(
                    at=at,
                    id=self._next_id,
                    visible_from=at + HIDDEN_SECONDS,
                    visible_until=FOREVER if last else times[version + 1],
                    created=times[0],
                    version=version,
                    deleted=deleted and last,
                )
