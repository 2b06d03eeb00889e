"""An admin server that answers on a real socket, in a thread of the tests' process.

How `pgflow serve-admin` starts and ends is shown by tests/acceptance.
"""

from __future__ import annotations

import http.client
import threading

from waitress import wasyncore

from pgflow_cli.admin import application, server
from pgflow_cli.admin.options import AdminOptions
from pgflow_cli.admin.service import Service

SOON = 15.0  # seconds in which everything here happens, on a slow machine, too


class Running:
    """An admin server that answers on a real socket, in a thread of this process."""

    def __init__(self, options: AdminOptions) -> None:
        self.service = Service(options)
        self._bound = server.listening(options)
        self.port: int = self._bound.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}{options.base_path}".rstrip("/")
        self._waitress = server.serve(
            options, self._bound, application.application(self.service)
        )
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._turn)
        self._thread.start()

    def _turn(self) -> None:
        while not self._stopped.is_set():
            wasyncore.loop(
                timeout=0.05, map=self._waitress._map, use_poll=True, count=1
            )

    def stop(self) -> None:
        self.service.end()
        self._waitress.task_dispatcher.shutdown(timeout=5)
        self._stopped.set()
        self._thread.join()
        self._waitress.close()
        wasyncore.close_all(self._waitress._map, ignore_all=True)
        self.service.close()

    def status_of(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SOON)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()
