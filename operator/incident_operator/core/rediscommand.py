"""What a check may ask Redis: a literal list of commands that read, each with the arguments it may have.

The list is of what is allowed. Not on it: what walks the keys or returns values (KEYS, SCAN, GET), runs programs
(EVAL, FUNCTION), changes or empties (SET, CONFIG SET, FLUSHALL), or holds the connection (MONITOR, SUBSCRIBE).
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_COMMAND = 256

_SECTIONS = (
    "server clients memory persistence stats replication cpu commandstats latencystats errorstats cluster keyspace"
)
_SETTINGS = (
    "appendonly cluster-enabled databases hz lazyfree-lazy-eviction maxclients maxmemory maxmemory-policy "
    "maxmemory-samples min-replicas-max-lag min-replicas-to-write repl-backlog-size repl-timeout "
    "replica-priority replica-read-only slowlog-log-slower-than slowlog-max-len tcp-keepalive timeout"
)
#: A key, as it is: no whitespace, nothing that a pattern would need.
_KEY = re.compile(r"[A-Za-z0-9_.:@{}/-]{1,200}")


@dataclass(frozen=True)
class Listed:
    """One command: how many words name it, and which arguments follow.

    Shape: `choices` are the values of its one argument; `key`: its one argument is a key; `optional`: may be left out.
    """

    choices: frozenset[str] = frozenset()
    key: bool = False
    optional: bool = False


COMMANDS: Mapping[str, Listed] = {
    "PING": Listed(),
    "INFO": Listed(choices=frozenset(_SECTIONS.split()), optional=True),
    "ROLE": Listed(),
    "DBSIZE": Listed(),
    "CLIENT LIST": Listed(),
    "MEMORY STATS": Listed(),
    "MEMORY USAGE": Listed(key=True),
    "LATENCY LATEST": Listed(),
    "SLOWLOG LEN": Listed(),
    "CONFIG GET": Listed(choices=frozenset(_SETTINGS.split())),
    "CLUSTER INFO": Listed(),
    "EXISTS": Listed(key=True),
    "TTL": Listed(key=True),
    "TYPE": Listed(key=True),
}


@dataclass(frozen=True)
class Command:
    """A command of the list, with its arguments in lower case but for a key."""

    name: str
    argument: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """What is sent."""
        return (*self.name.split(), *(() if self.argument is None else (self.argument,)))


def parse(text: str) -> Command:
    """Return the listed command that a text is. Errors: ValueError with what to write instead.

    >>> parse("info memory").words
    ('INFO', 'memory')
    """
    words = text.split()
    if len(text) > MAX_COMMAND or not words or not text.isascii():
        raise ValueError(f"a command is one line of at most {MAX_COMMAND} ASCII characters, like INFO memory")
    name = next((n for n in (" ".join(words[:2]).upper(), words[0].upper()) if n in COMMANDS), None)
    if name is None:
        raise ValueError(_not_listed(words))
    listed, rest = COMMANDS[name], words[len(name.split()) :]
    if not rest and (listed.optional or not (listed.choices or listed.key)):
        return Command(name)
    if len(rest) != 1 or not (listed.choices or listed.key):
        takes = "one key" if listed.key else "one argument" if listed.choices else "no argument"
        raise ValueError(f"{name} takes {takes}{' or none' if listed.optional else ''} here, not {len(rest)}")
    if listed.key:
        if not _KEY.fullmatch(rest[0]):
            raise ValueError(f"{name} takes one key of letters, digits and _.:@{{}}/- here")
        return Command(name, rest[0])
    argument = rest[0].lower()
    if argument not in listed.choices:
        near = difflib.get_close_matches(argument, sorted(listed.choices), n=3, cutoff=0.6)
        known = " or ".join(near) if near else ", ".join(sorted(listed.choices))
        raise ValueError(f"{name} may be asked for {known}; not for {argument[:40]!r}")
    return Command(name, argument)


def command_problem(text: str) -> str | None:
    """Return why a command may not be sent and what to write instead; None where it may.

    >>> command_problem("KEYS *")
    'KEYS is not a command that a check may send; known: CLIENT LIST, CLUSTER INFO, CONFIG GET, DBSIZE, EXISTS, INFO, \
LATENCY LATEST, MEMORY STATS, MEMORY USAGE, PING, ROLE, SLOWLOG LEN, TTL, TYPE'
    """
    try:
        parse(text)
    except ValueError as error:
        return str(error)
    return None


def _not_listed(words: list[str]) -> str:
    shown = " ".join(words[:2]).upper() if any(n.startswith(f"{words[0].upper()} ") for n in COMMANDS) else words[0]
    return f"{shown.upper()[:40]} is not a command that a check may send; known: {', '.join(sorted(COMMANDS))}"
