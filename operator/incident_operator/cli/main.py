"""`kubectl incident`: watch a run, read its plans, say what a person decides, and help without the operator.

The entry point is `kubectl-incident`, so kubectl finds it as a plugin. Modules that take long to import (the client,
rich, the api models) are imported by the command that needs them.
"""

import sys
from datetime import timedelta
from typing import Any

import click

from .options import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, DurationType, Where, connect, kube_options
from .word_commands import command
from .words import WORDS


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@kube_options
@click.version_option(package_name="incident-operator", prog_name="kubectl incident")
@click.pass_context
def cli(ctx: click.Context, /, **where: Any) -> None:
    """Watch incident runs, read the plans they make, and decide about them."""
    ctx.obj = Where(**where)


for word in WORDS:
    cli.add_command(command(word))


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
    sys.exit(watch_run(connect(obj, where), run, timeout=timeout, wait=wait, live=live))


@cli.command()
@click.argument("run")
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="Every plan, superseded ones too; default the newest of each fix.")
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
@kube_options
@click.pass_obj
def plan(obj: Where, /, run: str, name: str | None, every: bool, output: str, **where: Any) -> None:
    """Show the plans of RUN, or the one called NAME (a plan or a fix): what changes, why, and how to undo it.

    Exit code: 0, or 1 for any error, 64 for wrong usage.
    """
    if name and every:
        raise click.UsageError("NAME chooses one plan: drop --all")
    from .plan_command import show_plans

    show_plans(connect(obj, where), run, name_of_plan=name, every=every, output=output)


@cli.command()
@click.argument("name", metavar="INCIDENT|RUN")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@kube_options
@click.pass_obj
def who(obj: Where, /, name: str, output: str, **where: Any) -> None:
    """Show whom the EscalationPolicy wants told: who is engaged, who is next and when, and the pages.

    Of an incident also who was told by which channel, who took it, and what is left of its close-out. The policy is
    the namespace's own called default, else that of incident-system. Nothing is sent by this command.

    Exit code: 0, or 1 for any error, 64 for wrong usage.
    """
    from .who_command import show_who

    show_who(connect(obj, where), name, output=output)


@cli.command()
@click.argument("name", metavar="INCIDENT|RUN")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@kube_options
@click.pass_obj
def timeline(obj: Where, /, name: str, output: str, **where: Any) -> None:
    """Tell the story of an incident in order: people's words, who was told, and every turn of its runs.

    Exit code: 0, or 1 for any error, 64 for wrong usage.
    """
    from .timeline_command import show_timeline

    show_timeline(connect(obj, where), name, output=output)


@cli.command()
@click.argument("run", required=False)
@click.option("--fix", metavar="FIX", help="The fix (or the plan) where the run has several.")
@click.option("--undo", is_flag=True, help="The lines that put back what the plan changes.")
@click.option(
    "-f", "--filename", metavar="FILE", help="A stored plan instead of a run's: no cluster is asked. - is stdin."
)
@kube_options
@click.pass_obj
def script(obj: Where, /, run: str | None, fix: str | None, undo: bool, filename: str | None, **where: Any) -> None:
    """Print a plan of RUN as shell lines, to run by hand on the day the operator is down.

    The lines stop at the first that fails. What the operator has done already, by its journal, is left out as a
    comment. Nothing is run by this command.

    Exit code: 0, or 1 for any error, 64 for wrong usage.
    """
    if (run is None) == (filename is None):
        raise click.UsageError("name a RUN, or a file with -f")
    from .script_command import print_script

    print_script(None if filename else connect(obj, where), run, filename=filename, fix=fix, undo=undo)


@cli.command()
@click.argument("name", metavar="RUN|TICKET|REVIEW")
@click.option("-o", "--output", type=click.Choice(["markdown", "html", "json"]), default="markdown", show_default=True)
@click.option("--html", is_flag=True, help="The same as -o html.")
@click.option("--facts", is_flag=True, help="Add what was measured, with the check, plan or word behind each line.")
@click.option(
    "--patch",
    type=click.Choice(["json", "git"]),
    is_flag=False,
    flag_value="json",
    help="Instead: what the runbook learns, for kubectl patch --type=json; --patch=git: for git apply, of --file.",
)
@click.option("--file", "-f", metavar="FILE", help="The runbook's manifest, with --patch=git.")
@kube_options
@click.pass_obj
def review(
    obj: Where,
    /,
    name: str,
    output: str,
    html: bool,
    facts: bool,
    patch: str | None,
    file: str | None,
    **where: Any,
) -> None:
    """Show the post-incident review of a run, in the runbook's template; what is overdue is said on stderr.

    The operator drafts it when the run ends; from then on it is edited with kubectl, and written over by nobody.

    Exit code: 0. 2 --patch has nothing to add: the runbook has it already, or could not learn from it. 1 any error,
    64 wrong usage.
    """
    if (patch == "git") != (file is not None):
        raise click.UsageError("--patch=git and --file go together: a diff is of a file")
    if patch is not None:
        from .runbook_patch import print_patch

        sys.exit(print_patch(connect(obj, where), name, file))
    from .review_command import show_review

    show_review(connect(obj, where), name, output="html" if html else output, with_facts=facts)


@cli.command()
@click.argument("name", metavar="RUN|TICKET|REVIEW")
@kube_options
@click.pass_obj
def message(obj: Where, /, name: str, **where: Any) -> None:
    """Print the message that tells stakeholders how an incident ended.

    Exit code: 0, or 1 for any error, 64 for wrong usage.
    """
    from .review_command import show_message

    show_message(connect(obj, where), name)


@cli.command()
@click.option("--month", metavar="YYYY-MM", help="One month, as 2026-11; default the current one.")
@click.option("--quarter", metavar="YYYYQN", help="Three months, as 2026Q4, each and together.")
@click.option("--time-zone", default="UTC", show_default=True, metavar="ZONE", help="Where months begin and end.")
@click.option("-o", "--output", type=click.Choice(["md", "json", "html"]), default="md", show_default=True)
@kube_options
@click.pass_obj
def report(obj: Where, /, month: str | None, quarter: str | None, time_zone: str, output: str, **where: Any) -> None:
    """Report the four monthly metrics: MTTR, MTBF, runbook effectiveness, false-positive rate.

    Folded from the post-incident reviews of all namespaces that you may read, or of the one that -n names, by month,
    severity and incident type. Drills and duplicates are counted nowhere. docs/metrics.md defines every figure.

    Exit code: 0, or 1 for any error, 64 for wrong usage.
    """
    if month and quarter:
        raise click.UsageError("--month or --quarter: one period at a time")
    from .report_command import show_report

    named = where.get("namespace") or obj.namespace
    show_report(connect(obj, where), named, month=month, quarter=quarter, time_zone=time_zone, output=output)


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def lint(files: tuple[str, ...]) -> None:
    """Check manifests of our kinds without a cluster; FILE `-` is stdin.

    Fields, types and bounds as the API server would; of runbooks also actions, inputs, reasons and expressions; of
    runs also their parameters, where their runbook is among the files.

    Exit code: 0 all is well. 1 something is wrong: one line each, FILE:LINE: field: message. 64 wrong usage.
    """
    from .lint_command import lint_files

    sys.exit(lint_files(files))


@cli.command()
@click.argument("words", nargs=-1, required=True, metavar="TEXT...")
@click.option("-f", "--file", "files", multiple=True, metavar="FILE", help="Of these manifests instead; - is stdin.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@kube_options
@click.pass_obj
def suggest(obj: Where, /, words: tuple[str, ...], files: tuple[str, ...], output: str, **where: Any) -> None:
    """Name the runbooks that fit what people see, TEXT, best first, and say which words each was found by.

    Words are looked for in symptoms, title, incident type, findings and history of every ClusterRunbook and of the
    namespace's Runbooks. One that is nowhere is said to match nothing.

    Exit code: 0 some runbook is named. 2 none matches, and all are listed. 1 any error, 64 wrong usage.
    """
    from .suggest_command import suggest_runbooks

    sys.exit(suggest_runbooks(None if files else connect(obj, where), " ".join(words), files=files, output=output))


@cli.command()
@click.argument("name", required=False, metavar="[RUNBOOK]")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@kube_options
@click.pass_obj
def runbooks(obj: Where, /, name: str | None, output: str, **where: Any) -> None:
    """Show which runbooks can be used, when they were tried and reviewed last, and what their owners owe.

    Every ClusterRunbook and the namespace's Runbooks. With RUNBOOK, that one with its newest report: what was tried,
    what failed, what could not be told, and who reviewed it when.

    Exit code: 0, or 1 for any error, 64 for wrong usage.
    """
    from .runbooks_command import show_runbooks

    show_runbooks(connect(obj, where), name, output=output)


@cli.command()
@click.argument("action", required=False)
def explain(action: str | None) -> None:
    """Explain an ACTION of the catalogue; without one, list them all.

    Exit code: 0, or 1 where there is no such action, 64 for wrong usage.
    """
    from .explain_command import explain_action

    explain_action(action)


@cli.command("iam-policy")
@click.argument("runbooks", nargs=-1, metavar="[RUNBOOK FILE]...")
@click.option(
    "--role",
    required=True,
    type=click.Choice(["read", "remediation", "operator", "trust"]),
    help="read: what checks and fixes read. remediation: what fixes call, on what the grant lists. operator: the "
    "operator's own identity, which may only assume. trust: who may assume the two roles.",
)
@click.option(
    "--grant", "grants", multiple=True, metavar="FILE", help="An ActionGrant's file, or its name in the cluster."
)
@click.option("--principal", metavar="ARN", help="For trust: the operator's own identity.")
@kube_options
@click.pass_obj
def iam_policy(
    obj: Where, /, runbooks: tuple[str, ...], role: str, grants: tuple[str, ...], principal: str | None, **where: Any
) -> None:
    """Print the least IAM policy, as JSON, that runbooks need under a grant.

    Without files, of every runbook and grant in the cluster. What the policy leaves out is said on stderr.

    Exit code: 0, or 1 for any error, 64 for wrong usage.
    """
    if (role == "trust") != (principal is not None):
        raise click.UsageError("--role trust names the operator's identity with --principal, and no other role does")
    from .iam_policy_command import print_policy

    print_policy(lambda: connect(obj, where), role, runbooks, grants, principal)


def _halting(name: str, text: str) -> None:
    @cli.command(name, help=text)
    @click.argument("grants", nargs=-1, metavar="[GRANT]...")
    @click.option("--all", "every", is_flag=True, help="Every ActionGrant of the cluster.")
    @click.option("--reason", required=name == "halt", metavar="TEXT", help="Why; shown wherever it blocks.")
    @kube_options
    @click.pass_obj
    def halting(obj: Where, /, grants: tuple[str, ...], every: bool, reason: str | None, **where: Any) -> None:
        if bool(grants) == every:
            raise click.UsageError("name the grants, or say --all: kubectl get actiongrants")
        from .halt_command import suspend

        sys.exit(suspend(connect(obj, where), grants, reason=reason if name == "halt" else None))


_halting(
    "halt",
    """Stop all changes under these GRANTs: calls in flight end, and nothing new begins. Reading goes on.

    Exit code: 0 all of them are suspended. 1 any error: the others were tried all the same. 64 wrong usage.
    """,
)
_halting(
    "unhalt",
    """Let changes begin again under these GRANTs.

    Exit code: 0 none of them is suspended. 1 any error: the others were tried all the same. 64 wrong usage.
    """,
)


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
        from .errors import CommandError

        if not isinstance(error, CommandError):
            raise
        click.echo(f"error: {error}", err=True)
        for line in error.hint.splitlines():
            click.echo(f"  {line}", err=True)
        sys.exit(EXIT_ERROR)
    sys.exit(result if isinstance(result, int) else 0)
