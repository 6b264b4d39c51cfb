"""Filter patterns of CloudWatch Logs: what moto leaves out. A pattern that is not known is refused, never ignored."""

import re

from moto.logs import models as logs_models

from .wire import Refused

_TERM = re.compile(r'([?-]?)("(?:[^"\\]|\\.)*"|[^\s"]+)')


def matches(pattern: str, message: str) -> bool:
    """Tell whether a line matches. Shape: words all of which, `?words` one of which, `-words` none of which.

    Errors: Refused for the kinds of pattern that are not evaluated here.
    """
    text = pattern.strip()
    if not text:
        return True
    if text[0] in "{[%":
        raise Refused("InvalidParameterException", f"the simulator does not evaluate filter pattern {pattern!r}")
    needed: list[str] = []
    optional: list[str] = []
    for sign, term in _TERM.findall(text):
        word = term[1:-1].replace('\\"', '"') if term.startswith('"') else term
        if sign == "-":
            if word in message:
                return False
        else:
            (optional if sign == "?" else needed).append(word)
    # As in CloudWatch, `?` words count only where no word is needed.
    if needed:
        return all(word in message for word in needed)
    return not optional or any(word in message for word in optional)


class _Filter:
    """moto's EventMessageFilter, by these rules."""

    def __init__(self, pattern: str | None) -> None:
        self._pattern = pattern or ""

    def matches(self, message: str) -> bool:
        """Tell whether a line matches."""
        return matches(self._pattern, message)


def install() -> None:
    """Let moto's logs use these patterns."""
    vars(logs_models)["EventMessageFilter"] = _Filter
