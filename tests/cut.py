"""A connection that breaks in the middle: a way to a port of this machine that closes for good after so many bytes."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Way(socketserver.ThreadingTCPServer):
    """Takes connections for another port; `left` is how many bytes may still pass, both ways together."""

    daemon_threads = True

    def __init__(self, port: int, left: int) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.to, self.left = port, left

    @property
    def port(self) -> int:
        """Where it takes connections."""
        return int(self.server_address[1])


class Connection(socketserver.BaseRequestHandler):
    """One connection of a client."""

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.to)) as far:
            back = threading.Thread(target=self.pass_on, args=(far, self.request), daemon=True)
            back.start()
            self.pass_on(self.request, far)
            back.join()

    def pass_on(self, one: socket.socket, other: socket.socket) -> None:
        """Pass on what comes until a side closes or no more may pass; then close both sides."""
        with suppress(OSError):
            while (data := one.recv(65536)) and self.server.left > 0:
                self.server.left -= len(data)
                other.sendall(data)
        for side in (one, other):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


@contextmanager
def way(port: int, left: int) -> Iterator[Way]:
    """The way, while the block runs."""
    with Way(port, left) as open_way:
        thread = threading.Thread(target=open_way.serve_forever, daemon=True)
        thread.start()
        try:
            yield open_way
        finally:
            open_way.shutdown()
            thread.join()
