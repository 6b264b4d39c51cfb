"""`kubectl incident lint`: read files and print what is wrong with them."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from .errors import CommandError
from .lint import Document, Problem, is_ours, problems, read
from .options import EXIT_ERROR, EXIT_RESOLVED
from .text import some


def lint_files(files: Sequence[str]) -> int:
    """Print every problem of the files, and return the exit code. Errors: CommandError where one can't be read."""
    documents: list[Document] = []
    found: list[Problem] = []
    for file in files:
        read_, wrong = read("<stdin>" if file == "-" else file, text_of(file))
        documents += read_
        found += wrong
    found += problems(documents)
    for problem in sorted(found):
        click.echo(problem.text())
    ours = sum(map(is_ours, documents))
    others = f"; {some(len(documents) - ours, 'object')} of other kinds not checked" if len(documents) > ours else ""
    click.echo(f"{some(ours, 'object')} checked, {some(len(found), 'problem')}{others}", err=True)
    return EXIT_ERROR if found else EXIT_RESOLVED


def text_of(file: str) -> str:
    """Return a file's text; `-` is stdin. Errors: CommandError where it can't be read."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} can't be read: {error}") from error
