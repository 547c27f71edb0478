"""Makes and changes the tables: those of the state, and procrastinate's in the same schema.

procrastinate's changes are files of SQL that leave no record of themselves (procrastinate #1040): here is one.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

from ocisync.state.postgres_database import migrate

if TYPE_CHECKING:
    import psycopg


def migrate_all(dsn: str) -> tuple[int, int]:
    """Bring all tables to the present version; return the version of ours before and after.

    Raises:
        ConfigError: the tables are newer than this program, or the extra is not installed.
        StoreError: the server cannot be reached, or refuses.
    """
    return migrate(dsn, _migrate_queue)


def _migrate_queue(connection: psycopg.Connection[Any]) -> None:
    files = sorted(_list_migrations())
    newest = files[-1][0] if files else ""
    row = connection.execute("SELECT version FROM queue_version").fetchone()
    with connection.transaction():
        if row is None:
            schema = resources.files("procrastinate.sql").joinpath("schema.sql").read_text("utf-8")
            connection.execute(schema.encode())
        else:
            for name, text in files:
                if name > row[0]:
                    connection.execute(text.encode())
        connection.execute("DELETE FROM queue_version")
        connection.execute("INSERT INTO queue_version (version) VALUES (%s)", (max(newest, row[0] if row else ""),))


def _list_migrations() -> list[tuple[str, str]]:
    folder = resources.files("procrastinate.sql").joinpath("migrations")
    return [(one.name, one.read_text("utf-8")) for one in folder.iterdir() if one.name.endswith(".sql")]
