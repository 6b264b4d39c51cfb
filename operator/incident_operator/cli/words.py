"""What people can say about a run or a plan, as commands: one table, one declaration, one implementation.

Each row becomes a command that creates one Intervention and waits for the operator's answer (`say`). Light to import.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import click

from .options import DurationType, Where, connect, kube_options

_ENDS = """
    Exit code: 0 it is in effect. 2 it is not, and why is printed. 4 no answer came within --timeout: the word is
    stored, and counts when the operator reads it. 1 any error, 64 wrong usage.
"""


@dataclass(frozen=True, kw_only=True)
class Word:
    """One thing that can be said.

    Shape: `verb` as the API spells it; `done` how its effect is told; `permission` the RBAC verb (of an Approve, the
    plan's tier is added). `subject`: `open` are plans that wait for a decision, `applied` plans of which a call was
    made, `run` is the run itself. `fix`: whether the run's fix is named; `text`: whether the reason is an argument.
    """

    name: str
    verb: str
    done: str
    permission: str
    help: str
    subject: Literal["open", "applied", "run"]
    fix: bool = False
    text: bool = False


@dataclass(frozen=True, kw_only=True)
class Said:
    """One use of a word, as typed."""

    run: str
    fix: str | None = None
    reason: str | None = None
    override: tuple[str, ...] = ()
    break_glass: bool = False
    revert: bool = False
    yes: bool = False
    timeout: timedelta = timedelta(seconds=15)
    wait: bool = True


WORDS: tuple[Word, ...] = (
    Word(
        name="approve",
        verb="Approve",
        done="approved",
        permission="approve",
        subject="open",
        help="""Agree to a plan of RUN, the one of FIX where several wait.

        Shows what changes, what it touches, risk, hazards, what blocks it, how it is undone and how it fared before;
        then asks to type the fix's name. What is approved is this very plan: if the world changes, it is void.""",
    ),
    Word(
        name="reject",
        verb="Reject",
        done="rejected",
        permission="reject",
        subject="open",
        help="Say no to a plan of RUN, the one of FIX where several wait. The run goes on with its next fix.",
    ),
    Word(
        name="revert",
        verb="Revert",
        done="to be reverted",
        permission="revert",
        subject="applied",
        help="""Put back what a plan of RUN changed, the one of FIX where several were applied.

        Made only while what it left behind is still as it left it. After the run's end it becomes a plan of its own,
        which asks for its own approval.""",
    ),
    Word(
        name="keep",
        verb="Keep",
        done="kept",
        permission="keep",
        subject="applied",
        help="""Leave in place what a plan of RUN changed, the one of FIX where several were applied.

        Answers a plan whose outcome nobody could measure, or whose temporary fix is due.""",
    ),
    Word(
        name="pause",
        verb="Pause",
        done="paused",
        permission="pause",
        subject="run",
        help="Change nothing for RUN until somebody says resume. A call in flight ends; diagnosis goes on.",
    ),
    Word(name="resume", verb="Resume", done="resumed", permission="resume", subject="run", help="Let RUN go on again."),
    Word(
        name="retry",
        verb="Retry",
        done="to be tried again",
        permission="retry",
        subject="run",
        fix=True,
        help="Look at FIX of RUN anew, and plan it again where it still applies.",
    ),
    Word(
        name="skip",
        verb="Skip",
        done="skipped",
        permission="skip",
        subject="run",
        fix=True,
        help="Leave FIX of RUN out, and go on with the next.",
    ),
    Word(
        name="cancel",
        verb="Cancel",
        done="cancelled",
        permission="cancel",
        subject="run",
        help="End RUN. A plan under way ends first, and stays in place; with --revert it is put back.",
    ),
    Word(
        name="note",
        verb="Note",
        done="noted",
        permission="note",
        subject="run",
        text=True,
        help="Write TEXT into the story of RUN.",
    ),
)


def _parameters(word: Word) -> Iterator[Callable[[Any], Any]]:
    yield click.argument("run")
    if word.text:
        yield click.argument("reason", metavar="TEXT")
    elif word.subject != "run":
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
