"""What a printed plan says of what was done already, of secrets, and of what it can't write; `tests/shop` runs one."""

import os
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from incident_operator.cli.script import ScriptError, script, source_of
from tests.cli.conftest import Command
from tests.cli.fake_api import FakeApi
from tests.cli.story import PLAN, entry, plan, run
from tests.cli.test_say import finish

RUN = "inc-2024-0001"


def lines(text: str, start: str) -> list[str]:
    """Return the lines that begin so."""
    return [line for line in text.splitlines() if line.startswith(start)]


def calls(**call: Any) -> dict[str, Any]:
    """Return the spec of a plan with one call to RDS."""
    values = {
        "service": "rds",
        "operation": "modify_db_instance",
        "arguments": {"DBInstanceIdentifier": "shop"},
        "repeat": "Absolute",
        "timeout": "10s",
        **call,
    }
    return {"calls": [values]}


def test_the_lines_are_bash_and_the_undo_is_a_comment() -> None:
    """Every line parses; nothing of the undo would run."""
    text = script(plan(), undo=False)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert len(lines(text, "aws iam set-default-policy-version")) == 1
    assert len(lines(text, "# aws iam set-default-policy-version")) == 1
    assert lines(script(plan(), undo=True), "aws ") == [
        "aws iam set-default-policy-version --cli-input-json "
        '\'{"PolicyArn": "arn:aws:iam::123456789012:policy/BirthdayServiceAccess", "VersionId": "v2"}\' '
        "--region us-east-1"
    ]


def test_what_the_operator_has_done_is_not_done_again() -> None:
    """Its answer stands in a variable for the calls after it."""
    made = entry(0, "Succeeded", 4, result={"PolicyVersion.VersionId": "v3"})
    text = script(plan("Applying", calls=[made]), undo=False)
    assert "RESULT_1_PolicyVersion_VersionId=v3" in text.splitlines()
    assert lines(text, "ANSWER_1=") == []
    assert "# The operator has made this call (Succeeded at 2026-01-15T14:30:05.000Z):" in text


def test_an_answer_that_the_journal_lacks_is_asked_for() -> None:
    """The script stops and says what to set."""
    text = script(plan("Applying", calls=[entry(0, "Observed", 4)]), undo=False)
    shell = "aws() { echo 123456789012; }\n" + text
    done = subprocess.run(["bash"], input=shell, text=True, capture_output=True, check=False)
    assert done.returncode != 0
    assert "set it to PolicyVersion.VersionId in the answer of call 1" in done.stderr


@pytest.mark.parametrize(("repeat", "made"), [("Once", 0), ("Absolute", 1)])
def test_an_interrupted_call_is_looked_at_first(repeat: str, made: int) -> None:
    """One that must not be made twice stays a comment."""
    text = script(plan("Unknown", spec=calls(repeat=repeat), calls=[entry(0, "Unknown", 4)]), undo=False)
    assert "look whether it took effect" in text
    assert len(lines(text, "aws rds modify-db-instance")) == made


def test_an_instant_is_asked_of_the_shell_and_a_name_is_the_plans_own() -> None:
    """Counted from when the line runs, by GNU's date or BSD's; the name is the one that the operator would give."""
    spec = calls(
        service="autoscaling",
        operation="put_scheduled_update_group_action",
        arguments={
            "AutoScalingGroupName": "web",
            "ScheduledActionName": {"fromPlan": {"prefix": "restore-"}},
            "StartTime": {"fromNow": {"wait": "10m"}},
            "DesiredCapacity": 3,
        },
    )
    made = plan(spec=spec)
    text = script(made, undo=False)
    (set_,) = lines(text, "IN_600_SECONDS=")
    shell = f"BEFORE=$(date -u +%s)\n{set_}\necho $BEFORE $IN_600_SECONDS $(date -u +%s)"
    before, said, after = subprocess.run(
        ["bash"], input=shell, text=True, capture_output=True, check=True
    ).stdout.split()
    assert int(before) <= datetime.fromisoformat(said).timestamp() - 600 <= int(after)
    (line,) = lines(text, "aws autoscaling put-scheduled-update-group-action")
    assert f'"ScheduledActionName": "restore-{made.metadata.uid}"' in line
    assert '$(json "$IN_600_SECONDS")' in line


def test_a_secret_is_named_and_never_printed() -> None:
    """A person puts it into a variable; what looks like one is refused."""
    marker = {"secretKeyRef": {"name": "shop-db", "key": "password"}}
    arguments = {"DBInstanceIdentifier": "shop", "MasterUserPassword": marker}
    text = script(plan(spec=calls(arguments=arguments)), undo=False)
    assert "# Key password of Secret shop-db in namespace shopsmart" in text
    assert '"MasterUserPassword": \'"$(json "$SECRET_SHOP_DB_PASSWORD")"\'' in text
    with pytest.raises(ScriptError, match="looks like a secret"):
        script(plan(spec=calls(arguments={**arguments, "MasterUserPassword": "hunter2hunter2"})), undo=False)


def test_values_reach_the_command_as_they_are(tmp_path: Path) -> None:
    """Quotes, dollars and backslashes of a plan and of an answer are no shell."""
    hostile = 'it\'s $(touch broken) \\ "q" `x`'
    first = {
        "service": "rds",
        "operation": "create_db_snapshot",
        "arguments": {"DBInstanceIdentifier": "shop", "DBSnapshotIdentifier": hostile},
        "repeat": "Absolute",
        "timeout": "10s",
    }
    second = {
        **first,
        "operation": "modify_db_instance",
        "arguments": {
            "DBInstanceIdentifier": {"fromResult": {"call": 0, "path": "DBSnapshot.DBInstanceIdentifier"}},
            "AllocatedStorage": {"fromResult": {"call": 0, "path": "DBSnapshot.AllocatedStorage"}},
        },
    }
    text = script(plan(spec={"calls": [first, second]}), undo=False)
    shim = tmp_path / "aws"
    answer = 'a\\\\"b\\t20'
    shim.write_text(
        '#!/bin/bash\nprintf "%s\\0" "$@" >> "$OUT"\n'
        f"case $1 in sts) echo 123456789012;; *) printf '{answer}\\n';; esac\n"
    )
    shim.chmod(0o700)
    out = tmp_path / "out"
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "OUT": str(out)}
    subprocess.run(["bash"], input=text, text=True, env=environment, cwd=tmp_path, check=True)
    given = [yaml.safe_load(word) for word in out.read_text().split("\0") if word.startswith("{")]
    assert given == [
        {"DBInstanceIdentifier": "shop", "DBSnapshotIdentifier": hostile},
        {"DBInstanceIdentifier": 'a\\"b', "AllocatedStorage": 20},
    ]
    assert not (tmp_path / "broken").exists()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"operation": "modify_everything"}, "the AWS API rds has no operation 'modify_everything'"),
        ({"service": "postgrez"}, "postgrez has no command line that this version can write"),
        ({"arguments": {"DBInstance": "shop"}}, "rds modify_db_instance does not take these arguments"),
    ],
)
def test_what_the_api_does_not_take_is_not_printed(call: dict[str, Any], said: str) -> None:
    """The service's own model decides."""
    with pytest.raises(ScriptError, match=said):
        script(plan(spec=calls(**call)), undo=False)


@pytest.mark.parametrize(
    ("service", "operation", "path", "source"),
    [
        ("lambda", "get_alias", "RevisionId", "RevisionId"),
        ("iam", "get_policy", "DefaultVersionId", "Policy.DefaultVersionId"),
        ("dynamodb", "describe_table", "status", "Table.TableStatus"),
        ("iam", "get_role", "Arn", "Role.Arn"),
        ("cloudtrail", "lookup_events", "name", None),
    ],
)
def test_a_read_asks_for_where_the_projection_takes_it_from(
    service: str, operation: str, path: str, source: str | None
) -> None:
    """The catalogue's reads keep parts of an answer; the command line sees the whole."""
    assert source_of(service, operation, path) == source


def test_a_runs_plan_is_printed_without_the_operator(api: FakeApi, command: Command, tmp_path: Path) -> None:
    """From the API server, or from what was saved; the two are the same."""
    api.put(run("diagnosed"), plan())
    code, out, _ = finish(command("script", RUN))
    assert (code, out) == (0, script(plan(), undo=False))
    saved = tmp_path / "saved.yaml"
    saved.write_text(finish(command("plan", RUN, "-o", "yaml"))[1])
    assert finish(command("script", "-f", str(saved)))[1] == out
    assert finish(command("script", "-f", "-"), saved.read_text())[1] == out


def test_of_several_fixes_each_is_listed(api: FakeApi, command: Command) -> None:
    """What nobody would do any more is not among them."""
    other = plan(name=f"{PLAN}x", spec={"fix": "rollBack", "title": "move LIVE back to 4"})
    api.put(run("diagnosed"), plan(), other, plan("Expired", name=f"{PLAN}y", spec={"fix": "old"}))
    code, _, err = finish(command("script", RUN))
    assert (code, err) == (
        1,
        "error: there are plans of 2 fixes: say which\n"
        f"  kubectl incident script -n shopsmart {RUN} --fix restoreAccess    "
        "# set BirthdayServiceAccess back to version v1\n"
        f"  kubectl incident script -n shopsmart {RUN} --fix rollBack    # move LIVE back to 4\n",
    )
    assert "# move LIVE back to 4" in finish(command("script", RUN, "--fix", "rollBack"))[1]


def test_a_run_or_a_file_that_is_not_there_is_told(api: FakeApi, command: Command) -> None:
    """And one of the two must be named."""
    api.put(run("diagnosed"))
    assert "there are: inc-2024-0001" in finish(command("script", "inc-2024-001"))[2]
    assert f"error: run {RUN} has no plan" in finish(command("script", RUN))[2]
    assert "nope.yaml can't be read" in finish(command("script", "-f", "nope.yaml"))[2]
    assert finish(command("script"))[0] == 64
