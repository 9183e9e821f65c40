"""A PostgreSQL server for Dagster's records, of this machine's own programs (Debian: `apt-get install postgresql`)."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from zendesk_pipeline.local_services import LOOPBACK, LocalServiceError, free_ports

USER = "postgres"
INSTANCE = """\
telemetry: {{enabled: false}}
nux: {{enabled: false}}
concurrency: {{pools: {{default_limit: 1, granularity: op}}}}
storage:
  postgres:
    postgres_url: postgresql+psycopg2://postgres@{host}:{port}/postgres
"""


@contextmanager
def postgres() -> Generator[str]:
    """The dagster.yaml of an instance on a new server, which is gone with its data when the block ends."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        if not os.getuid():
            shutil.chown(folder, USER)  # the server does not run as root
        data = f"{folder}/data"
        _postgres("initdb", "--pgdata", data, "--username", USER, "--auth", "trust", "--no-sync")
        options = f"-p {port} -c listen_addresses={LOOPBACK} -c unix_socket_directories={folder}"
        _postgres("pg_ctl", "-D", data, "-o", options, "-l", f"{folder}/log", "--wait", "start")
        try:
            yield INSTANCE.format(host=LOOPBACK, port=port)
        finally:
            _postgres("pg_ctl", "-D", data, "--mode", "immediate", "--wait", "stop")


def _postgres(program: str, *arguments: str) -> None:
    """Run one of the server's programs to its end, as a user that it runs as."""
    path = shutil.which(program) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))), None)
    if path is None:
        raise LocalServiceError(f"{program} is missing: install PostgreSQL's server.")
    user = None if os.getuid() else USER
    # a server that goes on must not hold a pipe of ours open
    ended = subprocess.run([path, *arguments], user=user, cwd="/", stdout=subprocess.DEVNULL, check=False)
    if ended.returncode:
        raise LocalServiceError(f"{program} failed with status {ended.returncode}")
