"""Answers in fewer bytes: gzip, and zstd as a CDN likes to send it to clients that take it."""

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Literal

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from zendesk_pipeline.local.simulator.messages import Answer, Request

Encoding = Literal["gzip", "zstd"]

CHUNK = 1 << 16

_PACKED: Mapping[Encoding, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body, 1, mtime=0),
    "zstd": lambda body: zstd.compress(body, 1),
}
"""Each at the level that takes the least time."""


def compressed(body: bytes, encoding: Encoding) -> bytes:
    """The body in fewer bytes."""
    return _PACKED[encoding](body)


def packed(answer: Answer, request: Request, encoding: Encoding | Literal["none"]) -> Answer:
    """The answer as the client takes it."""
    if encoding == "none" or encoding not in request.headers.get("accept-encoding", ""):
        return answer
    body = compressed(answer.body, encoding)
    return replace(answer, parts=(body,), headers=(*answer.headers, ("Content-Encoding", encoding)))


def bomb(encoding: Encoding, size: int) -> Iterator[bytes]:
    """`size` spaces, packed to a thousandth or less; nonempty pieces only, as chunks must be."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS) if encoding == "gzip" else zstd.ZstdCompressor()
    for _ in range(-(-size // CHUNK)):
        if piece := packer.compress(b" " * CHUNK):
            yield piece
    yield packer.flush()
