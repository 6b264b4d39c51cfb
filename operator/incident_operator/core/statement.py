"""What a check may ask PostgreSQL: one SELECT, written in a part of SQL that every reader reads alike.

This is the lock of lint time; the server holds its own (a read-only transaction, one statement by the protocol, a
cursor, timeouts, a role that may only read). It is a list of what is allowed, so what it does not know it refuses:
a function that is not listed, an escape, a comment, a second statement. Functions and operators are looked up in
pg_catalog alone, because the session's search path is just that. Source: PostgreSQL, lexical structure; attack table.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_STATEMENT = 4096
MAX_ARGUMENTS = 16

#: Backslashes, dollar quotes, comments and prefixed strings are left out: there readers of SQL differ.
_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)"
    r"|(?P<string>'(?:[^'\\\x00]|'')*')"
    r'|(?P<quoted>"[A-Za-z_][A-Za-z0-9_ -]{0,62}")'
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)"
    r"|(?P<argument>\$[0-9]{1,2}(?![0-9]))"
    r"|(?P<cast>::)"
    r"|(?P<operator>[-+*/<>=~!@#%^&|?]+)"
    r"|(?P<mark>[()\[\],.;])"
)

#: Words that change or lock, or reach an operator by its schema, wherever they stand in a SELECT.
_REFUSED = {
    "insert": "a check only reads: no INSERT",
    "update": "a check only reads: no UPDATE (a column of this name is written in double quotes)",
    "delete": "a check only reads: no DELETE",
    "merge": "a check only reads: no MERGE",
    "into": "a check only reads: no SELECT INTO",
    "for": "a check takes no locks: no FOR UPDATE or FOR SHARE; write substr(text, from, count) for substring",
    "uescape": "no escapes: write characters as they are",
    "operator": "operators are written plainly, without OPERATOR(schema.name)",
}

#: Words of the grammar that a parenthesis may follow. None of them calls anything: a user's function of such a name
#: is not in pg_catalog.
_GRAMMAR_WORDS = (
    "all and any array as asc between by case cross cube desc distinct else end except exists filter from full group "
    "having ilike in inner intersect is join lateral left like limit materialized not offset on only or order outer "
    "over partition right rollup row select sets similar some then to union using values when where with"
)
_GRAMMAR = frozenset(_GRAMMAR_WORDS.split())

#: Functions that only compute, and PostgreSQL's own that only look. Not here: what builds long values (repeat, lpad,
#: string_agg), makes rows from nothing, sleeps, locks, signals, notifies, resets, or reads files and large objects.
_FUNCTION_WORDS = (
    # aggregates and windows
    "avg bool_and bool_or count cume_dist dense_rank every first_value grouping lag last_value lead max min mode ntile "
    "percent_rank percentile_cont percentile_disc rank row_number stddev stddev_pop stddev_samp sum var_pop var_samp "
    "variance "
    # values
    "abs cast ceil ceiling coalesce div exp floor greatest least ln log mod nullif power round sign sqrt trunc "
    "width_bucket "
    # time
    "age clock_timestamp date_bin date_part date_trunc extract isfinite justify_hours justify_interval make_interval "
    "now statement_timestamp to_char to_timestamp transaction_timestamp "
    # text, arrays, addresses
    "array_length btrim cardinality char_length family host length lower ltrim masklen md5 network octet_length "
    "position replace rtrim split_part starts_with strpos substr substring trim unnest upper "
    # types that take a size
    "char decimal interval numeric time timestamp timestamptz varchar "
    # the server about itself
    "current_database current_schema current_setting has_database_privilege has_schema_privilege has_table_privilege "
    "inet_server_addr inet_server_port mxid_age pg_backend_pid pg_blocking_pids pg_column_size pg_conf_load_time "
    "pg_current_wal_lsn pg_database_size pg_get_userbyid pg_has_role pg_indexes_size pg_is_in_recovery "
    "pg_is_wal_replay_paused pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp "
    "pg_postmaster_start_time pg_relation_size pg_size_bytes pg_table_is_visible pg_table_size pg_tablespace_size "
    "pg_total_relation_size pg_wal_lsn_diff to_regclass"
)
FUNCTIONS = frozenset(_FUNCTION_WORDS.split())
#: `alias.pg_sleep` calls the function on the alias; by these prefixes are called PostgreSQL's functions that do
#: something, and of relations outside pg_catalog only the listed ones.
_DOING = ("pg_", "lo_", "txid_", "binary_upgrade_", "nextval")
_FOREIGN = frozenset({"pg_stat_statements", "pg_stat_statements_info"})


@dataclass(frozen=True)
class _Token:
    """Shape: `name` is the identifier as PostgreSQL sees it; empty for what is none."""

    kind: str
    text: str
    at: int

    @property
    def name(self) -> str:
        if self.kind == "word":
            return self.text.lower()
        return self.text[1:-1] if self.kind == "quoted" else ""


_NOTHING = _Token("", "", 0)
#: Views that leave out, or blank, what other roles do, without saying so. Source: PostgreSQL, "Viewing Statistics".
_OF_SESSIONS = re.compile(
    r"pg_stat_(activity|statements|replication|wal_receiver|subscription|ssl|gssapi|progress_[a-z_]+)"
)

_WORDLIKE = frozenset({"string", "quoted", "word", "number", "argument"})


class _Refused(Exception):
    """Why, and the character where."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


def statement_problem(text: str) -> str | None:
    """Return why a statement may not be asked and what to write instead; None where it may.

    >>> statement_problem("SELECT count(*) AS used FROM pg_stat_activity")
    >>> statement_problem("SELECT 1; DROP TABLE orders")
    'line 1, column 9: one statement only: drop everything from the semicolon on'
    """
    if len(text) > MAX_STATEMENT:
        return f"the statement is longer than {MAX_STATEMENT} characters: split it into several checks"
    try:
        _judge(_tokens(text))
    except _Refused as refused:
        before = text[: refused.at]
        line, column = before.count("\n") + 1, refused.at - before.rfind("\n")
        return f"line {line}, column {column}: {refused}"
    return None


def placeholders(text: str) -> int:
    """Return how many arguments a statement takes: its highest `$n`."""
    try:
        return max((int(t.text[1:]) for t in _tokens(text) if t.kind == "argument"), default=0)
    except _Refused:
        return 0


def of_sessions(text: str) -> str | None:
    """Return the first view in a statement that keeps other roles' sessions from who may not see them, if any.

    >>> of_sessions("SELECT count(*) AS used FROM pg_stat_activity a WHERE a.state = 'idle'")
    'pg_stat_activity'
    """
    try:
        return next((t.name for t in _tokens(text) if t.name and _OF_SESSIONS.fullmatch(t.name)), None)
    except _Refused:
        return None


def without_end(text: str) -> str:
    """Return a statement without a last semicolon, as a part of another one."""
    return text.rstrip().removesuffix(";")


def _tokens(text: str) -> list[_Token]:
    """Return the tokens. Errors: _Refused for what is outside of the readable part."""
    text, at = without_end(text), 0
    found: list[_Token] = []
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _Refused(_unreadable(text, at), at)
        kind, piece = match.lastgroup or "", match.group()
        if kind == "operator" and ("--" in piece or "/*" in piece):
            raise _Refused("no comments in a statement: the check's name says what it is for", at)
        last = found[-1] if found and found[-1].at + len(found[-1].text) == at else _NOTHING
        prefixed = last.kind in _WORDLIKE or (last.text.endswith("&") and kind in ("string", "quoted"))
        if prefixed and kind in ("string", "quoted", "word", "number"):
            raise _Refused(f"write a space before {piece[:20]}: a prefix or a suffix changes its meaning", at)
        if kind != "space":
            found.append(_Token(kind, piece, at))
        at = match.end()
    return found


def _unreadable(text: str, at: int) -> str:
    if text.startswith("${", at):
        return "no ${} in a statement: write $1 and give the value in arguments"
    if text[at] == "'":
        return "this text has no end, or a backslash in it: write characters as they are, a quote as ''"
    if text[at] == "$":
        return "dollar quotes are not taken: write $1 for an argument, '...' for a text"
    if text[at] == "\\":
        return "no backslash: write characters as they are"
    return f"{text[at]!r} is not taken in a statement"


def _judge(tokens: Sequence[_Token]) -> None:
    """Look at each token with its neighbours. Errors: _Refused."""
    if not tokens or tokens[0].kind != "word" or tokens[0].name not in ("select", "with"):
        first = tokens[0].text.upper()[:20] if tokens else "nothing"
        raise _Refused(f"a check asks by one SELECT (or WITH ... SELECT), not {first}", 0)
    around = [_NOTHING, _NOTHING, *tokens, _NOTHING, _NOTHING]
    depth: list[str] = []
    for i, token in enumerate(tokens, start=2):
        before, after = around[i - 1], around[i + 1]
        if token.kind == "mark":
            _mark(token, before, after, depth)
        elif token.kind == "cast" and (after.kind != "word" or around[i + 2].text == "."):
            raise _Refused("a cast names one of PostgreSQL's own types: value::bigint", token.at)
        elif token.name:
            if before.name == "as" and before.kind == "word" and after.text == ".":
                raise _Refused("after AS comes one name, or one of PostgreSQL's own types", token.at)
            _named(token, before, after, schema=around[i - 2].name if before.text == "." else None)
    if depth:
        raise _Refused("a parenthesis is not closed", tokens[-1].at)
    given = {int(t.text[1:]) for t in tokens if t.kind == "argument"}
    if given and (max(given) > MAX_ARGUMENTS or given != set(range(1, max(given) + 1))):
        raise _Refused(f"arguments are numbered $1, $2, ... without a gap, at most {MAX_ARGUMENTS}", 0)


def _mark(token: _Token, before: _Token, after: _Token, depth: list[str]) -> None:
    if token.text == ";":
        raise _Refused("one statement only: drop everything from the semicolon on", token.at)
    if token.text == "." and not (before.name and (after.name or after.text == "*")):
        raise _Refused("a dot stands between two names only", token.at)
    if token.text in "([":
        depth.append(token.text)
    if token.text in ")]" and (not depth or depth.pop() != {")": "(", "]": "["}[token.text]):
        raise _Refused("a parenthesis is closed that was not opened", token.at)


def _named(token: _Token, before: _Token, after: _Token, *, schema: str | None) -> None:
    """Judge an identifier. Shape: `schema` is what stands before its dot, None where there is no dot."""
    name = token.name
    if schema is None and token.kind == "word" and name in _REFUSED:
        raise _Refused(_REFUSED[name], token.at)
    if name == "pg_catalog" and (schema is not None or after.text != "."):
        raise _Refused("pg_catalog is a schema's name: nothing else is called so", token.at)
    if schema is not None and after.kind == "string":
        raise _Refused("a text's type is one of PostgreSQL's own: interval '5 min'", token.at)
    if after.text == "(":
        listed = name in FUNCTIONS and schema in (None, "pg_catalog")
        if token.kind == "quoted" or not (listed or (schema is None and name in _GRAMMAR)):
            raise _Refused(_no_function(name), token.at)
    elif schema not in (None, "pg_catalog") and name.startswith(_DOING) and name not in _FOREIGN:
        raise _Refused(f"{schema}.{name} could call a function: write pg_catalog.{name}, or rename it", token.at)


def _no_function(name: str) -> str:
    if name in ("pg_terminate_backend", "pg_cancel_backend"):
        return f"{name}() ends other people's work: that is a fix with a plan, never part of a check"
    near = difflib.get_close_matches(name, sorted(FUNCTIONS), n=3, cutoff=0.75)
    hint = f"did you mean {' or '.join(near)}?" if near else "docs/connections.md lists those it may"
    return f"{name}() is not a function that a check may call; {hint}"
