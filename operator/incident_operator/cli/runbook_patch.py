"""`kubectl incident review --patch`: what the runbook learns, as a patch of the cluster's object or of a file in Git.

The file is edited as text, at the places that YAML's own marks name: comments, order and style stay as they are. What
comes out is read again, and must say what was meant; a file that can't be edited so is refused, never garbled.
"""

import difflib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import ValidationError

from ..api.review import HandledRun, PostIncidentReview
from ..api.runbook import RunbookSpec
from ..core.runbook_lesson import Addition, Append, Lesson, Nothing, SetFigure, json_patch, learn, learned
from .cluster import Cluster, Missing, Raw
from .errors import CommandError
from .options import EXIT_NOTHING, EXIT_RESOLVED
from .review_command import find_review
from .text import clean


class NotEdited(CommandError):
    """A file that can't be edited line by line; the hint names the other way."""


def print_patch(cluster: Cluster, name: str, file: str | None) -> int:
    """Print what the runbook of a review learns of it; return the exit code.

    Shape: without a file a JSON patch of the stored runbook, else a unified diff of the file. Errors: Missing,
    CommandError.
    """
    _, review = find_review(cluster, name)
    run = _followed(review)
    return _print_json(cluster, review, run) if file is None else _print_diff(review, run, file)


def _followed(review: PostIncidentReview) -> HandledRun:
    """Return the run whose runbook learns: the newest, for the review's end is its own. Errors: Missing."""
    runs = [run for run in review.status.runs if run.runbook is not None]
    if not runs:
        raise Missing(f"the review {review.metadata.name} knows of no run that has ended, so of no runbook")
    return runs[-1]


def _print_json(cluster: Cluster, review: PostIncidentReview, run: HandledRun) -> int:
    raw = _stored(cluster, run)
    kind, name = raw["kind"], raw["metadata"]["name"]
    lesson = learn(review, RunbookSpec.model_validate(raw["spec"]))
    if isinstance(lesson, Nothing):
        return _nothing(lesson)
    click.echo(json.dumps(json_patch(raw["spec"], raw["metadata"]["generation"], lesson), indent=2))
    where = f" -n {raw['metadata']['namespace']}" if kind == "Runbook" else ""
    _remark(lesson, f"kubectl patch {kind.lower()} {name}{where} --type=json --patch-file FILE")
    return EXIT_RESOLVED


def _stored(cluster: Cluster, run: HandledRun) -> Raw:
    """Return the runbook that a run followed, as it is now. Errors: Missing."""
    # Reviews of before do not say of which kind it is.
    kinds = (run.runbook_kind,) if run.runbook_kind else ("Runbook", "ClusterRunbook")
    for kind in kinds[:-1]:
        try:
            return {**cluster.get(kind, cluster.namespace, run.runbook or ""), "kind": kind}
        except Missing:
            continue
    return {**cluster.get(kinds[-1], cluster.namespace, run.runbook or ""), "kind": kinds[-1]}


def _print_diff(review: PostIncidentReview, run: HandledRun, file: str) -> int:
    path = os.path.relpath(file).replace(os.sep, "/")
    if path.startswith("../"):
        raise NotEdited(f"{file} is not below this folder", "a diff names files from here on: cd to the repository")
    try:
        text = Path(file).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} can't be read: {error}") from error
    document = runbook_in(text, file, run)
    lesson = learn(review, document.runbook)
    if isinstance(lesson, Nothing):
        return _nothing(lesson)
    click.echo(diff(text, amended(text, document, lesson, file), path), nl=False)
    _remark(lesson, "git apply FILE")
    return EXIT_RESOLVED


def _nothing(nothing: Nothing) -> int:
    click.echo(clean(nothing.why), err=True)
    return EXIT_NOTHING


def _remark(lesson: Lesson, command: str) -> None:
    for remark in lesson.remarks:
        click.echo(f"note: {clean(remark)}", err=True)
    click.echo(f"read it, then apply it: {command}", err=True)


# --- a manifest as text -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Document:
    """The runbook within a file: which of its documents, its spec with the marks, and as it is read."""

    index: int
    spec: yaml.MappingNode
    runbook: RunbookSpec


@dataclass(frozen=True, kw_only=True)
class _Edit:
    """Characters to be replaced; `start` and `end` are equal where something comes in between."""

    start: int
    end: int
    text: str


def diff(before: str, after: str, path: str) -> str:
    """Return a unified diff that `git apply` takes in the folder from which `path` leads to the file."""
    lines = difflib.unified_diff(_lines(before), _lines(after), f"a/{path}", f"b/{path}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(text: str) -> list[str]:
    """Return lines with their ends, cut as git does: at newlines only."""
    *whole, rest = text.split("\n")
    return [f"{line}\n" for line in whole] + ([rest] if rest else [])


def runbook_in(text: str, file: str, run: HandledRun) -> Document:
    """Find the runbook in a file. Errors: CommandError where there is none, or one that is wrong."""
    try:
        nodes, values = list(yaml.compose_all(text, yaml.SafeLoader)), list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise CommandError(f"{file} is no YAML: {clean(error)}") from error
    for index, (node, value) in enumerate(zip(nodes, values, strict=True)):
        if not isinstance(value, dict) or value.get("kind") not in (run.runbook_kind, "Runbook", "ClusterRunbook"):
            continue
        spec = _child(node, "spec")
        if (value.get("metadata") or {}).get("name") == run.runbook and isinstance(spec, yaml.MappingNode):
            try:
                return Document(index=index, spec=spec, runbook=RunbookSpec.model_validate(value["spec"]))
            except ValidationError as error:
                raise CommandError(f"{file} is no valid runbook", f"kubectl incident lint {file}") from error
    raise CommandError(f"{file} has no runbook {run.runbook}", "name the file that the incident's runbook is made of")


def amended(text: str, document: Document, lesson: Lesson, file: str) -> str:
    """Return the file with what the runbook learned; all else stays, comments too. Errors: NotEdited."""
    newline = "\r\n" if "\r\n" in text else "\n"
    edits = [_edit(text, document.spec, addition, newline) for addition in lesson.additions]
    after = text
    # From the end to the beginning, so that the marks stay true; at one place the first comes first.
    for edit in reversed(sorted(edits, key=lambda edit: edit.start)):
        after = after[: edit.start] + edit.text + after[edit.end :]
    wanted = list(yaml.safe_load_all(text))
    wanted[document.index] = {**wanted[document.index], "spec": learned(wanted[document.index]["spec"], lesson)}
    try:
        found = list(yaml.safe_load_all(after))
    except yaml.YAMLError:
        found = []
    if found != wanted:
        hint = "is it written with anchors, or in one line? --patch without =git patches the cluster's object"
        raise NotEdited(f"{file} can't be edited line by line", hint)
    return after


def _edit(text: str, spec: yaml.MappingNode, addition: Addition, newline: str) -> _Edit:
    match addition:
        case Append(field=field, value=value):
            node = _child(spec, field)
            if not isinstance(node, yaml.SequenceNode):
                return _inserted(text, spec, {field: [value]}, newline)
            if node.flow_style:
                return _within(node, _flow([value]))
            return _inserted(text, node, [value], newline)
        case SetFigure(field=field, value=value):
            known = _child(spec, "knowledge")
            if not isinstance(known, yaml.MappingNode):
                return _inserted(text, spec, {"knowledge": {field: value}}, newline)
            node = _child(known, field)
            if node is not None:
                return _replaced(text, node, _flow([value]) if known.flow_style else _scalar(value))
            if known.flow_style:
                return _within(known, _flow({field: value}))
            return _inserted(text, known, {field: value}, newline)


def _child(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def _inserted(text: str, after: yaml.CollectionNode, value: Any, newline: str) -> _Edit:
    """Return lines that follow a block, at its own indentation and before the comments that follow it."""
    at = _end(text, after)
    dumped = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110)
    lines = [" " * after.start_mark.column + line for line in dumped.splitlines()]
    ends = text[:at].endswith("\n")
    return _Edit(start=at, end=at, text="".join(f"{line}{newline}" if ends else f"{newline}{line}" for line in lines))


def _within(node: yaml.CollectionNode, value: str) -> _Edit:
    """Return one more entry of what is written in brackets."""
    at = node.end_mark.index - 1
    return _Edit(start=at, end=at, text=f", {value}" if node.value else value)


def _replaced(text: str, node: yaml.Node, value: str) -> _Edit:
    """Return another scalar; the line's end after a block one stays."""
    start, end = node.start_mark.index, node.end_mark.index
    return _Edit(start=start, end=start + len(text[start:end].rstrip()), text=value)


def _end(text: str, node: yaml.Node) -> int:
    """Return where the line after a block begins, or the text's end. The marks of blocks are after what follows."""
    leaf = _last(node)
    at = leaf.end_mark.index
    if isinstance(leaf, yaml.ScalarNode) and leaf.style in ("|", ">"):
        at = len(text[:at].rstrip())
    newline = text.find("\n", at)
    return len(text) if newline < 0 else newline + 1


def _last(node: yaml.Node) -> yaml.Node:
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node


def _flow(value: Any) -> str:
    """Return the inside of a list or an object in brackets."""
    dumped: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=sys.maxsize)
    return dumped.strip()[1:-1]


def _scalar(value: Any) -> str:
    """Return a value as it is written after a key."""
    dumped: str = yaml.safe_dump({"k": value}, allow_unicode=True, width=sys.maxsize)
    return dumped.removeprefix("k: ").rstrip("\n")
