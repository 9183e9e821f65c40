"""A PostgreSQL and a Redis of the system's own packages, each a real process on a free port, gone with its block.

Neither comes from the package index, so `make test` does without them.
"""

import os
import pwd
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import psycopg2
import redis

from zendesk_pipeline.local.services import LOOPBACK
from zendesk_pipeline.local.services import _running as running
from zendesk_pipeline.local.services import _until_ready as until_ready
from zendesk_pipeline_tests.ports import lasting_port

USER, PASSWORD, DATABASE = "dagster", "a pass@word/", "dagster"
"""The password has what an address has to quote."""
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
"""Where packages put the programs of PostgreSQL that are not on PATH."""
DEBIAN = "On Debian: sudo apt-get install postgresql redis-server"
_SETTINGS = {
    "unix_socket_directories": "",
    "shared_preload_libraries": "pg_stat_statements",  # counts statements
    "pg_stat_statements.track": "all",
    "fsync": "off",  # a test may lose its data with the machine
}


class NoServerError(Exception):
    """A server that the tests need is not installed; the message says how to get it."""

    def __init__(self, name: str) -> None:
        self.message = f"{name} was not found. {DEBIAN}"
        super().__init__(self.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A PostgreSQL server with one database."""

    host: str
    port: int
    start: Callable[[], Any]
    """Starts it again after `stop`."""
    stop: Callable[[], None]
    """Stops it at once, as a crash would: what runs in it is cut off."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables of deploy/dagster/celery/dagster.yaml."""
        return {
            "DAGSTER_PG_HOST": self.host,
            "DAGSTER_PG_PORT": str(self.port),
            "DAGSTER_PG_USERNAME": USER,
            "DAGSTER_PG_PASSWORD": PASSWORD,
            "DAGSTER_PG_DB": DATABASE,
        }

    @property
    def url(self) -> str:
        """As SQLAlchemy wants it."""
        return f"postgresql+psycopg2://{USER}:{quote(PASSWORD, safe='')}@{self.host}:{self.port}/{DATABASE}"

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What a statement gives."""
        connection = psycopg2.connect(
            host=self.host, port=self.port, user=USER, password=PASSWORD, dbname=DATABASE, connect_timeout=10
        )
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def number(self, statement: str, *values: object) -> int:
        """The one number that a statement gives."""
        ((found,),) = self.rows(statement, *values)
        return int(found or 0)

    def inserts(self, table: str) -> int:
        """INSERT statements into a table since `forget`."""
        pattern = f'^INSERT INTO "?{table}"?[ (]'
        return self.number("SELECT sum(calls) FROM pg_stat_statements WHERE query ~* %s", pattern)

    def statements(self) -> int:
        """Statements since `forget`."""
        return self.number("SELECT sum(calls) FROM pg_stat_statements")

    def forget(self) -> None:
        """Count statements anew."""
        self.rows("SELECT pg_stat_statements_reset()")


@dataclass(frozen=True, slots=True, kw_only=True)
class Redis:
    """A Redis server."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables of deploy/dagster/celery."""
        return {"CELERY_BROKER_URL": self.url, "CELERY_RESULT_BACKEND": self.url}


def program(name: str) -> str:
    """The path of a server's program; raises NoServerError where it is not installed."""
    found = shutil.which(name) or max(
        (str(path) for place in PLACES for path in Path("/").glob(f"{place[1:]}/{name}")), default=None
    )
    if found is None:
        raise NoServerError(name)
    return found


@contextmanager
def postgres(folder: Path, host: str = LOOPBACK, port: int = 0) -> Generator[Postgres]:
    """PostgreSQL until the block ends; the log goes to `folder`, the data to a folder that its user can reach.

    Args:
        folder: For its log.
        host: The address that it listens on.
        port: Its port, 0 for a free one.
    """
    initdb, server = program("initdb"), program("postgres")
    with TemporaryDirectory(prefix="zendesk-postgres-", dir="/tmp" if _is_root() else None) as place:  # noqa: S108 - TMPDIR may be root's alone
        _give(Path(place))
        secret = Path(place) / "password"
        secret.write_text(PASSWORD)
        _give(secret)
        data = Path(place) / "data"
        made = ["-D", str(data), "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--locale=C"]
        log = folder / "postgres.log"
        with running([*_as_user(), initdb, "--no-sync", *made], log) as making:
            if making.wait(60):
                raise AssertionError(log.read_text())
        port = port or lasting_port()
        settings = {**_SETTINGS, "listen_addresses": host, "port": port}
        options = [f"--{name}={value}" for name, value in settings.items()]
        kept: list[Any] = []

        def start() -> None:
            kept.append(running([*_as_user(), server, "-D", str(data), *options], log, end="QUIT"))
            _wait_for(kept[-1].__enter__(), log, host, port)

        def stop() -> None:
            kept.pop().__exit__(None, None, None)

        start()
        made_of = Postgres(host=host, port=port, start=start, stop=stop)
        try:
            _connect(host, port, "postgres", f'CREATE DATABASE "{DATABASE}"')
            made_of.rows("CREATE EXTENSION pg_stat_statements")
            yield made_of
        finally:
            if kept:
                stop()


@contextmanager
def redis_server(folder: Path) -> Generator[Redis]:
    """Redis until the block ends, with nothing on disk."""
    port = lasting_port()
    log = folder / "redis.log"
    command = [program("redis-server"), "--bind", LOOPBACK, "--port", str(port), "--save", "", "--dir", str(folder)]
    with running(command, log) as process:
        client = redis.Redis(host=LOOPBACK, port=port)
        for _ in until_ready(process, log):
            with suppress(redis.ConnectionError):
                client.ping()
                break
        client.close()
        yield Redis(url=f"redis://{LOOPBACK}:{port}/0")


def _wait_for(process: Any, log: Path, host: str, port: int) -> None:
    for _ in until_ready(process, log):
        with suppress(psycopg2.OperationalError):
            _connect(host, port, "postgres", "SELECT 1")
            return


def _connect(host: str, port: int, database: str, statement: str) -> None:
    connection = psycopg2.connect(
        host=host, port=port, user=USER, password=PASSWORD, dbname=database, connect_timeout=5
    )
    connection.autocommit = True  # a database is not made within a transaction
    try:
        connection.cursor().execute(statement)
    finally:
        connection.close()


def _is_root() -> bool:
    return os.geteuid() == 0


def _user() -> pwd.struct_passwd:
    """Who PostgreSQL runs as where we are root, which it refuses to be."""
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise NoServerError("a user postgres or nobody")


def _as_user() -> list[str]:
    if not _is_root():
        return []
    user = _user()
    return [program("setpriv"), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]


def _give(path: Path) -> None:
    if _is_root():
        os.chown(path, _user().pw_uid, _user().pw_gid)
