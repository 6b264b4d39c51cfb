"""The order of risks, and how far a machine may go by itself: the minimum of all who have a say."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from ..api.meta import Automation, Risk

_ORDER = {Risk.NONE: 0, Risk.LOW: 1, Risk.DISRUPTIVE: 2, Risk.DESTRUCTIVE: 3}


def at_most(risk: Risk, ceiling: Risk) -> bool:
    """Tell whether a risk is within a ceiling."""
    return _ORDER[risk] <= _ORDER[ceiling]


def effective(*levels: Automation) -> Automation:
    """Return the lowest of these automations, each side by itself. Shape: at least one."""
    return Automation(
        apply_up_to=min((a.apply_up_to for a in levels), key=_ORDER.__getitem__),
        ask_up_to=min((a.ask_up_to for a in levels), key=_ORDER.__getitem__),
    )


def matches(text: str, patterns: Iterable[str]) -> bool:
    """Tell whether a text matches one of these `*`/`?` patterns. Brackets stand for themselves, as in IAM."""
    return any(fnmatchcase(text, pattern.replace("[", "[[]")) for pattern in patterns)


def covers(outer: str, inner: str) -> bool:
    """Tell whether every text that `inner` matches is matched by `outer`; both may carry wildcards.

    A wildcard of `inner` is taken as a character that only a wildcard of `outer` can match, which is exact for `*`
    in `outer` and never says yes wrongly.
    """
    return fnmatchcase(
        inner,
        outer.replace("[", "[[]").replace("?", "\0") if any(c in inner for c in "*?") else outer.replace("[", "[[]"),
    )
