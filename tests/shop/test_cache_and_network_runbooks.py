"""The runbooks for cache and network can be run: all they name is known, and the steps are the document's."""

from pathlib import Path

import pytest
import yaml

from incident_operator.actions.catalogue import infos
from incident_operator.api.runbook import ClusterRunbook
from incident_operator.core.runbook import validate

FOLDER = Path(__file__).parents[2] / "manifests/runbooks"
STEPS = {
    "cache-performance": [("Cache Cluster Status", 2), ("Connection Testing", 5), ("Cache Failover", 10)],
    "network-connectivity": [("Network Path Analysis", 5), ("Connectivity Testing", 10)],
}
TICKETS = {"cache-performance": ["INC-2023-1654"], "network-connectivity": []}


@pytest.mark.parametrize("name", list(STEPS))
def test_a_runbook_is_valid_and_the_documents(name: str) -> None:
    """No problems; titles, minutes and tickets as written there."""
    spec = ClusterRunbook.model_validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text())).spec
    assert validate(spec, infos()) == ()
    steps = [(s.title, s.expected_by.total_seconds() / 60) for s in spec.steps if s.expected_by is not None]
    assert steps == STEPS[name]
    assert [h.ticket for h in spec.history] == TICKETS[name]


@pytest.mark.parametrize("name", list(STEPS))
def test_nothing_of_the_shop_is_in_the_procedure(name: str) -> None:
    """Names of the shop stand in examples only."""
    spec = ClusterRunbook.model_validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text())).spec
    procedure = str(spec.model_copy(update={"symptoms": (), "history": (), "description": None}))
    assert "shopsmart" not in procedure.lower()
