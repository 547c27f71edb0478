"""The tables in PostgreSQL, as the steps that lead from nothing to the present version.

The first step has the tables of the SQLite ledger (`state.migrations`), with PostgreSQL's types; tags and blobs are cut
into parts by repository, so that no index grows with the whole. A step, once released, is never changed.
"""

from __future__ import annotations

PARTS = 16  # of the tables that grow with the number of tags

_LEDGER = """
CREATE TABLE schema_version (version BIGINT NOT NULL);
CREATE TABLE repository (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, target TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (target, name)
);
CREATE TABLE tag (
    repository BIGINT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, verified_at DOUBLE PRECISION NOT NULL,
    scope TEXT NOT NULL DEFAULT '', referrers TEXT NOT NULL DEFAULT '',
    media_type TEXT NOT NULL DEFAULT '', size BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (repository, name)
) PARTITION BY HASH (repository);
CREATE TABLE blob (
    digest TEXT NOT NULL, repository BIGINT NOT NULL, size BIGINT NOT NULL,
    PRIMARY KEY (digest, repository)
) PARTITION BY HASH (repository);
CREATE TABLE layer (
    repository BIGINT NOT NULL, diff_id TEXT NOT NULL, variant TEXT NOT NULL,
    media_type TEXT NOT NULL, digest TEXT NOT NULL, size BIGINT NOT NULL,
    PRIMARY KEY (repository, diff_id, variant)
);
CREATE TABLE rule (
    name TEXT PRIMARY KEY,
    last_started DOUBLE PRECISION, last_success DOUBLE PRECISION, last_failure DOUBLE PRECISION,
    code TEXT NOT NULL, message TEXT NOT NULL, failures BIGINT NOT NULL, next_due DOUBLE PRECISION
);
CREATE TABLE input (
    rule TEXT NOT NULL, key TEXT NOT NULL,
    state TEXT NOT NULL, at DOUBLE PRECISION NOT NULL, purpose TEXT NOT NULL, identity TEXT NOT NULL,
    members TEXT NOT NULL, published TEXT NOT NULL,
    failures BIGINT NOT NULL, due DOUBLE PRECISION NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL,
    PRIMARY KEY (rule, key)
);
CREATE TABLE note (
    kind TEXT NOT NULL, digest TEXT NOT NULL, fact TEXT NOT NULL,
    PRIMARY KEY (kind, digest)
);
CREATE TABLE image (
    rule TEXT NOT NULL, target TEXT NOT NULL, tag TEXT NOT NULL,
    verdict TEXT NOT NULL, reason TEXT NOT NULL, digest TEXT NOT NULL,
    bytes BIGINT NOT NULL, requests BIGINT NOT NULL, seconds DOUBLE PRECISION NOT NULL,
    code TEXT NOT NULL, message TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (rule, target, tag)
);
"""


# What daemons share out. `due_at` says when; `job` is procrastinate's, while the row is handed out. Every handing out
# counts `attempt` up, so that a daemon which was taken for dead records nothing.
_ENGINE = """
CREATE TABLE follow (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, rule TEXT NOT NULL, item TEXT NOT NULL,
    lock TEXT NOT NULL, host TEXT NOT NULL, generation TEXT NOT NULL, is_found BOOLEAN NOT NULL DEFAULT FALSE,
    due_at TIMESTAMPTZ NOT NULL, is_wanted BOOLEAN NOT NULL DEFAULT FALSE,
    job BIGINT, attempt BIGINT NOT NULL DEFAULT 0, worker TEXT NOT NULL DEFAULT '', started_at TIMESTAMPTZ,
    failures BIGINT NOT NULL DEFAULT 0, code TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
    present_interval DOUBLE PRECISION, last_success TIMESTAMPTZ, last_failure TIMESTAMPTZ,
    UNIQUE (rule, item)
);
CREATE INDEX follow_due ON follow (due_at) WHERE job IS NULL;
CREATE INDEX follow_job ON follow (job) WHERE job IS NOT NULL;
CREATE TABLE worker (
    id TEXT PRIMARY KEY, seen_at TIMESTAMPTZ NOT NULL, started_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    slots BIGINT NOT NULL, labels TEXT NOT NULL, generation TEXT NOT NULL
);
CREATE TABLE queue_version (version TEXT NOT NULL);
"""


def _cut(table: str) -> str:
    return "".join(
        f"CREATE TABLE {table}_{part} PARTITION OF {table} FOR VALUES WITH (MODULUS {PARTS}, REMAINDER {part});\n"
        for part in range(PARTS)
    )


_HISTORY = """
CREATE TABLE sample (
    at DOUBLE PRECISION PRIMARY KEY, seconds DOUBLE PRECISION NOT NULL, bytes BIGINT NOT NULL, requests BIGINT NOT NULL,
    copied BIGINT NOT NULL, failed BIGINT NOT NULL, late DOUBLE PRECISION NOT NULL
);
CREATE TABLE notice (subject TEXT PRIMARY KEY, state TEXT NOT NULL, at DOUBLE PRECISION NOT NULL);
"""

_SEEN = """
CREATE TABLE seen (
    source TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (source, tag, digest)
);
ALTER TABLE rule ADD COLUMN present_interval DOUBLE PRECISION;
"""

# What each daemon runs now, as JSON, for the pages of the others.
_ACTIVITY = "ALTER TABLE worker ADD COLUMN activity TEXT NOT NULL DEFAULT '[]';"
_LABEL = "ALTER TABLE follow ADD COLUMN label TEXT NOT NULL DEFAULT '';"
# The hosts that a daemon was asked to leave alone, for which nothing is handed out.
_RESTING = "ALTER TABLE worker ADD COLUMN resting TEXT NOT NULL DEFAULT '';"
# What else hosts asked of a daemon: seconds for which to leave them alone, as JSON, for the others to do so too.
_PAUSES = "ALTER TABLE worker ADD COLUMN pauses TEXT NOT NULL DEFAULT '{}';"

STEPS: tuple[str, ...] = (
    _LEDGER + _cut("tag") + _cut("blob") + "CREATE INDEX blob_repository ON blob (repository);",
    _HISTORY,
    _SEEN,
    _ENGINE,
    _ACTIVITY,
    _LABEL,
    _RESTING,
    _PAUSES,
)
