"""What people can say of a run or a plan: one table, one declaration (`word_commands`), one implementation (`say`)."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal


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
