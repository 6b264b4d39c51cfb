"""The one statement that a person may give a fix: CREATE INDEX CONCURRENTLY, in a part of SQL that can do no more.

It is parsed into names and made anew from them (`adapters.sqlcalls`): nothing of the text itself is ever executed. No
expression, no condition, no UNIQUE: an expression can call a function, and a unique index can refuse what users write.
"""

import re
from dataclasses import dataclass

MAX_STATEMENT = 1024
MAX_COLUMNS = 8
METHODS = ("btree", "hash", "brin")

_NAME = r'(?:[A-Za-z_][A-Za-z0-9_]{0,62}|"[A-Za-z_][A-Za-z0-9_]{0,62}")'
_STATEMENT = re.compile(
    rf"\s*CREATE\s+INDEX\s+CONCURRENTLY\s+(?P<index>{_NAME})\s+ON\s+(?P<schema>{_NAME})\.(?P<table>{_NAME})"
    rf"(?:\s+USING\s+(?P<method>{_NAME}))?\s*\((?P<columns>[^()]*)\)\s*;?\s*",
    re.IGNORECASE,
)
_COLUMN = re.compile(rf"\s*(?P<name>{_NAME})(?:\s+(?P<order>ASC|DESC))?\s*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Index:
    """An index to build. Shape: names as PostgreSQL has them; `columns` are name and whether it is descending."""

    schema: str
    table: str
    name: str
    method: str
    columns: tuple[tuple[str, bool], ...]


def parse_index(text: str) -> Index:
    """Return what a statement would build. Errors: ValueError that says what to write.

    >>> parse_index("CREATE INDEX CONCURRENTLY items_order ON orders.items (order_id)").columns
    (('order_id', False),)
    """
    match = _STATEMENT.fullmatch(text) if len(text) <= MAX_STATEMENT else None
    if match is None:
        raise ValueError(
            "write CREATE INDEX CONCURRENTLY name ON schema.table (column, ...): one statement, plain columns, no "
            "UNIQUE, no expression, no WHERE"
        )
    columns = []
    for part in match["columns"].split(","):
        column = _COLUMN.fullmatch(part)
        if column is None:
            raise ValueError("columns are plain names, each followed by ASC or DESC or nothing")
        columns.append((_plain(column["name"]), (column["order"] or "").upper() == "DESC"))
    if len(columns) > MAX_COLUMNS or len({name for name, _ in columns}) != len(columns):
        raise ValueError(f"at most {MAX_COLUMNS} columns, each once")
    method = _plain(match["method"] or "btree")
    if method not in METHODS:
        raise ValueError(f"USING takes one of {', '.join(METHODS)}")
    if method == "hash" and len(columns) > 1:
        raise ValueError("a hash index has one column")
    return Index(
        schema=_plain(match["schema"]),
        table=_plain(match["table"]),
        name=_plain(match["index"]),
        method=method,
        columns=tuple(columns),
    )


def _plain(name: str) -> str:
    """Return a name as PostgreSQL has it: in small letters, unless it is quoted."""
    return name[1:-1] if name.startswith('"') else name.lower()
