"""Debian's nginx as a child process, with its own prefix in a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .process import free_port, listening, running

NGINX = "/usr/sbin/nginx"
_FRAME = """daemon off;
master_process off;
error_log stderr warn;
pid nginx.pid;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path tmp/body;
    proxy_temp_path tmp/proxy;
    fastcgi_temp_path tmp/fastcgi;
    uwsgi_temp_path tmp/uwsgi;
    scgi_temp_path tmp/scgi;
{inside}
}}
"""


@contextmanager
def nginx(folder: Path, server: str, http: str = "") -> Iterator[str]:
    """Serve by the directives of one `server` block that listens on a port of its own; the URL."""
    port = free_port()
    with nginx_of(folder, f"{http}\nserver {{ listen 127.0.0.1:{port}; {server} }}", port) as url:
        yield url


@contextmanager
def nginx_of(folder: Path, inside: str, port: int) -> Iterator[str]:
    """Serve by what stands inside an `http` block, which listens on `port`."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    config.write_text(_FRAME.format(inside=inside))
    with running([NGINX, "-p", folder, "-e", "stderr", "-c", config], folder) as child:
        child.wait_until(lambda: listening(port), "nginx to listen")
        yield f"http://127.0.0.1:{port}"
