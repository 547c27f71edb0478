"""Debian's caddy as a child process, without its administration interface."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .process import Child, free_port, listening

INSTALLED = shutil.which("caddy") is not None


@contextmanager
def caddy(folder: Path, site: str) -> Iterator[str]:
    """Serve a Caddyfile whose only site is `registry.example.com`, on a port of its own; the URL."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    here = site.replace("registry.example.com {", f"http://127.0.0.1:{port} {{")
    config = folder / "Caddyfile"
    config.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + here)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    child = Child(["caddy", "run", "--config", config, "--adapter", "caddyfile"], folder, env)
    try:
        child.wait_until(lambda: listening(port), "caddy to listen")
        yield f"http://127.0.0.1:{port}"
    finally:
        child.kill()
