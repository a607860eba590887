"""Start and stop the stand-ins in this process.

Tests and `python -m sandbox` use it. Each server has its own threads, so one can be stopped and resumed on the
same port while the others go on.
"""

import contextlib
import shutil
import socket
import threading
from typing import TYPE_CHECKING, Self

from sandbox.converter import app as converter_app
from sandbox.data_directory import DataDirectory
from sandbox.file_access import app as file_access_app
from sandbox.member_center import app as member_center_app
from sandbox.server import HTTPServer, bind
from sandbox.settings import CONVERTER, FILE_ACCESS, MEMBER_CENTER, SERVICES, Address, Settings, URLs
from sandbox.site import wrap

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class Running:
    """A running sandbox. Use it as a context manager, or call `close`."""

    def __init__(self, settings: Settings) -> None:
        """Bind every address, then serve; raises AddressInUseError before anything is started."""
        self.settings = settings
        self.data = DataDirectory(settings.data)
        self._servers: dict[str, HTTPServer] = {}
        self._addresses = {service: settings.address_of(service) for service in SERVICES}
        listeners: dict[str, socket.socket] = {}
        try:
            for service in settings.services:
                listeners[service] = bind(self._addresses[service])
                self._addresses[service] = _with_port(self._addresses[service], listeners[service])
        except OSError:
            for listener in listeners.values():
                listener.close()
            raise
        if CONVERTER in listeners:
            _remove_leftovers(self.data)
        for service, listener in listeners.items():
            self._serve(service, listener)

    @property
    def urls(self) -> URLs:
        return URLs(*(self._addresses[service].url for service in SERVICES))

    def stop(self, service: str) -> None:
        """Stop one server; its port then refuses connections."""
        self._servers.pop(service).close()

    def resume(self, service: str) -> None:
        """Start a stopped server again on its port, with empty logs and no fault rules. Stored data is unchanged."""
        self._serve(service, bind(self._addresses[service]))

    def close(self) -> None:
        """Stop all servers, including their stalled responses."""
        closing = [threading.Thread(target=server.close) for server in self._servers.values()]
        self._servers.clear()
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self, service: str, listener: socket.socket) -> None:
        stopping = threading.Event()
        self._servers[service] = HTTPServer(listener, self._assemble(service, stopping), stopping)

    def _assemble(self, service: str, stopping: threading.Event) -> "WSGIApplication":
        settings, data, url = self.settings, self.data, self.urls.of(service)
        if service == MEMBER_CENTER:
            app = member_center_app.create_app(settings, data, url)
            return wrap(app, service, member_center_app.find_user, stopping)
        if service == CONVERTER:
            app = converter_app.create_app(settings, data, url)
            return wrap(app, service, converter_app.UserFinder(data), stopping)
        app = file_access_app.create_app(data, url)
        return wrap(app, FILE_ACCESS, file_access_app.find_user, stopping)


def start(settings: Settings) -> Running:
    """Start the sandbox; return when every server accepts connections. Raises AddressInUseError."""
    return Running(settings)


def _with_port(address: Address, listener: socket.socket) -> Address:
    return Address(address.host, listener.getsockname()[1])


def _remove_leftovers(data: DataDirectory) -> None:
    """Remove uploads that a killed converter was still receiving."""
    for directory in data.uploads.iterdir():
        with contextlib.suppress(OSError):
            shutil.rmtree(directory)
