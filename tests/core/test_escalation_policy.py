"""The shipped policy is the document's: its tables, copied here by hand, word for word."""

import pytest

from incident_operator.api.meta import Severity, format_duration
from tests.core.policies import shipped

LEVELS = {
    "P0": ("Critical", "Complete service outage", "15 minutes", "Site down, payment processing failed"),
    "P1": ("High", "Major feature unavailable", "1 hour", "Search not working, user login issues"),
    "P2": ("Medium", "Performance degradation", "4 hours", "Slow page loads, intermittent errors"),
    "P3": ("Low", "Minor issues", "24 hours", "Cosmetic bugs, non-critical features"),
}
MATRIX = [
    ("On-call Engineer", "Immediate", "Immediate", "Normal hours", "Normal hours"),
    ("Team Lead", "30 min", "2 hours", "Next day", "Weekly review"),
    ("Engineering Manager", "1 hour", "4 hours", "Next day", "Weekly review"),
    ("VP Engineering", "2 hours", "Next day", "Weekly review", "Monthly review"),
]
#: How the document's words are written in a policy.
CELLS = {
    "Immediate": "Immediate",
    "Normal hours": "BusinessHours",
    "Next day": "NextDay",
    "Weekly review": "WeeklyReview",
    "Monthly review": "MonthlyReview",
    "30 min": "30m",
    "1 hour": "1h",
    "2 hours": "2h",
    "4 hours": "4h",
    "15 minutes": "15m",
    "24 hours": "1d",
}
ON_CALL = [
    ("Primary", "platform-oncall@company.com"),
    ("Secondary", "backend-oncall@company.com"),
    ("Escalation", "engineering-leads@company.com"),
]
VENDORS = {
    "AWS Support": "Enterprise Support Case",
    "DataDog": "support@datadoghq.com",
    "PagerDuty": "Emergency escalation available",
}
CHANNELS = {"Slack": "#incident-response", "Status Page": "status.shopsmart.com"}
CUSTOMER_SUPPORT = "support@shopsmart.com"


@pytest.mark.parametrize("severity", list(Severity))
def test_a_severity_is_the_documents_row(severity: Severity) -> None:
    """Title, description, response time and examples; the clock is decision 27's."""
    rule = shipped().spec.severities.rule(severity)
    title, description, response, examples = LEVELS[severity]
    assert (rule.title, rule.description, ", ".join(rule.examples)) == (title, description, examples)
    assert format_duration(rule.respond_within) == CELLS[response]
    assert rule.clock == ("WallClock" if severity in ("P0", "P1") else "BusinessHours")


def test_the_matrix_is_the_documents() -> None:
    """Every role in the document's order, every cell."""
    rows = [(role.name, *(role.engage.cell(s) for s in Severity)) for role in shipped().spec.roles]
    assert rows == [(name, *(CELLS[cell] for cell in cells)) for name, *cells in MATRIX]


def test_the_contacts_are_the_documents_and_no_others() -> None:
    """On call in the ladder's order, vendors, customer support."""
    spec = shipped().spec
    reached = {c.name: (str(c.kind), c.email or c.how) for c in spec.contacts}
    assert reached == {
        **{name: ("OnCall", address) for name, address in ON_CALL},
        **{name: ("Vendor", how) for name, how in VENDORS.items()},
        "Customer Support": ("CustomerSupport", CUSTOMER_SUPPORT),
    }
    assert spec.paging is not None
    assert [rung.contact for rung in spec.paging.rungs] == [name for name, _ in ON_CALL]
    assert {c.name: c.address for c in spec.channels} == CHANNELS
