"""`kubectl incident`: watch a run, read its plans.

The entry point is `kubectl-incident`, so kubectl finds it as a plugin. Modules that take long to import (the client,
rich, the api models) are imported by the command that needs them.
"""

import sys
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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@kube_options
@click.version_option(package_name="incident-operator", prog_name="kubectl incident")
@click.pass_context
def cli(ctx: click.Context, /, **where: Any) -> None:
    """Watch incident runs and read the plans they make."""
    ctx.obj = Where(**where)


@cli.command()
@click.argument("run")
@click.option("--timeout", type=DurationType(), help="Stop watching after this long (exit 4); the run goes on.")
@click.option("--wait", is_flag=True, help="If there is no such run yet, wait for it.")
@click.option("--lines", is_flag=True, help="One line per change, also on a terminal.")
@kube_options
@click.pass_obj
def watch(obj: Where, /, run: str, timeout: timedelta | None, wait: bool, lines: bool, **where: Any) -> None:
    """Follow RUN until it ends: steps, findings, plans, recovery.

    On a terminal the screen is kept up to date; elsewhere every change is a line.

    Exit code: 0 Resolved. 2 Unresolved, NothingFound or Cancelled: people are needed. 3 Failed or Expired: it did
    not run. 4 --timeout passed first. 1 any error, 64 wrong usage.
    """
    from .watch_command import watch_run

    live = sys.stdout.isatty() and not lines
    sys.exit(watch_run(_connect(obj, where), run, timeout=timeout, wait=wait, live=live))


@cli.command()
@click.argument("run")
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="Every plan, superseded ones too; default the newest of each fix.")
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
@kube_options
@click.pass_obj
def plan(obj: Where, /, run: str, name: str | None, every: bool, output: str, **where: Any) -> None:
    """Show the plans of RUN, or the one called NAME (a plan or a fix): what changes, why, and how to undo it."""
    if name and every:
        raise click.UsageError("NAME chooses one plan: drop --all")
    from .plan_command import show_plans

    show_plans(_connect(obj, where), run, name_of_plan=name, every=every, output=output)


def _connect(obj: Where, where: dict[str, Any]) -> Any:
    """Return the cluster that the options name; those after the command win."""
    from .cluster import Cluster

    chosen = replace(obj, **{key: value for key, value in where.items() if value is not None})
    return Cluster(kubeconfig=chosen.kubeconfig, context=chosen.context, namespace=chosen.namespace)


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit as documented; errors are one line each, to stderr."""
    try:
        result = cli.main(arguments, prog_name="kubectl incident", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_ERROR)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(EXIT_ERROR)
    except Exception as error:
        from .cluster import ClusterError

        if not isinstance(error, ClusterError):
            raise
        click.echo(f"error: {error}", err=True)
        if error.hint:
            click.echo(f"  {error.hint}", err=True)
        sys.exit(EXIT_ERROR)
    sys.exit(result if isinstance(result, int) else 0)
