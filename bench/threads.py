"""A bare client of threads and blocking sockets, `python -m bench.threads FILE RESULT`: the least that Python needs.

The same requests as those of `bench.copies`, moved through one buffer per thread by the standard library alone.
"""

import hashlib
import http.client
import json
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from bench.copies import Copy
from bench.limits import ACCEPT
from bench.storage import MIB

NAME = "bare threads"
_THREADS = 4
_BYTES = {"Content-Type": "application/octet-stream"}
_own = threading.local()


def _connect(url: str, kind: str) -> http.client.HTTPConnection:
    """This thread's connection to a host, one to read from and one to write to."""
    scheme, place, *_ = urlsplit(url)
    kept: dict[tuple[str, str], http.client.HTTPConnection] = _own.__dict__.setdefault("kept", {})
    if (place, kind) not in kept:
        connect = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        kept[place, kind] = connect(place, blocksize=MIB)
    return kept[place, kind]


def _path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _ask(method: str, url: str, headers: dict[str, str], body: bytes = b"") -> str:
    connection = _connect(url, "write")
    connection.request(method, _path(url), body, headers)
    return _end(connection, url)


def _end(connection: http.client.HTTPConnection, url: str) -> str:
    answer = connection.getresponse()
    answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"{url}: status {answer.status}")
    return answer.headers.get("Location", "")


def _copy(one: Copy) -> None:
    if one.mount:
        _ask("POST", one.mount, {})
        return
    if not one.get:
        for url, headers in one.puts:
            _ask("PUT", url, headers)
        return
    source = _connect(one.get, "read")
    source.request("GET", _path(one.get), headers=ACCEPT)
    answer = source.getresponse()
    if one.upload:
        url, _, query = one.upload.partition("?")
        place = urljoin(url, _ask("POST", url, {}))
        _move(answer, f"{place}{'&' if '?' in place else '?'}{query}", one.size, _BYTES)
    elif one.size >= MIB:
        ((url, headers),) = one.puts
        _move(answer, url, one.size, headers)
    else:
        body = answer.read()
        for url, headers in one.puts:
            _ask("PUT", url, headers, body)


def _move(answer: http.client.HTTPResponse, url: str, size: int, headers: dict[str, str]) -> None:
    target, hasher = _connect(url, "write"), hashlib.sha256()
    buffer = _own.__dict__.setdefault("buffer", memoryview(bytearray(MIB)))
    target.putrequest("PUT", _path(url))
    for name, value in {**headers, "Content-Length": str(size)}.items():
        target.putheader(name, value)
    target.endheaders()
    while count := answer.readinto(buffer):
        hasher.update(buffer[:count])
        target.sock.sendall(buffer[:count])
    hasher.hexdigest()
    _end(target, url)


def _copy_all(steps: Iterator[list[Copy]]) -> dict[str, float]:
    began, used = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(_THREADS) as pool:
        for step in steps:
            list(pool.map(_copy, step))
    return {"wall": time.monotonic() - began, "cpu": time.process_time() - used}


def main() -> None:
    """Copy what the file says, and write how long it took."""
    asked = json.loads(Path(sys.argv[1]).read_text())
    steps = ([Copy(**one) for one in step] for step in asked["steps"])
    Path(sys.argv[2]).write_text(json.dumps(_copy_all(steps)))


if __name__ == "__main__":
    main()
