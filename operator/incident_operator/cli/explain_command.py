"""`kubectl incident explain`: the catalogue, or one action of it."""

import difflib

import click

from ..actions.catalogue import catalogue
from .catalogue_view import explained
from .errors import CommandError


def explain_action(name: str | None) -> None:
    """Print one action, or the list of all. Errors: CommandError where there is no such action."""
    actions = catalogue()
    if name is None:
        width = max(map(len, actions))
        for kind, title in (("Check", "Checks"), ("Fix", "Fixes")):
            click.echo(title)
            for known, action in sorted(actions.items()):
                if action.kind == kind:
                    click.echo(f"  {known:<{width}}  {action.title}")
        return
    if name not in actions:
        near = difflib.get_close_matches(name, actions, n=3) or sorted(actions)
        raise CommandError(f"there is no action {name!r}", f"there are: {', '.join(near)}")
    click.echo("\n".join(explained(name, actions[name])))
