"""The ledger's schema, as the steps that lead from nothing to its present version.

A step, once released, is never changed: a new one is added. `PRAGMA user_version` counts the steps a file has seen.
"""

from __future__ import annotations

APPLICATION_ID = 0x6F636973  # "ocis": tells our file from another program's database

_FIRST = """
CREATE TABLE repository (id INTEGER PRIMARY KEY, target TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (target, name));
CREATE TABLE tag (
    repository INTEGER NOT NULL REFERENCES repository (id),
    name TEXT NOT NULL, digest TEXT NOT NULL, verified_at REAL NOT NULL,
    PRIMARY KEY (repository, name)
) WITHOUT ROWID;
CREATE TABLE blob (
    digest TEXT NOT NULL, repository INTEGER NOT NULL REFERENCES repository (id), size INTEGER NOT NULL,
    PRIMARY KEY (digest, repository)
) WITHOUT ROWID;
CREATE INDEX blob_repository ON blob (repository);
CREATE TABLE layer (
    repository INTEGER NOT NULL REFERENCES repository (id),
    diff_id TEXT NOT NULL, variant TEXT NOT NULL,
    media_type TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (repository, diff_id, variant)
) WITHOUT ROWID;
CREATE TABLE rule (
    name TEXT PRIMARY KEY,
    last_started REAL, last_success REAL, last_failure REAL,
    code TEXT NOT NULL, message TEXT NOT NULL, failures INTEGER NOT NULL, next_due REAL
) WITHOUT ROWID;
CREATE TABLE input (
    rule TEXT NOT NULL, key TEXT NOT NULL,
    state TEXT NOT NULL, at REAL NOT NULL, purpose TEXT NOT NULL, identity TEXT NOT NULL,
    members TEXT NOT NULL, published TEXT NOT NULL,
    failures INTEGER NOT NULL, due REAL NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL,
    PRIMARY KEY (rule, key)
) WITHOUT ROWID;
"""

_SCOPES_AND_NOTES = """
ALTER TABLE tag ADD COLUMN scope TEXT NOT NULL DEFAULT '';
CREATE TABLE note (
    kind TEXT NOT NULL, digest TEXT NOT NULL, fact TEXT NOT NULL,
    PRIMARY KEY (kind, digest)
) WITHOUT ROWID;
"""

_IMAGES = """
CREATE TABLE image (
    rule TEXT NOT NULL, target TEXT NOT NULL, tag TEXT NOT NULL,
    verdict TEXT NOT NULL, reason TEXT NOT NULL, digest TEXT NOT NULL,
    bytes INTEGER NOT NULL, requests INTEGER NOT NULL, seconds REAL NOT NULL,
    code TEXT NOT NULL, message TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (rule, target, tag)
) WITHOUT ROWID;
"""

_REFERRERS = "ALTER TABLE tag ADD COLUMN referrers TEXT NOT NULL DEFAULT ''"

_ROOTS = """
ALTER TABLE tag ADD COLUMN media_type TEXT NOT NULL DEFAULT '';
ALTER TABLE tag ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
"""

_HISTORY = """
CREATE TABLE sample (
    at REAL PRIMARY KEY, seconds REAL NOT NULL, bytes INTEGER NOT NULL, requests INTEGER NOT NULL,
    copied INTEGER NOT NULL, failed INTEGER NOT NULL, late REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE notice (subject TEXT PRIMARY KEY, state TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
"""

_SEEN = """
CREATE TABLE seen (
    source TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (source, tag, digest)
) WITHOUT ROWID;
ALTER TABLE rule ADD COLUMN present_interval REAL;
"""

STEPS: tuple[str, ...] = (_FIRST, _SCOPES_AND_NOTES, _IMAGES, _REFERRERS, _ROOTS, _HISTORY, _SEEN)


class NewerSchema(Exception):
    """The file was written by a newer ocisync."""
