"""Logs: what is written, and above all what is not."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from ocisync.logs import MASK, clean, configure_logging, escape_controls, redact, register_secrets

SECRET = "hunter2/ü secret"
Format = Literal["console", "json"]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers, root.level = before


def logged(shape: Format = "json", minimum: str = "info", facts: Mapping[str, object] | None = None) -> str:
    stream = io.StringIO()
    configure_logging(minimum, shape, stream)
    structlog.get_logger().info("blob.copied", **(facts or {}))
    return stream.getvalue()


def event(**facts: object) -> dict[str, Any]:
    found = json.loads(logged(facts=facts))
    assert isinstance(found, dict)
    return found


def test_a_json_event_has_time_level_and_facts() -> None:
    found = event(size=5, seconds=0.5, ok=True, none=None, names=["a"])
    assert found.pop("timestamp").endswith("Z")
    assert found == {
        "event": "blob.copied", "level": "info", "size": 5, "seconds": 0.5, "ok": True, "none": None, "names": ["a"],
    }  # fmt: skip


def test_console_lines_have_no_colours_off_a_terminal() -> None:
    line = logged("console", facts={"digest": "sha256:ab"})
    assert "blob.copied" in line
    assert "digest=sha256:ab" in line
    assert "\x1b" not in line


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "has_colours"), [("", True), ("1", False)])
def test_colours_on_a_terminal_unless_refused(
    monkeypatch: pytest.MonkeyPatch, no_color: str, has_colours: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    configure_logging("info", "console", stream)
    structlog.get_logger().info("a.b")
    assert ("\x1b[" in stream.getvalue()) is has_colours


def test_levels_filter() -> None:
    assert logged(minimum="warning") == ""
    assert logged(minimum="debug")


def test_the_standard_library_is_heard_from_warning_up_and_once() -> None:
    stream = io.StringIO()
    for _ in range(2):
        configure_logging("debug", "json", stream)
    logging.getLogger("botocore").info("chatter")
    logging.getLogger("aiohttp.server").warning("GET %s", "https://h/x?X-Amz-Signature=abc123")
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert (found["event"], found["logger"], found["level"]) == (
        f"GET https://h/x?X-Amz-Signature={MASK}", "aiohttp.server", "warning",
    )  # fmt: skip


@pytest.mark.parametrize(
    "key",
    ["password", "token", "identity_token", "Authorization", "secret_access_key", "access_key_id", "X-Amz-Signature",
     "auth", "Set-Cookie", "api_key", "X-Registry-Auth", "identitytoken", "credentials"],
)  # fmt: skip
def test_values_of_secret_keys_are_masked_at_any_depth(key: str) -> None:
    assert event(**{key: "abc"})[key] == MASK
    assert event(headers={key: ["abc"]})["headers"] == {key: MASK}


@pytest.mark.parametrize("key", ["credential_helper", "digest", "author", "tokens", "tag", "key"])
def test_other_keys_are_not(key: str) -> None:
    assert event(**{key: "abc"})[key] == "abc"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Authorization: Basic bWU6cHc=", "Authorization: ***"),
        ("{'Authorization': 'Bearer abc.def', 'Accept': 'x'}", "{'Authorization': ***, 'Accept': 'x'}"),
        ("GET with Bearer eyJhbGciOi12", "GET with Bearer ***"),
        ("proxy-authorization: x y\nHost: h", "proxy-authorization: ***\nHost: h"),
        ("https://me:pw@host/v2/", "https://***@host/v2/"),
        ("https://me:p@w@host:5000/v2/", "https://***@host:5000/v2/"),
        (
            "/b?X-Amz-Credential=AK%2F1&X-Amz-Signature=ff&n=1",
            "/b?X-Amz-Credential=***&X-Amz-Signature=***&n=1",
        ),
        ("https://h/b?sig=ff%3D&se=2026", "https://h/b?sig=***&se=2026"),
        ("/token?service=r&token=abc", "/token?service=r&token=***"),
        (
            "Credential=AK/1/s3, SignedHeaders=host, Signature=ff00",
            "Credential=***, SignedHeaders=host, Signature=***",
        ),
        ('{"token": "abc", "expires_in": 300}', '{"token": "***", "expires_in": 300}'),
        ("got eyJhbGciOiJIUzI1.eyJzdWIiOiIx.c2ln from it", "got *** from it"),
    ],
)
def test_credentials_in_texts_are_masked(text: str, kept: str) -> None:
    assert redact(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "Basic authentication is refused",
        'Bearer realm="https://auth.example.com/token",service="r"',
        "docker.io/library/alpine:3.20@sha256:" + "ab" * 32,
        "https://host/v2/a/manifests/sha256:" + "ab" * 32,
        "https://host/v2/a/tags/list?n=100&last=b",
        "the token expired; a new one is asked for",
        "s3://bucket/name?endpoint=http://127.0.0.1:8333&region=r",
    ],
)
def test_ordinary_texts_stay(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("shape", ["console", "json"])
def test_fault_64_no_log_line_has_a_registered_secret(shape: Format) -> None:
    register_secrets([SECRET, "abc"])
    stream = io.StringIO()
    configure_logging("debug", shape, stream)
    log = structlog.get_logger().bind(job=f"sync of {SECRET}")
    try:
        _fail()
    except RuntimeError as exc:
        logging.getLogger("aiohttp").exception("failed: %s", SECRET)
        log.exception("job.failed", error=exc, nested={"a": [(SECRET,)], SECRET: 1}, raw=SECRET.encode())
    written = stream.getvalue()
    assert written.count("ValueError: refused: ***") == 2
    assert MASK in written
    for spelling in ("hunter2", "hunter2%2F%C3%BC", "\\u00fc secret"):
        assert spelling not in written


def _refuse() -> None:
    raise ValueError(f"refused: {SECRET}")


def _fail() -> None:
    try:
        _refuse()
    except ValueError as exc:
        raise RuntimeError(f"https://h/?password={SECRET}") from exc


def test_secrets_too_short_to_mask_are_left_alone() -> None:
    register_secrets(["abc"])
    assert redact("abcdef") == "abcdef"


def test_what_a_server_sent_cannot_steer_the_terminal() -> None:
    assert escape_controls("a\x1b[31mb\r\x00\x9b\u202e\tc\nd") == "a\\x1b[31mb\\x0d\\x00\\x9b\\x202e\tc\nd"
    assert "\x1b" not in logged("console", facts={"message": "\x1b]0;title\x07"})


@given(st.text())
def test_cleaning_any_text_ends_and_is_stable(text: str) -> None:
    assert clean(clean(text)) == clean(text)


class Pipe(io.StringIO):
    """A stream whose other end comes and goes."""

    is_broken = False

    def write(self, text: str) -> int:
        if self.is_broken:
            raise BrokenPipeError
        return super().write(text)


@pytest.mark.parametrize(("shape", "told"), [("json", '"lines": 2'), ("console", "lines=2")])
def test_a_log_that_cannot_be_written_costs_lines_only_and_says_how_many(shape: Format, told: str) -> None:
    pipe = Pipe()
    configure_logging("info", shape, pipe)
    log = structlog.get_logger()
    log.info("one.written")
    pipe.is_broken = True
    log.info("two.lost")
    logging.getLogger("library").warning("three lost")
    pipe.is_broken = False
    log.info("four.written")
    lines = pipe.getvalue().splitlines()
    assert ["one.written" in lines[0], "four.written" in lines[2], len(lines)] == [True, True, 3]
    assert "log.lines_lost" in lines[1]
    assert told in lines[1]


@pytest.mark.parametrize("shape", ["json", "console"])
def test_a_full_disk_and_a_closed_stream_cost_lines_only(shape: Format, capfd: pytest.CaptureFixture[str]) -> None:
    with Path("/dev/full").open("w") as full:
        configure_logging("info", shape, full)
        structlog.get_logger().info("event")
        logging.getLogger("library").warning("event")
        with suppress(OSError):
            full.close()
    structlog.get_logger().info("event")
    assert capfd.readouterr() == ("", "")


def test_halves_of_characters_are_spelled_out() -> None:
    assert clean("caf\udce9 \ud800") == "caf\\xdce9 \\xd800"
