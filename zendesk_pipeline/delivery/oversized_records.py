"""A record that is too long for one line of the feed, shortened to what fits."""

from decimal import Decimal
from typing import Any

import msgspec

from zendesk_pipeline.model.json_text import top_fields, without_halves
from zendesk_pipeline.model.streams import Stream

MARK = "zendesk_pipeline"
"""The field that says that a record was shortened, and where the whole record is."""
STRING_LIMITS = (100_000, 10_000, 1_000, 100)
"""Characters to which each text is cut, tried in this order."""

# numbers stay as they are written: no float holds 0.10 or 1e999
_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


def shortened(stream: Stream, line: bytes, *, whole: str, longest: int) -> bytes:
    """The record with long texts cut, and a mark that names `whole`, the address of the whole record.

    Where cutting texts is not enough, only identity and event time stay. Deterministic.
    """
    mark = {MARK: {"shortened": True, "bytes": len(line), "whole": whole}}
    return _cut_down(line, mark, longest) or _encode({**_kept(stream, line), **mark})


def _cut_down(line: bytes, mark: dict[str, Any], longest: int) -> bytes | None:
    """The record with its texts cut; None where that is not enough, or where it cannot be decoded."""
    try:
        record: dict[str, Any] = _decode(without_halves(line))
        for limit in STRING_LIMITS:
            short = _encode({**_cut(record, limit), **mark})
            if len(short) <= longest:
                return short
    except (msgspec.MsgspecError, ArithmeticError, RecursionError):
        return None  # numbers of thousands of digits, huge exponents, or lists nested too deeply
    return None


def _kept(stream: Stream, line: bytes) -> dict[str, Any]:
    """Identity and event time, as they are written."""
    names = (*stream.identity, stream.event_time)
    record: dict[str, Any] = msgspec.json.decode(top_fields(line, names), type=dict[str, msgspec.Raw])
    return {name: record[name] for name in names}


def _cut(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return value[:limit]
    if isinstance(value, list):
        return [_cut(item, limit) for item in value]  # pyright: ignore[reportUnknownVariableType]  # JSON
    if isinstance(value, dict):
        return {key: _cut(item, limit) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]  # JSON
    return value
