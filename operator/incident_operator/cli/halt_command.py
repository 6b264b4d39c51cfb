"""`kubectl incident halt` and `unhalt`: suspend ActionGrants, and let them go again."""

from collections.abc import Sequence

import click

from ..api.grant import ActionGrant
from .cluster import Cluster, ClusterError, Forbidden, Missing
from .follow import parsed
from .options import EXIT_ERROR, EXIT_RESOLVED
from .text import clean

_HINTS = {
    Missing: "see which there are: kubectl get actiongrants",
    Forbidden: "only who may patch actiongrants can: ask a platform admin",
}


def suspend(cluster: Cluster, names: Sequence[str], *, reason: str | None) -> int:
    """Suspend these grants for a reason, or let them go with None; no names are all of them. Return the exit code.

    One that fails is told, and the others are still done: a halt must not end half way. Errors: ClusterError where
    nothing could be listed.
    """
    names = names or [item["metadata"]["name"] for item in cluster.list("ActionGrant").items]
    failed = [name for name in names if not _set(cluster, name, reason)]
    if not names:
        click.echo("the cluster has no ActionGrant: nothing can be changed anyway")
    elif reason is not None and len(failed) < len(names):
        click.echo("Calls in flight end; nothing new begins under these grants. Reading goes on.")
        click.echo("If Git owns a grant, write spec.suspended there too. To go on: kubectl incident unhalt")
    return EXIT_ERROR if failed else EXIT_RESOLVED


def _set(cluster: Cluster, name: str, reason: str | None) -> bool:
    """Write one grant and tell what became of it; False where it failed."""
    suspended = {"reason": reason} if reason is not None else None
    try:
        stored = cluster.patch("ActionGrant", "", name, {"spec": {"suspended": suspended}})
    except ClusterError as error:
        hint = _HINTS.get(type(error), error.hint)
        click.echo(f"ActionGrant {name}: {error}", err=True)
        click.echo(f"  {hint}" if hint else "", err=True, nl=bool(hint))
        return False
    now: ActionGrant = parsed(ActionGrant, stored)
    state = f"suspended: {clean(now.spec.suspended.reason)}" if now.spec.suspended else "not suspended"
    click.echo(f"ActionGrant {name}: {state}")
    return True
