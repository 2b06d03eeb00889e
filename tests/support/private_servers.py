"""Servers that a trial may kill, and a pooler in front of one."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from pgflow_cli.maintenance import migrations
from pgflow_cli.repository import Database as Settings
from pgflow_cli.repository import Repository
from tests.support import servers
from tests.support.tools import needs_tool


class PrivateServer:
    """A server of one trial's own."""

    def __init__(
        self,
        binaries: Path,
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.binaries, self.folder = binaries, folder
        self._environment = environment
        self.url = f"postgresql://postgres@/postgres?host={folder}"

    def migrated(self) -> str:
        """Bring its database to the current schema and return its URL."""
        repository = Repository.of(Settings(self.url))
        migrations.migrate(repository)
        repository.close()
        return self.url

    def kill(self) -> None:
        """Kill it as a crash would, and wait until its last process has noticed."""
        data = self.folder / "data"
        postmaster = int((data / "postmaster.pid").read_text().split()[0])
        processes = [psutil.Process(postmaster)]
        processes += processes[0].children(recursive=True)
        processes[0].kill()
        _, alive = psutil.wait_procs(processes, timeout=30)
        assert not alive

    @property
    def socket(self) -> Path:
        """Return the socket that it listens on."""
        return self.folder / ".s.PGSQL.5432"

    def start(self) -> None:
        servers.start(self.binaries, self.folder, self._environment)

    def stop(self, mode: str) -> None:
        servers.stop(self.binaries, self.folder, mode)

    def admit(self, *rules: str) -> None:
        """Let in whom these rules of pg_hba.conf name, as of the next connection."""
        (self.folder / "data" / "pg_hba.conf").write_text(
            "\n".join([*rules, "local all postgres trust", ""])
        )
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("select pg_reload_conf()")


@contextmanager
def private_server(
    binaries: Path | None = None,
    environment: Mapping[str, str] | None = None,
    **settings: str,
) -> Iterator[PrivateServer]:
    """Yield a server with fsync on; it and its folder are gone afterwards."""
    binaries = binaries or servers.find_binaries()
    with servers.own_folder(binaries) as folder:
        _copy(_original(binaries), folder, **settings)
        server = PrivateServer(binaries, folder, environment)
        server.start()
        yield server


@contextmanager
def migrated_server(binaries: Path | None = None) -> Iterator[PrivateServer]:
    """Yield a private server whose database has the current schema."""
    binaries = binaries or servers.find_binaries()
    with servers.own_folder(binaries) as folder:
        _copy(_migrated_original(binaries), folder)
        server = PrivateServer(binaries, folder)
        server.start()
        yield server


# Folders that servers are copied of, until this process ends.
_originals = ExitStack()
atexit.register(_originals.close)


@cache
def _original(binaries: Path) -> Path:
    """Make a data folder once: initdb takes ten times as long as a copy."""
    folder = _originals.enter_context(servers.own_folder(binaries))
    servers.initialise(binaries, folder, fsync="on", full_page_writes="on")
    return folder


@cache
def _migrated_original(binaries: Path) -> Path:
    folder = _originals.enter_context(servers.own_folder(binaries))
    _copy(_original(binaries), folder)
    server = PrivateServer(binaries, folder)
    server.start()
    server.migrated()
    server.stop("fast")
    return folder


def _copy(original: Path, folder: Path, **settings: str) -> None:
    """Copy the data of a server that does not run; `settings` go before its own."""
    servers._run(["cp", "-Rp", original / "data", folder / "data"])
    chosen = {**settings, "unix_socket_directories": str(folder)}
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in chosen.items())


def _listens(path: Path) -> bool:
    """Whether a connection is taken: a socket has its name before it listens."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@contextmanager
def pgbouncer(database: servers.Database, *settings: str) -> Iterator[str]:
    """Yield the URL of a PgBouncer in transaction mode in front of a database."""
    with psycopg.connect(database.url) as connection:
        info = connection.info
        name, user = info.dbname, info.user
        with pooler(info.host, info.port, name, user, *settings) as url:
            yield url.format(name)


@contextmanager
def pooler(host: str, port: int, name: str, user: str, *settings: str) -> Iterator[str]:
    """Yield the URL of a PgBouncer in transaction mode, for the format of a database's
    name; `name` is * for every database.
    """
    program = needs_tool("pgbouncer")
    home = Path(tempfile.mkdtemp(prefix="pgflow-test-", dir="/tmp"))
    owner = servers.server_owner()
    if owner:
        os.chown(home, owner["user"], owner["group"])
    users = home / "users.txt"
    users.write_text(f'"{user}" ""\n')
    file = home / "pgbouncer.ini"
    file.write_text(
        f"[databases]\n{name} = host={host} port={port} user={user}\n"
        f"[pgbouncer]\nlisten_addr =\nunix_socket_dir = {home}\nlisten_port = 6432\n"
        f"auth_type = trust\nauth_file = {users}\npool_mode = transaction\n"
        f"logfile = {home}/log\npidfile = {home}/pid\n"
        "max_client_conn = 100\ndefault_pool_size = 3\n" + "\n".join(settings)
    )
    process = subprocess.Popen([program, "-q", str(file)], cwd="/", **owner)
    try:
        url = f"postgresql://{user}@/{{}}?host={quote(str(home))}&port=6432"
        while not _listens(home / ".s.PGSQL.6432"):
            assert process.poll() is None, (home / "log").read_text()
            time.sleep(0.01)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.kill()
        process.wait()
        shutil.rmtree(home)


class StallingProxy:
    """Stands before a server's socket, and can fall silent: what is sent then goes
    nowhere, and nobody hangs up.

    Stopping a backend is not the same: it may hold a lock that the others need.
    """

    def __init__(self, server: Path, folder: Path) -> None:
        self._server = server
        self._path = folder / ".s.PGSQL.5432"
        self._listener = socket.socket(socket.AF_UNIX)
        self._flows: list[threading.Event] = []
        self._serves_new = True
        self._sockets = [self._listener]

    def listen(self) -> None:
        """Take connections; until then there is no server at its address."""
        self._listener.bind(str(self._path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self, *, new: bool = False) -> None:
        """Fall silent on every connection there is; `new` ones are served, or are not
        either.
        """
        self._serves_new = not new
        for flow in self._flows:
            flow.clear()

    def go_on(self) -> None:
        """Pass on what has been held back, and serve all connections again."""
        self._serves_new = True
        for flow in self._flows:
            flow.set()

    def close(self) -> None:
        for opened in [*self._sockets]:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()
        for flow in self._flows:
            flow.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                self._sockets += [client, server]
                server.connect(str(self._server))
                flow = threading.Event()
                if self._serves_new:
                    flow.set()
                self._flows.append(flow)
                for source, target in ((client, server), (server, client)):
                    threading.Thread(
                        target=self._pump, args=(source, target, flow), daemon=True
                    ).start()
        self.close()  # of what was accepted while all was being closed

    @staticmethod
    def _pump(
        source: socket.socket, target: socket.socket, flow: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                flow.wait()
                target.sendall(data)
        flow.wait()
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@contextmanager
def stalling_proxy(
    database: servers.Database, *, listens: bool = True
) -> Iterator[tuple[str, StallingProxy]]:
    """Yield the URL of a proxy before a database, and the proxy."""
    with psycopg.connect(database.url) as connection:
        info = connection.info
        real = Path(info.host) / f".s.PGSQL.{info.port}"
        name, user = info.dbname, info.user
    folder = Path(tempfile.mkdtemp(prefix="pgflow-test-", dir="/tmp"))
    proxy = StallingProxy(real, folder)
    if listens:
        proxy.listen()
    try:
        yield f"postgresql://{user}@/{name}?host={folder}", proxy
    finally:
        proxy.close()
        shutil.rmtree(folder)


@contextmanager
def a_standby() -> Iterator[tuple[PrivateServer, str, Callable[[], None]]]:
    """Yield a primary, the URL of its standby, and what promotes that."""
    binaries = servers.find_binaries()
    with migrated_server() as primary, servers.own_folder(binaries) as folder:
        # Of one original, as of a backup that was taken while the primary stood still.
        conninfo = f"host={primary.folder} user=postgres"
        _copy(_migrated_original(binaries), folder, primary_conninfo=conninfo)
        servers._run(["touch", folder / "data" / "standby.signal"])
        servers.start(binaries, folder)

        def promote() -> None:
            ctl = [binaries / "pg_ctl", "-D", folder / "data", "-w", "promote"]
            servers._run(ctl)

        yield primary, f"postgresql://postgres@/postgres?host={folder}", promote
