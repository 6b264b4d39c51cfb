"""`kubectl incident who`: what is printed of a run and a policy, and whose policy it is."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from incident_operator.api.escalation import EscalationPolicy
from incident_operator.api.meta import Metadata
from incident_operator.api.run import IncidentRun
from incident_operator.cli.cluster import Cluster
from incident_operator.cli.who_command import document, lines, show_who, tell
from tests.cli.conftest import Command
from tests.cli.fake_api import FakeApi
from tests.cli.story import run
from tests.cli.test_say import finish
from tests.core.policies import a_policy, shipped

FRIDAY_NIGHT = datetime(2026, 1, 16, 22, tzinfo=UTC)
PAGE = """\
shopsmart/inc-2024-0001  P1  Birthday mails are not sent
policy    incident-system/default, UTC: whom it wants told; nothing is sent by this command
detected  Fri 2026-01-16 22:00Z (2h30m ago)
respond   by Fri 2026-01-16 23:00Z (1h30m ago)

ROLE                 STATE    FROM                                 RULE       CONTACT
On-call Engineer     engaged  Fri 2026-01-16 22:00Z (2h30m ago)    Immediate  Primary platform-oncall@company.com
Team Lead            engaged  Sat 2026-01-17 00:00Z (30m ago)      2h         none in the policy: add to spec.contacts
Engineering Manager  next     Sat 2026-01-17 02:00Z (in 1h30m)     4h         none in the policy: add to spec.contacts
VP Engineering       later    Sat 2026-01-17 09:00Z (in 8h30m)     NextDay    none in the policy: add to spec.contacts

Pages for On-call Engineer, until somebody acknowledges:
  Primary     from Fri 2026-01-16 22:00Z (2h30m ago), every 5m  Primary platform-oncall@company.com
  Secondary   from Fri 2026-01-16 22:10Z (2h20m ago), every 5m  Secondary backend-oncall@company.com
  Escalation  from Fri 2026-01-16 22:20Z (2h10m ago), every 5m  Escalation engineering-leads@company.com
  next page, if nobody has acknowledged: Escalation, Sat 2026-01-17 00:35Z (in 5m)
"""


class At:
    """A clock that stands."""

    def now(self) -> datetime:
        """Return half past midnight."""
        return datetime(2026, 1, 17, 0, 30, tzinfo=UTC)


def policy(namespace: str = "incident-system", **calendar: object) -> EscalationPolicy:
    """Return the shipped policy as it is stored in a namespace."""
    return EscalationPolicy(metadata=Metadata(name="default", namespace=namespace), spec=a_policy(**calendar))


def detected(stage: str = "diagnosing", **status: object) -> IncidentRun:
    """Return the story's run, detected on a Friday night."""
    raw = run(stage, **status).wire()
    raw["spec"]["incident"]["detectedAt"] = "2026-01-16T22:00:00Z"
    return IncidentRun.model_validate(raw)


def squeezed(text: str) -> list[str]:
    """Return lines without what only aligns them."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_page_of_an_incident_on_a_friday_night(
    api: FakeApi, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shipped policy; what is printed, word for word, and that the command prints it."""
    api.put(detected(), policy())
    cluster = Cluster(kubeconfig=str(api.kubeconfig(tmp_path)), context=None, namespace=None)
    show_who(cluster, "inc-2024-0001", output="table", clock=At())  # type: ignore[arg-type]
    assert squeezed(capsys.readouterr().out) == squeezed(PAGE)
    who = "kubectl incident who inc-2024-0001"
    code, out, err = finish(command(*who.split()[2:]))
    assert (code, err) == (0, "")
    assert "nothing is sent by this command" in out
    assert api.writes == []


def test_json_says_the_same(api: FakeApi, command: Command) -> None:
    """Instants as the API writes them, contacts as the policy has them."""
    api.put(detected(), policy())
    code, out, _ = finish(command("who", "inc-2024-0001", "-o", "json"))
    said = json.loads(out)
    assert (code, said["severity"], said["detectedAt"]) == (0, "P1", "2026-01-16T22:00:00.000Z")
    assert said["respondBy"] == "2026-01-16T23:00:00.000Z"
    # By now all of them are overdue.
    assert [e["role"] for e in said["engaged"]] == [role.name for role in shipped().spec.roles]
    assert (said["next"], said["upcoming"]) == (None, [])
    assert said["engaged"][0]["contacts"][0]["email"] == "platform-oncall@company.com"
    assert said["paging"]["nextIfUnacknowledged"]["contact"] == "Escalation"


def test_the_namespaces_own_policy_wins(api: FakeApi, command: Command) -> None:
    """And `-n` names the run's namespace as everywhere."""
    api.put(detected(), policy(), policy("shopsmart", zone="Europe/Berlin"))
    code, out, _ = finish(command("who", "inc-2024-0001", "-n", "shopsmart"))
    assert (code, "policy    shopsmart/default, Europe/Berlin" in out) == (0, True)


def test_without_a_policy_it_says_how_to_get_one(api: FakeApi, command: Command) -> None:
    """Both places are named, and the command to paste."""
    api.put(detected())
    code, _, err = finish(command("who", "inc-2024-0001"))
    assert code == 1
    assert "no EscalationPolicy default in namespace shopsmart or incident-system" in err
    assert "kubectl apply -n shopsmart -f manifests/base/escalation-policy.yaml" in err


def test_a_run_that_is_not_there_names_those_that_are(api: FakeApi, command: Command) -> None:
    """As every command."""
    api.put(detected(), policy())
    code, _, err = finish(command("who", "inc-2024-0002"))
    assert (code, "there are: inc-2024-0001" in err) == (1, True)


def test_a_zone_that_does_not_exist_is_an_error_of_one_line(api: FakeApi, command: Command) -> None:
    """With the command that mends it."""
    api.put(detected(), policy(zone="Mars/Olympus"))
    code, _, err = finish(command("who", "inc-2024-0001"))
    assert (code, err.splitlines()[0][:47]) == (1, "error: spec.timeZone: there is no time zone 'Ma")
    assert "kubectl edit escpol -n incident-system default" in err


def test_a_resolved_run_tells_nobody_else() -> None:
    """It is shown as it stood at its end."""
    ended = detected("resolved", finishedAt="2026-01-16T22:23:00Z")
    told = tell(ended, policy(), At().now())
    page = "\n".join(lines(told))
    assert "resolved  Fri 2026-01-16 22:23Z (now): as it stood then; nobody else has to be told" in page
    assert [line.split()[2:4] for line in page.splitlines() if "NextDay" in line] == [["not", "needed"]]
    assert "next page" not in page
    assert (document(told)["upcoming"], document(told)["paging"]["nextIfUnacknowledged"]) == ([], None)


def test_what_a_policy_says_commands_no_terminal() -> None:
    """Its texts are somebody else's."""
    spec = policy().spec
    role = spec.roles[0].model_copy(update={"name": "On-call\x1b[2J Engineer"})
    hostile = policy().model_copy(update={"spec": spec.model_copy(update={"roles": (role,), "paging": None})})
    assert "\x1b" not in "\n".join(lines(tell(detected(), hostile, At().now())))
