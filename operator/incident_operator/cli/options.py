"""What every command shares: options, exit codes, and the words in which they are documented. Light to import."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import click

#: How `kubectl incident` ends; `watch` says with it how the run ended.
EXIT_RESOLVED = 0
EXIT_ERROR = 1
EXIT_UNRESOLVED = 2
EXIT_NOT_RUN = 3
EXIT_TIMEOUT = 4
EXIT_USAGE = 64
EXIT_INTERRUPTED = 130
#: A person's word: it counts; it does not, and why was printed; nobody has answered it yet.
EXIT_EFFECTIVE = EXIT_RESOLVED
EXIT_NOT_EFFECTIVE = EXIT_UNRESOLVED
EXIT_NO_ANSWER = EXIT_TIMEOUT
#: Nothing was asked for that is not there already.
EXIT_NOTHING = EXIT_UNRESOLVED

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Where:
    """Which cluster and namespace, as written before or after the command's name."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None


def kube_options(command: F) -> F:
    """Add kubectl's options for cluster and namespace to a command."""
    for option in (
        click.option("--kubeconfig", metavar="FILE", help="The kubeconfig; default $KUBECONFIG, then ~/.kube/config."),
        click.option("--context", metavar="NAME", help="The kubeconfig's context; default the current one."),
        click.option("-n", "--namespace", metavar="NAME", help="The namespace; default the context's."),
    ):
        command = option(command)
    return command


class DurationType(click.ParamType[timedelta]):
    """A duration as the manifests write it: `90s`, `5m`, `1h30m`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the duration. Errors: a usage error that shows a valid one."""
        from ..api.meta import parse_duration

        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def connect(obj: Where, where: dict[str, Any]) -> Any:
    """Return the cluster that the options name; those after the command win."""
    from .cluster import Cluster

    chosen = replace(obj, **{key: value for key, value in where.items() if value is not None})
    return Cluster(kubeconfig=chosen.kubeconfig, context=chosen.context, namespace=chosen.namespace)
