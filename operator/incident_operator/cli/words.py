"""What people can say of runs, plans and incidents: one table, one declaration (`word_commands`), one `say`."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Word:
    """One thing that can be said.

    Shape: `verb` as the API spells it; `done` how its effect is told; `permission` the RBAC verb (of an Approve, the
    plan's tier is added). `subject`: `open` are plans that wait for a decision, `applied` plans of which a call was
    made, `run` is the run itself, `incident` an incident. `fix`: whether the run's fix is named; `text`: whether the
    reason is an argument; `value`: the field of the word that is an argument, and how it is called.
    """

    name: str
    verb: str
    done: str
    permission: str
    help: str
    subject: Literal["open", "applied", "run", "incident"]
    fix: bool = False
    text: bool = False
    value: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Said:
    """One use of a word, as typed."""

    run: str
    fix: str | None = None
    value: str | None = None
    duty: str | None = None
    reason: str | None = None
    override: tuple[str, ...] = ()
    break_glass: bool = False
    revert: bool = False
    yes: bool = False
    timeout: timedelta = timedelta(seconds=15)
    wait: bool = True


#: The document's duties within an hour of the resolution.
DUTIES = ("ticketUpdated", "stakeholdersTold", "metricsNormal", "alertsWorking", "secondaryImpacts")

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
        help="Write TEXT into the story of RUN, or of an incident of that name.",
    ),
    Word(
        name="ack",
        verb="Acknowledge",
        done="acknowledged",
        permission="acknowledge",
        subject="incident",
        help="""Say that you are on it: nobody else is paged for INCIDENT.

        INCIDENT is its name, or that of a run at work on it. A plan that waits for people later pages again.""",
    ),
    Word(
        name="take",
        verb="TakeCommand",
        done="under your command",
        permission="takecommand",
        subject="incident",
        help="Take command of INCIDENT, also from somebody else; acknowledges it, too.",
    ),
    Word(
        name="severity",
        verb="SetSeverity",
        done="given that severity",
        permission="setseverity",
        subject="incident",
        value=("severity", "P0|P1|P2|P3"),
        help="""Say how bad INCIDENT is. Every clock counts anew, from the detection on.

        Whoever was told stays told; the reason is for the review.""",
    ),
    Word(
        name="impact",
        verb="SetImpact",
        done="given that impact",
        permission="setimpact",
        subject="incident",
        value=("percent", "PERCENT"),
        help="Say how many of a hundred requests fail for INCIDENT: your word wins over what was measured.",
    ),
    Word(
        name="cause",
        verb="SetRootCause",
        done="given that cause",
        permission="setrootcause",
        subject="incident",
        text=True,
        help="Say what broke it, TEXT: until then the cause of INCIDENT is only probable.",
    ),
    Word(
        name="did",
        verb="RecordAction",
        done="written down",
        permission="recordaction",
        subject="incident",
        text=True,
        help="""Write down what you did by hand for INCIDENT: TEXT.

        With --duty it completes one of the five duties of the close-out, within an hour of the resolution.""",
    ),
    Word(
        name="duplicate",
        verb="Duplicate",
        done="closed as a duplicate",
        permission="duplicate",
        subject="incident",
        value=("duplicateOf", "OTHER"),
        help="Say that INCIDENT is the same as OTHER, which goes on; its clocks and pages end.",
    ),
    Word(
        name="false-positive",
        verb="FalsePositive",
        done="closed as a false alarm",
        permission="falsepositive",
        subject="incident",
        text=True,
        help="Say that INCIDENT was a false alarm, and why: TEXT. Counted in the monthly report.",
    ),
    Word(
        name="resolve",
        verb="Resolve",
        done="resolved",
        permission="resolve",
        subject="incident",
        help="""Say that INCIDENT is over. Its runs, if any are at work, go on.

        The operator says so itself where the last run at work on it ends Resolved.""",
    ),
    Word(
        name="publish",
        verb="Publish",
        done="on its way to the status page",
        permission="publish",
        subject="incident",
        text=True,
        help="Tell customers on the status page: TEXT, word by word. Nothing else is ever published.",
    ),
)
