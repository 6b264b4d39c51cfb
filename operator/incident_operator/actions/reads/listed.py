"""What a listed read is, and the projections that several use."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

Projection = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, kw_only=True)
class ListedRead:
    """One read operation.

    Shape: `permissions` are the IAM actions it needs; `items` names the list of a paged answer,
    of which at most `bound` items are followed; `missing` are error codes that mean "there is none"; `free_text`: its
    answer is texts that anybody wrote, for an action that knows what to look for, never to be kept (decision 19);
    `unsigned`: it is asked as anybody on the internet would, under nobody's name. A refusal is then an answer, the
    ReadError PublicAccessDenied.
    """

    permissions: tuple[str, ...]
    project: Projection
    items: str | None = None
    bound: int = 500
    missing: tuple[str, ...] = ()
    free_text: bool = False
    unsigned: bool = False


def keep(*names: str) -> Projection:
    """Return a projection that keeps these members of an answer."""
    return lambda answer: {name: answer[name] for name in names if name in answer}


def each(items: str, *names: str) -> Projection:
    """Return a projection that keeps these members of each item of an answer's list."""
    return lambda answer: [{name: item[name] for name in names if name in item} for item in answer.get(items, ())]


def policy_document(value: Any) -> Any:
    """Return a policy document as JSON: IAM answers it decoded, quoted or as text, depending on the client."""
    if not isinstance(value, str):
        return value
    text = unquote(value) if value.startswith("%7B") else value
    return json.loads(text)
