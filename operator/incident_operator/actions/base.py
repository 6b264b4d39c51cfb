"""What an action of the catalogue is.

A check: `observe(inputs, reader) -> Facts`, then, purely, `output(facts)` and `findings(inputs, facts)`.
A fix: the same `observe`, then, purely, `plan(inputs, facts)`, and after its calls `judge(inputs, before, after)`.
Observing reads the world through the port; everything after it is a function of what was read.

To add one: write one class in the file of its target system, name it in a runbook. `@register` puts it into the
catalogue; other distributions add theirs by the entry point group `incident_operator.actions`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from ..api.plan import Call
from ..api.runbook import FindingKind
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from .ports import Reader


class ActionModel(BaseModel):
    """Inputs, facts and outputs: frozen, camelCase in runbooks and status, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    def wire(self) -> dict[str, Any]:
        """Return the JSON object that expressions and status see."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Inputs(ActionModel):
    """What a runbook gives an action. A field with `json_schema_extra={"literal": True}` takes no `${}`."""


class Facts(ActionModel):
    """What was observed: JSON-safe, small (≤ 16 KiB), without secrets and free text. Stored as a plan's preImage."""


class Output(ActionModel):
    """What a check tells expressions and people: ≤ 2 KiB by construction (counts, top n, total)."""


@dataclass(frozen=True, kw_only=True)
class ReasonInfo:
    """A finding's reason, as documented: what it means, whether it is a Problem, whether it may be the root cause."""

    doc: str
    kind: FindingKind = FindingKind.PROBLEM
    root_cause: bool = False


@dataclass(frozen=True, kw_only=True)
class Found:
    """A fact that a check established; `reason` is declared by the action, `message` built from known tokens."""

    reason: str
    message: str
    subject: str | None = None
    actor: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Unclear:
    """The facts allow no answer (too few samples, too young, missing): the check is Inconclusive.

    `retry_at`: when the same look could give an answer (CloudTrail catches up), else None.
    """

    reason: str
    message: str
    found: tuple[Found, ...] = ()
    retry_at: datetime | None = None


I = TypeVar("I", bound=Inputs)  # noqa: E741  (the type of an action's inputs)
F = TypeVar("F", bound=Facts)


class Action(ABC, Generic[I, F]):
    """One entry of the catalogue: stateless, made once."""

    #: Dotted name as runbooks write it: `iam.restore-role-access`.
    name: ClassVar[str]
    #: One line for people.
    title: ClassVar[str]
    kind: ClassVar[Literal["Check", "Fix"]]
    inputs_model: ClassVar[type[Inputs]]
    facts_model: ClassVar[type[Facts]]
    #: Every reason this action can give, and what it means.
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {}
    #: IAM actions that observing needs.
    reads: ClassVar[tuple[str, ...]] = ()
    #: Those that it needs only where inputs say `vantage: instances` (`actions.vantage`), beside the probe itself.
    reads_from_instances: ClassVar[tuple[str, ...]] = ()

    def refused(self, inputs: Mapping[str, Any]) -> str:
        """Return why inputs as a runbook writes them don't go together, and what to write instead; empty: they may.

        Shape: values may be expressions, which are known at run time only; the model refuses what they come to.
        """
        return ""

    @abstractmethod
    def observe(self, inputs: I, reader: Reader) -> F:
        """Read what is needed. Errors: ReadError."""


class CheckAction(Action[I, F]):
    """A read-only question."""

    kind = "Check"

    @abstractmethod
    def output(self, facts: F) -> Output:
        """Return what is kept of the facts: what people and the expressions of other checks and fixes see."""

    def judged(self, facts: F) -> Output:
        """Return what the runbook's rules judge: also what is too long to keep. The same, if not said."""
        return self.output(facts)

    @abstractmethod
    def findings(self, inputs: I, facts: F) -> Sequence[Found] | Unclear:
        """Return what is wrong; empty is passed."""


class FixAction(Action[I, F]):
    """A change that is planned, judged and undone."""

    kind = "Fix"
    #: IAM actions that the calls need.
    writes: ClassVar[tuple[str, ...]] = ()
    #: Operations of service `postgres` that the calls are (`adapters.sqlcalls`).
    statements: ClassVar[tuple[str, ...]] = ()
    #: What it may cost, and how it is put back, for people who choose it; each plan says both exactly.
    risk: ClassVar[str] = ""
    undo: ClassVar[str] = ""
    #: How long it is judged: `self.waits.verify(signal)` is what its plans say.
    waits: ClassVar[Waits]

    @abstractmethod
    def plan(self, inputs: I, facts: F) -> PlanDraft | NotApplicable:
        """Return the exact calls for these facts, or why there is nothing to do. Deterministic."""

    @abstractmethod
    def applied(self, call: Call, inputs: I, facts: F) -> bool | None:
        """Tell whether the facts show this call's effect (after an interruption); None where they can't tell."""

    def lacks(self, made: Sequence[Call], inputs: I, before: F, facts: F) -> str:
        """Say what the calls made so far have not brought about yet, in words; empty: the next one may be made.

        Asked before each call that says `readyWithin`. `before` is what was observed before the first call.
        Errors: NotImplementedError for an action whose calls wait for nothing.
        """
        raise NotImplementedError(f"{self.name} plans a call that waits, and does not say for what")

    def measure(self, inputs: I, reader: Reader) -> Facts:
        """Read what judging needs, since the last call (`reader.since`). The same as planning reads, if not said."""
        return self.observe(inputs, reader)

    @abstractmethod
    def judge(self, inputs: I, before: F, after: Any) -> Judgement:
        """Compare the facts before the first call with what `measure` read after the last."""


_REGISTRY: dict[str, Action[Any, Any]] = {}


A = TypeVar("A", bound=type[Action[Any, Any]])


def register(action: A) -> A:
    """Put an action into the catalogue. Errors: ValueError where its name is taken."""
    if action.name in _REGISTRY:
        raise ValueError(f"two actions are called {action.name}")
    _REGISTRY[action.name] = action()
    return action


def registry() -> Mapping[str, Action[Any, Any]]:
    """Return every registered action by name (see `actions.catalogue`, which imports the files first)."""
    return _REGISTRY
