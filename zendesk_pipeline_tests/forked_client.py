"""A process that has another one, forked from a warm one, work in its place (see `forked`): `SOCKET PROGRAM ARGUMENTS`.

It imports next to nothing: that is what it is for.
"""

import array
import json
import os
import signal
import socket
import sys
from types import FrameType


def main(path: str, *argv: str) -> None:
    """Hand over, and end as the other one does."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)

        def forward(number: int, _: FrameType | None) -> None:
            server.sendall(bytes([number]))

        order = json.dumps({"argv": argv, "environment": dict(os.environ), "cwd": os.getcwd()}).encode()  # noqa: PTH109  # pathlib is slow to import
        streams = array.array("i", [0, 1, 2])
        server.sendmsg([len(order).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        server.sendall(order)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, forward)
        status = int(server.recv(16) or b"1")
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
