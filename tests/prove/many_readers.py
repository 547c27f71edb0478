"""`python -m tests.prove.many_readers URL COUNT`: as many connections read one file at a time, and drop what they read.

It prints the bytes. A process of its own, and one that does next to nothing: the server is what is measured.
"""

import selectors
import socket
import sys
from urllib.parse import urlsplit

_READ = 1 << 20  # bytes at a time


def main() -> None:
    """Read to the end of every answer."""
    url, count = urlsplit(sys.argv[1]), int(sys.argv[2])
    head = f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode()
    buffer, total = bytearray(_READ), 0
    with selectors.DefaultSelector() as selector:
        for _ in range(count):
            one = socket.create_connection((url.hostname, url.port))
            one.sendall(head)
            one.setblocking(False)
            selector.register(one, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                try:
                    received = connection.recv_into(buffer, _READ, socket.MSG_TRUNC)  # the kernel need not copy it
                except BlockingIOError:
                    continue
                total += received
                if not received:
                    selector.unregister(connection)
                    connection.close()
    print(total)  # noqa: T201 (the result)


if __name__ == "__main__":
    main()
