"""Servers that a trial may kill, and a pooler in front of one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from pgflow_cli import migrations
from pgflow_cli.repository import Database as Settings
from pgflow_cli.repository import Repository
from tests import servers
from tests.tools import needs_tool


class PrivateServer:
    """A server of one trial's own."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._folder = binaries, folder
        self.url = f"postgresql://postgres@/postgres?host={folder}"

    def migrated(self) -> str:
        """Bring its database to the current schema and return its URL."""
        repository = Repository.of(Settings(self.url))
        migrations.migrate(repository)
        repository.close()
        return self.url

    def kill(self) -> None:
        """Kill it as a crash would, and wait until its last process has noticed."""
        data = self._folder / "data"
        postmaster = int((data / "postmaster.pid").read_text().split()[0])
        processes = [psutil.Process(postmaster)]
        processes += processes[0].children(recursive=True)
        processes[0].kill()
        _, alive = psutil.wait_procs(processes, timeout=30)
        assert not alive

    def start(self) -> None:
        servers.start(self._binaries, self._folder)


@contextmanager
def private_server() -> Iterator[PrivateServer]:
    """Yield a server with fsync on; it and its folder are gone afterwards."""
    binaries = servers.find_binaries()
    with servers.own_folder(binaries) as folder:
        servers.initialise(binaries, folder, fsync="on", full_page_writes="on")
        servers.start(binaries, folder)
        yield PrivateServer(binaries, folder)


@contextmanager
def pgbouncer(database: servers.Database) -> Iterator[str]:
    """Yield the URL of a PgBouncer in transaction mode in front of a database."""
    program = needs_tool("pgbouncer")
    with psycopg.connect(database.url) as connection:
        info = connection.info
        host, port, name, user = info.host, info.port, info.dbname, info.user
    home = Path(tempfile.mkdtemp(prefix="pgflow-test-", dir="/tmp"))
    owner = servers.server_owner()
    if owner:
        os.chown(home, owner["user"], owner["group"])
    users = home / "users.txt"
    users.write_text(f'"{user}" ""\n')
    settings = home / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n{name} = host={host} port={port} dbname={name} user={user}\n"
        f"[pgbouncer]\nlisten_addr =\nunix_socket_dir = {home}\nlisten_port = 6432\n"
        f"auth_type = trust\nauth_file = {users}\npool_mode = transaction\n"
        f"logfile = {home}/log\npidfile = {home}/pid\n"
        "max_client_conn = 50\ndefault_pool_size = 3\n"
    )
    process = subprocess.Popen([program, str(settings)], cwd="/", **owner)
    try:
        url = f"postgresql://{user}@/{name}?host={quote(str(home))}&port=6432"
        while not (home / ".s.PGSQL.6432").exists():
            assert process.poll() is None, (home / "log").read_text()
            time.sleep(0.01)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.kill()
        process.wait()
        shutil.rmtree(home)
