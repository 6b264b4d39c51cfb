"""Each word as a command: one declaration for all, made from the table in `words`. Light to import."""

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from .options import DurationType, Where, connect, kube_options
from .words import DUTIES, Said, Word

_ENDS = """
    Exit code: 0 it is in effect. 2 it is not, and why is printed. 4 no answer came within --timeout: the word is
    stored, and counts when the operator reads it. 1 any error, 64 wrong usage.
"""


def _parameters(word: Word) -> Iterator[Callable[[Any], Any]]:
    yield click.argument("run", metavar="INCIDENT|RUN" if word.subject == "incident" else None)
    if word.value is not None:
        yield click.argument("value", metavar=word.value[1])
    if word.text:
        yield click.argument("reason", metavar="TEXT")
    elif word.subject in ("open", "applied"):
        yield click.argument("fix", required=False)
    elif word.fix:
        yield click.argument("fix")
    if not word.text:
        yield click.option("--reason", metavar="TEXT", help="Why; the timeline and the review quote it.")
    if word.verb == "Approve":
        yield click.option("--yes", is_flag=True, help="Don't ask to type the fix's name: for scripts.")
        yield click.option(
            "--override", metavar="GATE", multiple=True, help="A soft gate that shall not block; needs --reason."
        )
        yield click.option(
            "--break-glass", is_flag=True, help="Act alone where two must agree; needs --reason and the right to."
        )
    if word.verb == "RecordAction":
        yield click.option("--duty", type=click.Choice(DUTIES), help="The duty of the close-out that this completes.")
    if word.verb == "Cancel":
        yield click.option("--revert", is_flag=True, help="Put back what the plan under way has changed.")
    yield click.option(
        "--timeout", type=DurationType(), default="15s", show_default=True, help="How long to wait for the answer."
    )
    yield click.option("--no-wait", "wait", is_flag=True, flag_value=False, default=True, help="Don't wait for it.")


def command(word: Word) -> click.Command:
    """Return the command of a word."""

    @click.pass_obj
    def say(obj: Where, /, **given: Any) -> None:
        from .say import say_word

        where = {name: given.pop(name) for name in ("kubeconfig", "context", "namespace")}
        sys.exit(say_word(connect(obj, where), word, Said(**given)))

    for decorate in reversed([*_parameters(word), kube_options]):
        say = decorate(say)
    text = inspect.cleandoc(word.help) + "\n\n" + inspect.cleandoc(_ENDS)
    return click.command(name=word.name, help=text)(say)
