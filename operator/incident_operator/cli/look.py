"""How lines look: styled parts, marks of states, and how much is shown. Pure."""

from dataclasses import dataclass

from rich.text import Text

from .text import mark


@dataclass(frozen=True, kw_only=True)
class Look:
    """How to show: plain ASCII marks; what is well, or only what is not; how much of timeline and changes."""

    ascii_only: bool = False
    all_is_well: bool = True
    timeline: int = 12
    diff_lines: int = 8


def line(*parts: str | tuple[str, str], indent: int = 0) -> Text:
    """Return one line of plain and styled parts."""
    return Text.assemble(" " * indent, *parts, overflow="fold")


def signed(state: str, look: Look) -> tuple[str, str]:
    """Return the mark of a state as a styled part."""
    return mark(state, ascii_only=look.ascii_only)
