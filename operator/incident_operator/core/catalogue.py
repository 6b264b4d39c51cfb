"""What the core knows of the catalogue: names, inputs and reasons, not how anything is observed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class ActionInfo:
    """One action, as runbooks are checked against it.

    Shape: `inputs_schema` is the JSON schema of its inputs (camelCase properties; a property may carry
    `literal: true`); `reasons` are the findings it can give. `refused` returns why inputs as they are
    written don't go together, and what to write instead; empty where they do, or where that is seen at run time.
    """

    name: str
    title: str
    kind: Literal["Check", "Fix"]
    inputs_schema: Mapping[str, Any]
    reasons: frozenset[str]
    refused: Callable[[Mapping[str, Any]], str] = lambda inputs: ""


Catalogue = Mapping[str, ActionInfo]
