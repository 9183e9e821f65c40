"""Programs without their start: `dagster`, `dg`, `zendesk-pipeline` and modules, forked from a warm process.

One to three seconds of processor time go into the imports of each program, and tests start hundreds. A command of
`command` is a process like any other: its arguments, environment, folder, standard streams and exit status are those
of the program, and whoever kills it ends the program. What is not as in real life is how it starts, so a test of that
starts the program itself.
"""

import array
import atexit
import contextlib
import functools
import gc
import importlib.metadata
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from zendesk_pipeline_tests import engines, read_once

CLIENT = Path(__file__).with_name("forked_client.py")
DG = "dg"
PROGRAMS = ("dagster", "zendesk-pipeline")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
LOADED_LATER = ("zendesk_pipeline.definitions", "zendesk_pipeline.alerts.services")
"""Modules that each process loads anew: the first reads the settings, the second runs as a program."""


def command(program: str, *arguments: str) -> list[str]:
    """A command that is forked: one of PROGRAMS or DG, or `-m` and a module, with arguments."""
    return [sys.executable, "-I", "-S", str(CLIENT), str(_served_at(program == DG)), program, *arguments]


@functools.cache
def _served_at(with_dg: bool) -> Path:  # noqa: FBT001  # the key of the cache
    """The socket of the process to fork from, which ends with this one; few need `dg`, which is large."""
    folder = tempfile.TemporaryDirectory(prefix="forked-")
    path = Path(folder.name, "socket")
    log = Path(folder.name, "log")
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(path), *([DG] if with_dg else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log.open("wb"),
        cwd=Path(__file__).parents[1],
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    atexit.register(folder.cleanup)
    atexit.register(process.wait)
    atexit.register(process.stdin.close)
    assert process.stdout.readline() == b"ready\n", log.read_text()
    process.stdout.close()
    return path


def main(path: str, *more: str) -> None:
    """Fork for each connection, until standard input ends."""
    programs = _warm([*PROGRAMS, *more])
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(64)
        print("ready", flush=True)  # noqa: T201  # what the parent waits for
        signal.signal(signal.SIGCHLD, _reap)
        parent = os.getpid()
        threading.Thread(target=_end_with_input, args=(parent,), daemon=True).start()
        while True:
            client, _ = server.accept()
            if os.fork():
                client.close()
                continue
            server.close()
            _serve(client, programs)


def _reap(_: int, __: FrameType | None) -> None:
    """Whoever measures us counts the time of children that were waited for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _end_with_input(process: int) -> None:
    sys.stdin.buffer.read()
    os.kill(process, signal.SIGKILL)


def _warm(names: Sequence[str]) -> dict[str, Callable[[], Any]]:
    """The programs' functions by name, and everything imported that they need."""
    from apprise import Apprise  # noqa: PLC0415  # only this process needs what is slow to import

    read_once.from_now_on()
    engines.keep(connected=False)
    scripts = {each.name: each for each in importlib.metadata.entry_points(group="console_scripts")}
    programs = {name: scripts[name].load() for name in names}
    for name in ("zendesk_pipeline.wiring", "zendesk_pipeline.components", *LOADED_LATER[1:]):
        importlib.import_module(name)
    run_once()
    Apprise.instantiate("json://localhost")  # loads all services
    if DG in names:  # its commands are imported when one is looked for
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            sys.argv = [DG, "launch", "--help"]
            programs[DG]()
    for name in LOADED_LATER:
        sys.modules.pop(name, None)
    gc.collect()
    gc.freeze()
    return programs


def run_once() -> None:
    """Have imported what is imported only when something runs."""
    import boto3  # noqa: PLC0415  # as above
    import dagster as dg  # noqa: PLC0415  # as above

    @dg.asset
    def nothing() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([nothing], instance=instance, run_config=QUIET)
    boto3.client("s3", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none")
    dg.AssetSelection.from_string("nothing")  # loads a parser


def _serve(client: socket.socket, programs: dict[str, Callable[[], Any]]) -> None:
    """In a process of its own: fork the program, and tell the client how it ended; it ends with the client."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    streams, order = _order(client)
    program = os.fork()
    if not program:
        client.close()
        _become(streams, order)
        _run(order["argv"], programs)
    for each in streams:
        os.close(each)
    threading.Thread(target=_forward, args=(client, program), daemon=True).start()
    _, status = os.waitpid(program, 0)
    client.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _order(client: socket.socket) -> tuple[list[int], dict[str, Any]]:
    """Standard input, output and error of the client, and what it wants to be run."""
    passed = array.array("i")
    size, ancillary, *_ = client.recvmsg(8, socket.CMSG_SPACE(3 * passed.itemsize))
    passed.frombytes(ancillary[0][2])
    with client.makefile("rb") as stream:
        return list(passed), json.loads(stream.read(int.from_bytes(size, "big")))


def _forward(client: socket.socket, program: int) -> None:
    """Signals that the client got; its end is that of the program."""
    while number := client.recv(1):
        os.kill(program, number[0])
    os.kill(program, signal.SIGKILL)


def _become(streams: list[int], order: dict[str, Any]) -> None:
    """A process as the client is one."""
    import boto3  # noqa: PLC0415  # as above

    for number, each in enumerate(streams):
        os.dup2(each, number)
        os.close(each)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    # What the warm process has taken from its own environment.
    boto3.DEFAULT_SESSION = None
    tempfile.tempdir = None
    time.tzset()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # standard streams
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # as above
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, errors="backslashreplace", buffering=1)  # noqa: SIM115  # as above
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr


def _run(argv: Sequence[str], programs: dict[str, Callable[[], Any]]) -> None:
    """The program, to its end."""
    name, *arguments = argv
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    first = Path.cwd() if name == "-m" else Path(sys.executable).parent
    sys.path[:1] = [str(first), *filter(None, folders)]
    status: Any = 0
    try:
        if name == "-m":
            sys.argv = arguments
            runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = [str(Path(sys.executable).with_name(name)), *arguments]
            sys.modules["__main__"] = ModuleType("__main__")  # click asks it for the program's name
            status = programs[name]()
    except SystemExit as end:
        status = end.code
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    except BaseException:  # noqa: BLE001  # as Python itself ends
        sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType]  # there is one
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)  # noqa: T201  # as Python does
        status = 1
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]  # as Python ends
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(int(status or 0) & 0xFF)


if __name__ == "__main__":
    main(*sys.argv[1:])
