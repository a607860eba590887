"""A sink with TLS, and a gateway that uses it as its converter.

    python -m benchmarks.tls_sink PORT CERTIFICATE KEY     the sink itself, until it is stopped

It is in Python, because OpenSSL takes most of the time and releases the interpreter's lock.
"""

import socket
import ssl
import sys
import threading
from contextlib import suppress

from benchmarks.world import Gateway, World
from tests.support.certificates import write_certificate
from tests.support.processes import free_port

_BUFFER_BYTES = 1 << 20
_NO_JOBS = b'{"jobs":[]}'


def tls_gateway(world: World) -> Gateway:
    """Yield a gateway that uploads to a sink with https and trusts only its certificate."""
    certificate, key = world.directory / "sink.crt", world.directory / "sink.key"
    write_certificate(certificate, key)
    port = free_port()
    world.start("sink-tls", [sys.executable, "-m", "benchmarks.tls_sink", str(port), str(certificate), str(key)], port)
    environment = {"VISIONA_CONVERTER_BASE_URL": f"https://localhost:{port}", "VISIONA_CA_FILE": str(certificate)}
    return world.gateway("tls", environment)


def main() -> None:
    """Listen until the process is stopped; one thread per connection."""
    port, certificate, key = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(context, connection), daemon=True).start()


def _serve(context: ssl.SSLContext, connection: socket.socket) -> None:
    with suppress(OSError), connection, context.wrap_socket(connection, server_side=True) as secure:
        while _respond(secure):
            pass


def _respond(secure: ssl.SSLSocket) -> bool:
    received = b""
    while b"\r\n\r\n" not in received:
        more = secure.recv(_BUFFER_BYTES)
        if not more:
            return False
        received += more
    head, _, rest = received.partition(b"\r\n\r\n")
    if not head.startswith(b"POST"):
        _answer(secure, b"200 OK", _NO_JOBS)
        return True
    total = _read_chunked(secure, rest)
    job = b'{"job_id":"bench-tls","status":"running","parameters":{"platform":"720","received_bytes":%d}}' % total
    _answer(secure, b"201 Created", job)
    return False


def _read_chunked(secure: ssl.SSLSocket, rest: bytes) -> int:
    """Read a chunked body to its end; return the size of its content."""
    buffer = bytearray(_BUFFER_BYTES)
    view = memoryview(buffer)
    total = 0
    while True:
        while b"\r\n" not in rest:
            rest += secure.recv(_BUFFER_BYTES)
        line, _, rest = rest.partition(b"\r\n")
        size = int(line, 16)
        if not size:
            return total
        total += size
        left = size + 2 - len(rest)
        rest = rest[size + 2 :]
        while left > 0:
            read = secure.recv_into(view[: min(left, _BUFFER_BYTES)])
            if not read:
                raise ConnectionError("the body was cut off")
            left -= read


def _answer(secure: ssl.SSLSocket, status: bytes, json: bytes) -> None:
    secure.sendall(
        b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(json), json)
    )


if __name__ == "__main__":
    main()
