"""docs/channels.md explains every reason of a delivery and every key of a Secret, and its examples are taken."""

import re

import pytest
import yaml

from incident_operator.adapters.connections import SECRET_TYPE
from incident_operator.adapters.notify import Reason, State, email, pagerduty, slack, statuspage, webhook
from incident_operator.adapters.notify.delivery import checked
from incident_operator.api.escalation import Channel, ChannelType
from incident_operator.core.heard import NotHeard
from incident_operator.core.notice import Occasion
from incident_operator.core.notice import pagerduty as event_of
from incident_operator.runtime.hooks import PAGERDUTY_SECRET, SLACK_SECRET, STATUSES
from tests.core.test_notice import a_notice
from tests.repo.files import ROOT

_PAGE = (ROOT / "docs" / "channels.md").read_text()
_MODULES = {
    ChannelType.SLACK: slack,
    ChannelType.PAGER_DUTY: pagerduty,
    ChannelType.EMAIL: email,
    ChannelType.WEBHOOK: webhook,
    ChannelType.STATUS_PAGE: statuspage,
}


def _rows(text: str, header: str) -> dict[str, list[str]]:
    """Return the rows of the table whose header row begins so: first cell → the others."""
    after = text.split(f"| {header} |", 1)[1].split("\n\n", 1)[0]
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in after.splitlines()[2:]]
    return {row[0]: row[1:] for row in rows}


def _section(type_: ChannelType) -> str:
    return re.split(r"\n##+ ", _PAGE.split(f"\n### {type_}\n", 1)[1], maxsplit=1)[0]


def test_every_reason_is_explained_with_its_state() -> None:
    """And none that can't be given."""
    rows = _rows(_PAGE, "reason | state | meaning")
    assert set(rows) == set(Reason)
    assert {cells[0] for cells in rows.values()} == set(State)


def test_a_reason_is_always_of_the_state_that_is_told() -> None:
    """Read from the source: `retry` and `failed` name their reasons."""
    sources = "\n".join(path.read_text() for path in (ROOT / "operator/incident_operator/adapters/notify").glob("*.py"))
    rows = _rows(_PAGE, "reason | state | meaning")
    given = {
        (Reason[name], {"retry": "Retry", "failed": "Failed"}[function])
        for function, name in re.findall(r"\b(retry|failed)\(Reason\.([A-Z_]+)", sources)
    }
    assert len(given) > 12
    assert {(reason, rows[reason][0]) for reason, _ in given} == given


@pytest.mark.parametrize("type_", ChannelType)
def test_the_keys_of_each_secret_are_those_that_are_taken(type_: ChannelType) -> None:
    """With which are needed."""
    module = _MODULES[type_]
    rows = _rows(_section(type_), "key | needed | meaning")
    told = {key: cells[0] == "yes" for keys, cells in rows.items() for key in keys.split(", ")}
    assert {key for key, needed in told.items() if needed} == module.REQUIRED
    assert {key for key, needed in told.items() if not needed} | {"ca.crt"} == module.OPTIONAL


@pytest.mark.parametrize("type_", ChannelType)
def test_the_example_of_each_secret_is_taken(type_: ChannelType) -> None:
    """Of our type, with all that is needed, under the name that the example of channels has."""
    (block,) = re.findall(r"```yaml\n(.*?)```", _section(type_), re.DOTALL)
    secret = yaml.safe_load(block)
    assert secret["type"] == SECRET_TYPE
    assert checked(secret["stringData"], _MODULES[type_].REQUIRED, _MODULES[type_].OPTIONAL)
    shown = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", _PAGE, re.DOTALL)[0])["channels"]
    channels = {Channel.model_validate(channel).type: channel["secretRef"]["name"] for channel in shown}
    assert channels[type_] == secret["metadata"]["name"]


def test_what_pagerduty_is_sent_is_what_the_table_says() -> None:
    """Each occasion is in one row."""
    rows = _rows(_section(ChannelType.PAGER_DUTY), "occasion | event")
    told = {occasion: cells[0].split(":")[0] for names, cells in rows.items() for occasion in names.split(", ")}
    sent = {str(o): (event_of(a_notice(occasion=o), "k") or {}).get("event_action", "none") for o in Occasion}
    assert told == sent


def test_every_answer_to_a_hook_is_explained_with_its_status() -> None:
    """What a provider's log shows can be looked up."""
    rows = _rows(_PAGE, "answer | status | meaning")
    assert {answer: int(cells[0]) for answer, cells in rows.items()} == {
        str(answer): STATUSES.get(answer, 200) for answer in NotHeard
    }


def test_the_environment_is_the_one_that_is_read() -> None:
    """By the names of the hooks' secrets."""
    block = next(b for b in re.findall(r"```yaml\n(.*?)```", _PAGE, re.DOTALL) if b.startswith("env:"))
    assert {entry["name"] for entry in yaml.safe_load(block)["env"]} == {SLACK_SECRET, PAGERDUTY_SECRET}
