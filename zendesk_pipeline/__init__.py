"""Zendesk logs to Amazon S3 in hourly windows, each record exactly once.

Packages import downwards, which `make check` holds them to:

    cli, commands                       the command line
    definitions, components, wiring     what Dagster loads
    alerts                              what is wrong, who was told, and the sending
    local                               a simulated Zendesk, an S3 server, demo, dev, the proof
    orchestration                       Dagster's ends: assets, IO manager, schedules, sensors, checks
    zendesk, delivery                   asking Zendesk; records into the bucket, each once
    settings                            what a deployment chooses
    model                               what is collected, as data and bytes

To read the code, follow a record. `orchestration.assets` and `io_manager` are Dagster's ends of its way. `zendesk.walk`
asks for pages through `zendesk.client`, `model.records` splits a page without re-encoding it, and
`delivery.window_writer` puts the records into S3 once, by `delivery.object_keys`, `ledger` and `bucket`. When that is
done: `orchestration.schedules`, `catch_up` and `catch_up_sensor`.

What a project of yours writes down can be imported from here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zendesk_pipeline.components import ZendeskToS3Component
    from zendesk_pipeline.model.paging import AccessLogList, CursorExport, CursorList, CursorListFrom, TimeExport
    from zendesk_pipeline.model.streams import Stream, register

__all__ = [
    "AccessLogList",
    "CursorExport",
    "CursorList",
    "CursorListFrom",
    "Stream",
    "TimeExport",
    "ZendeskToS3Component",
    "register",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for, and only then: a command need not load Dagster."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = {"ZendeskToS3Component": "components", "Stream": "model.streams", "register": "model.streams"}
    return getattr(import_module(f"{__name__}.{home.get(name, 'model.paging')}"), name)
