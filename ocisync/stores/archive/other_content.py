"""What people drop by mistake in an archive's place, told by its first bytes."""

from __future__ import annotations

from collections.abc import Collection, Container

HEAD = 512  # bytes that are looked at

_TEXTS = (
    ((b"\xff\xfe", b"\xfe\xff"), "this is UTF-16 text, as PowerShell's `>` writes it: use `docker save -o FILE NAME`"),
    ((b"version https://git-lfs.github.com/spec/",), "this is a Git LFS pointer, not the file: run `git lfs pull`"),
    ((b"PK\x03\x04",), "this is a ZIP file; archives of images are tar files, as `docker save` writes them"),
)  # fmt: skip
_PAGES = (b"<!doctype html", b"<html", b"<?xml")
_IMAGES = ("manifest.json", "index.json")


def explain_content(head: bytes) -> str:
    """What a file that is no tar is, and what to do; empty where nobody can tell."""
    if head.lstrip().lower().startswith(_PAGES):
        return "this is an HTML page, not an archive: was a log-in page or an error downloaded in its place?"
    return next((text for starts, text in _TEXTS if head.startswith(starts)), "")


def explain_folder(names: Container[str], top_level: Collection[str]) -> str:
    """What is wrong with a tar whose image lies below a folder; empty where none does."""
    folder = next((top for top in top_level if any(f"{top}/{name}" in names for name in _IMAGES)), "")
    if not folder or len(top_level) > 1:
        return ""
    shown = folder if folder.isprintable() else repr(folder)
    return (
        f"the image lies below the folder {shown[:100]}/: make the archive of its content, `tar -C FOLDER -cf FILE .`"
    )
