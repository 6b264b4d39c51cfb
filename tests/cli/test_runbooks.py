"""`kubectl incident runbooks`: what is known of each, how old it is, and what is not known."""

import json
from datetime import timedelta
from typing import Any

from incident_operator.api.meta import Metadata
from incident_operator.api.run import CheckState, CheckStatus
from incident_operator.api.runbook import ClusterRunbook, Runbook, UpdateReason
from incident_operator.cli.runbooks_command import page, table
from incident_operator.core.maintenance import RunbookView, Tried, decide_runbook, report, with_update_due
from tests.builders import NOW, a_runbook
from tests.cli.conftest import Command
from tests.cli.fake_api import FakeApi
from tests.cli.test_say import finish

DAY = timedelta(days=1)
REVIEW = {"by": "Primary", "at": NOW - 12 * DAY, "revision": "crbk-lambda-failures-0123456789"}
MAINTENANCE = {"owner": "platform", "reviewEvery": "90d", "reviews": [REVIEW]}
ERROR = CheckStatus(name="users", action="lambda.invocations", state=CheckState.ERROR, reason="AccessDenied")


def kept(*, due: int = 0, tried: Tried | None = None, **spec: Any) -> ClusterRunbook:
    """Return the cluster's runbook as it was three days ago, by the operator's own decision."""
    metadata = Metadata(name="lambda-failures", uid="uid", creation_timestamp=NOW - 20 * DAY)
    runbook = ClusterRunbook(metadata=metadata, spec=a_runbook(**{"maintenance": MAINTENANCE, **spec}))
    at = NOW - 3 * DAY
    status = runbook.status
    for number in range(due):
        status = with_update_due(status, 1, UpdateReason.INCIDENT_ENDED, f"shop/run-{number}", at)
    view = RunbookView(
        metadata=metadata,
        spec=runbook.spec,
        status=status,
        revision="crbk-lambda-failures-0123456789",
        since=at,
        made=report(runbook.spec, (), tried, 1, at),
    )
    return runbook.model_copy(update={"status": decide_runbook(view, at).status})


def new() -> Runbook:
    """Return a namespace's runbook that nobody has looked at yet."""
    return Runbook(metadata=Metadata(name="buckets", namespace="shopsmart"), spec=a_runbook(title="S3 Access Issues"))


def test_the_table_says_what_is_known_and_what_is_not(api: FakeApi, command: Command) -> None:
    """Unknown is never shown as well; ages are as of now."""
    assert list(table([kept(due=2, tried=Tried(namespace="shop", checks=(ERROR,))), kept(), new()], NOW)) == [
        "RUNBOOK            READY  VALIDATED                FRESH         UPDATE-DUE                 OWNER",
        "lambda-failures    True   False CheckError 3d ago  True 12d ago  IncidentEnded 3d ago (+1)  platform",
        "lambda-failures    True   Unknown NoTrial 3d ago   True 12d ago  -                          platform",
        "shopsmart/buckets  -      -                        -             -                          -",
    ]
    api.put(kept(), new())
    shown = "kubectl incident runbooks"
    code, out, err = finish(command(*shown.split()[2:]))
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["RUNBOOK", "lambda-failures", "shopsmart/buckets"]


def test_one_runbook_is_shown_with_its_report(api: FakeApi, command: Command) -> None:
    """What was tried, what failed, and who reviewed it."""
    api.put(kept(tried=Tried(namespace="shop", checks=(ERROR,))), new())
    shown = "kubectl incident runbooks lambda-failures"
    code, out, _ = finish(command(*shown.split()[2:]))
    assert code == 0
    assert "S3 Access Issues" not in out
    lines = list(page(kept(due=1, tried=Tried(namespace="shop", checks=(ERROR,))), NOW))
    assert lines[0] == "ClusterRunbook lambda-failures: Lambda Function Failures"
    assert lines[2] == "Validated  False CheckError: 2026-01-12 14:30Z: Checks users: AccessDenied"
    assert "report of 3d ago:" in lines
    assert "  Checks       Failed     1  users: AccessDenied" in lines
    assert "update due since 3d ago: IncidentEnded shop/run-0" in lines
    assert lines[-2:] == ["1 review on the record:", "  2026-01-03 Primary: crbk-lambda-failures-0123456789"]


def test_json_is_for_programs(api: FakeApi, command: Command) -> None:
    """The status as stored, without what only the operator needs."""
    api.put(kept(), new())
    code, out, _ = finish(command("runbooks", "-o", "json"))
    first, second = json.loads(out)
    assert code == 0
    assert (first["kind"], first["name"], first["owner"]) == ("ClusterRunbook", "lambda-failures", "platform")
    assert {c["type"] for c in first["conditions"]} == {"Ready", "Validated", "Fresh"}
    assert first["validation"]["parts"][0] == {"part": "Schema", "result": "Passed", "count": 0, "message": ""}
    assert second == {"kind": "Runbook", "name": "buckets", "namespace": "shopsmart", "conditions": [], "updateDue": []}


def test_where_there_is_none_it_says_how_to_get_one(api: FakeApi, command: Command) -> None:
    """And a name that is not there is told from a cluster without any."""
    code, _, err = finish(command("runbooks"))
    assert (code, err.splitlines()[0]) == (1, "error: there is no runbook in the cluster and namespace shopsmart")
    api.put(new())
    code, _, err = finish(command("runbooks", "lambda"))
    assert (code, "there is no ClusterRunbook 'lambda'" in err) == (1, True)
    api.refusal = (403, 'User "mallory" cannot list resource "runbooks"')
    code, _, err = finish(command("runbooks"))
    assert (code, 'User "mallory" cannot list' in err) == (1, True)


def test_an_archived_runbook_is_not_suggested(api: FakeApi, command: Command) -> None:
    """It is said to be left out."""
    api.put(kept(maintenance={"owner": "platform", "archived": {"reason": "gone"}}), new())
    code, out, err = finish(command("suggest", "lambda"))
    assert (code, err) == (0, "left out: ClusterRunbook lambda-failures: Lambda Function Failures is archived\n")
    assert "shopsmart/buckets" in out
    assert "lambda-failures" not in out
