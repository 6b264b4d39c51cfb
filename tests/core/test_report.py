"""The four monthly metrics: a quarter of 40 incidents computed by hand, and what holds of any quarter."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incident_operator.api.meta import Severity
from incident_operator.api.review import Classification, PostIncidentReview
from incident_operator.api.run import Resolution
from incident_operator.core.report import (
    Fact,
    Figures,
    Report,
    fact_of,
    figures,
    fold,
    parse_month,
    parse_quarter,
)
from incident_operator.core.report_text import report_markdown
from tests.core.quarter import INCIDENTS, OTHERS, reviews

QUARTER = parse_quarter("2026Q4")
AFTER = datetime(2027, 1, 4, 9, tzinfo=UTC)
P0, P1, P2, P3 = Severity
LAMBDA, DATABASE, ALB = "LambdaFailure", "DatabasePerformance", "AlbTargetHealth"


def minutes(count: float) -> timedelta:
    """Return so many minutes."""
    return timedelta(minutes=count)


def days(count: float) -> timedelta:
    """Return so many days."""
    return timedelta(days=count)


def the_quarter() -> Report:
    """Return the report of the quarter that was written by hand."""
    return fold(map(fact_of, reviews()), QUARTER, now=AFTER)


def by_name(report: Report) -> dict[str, Figures]:
    """Return the figures of each month, severity, type and of the whole, by what they are called."""
    found = {month.month: month.figures for month in report.months}
    found |= {str(group.severity): group.figures for group in report.by_severity}
    found |= {f"type {group.incident_type}": group.figures for group in report.by_incident_type}
    return {**found, report.period: report.figures}


#: Incidents, of them resolved, still open, had come back.
COUNTS = {
    # O01-O14; O09 is open; O13 had come back.
    "2026-10": (14, 13, 1, 1),
    # N01-N15; N07 and N15 are open; N06 had come back.
    "2026-11": (15, 13, 2, 1),
    # D01-D11; D11 is open; D06 had come back.
    "2026-12": (11, 10, 1, 1),
    # 14 + 15 + 11, 13 + 13 + 10, 1 + 2 + 1, 1 + 1 + 1
    "2026Q4": (40, 36, 4, 3),
    # O10 O11, N11 N12, D08
    "P0": (5, 5, 0, 0),
    # O01 O02 O03 O06 O07, N01 N02 N03 N04 N06 N07, D01 D02 D04; N07 is open
    "P1": (14, 13, 1, 1),
    # O04 O05 O08 O09, N05 N08 N09 N10 N13, D03 D05 D06 D10 D11; O09 and D11 are open
    "P2": (14, 12, 2, 1),
    # O12 O13 O14, N14 N15, D07; N15 is open
    "P3": (6, 5, 1, 1),
    # D09
    "None": (1, 1, 0, 0),
    # O01-O05, N01-N05, D01 D02 D03 D11; D11 is open
    f"type {LAMBDA}": (14, 13, 1, 0),
    # O06-O09, N06-N10, D04-D07; O09 and N07 are open
    f"type {DATABASE}": (13, 11, 2, 2),
    # O10-O14, N11-N15, D08 D09; N15 is open
    f"type {ALB}": (12, 11, 1, 1),
    # D10
    "type None": (1, 1, 0, 0),
}
#: MTTR: of how many incidents, the sum of their minutes. O14 is resolved, and nobody knows since when: 35 of 36.
REPAIRS = {
    # Lambda 20+28+42+60+90 = 240, database 30+25+120 = 175, ALB 15+45+240+180 = 480; mean 895 / 12 = 74.58
    "2026-10": (12, 895),
    # Lambda 10+50+35+29+56 = 180, database 66+100+80+40 = 286, ALB 12+18+64+220 = 314; mean 780 / 13 = 60
    "2026-11": (13, 780),
    # Lambda 22+18+50 = 90, database 27+73+90+300 = 490, ALB 20+30 = 50, D10 40; mean 670 / 10 = 67
    "2026-12": (10, 670),
    # 895 + 780 + 670 = 2345; mean 2345 / 35 = 67
    "2026Q4": (35, 2345),
    # 15+45 + 12+18 + 20 = 110; mean 22
    "P0": (5, 110),
    # 20+28+42+30+25 = 145, 10+50+35+29+66 = 190, 22+18+27 = 67; mean 402 / 13 = 30.92
    "P1": (13, 402),
    # 60+90+120 = 270, 56+100+80+40+64 = 340, 50+73+90+40 = 253; mean 863 / 12 = 71.92
    "P2": (12, 863),
    # 240+180 + 220 + 300 = 940; mean 940 / 4 = 235
    "P3": (4, 940),
    "None": (1, 30),
    # 240 + 180 + 90 = 510; mean 510 / 13 = 39.23
    f"type {LAMBDA}": (13, 510),
    # 175 + 286 + 490 = 951; mean 951 / 11 = 86.45
    f"type {DATABASE}": (11, 951),
    # 480 + 314 + 50 = 844; mean 844 / 10 = 84.4
    f"type {ALB}": (10, 844),
    "type None": (1, 40),
}
#: P1 in less than 30 minutes: how many, of how many, still open; and whether their mean is below 30 minutes.
P1_TARGETS = {
    # 20, 28, 25 of 20, 28, 42, 30, 25: exactly 30 is not less. Mean 145 / 5 = 29.
    "2026-10": (3, 5, 0, True),
    # 10, 29 of 10, 50, 35, 29, 66; N07 is open. Mean 190 / 5 = 38.
    "2026-11": (2, 5, 1, False),
    # 22, 18, 27. Mean 67 / 3 = 22.3.
    "2026-12": (3, 3, 0, True),
    # 3 + 2 + 3 of 5 + 5 + 3. Mean 402 / 13 = 30.9.
    "2026Q4": (8, 13, 1, False),
}
#: MTBF: from the first detection to the last, and how many times between detections that are.
FAILURES = {
    "2026-10": (days(26), 13),  # O01 10-02 to O14 10-28: 2 days each
    "2026-11": (days(28), 14),  # N01 11-01 to N15 11-29: 2 days each
    "2026-12": (days(30), 10),  # D01 12-01 to D11 12-31: 3 days each
    "2026Q4": (days(90), 39),  # O01 10-02 to D11 12-31: 29 + 30 + 31 = 90 days
    f"type {LAMBDA}": (days(90), 13),  # O01 10-02 to D11 12-31
    f"type {DATABASE}": (days(67), 12),  # O06 10-11 to D07 12-17: 20 + 30 + 17 = 67 days
    f"type {ALB}": (days(62), 11),  # O10 10-20 to D09 12-21: 11 + 30 + 21 = 62 days
}
#: Runbooks: brought back by one, without anybody's agreement, of incidents on which a run has ended.
RUNBOOKS = {
    # O01 O02 O03 O05 O06 O10 O11 O13 O14; alone O01 O03 O10; of all 14
    "2026-10": (9, 3, 14),
    # N01 N03 N04 N05 N06 N08 N10 N11 N14; alone N01 N04 N10 N11; not of N12 (no run) and N15 (its run has not ended)
    "2026-11": (9, 4, 13),
    # D01 D02 D03 D04 D06 D08 D09; alone D01 D02 D08; of all 11
    "2026-12": (7, 3, 11),
    # 9 + 9 + 7, 3 + 4 + 3, 14 + 13 + 11
    "2026Q4": (25, 10, 38),
}
#: False positives: F01 F02, F03, F04 F05; of these and the incidents.
FALSE = {"2026-10": (2, 16), "2026-11": (1, 16), "2026-12": (2, 13), "2026Q4": (5, 45)}


def test_the_table_is_what_it_says() -> None:
    """40 incidents; 5 false positives, 4 duplicates, 3 drills; 2 outside."""
    report = the_quarter()
    assert len(INCIDENTS.split()) == 40 * 7
    assert len(OTHERS.split()) == 14 * 7
    assert (report.reviews, report.drills, report.duplicates) == (40 + 5 + 3 + 4, 3, 4)
    assert (report.period, report.time_zone, report.over) == ("2026Q4", "UTC", True)


def test_incidents_are_counted_as_by_hand() -> None:
    """Open ones apart, and those that came back once."""
    found = {name: (f.incidents, f.resolved, f.open, f.reopened) for name, f in by_name(the_quarter()).items()}
    assert found == COUNTS


def test_mttr_is_as_computed_by_hand() -> None:
    """From detection to the last restoration, of those where it is known."""
    found = by_name(the_quarter())
    assert {name: (f.repair.incidents, f.repair.total) for name, f in found.items()} == {
        name: (count, minutes(total)) for name, (count, total) in REPAIRS.items()
    }
    means = {name: f.repair.mean for name, f in found.items()}
    assert means == {name: minutes(total) / count for name, (count, total) in REPAIRS.items()}
    assert means["2026Q4"] == minutes(67)
    assert means["2026-11"] == minutes(60)


@pytest.mark.parametrize(("period", "expected"), P1_TARGETS.items())
def test_the_p1_target_is_as_computed_by_hand(period: str, expected: tuple[int, int, int, bool]) -> None:
    """Less than 30 minutes is less: 30 is not."""
    p1 = by_name(the_quarter())[period].p1
    within, of, open_, met = expected
    assert (p1.within, p1.repair.incidents, p1.open, p1.met, p1.unknown) == (within, of, open_, met, 0)
    assert p1.share == within / of


def test_mtbf_is_as_computed_by_hand() -> None:
    """From detection to detection; a type with one incident has none."""
    found = {name: figures.failures.mean for name, figures in by_name(the_quarter()).items()}
    assert {name: found[name] for name in FAILURES} == {name: span / n for name, (span, n) in FAILURES.items()}
    assert found["2026-10"] == days(2)
    assert found["type None"] is None


@pytest.mark.parametrize(("period", "expected"), RUNBOOKS.items())
def test_runbook_effectiveness_is_as_computed_by_hand(period: str, expected: tuple[int, int, int]) -> None:
    """Of the incidents on which a run has ended, also of those that are still open."""
    runbook = by_name(the_quarter())[period].runbook
    assert (runbook.by_runbook, runbook.automatic, runbook.ran) == expected
    assert runbook.share == expected[0] / expected[2]


@pytest.mark.parametrize(("period", "expected"), FALSE.items())
def test_the_false_positive_rate_is_as_computed_by_hand(period: str, expected: tuple[int, int]) -> None:
    """Of all alerts that were no duplicates and no drills."""
    found = by_name(the_quarter())[period]
    assert (found.false_positives, found.incidents + found.false_positives) == expected
    assert found.false_positive_rate == expected[0] / expected[1]


def test_each_month_is_split_by_severity_and_type() -> None:
    """December: in order, what is not known last."""
    (december,) = (month for month in the_quarter().months if month.month == "2026-12")
    rows = [(g.severity, g.incident_type, g.figures.incidents, g.figures.repair.total) for g in december.groups]
    assert rows == [
        (P0, ALB, 1, minutes(20)),  # D08
        (P1, DATABASE, 1, minutes(27)),  # D04
        (P1, LAMBDA, 2, minutes(40)),  # D01 D02: 22 + 18
        (P2, DATABASE, 2, minutes(163)),  # D05 D06: 73 + 90; and F04, no incident
        (P2, LAMBDA, 2, minutes(50)),  # D03, D11 open; and F05
        (P2, None, 1, minutes(40)),  # D10
        (P3, DATABASE, 1, minutes(300)),  # D07
        (None, ALB, 1, minutes(30)),  # D09
    ]
    assert [g.figures.false_positives for g in december.groups] == [0, 0, 0, 1, 1, 0, 0, 0]


def test_what_is_not_known_is_counted_and_told() -> None:
    """D09 has no severity, D10 no type, O14 no restoration; the page says what to write."""
    report = the_quarter()
    assert dict(report.figures.unknown) == {"severity": 1, "incident_type": 1, "restoration": 1, "resolved_by": 0}
    page = report_markdown(report, place="All namespaces")
    assert page.split("## Not known\n\n")[1].splitlines() == [
        "- 1 incident: no severity; write spec.severity of the review",
        "- 1 incident: no incident type: their runs have not ended, or their runbook is gone",
        "- 1 incident: resolved, and nobody knows since when: in no MTTR; write spec.duration of the review",
    ]


def test_open_incidents_are_named() -> None:
    """O09, N07, N15 and D11, the oldest first; of very many the first 50, and how many more there are."""
    report = the_quarter()
    page = report_markdown(report, place="All namespaces")
    section = page.split("## Open\n\n")[1].split("\n\n## ")[0]
    assert squeezed(section) == [
        "In no MTTR. Once users are well, and no run has seen it: write spec.duration of the review.",
        "",
        "| Review | Detected | Severity | Incident type |",
        "| shop/inc-o09 | 2026-10-18 00:00 UTC | P2 | DatabasePerformance |",
        "| shop/inc-n07 | 2026-11-13 00:00 UTC | P1 | DatabasePerformance |",
        "| shop/inc-n15 | 2026-11-29 00:00 UTC | P3 | AlbTargetHealth |",
        "| shop/inc-d11 | 2026-12-31 00:00 UTC | P2 | LambdaFailure |",
    ]
    many = [a_fact(review=f"shop/{n}", resolved=False, restored_after=None, severity=None) for n in range(53)]
    shown = report_markdown(fold(many, QUARTER, now=AFTER), place="x")
    assert (shown.count("| not known "), "\nAnd 3 later ones.\n" in shown) == (50 + 2, True)
    assert "## Open" not in report_markdown(fold([a_fact()], QUARTER, now=AFTER), place="x")


SUMMARY = """\
# Incident metrics: 2026Q4

All namespaces; months in UTC; read 2027-01-04 09:00 UTC. 52 reviews in the period; not counted: 3 drills, 4 duplicates.

| Metric | 2026-10 | 2026-11 | 2026-12 | 2026Q4 |
| Incidents | 14: 13 resolved, 1 had come back, 1 open | 15: 13 resolved, 1 had come back, 2 open \
| 11: 10 resolved, 1 had come back, 1 open | 40: 36 resolved, 3 had come back, 4 open |
| MTTR | 1 h 14 min (of 12) | 1 h (of 13) | 1 h 7 min (of 10) | 1 h 7 min (of 35) |
| MTTR of P1, target < 30 minutes | 29 min: met | 38 min: missed | 22 min 20 s: met | 30 min 55 s: missed |
| P1 in less than 30 minutes | 60% (3 of 5) | 40% (2 of 5), 1 open | 100% (3 of 3) | 62% (8 of 13), 1 open |
| MTBF | 2 d | 2 d | 3 d | 2 d 7 h |
| Runbook effectiveness | 64% (9 of 14) | 69% (9 of 13) | 64% (7 of 11) | 66% (25 of 38) |
| Without anybody's agreement | 3 of 14 | 4 of 13 | 3 of 11 | 10 of 38 |
| False-positive rate | 12% (2 of 16) | 6% (1 of 16) | 15% (2 of 13) | 11% (5 of 45) |
"""


def squeezed(text: str) -> list[str]:
    """Return lines without what only aligns them, and without the lines below heads of tables."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return [line for line in lines if set(line) - set("|- ") or not line]


def test_the_page_says_what_was_computed() -> None:
    """The summary word for word, and a line of each table below it."""
    page = report_markdown(the_quarter(), place="All namespaces")
    lines = squeezed(page)
    assert lines[: len(squeezed(SUMMARY))] == squeezed(SUMMARY)
    for begin in (
        "| P3 | 6 | 5 | 1 | 3 h 55 min (of 4) | 10 d 14 h | 60% (3 of 5) | 14% (1 of 7) |",  # 53 d (10-25, 12-17) / 5
        "| AlbTargetHealth | 12 | 11 | 1 | 1 h 24 min (of 10) | 5 d 15 h | 80% (8 of 10) | 8% (1 of 13) |",
        "| P1 | DatabasePerformance | 2 | 1 | 1 | 1 h 6 min (of 1) | 2 d | 50% (1 of 2) | 0% (0 of 2) |",
    ):
        assert begin in lines
    tables = [part.split("\n\n")[0].splitlines() for part in page.split("\n\n") if part.startswith("|")]
    assert len(tables) == 7
    assert all(len({len(line) for line in table}) == 1 for table in tables), "columns are straight"


# --- months, and what a review says -----------------------------------------------------------------------------------


def a_fact(at: datetime = datetime(2026, 11, 10, tzinfo=UTC), **fields: object) -> Fact:
    """Return an incident that a runbook brought back after 20 minutes."""
    values: dict[str, object] = {
        **{
            "review": "shop/inc-1",
            "detected_at": at,
            "severity": P1,
            "incident_type": LAMBDA,
            "classification": Classification.INCIDENT,
        },
        **{"drill": False, "resolved": True, "restored_after": minutes(20), "by": Resolution.RUNBOOK},
        **{"automatic": True, "ran": True, "reopened": False},
    }
    return Fact(**{**values, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("zone", "detected", "month"),
    [
        ("UTC", "2026-10-31T23:59:59", "2026-10"),
        ("UTC", "2026-11-01T00:00:00", "2026-11"),
        # An hour east of UTC, once the clocks have been put back on the 25th of October.
        ("Europe/Berlin", "2026-10-31T22:59:59", "2026-10"),
        ("Europe/Berlin", "2026-10-31T23:00:00", "2026-11"),
        # Two hours, before they are: at the end of September.
        ("Europe/Berlin", "2026-09-30T22:00:00", "2026-10"),
        # Seven hours west.
        ("America/Los_Angeles", "2026-11-01T06:59:59", "2026-10"),
        ("America/Los_Angeles", "2026-11-01T07:00:00", "2026-11"),
        # Years end, too.
        ("Europe/Berlin", "2026-12-31T23:00:00", "2027-01"),
    ],
)
def test_an_incident_belongs_to_the_month_of_its_detection_in_the_zone(zone: str, detected: str, month: str) -> None:
    """The month on the wall where the zone is."""
    fact = a_fact(datetime.fromisoformat(detected).replace(tzinfo=UTC))
    for year in (2026, 2027):
        for number in range(1, 13):
            name = f"{year}-{number:02}"
            report = fold([fact], parse_month(name), now=AFTER, zone=ZoneInfo(zone))
            assert (report.figures.incidents, report.time_zone) == (int(name == month), zone)


@pytest.mark.parametrize(
    ("now", "zone", "over"),
    [
        ("2026-12-31T23:59:59", "UTC", False),
        ("2027-01-01T00:00:00", "UTC", True),
        ("2027-01-01T00:00:00", "America/Los_Angeles", False),
        ("2026-12-31T23:00:00", "Europe/Berlin", True),
    ],
)
def test_a_period_is_over_where_the_zone_is(now: str, zone: str, over: bool) -> None:
    """Until then its figures may change, and the page says so."""
    report = fold([a_fact()], QUARTER, now=datetime.fromisoformat(now).replace(tzinfo=UTC), zone=ZoneInfo(zone))
    assert report.over == over
    assert ("; 2026Q4 is not over yet." in report_markdown(report, place="Namespace shop")) != over


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "November", "2026-11-01", ""])
def test_what_is_no_month_is_refused_with_one(text: str) -> None:
    """As is what is no quarter."""
    with pytest.raises(ValueError, match="write it as 2026-11"):
        parse_month(text)
    with pytest.raises(ValueError, match="write it as 2026Q4"):
        parse_quarter(text)


@pytest.mark.parametrize("text", ["2026Q4", "2026q4", "2026-Q4"])
def test_a_quarter_is_three_months(text: str) -> None:
    """However it is spelled."""
    assert parse_quarter(text) == QUARTER
    assert QUARTER.months == ("2026-10", "2026-11", "2026-12")


def test_a_period_without_incidents_says_so() -> None:
    """Of the whole, and of one month among others; no figure is a 0 that was not measured."""
    nothing = fold([], QUARTER, now=AFTER)
    assert "\nNo incidents in 2026Q4.\n" in report_markdown(nothing, place="All namespaces")
    assert nothing.figures == Figures()
    assert (nothing.figures.repair.mean, nothing.figures.failures.mean, nothing.figures.p1.met) == (None, None, None)
    assert (nothing.figures.runbook.share, nothing.figures.false_positive_rate) == (None, None)
    one = report_markdown(fold([a_fact()], QUARTER, now=AFTER), place="All namespaces")
    assert "\n## 2026-10\n\nNo incidents in 2026-10.\n" in one
    assert f"| MTBF |{' not enough incidents |' * 4}" in squeezed(one)


def a_review(status: dict[str, object], **spec: object) -> Fact:
    """Return what a review says."""
    return fact_of(
        PostIncidentReview.model_validate(
            {"metadata": {"name": "r"}, "spec": {"detectedAt": "2026-11-10T00:00:00Z", **spec}, "status": status}
        )
    )


RUN = {"name": "run", "uid": "1", "startedAt": "2026-11-10T00:05:00Z"}
WELL = {"restoredAt": "2026-11-10T00:20:00Z", "resolvedBy": "Runbook", "automatic": True}


def test_people_have_the_last_word_about_severity_and_duration() -> None:
    """Where they wrote it; a run that did not resolve it is no runbook that did."""
    ended = {**RUN, "finishedAt": "2026-11-10T01:00:00Z", "phase": "Unresolved"}
    said = a_review({"severity": "P2", "runs": [ended]}, severity="P0", duration="40m")
    assert (said.severity, said.resolved, said.restored_after) == (P0, True, minutes(40))
    assert (said.by, said.ran) == (Resolution.MANUAL, True)
    longer = a_review({**WELL, "runs": [ended]}, duration="25m")
    assert (longer.restored_after, longer.by) == (minutes(25), Resolution.RUNBOOK)


def test_an_incident_whose_next_run_is_under_way_is_open() -> None:
    """It may have come back; what people wrote of its end still holds."""
    under_way = {**WELL, "runs": [{**RUN, "startedAt": "2026-11-10T00:30:00Z"}]}
    assert not a_review(under_way).resolved
    assert a_review(under_way).restored_after is None
    assert a_review(under_way, duration="20m").resolved
    beside = {**WELL, "runs": [{**RUN, "startedAt": "2026-11-10T00:10:00Z"}]}
    assert a_review(beside).resolved, "a run that began before users were well says nothing else"


def test_resolved_by_a_person_who_did_not_say_since_when_is_not_open() -> None:
    """It is resolved, in no MTTR, and told as not known; until a run of it is under way again."""
    found = figures([a_review({"resolvedBy": "Manual"})])
    assert (found.resolved, found.open, found.repair.incidents, found.unknown.restoration) == (1, 0, 0, 1)
    end = {"phase": "Resolved", "outcome": "Runbook", "summary": "", "by": "Runbook", "at": "2026-11-10T00:30:00Z"}
    assert a_review({"resolution": end, "runs": [{**RUN, "startedAt": "2026-11-10T00:20:00Z"}]}).resolved
    assert not a_review({"resolution": end, "runs": [{**RUN, "startedAt": "2026-11-10T00:40:00Z"}]}).resolved


def test_nothing_found_is_an_open_incident_and_no_false_positive() -> None:
    """Until a person says what it was."""
    end = {"phase": "NothingFound", "outcome": "NothingFound", "summary": "", "at": "2026-11-10T00:06:00Z"}
    nothing = a_review({"runs": [{**RUN, "finishedAt": "2026-11-10T00:06:00Z"}], "resolution": end})
    found = figures([nothing])
    assert (found.incidents, found.open, found.false_positives, found.runbook.ran) == (1, 1, 0, 1)
    said = figures([a_review({"classification": "FalsePositive", "resolution": end})])
    assert (said.incidents, said.open, said.false_positives, said.false_positive_rate) == (0, 0, 1, 1.0)


def test_resolved_by_nobody_knows_whom_is_in_no_share() -> None:
    """As in a review whose resolution names nobody."""
    end = {"phase": "Resolved", "outcome": "Resolved", "summary": "", "at": "2026-11-10T00:30:00Z"}
    old = a_review({"runs": [{**RUN, "finishedAt": "2026-11-10T00:30:00Z"}], "resolution": end})
    found = figures([old, a_fact()])
    assert (found.unknown.resolved_by, found.unknown.restoration) == (1, 1)
    assert (found.runbook.ran, found.runbook.share) == (1, 1.0)


def test_a_mean_just_below_the_target_does_not_read_as_the_target() -> None:
    """29 min 59 s is met, 30 min is missed."""
    below = fold([a_fact(restored_after=timedelta(minutes=29, seconds=59.9))], QUARTER, now=AFTER)
    assert "29 min 59 s: met" in report_markdown(below, place="x")
    at_it = fold([a_fact(restored_after=minutes(30))], QUARTER, now=AFTER)
    assert "30 min: missed" in report_markdown(at_it, place="x")


# --- what holds of any reviews ----------------------------------------------------------------------------------------

START = datetime(2026, 9, 25, tzinfo=UTC)


@st.composite
def any_fact(draw: st.DrawFn) -> Fact:
    """Return an incident, or what turned out to be none, about the quarter."""
    resolved = draw(st.booleans())
    known = resolved and draw(st.integers(0, 3)) > 0
    return Fact(
        review=f"shop/inc-{draw(st.integers(0, 10**9))}",
        detected_at=START + minutes(draw(st.integers(0, 105 * 24 * 60))),
        severity=draw(st.sampled_from([*Severity, None])),
        incident_type=draw(st.sampled_from([LAMBDA, DATABASE, None])),
        classification=draw(st.sampled_from([Classification.INCIDENT, *Classification])),
        drill=draw(st.integers(0, 5)) == 0,
        resolved=resolved,
        restored_after=minutes(draw(st.integers(0, 600))) if known else None,
        by=draw(st.sampled_from([*Resolution, None])) if resolved else None,
        automatic=draw(st.sampled_from([True, False, None])) if resolved else None,
        ran=draw(st.booleans()),
        reopened=draw(st.booleans()),
    )


FACTS = st.lists(any_fact(), max_size=25)
CHECKED = settings(max_examples=100, derandomize=True, database=None, deadline=None)


def counts(parts: Sequence[Figures]) -> tuple[object, ...]:
    """Return everything that adds up, added up."""
    return (
        *(sum(getattr(f, name) for f in parts) for name in ("incidents", "resolved", "open", "reopened")),
        sum(f.false_positives for f in parts),
        sum(f.repair.incidents for f in parts),
        sum((f.repair.total for f in parts), timedelta()),
        *(sum(getattr(f.p1, name) for f in parts) for name in ("within", "open", "unknown")),
        sum(f.p1.repair.incidents for f in parts),
        *(sum(getattr(f.runbook, name) for f in parts) for name in ("ran", "by_runbook", "automatic")),
        *(sum(getattr(f.unknown, name) for f in parts) for name in Figures().unknown.model_dump()),
    )


@CHECKED
@given(FACTS)
def test_the_whole_is_the_sum_of_its_parts(facts: list[Fact]) -> None:
    """By month, by severity, by type, and by all of them."""
    report = fold(facts, QUARTER, now=AFTER)
    whole = counts([report.figures])
    assert counts([month.figures for month in report.months]) == whole
    assert counts([group.figures for group in report.by_severity]) == whole
    assert counts([group.figures for group in report.by_incident_type]) == whole
    assert counts([group.figures for month in report.months for group in month.groups]) == whole
    assert (
        report.reviews == report.drills + report.duplicates + report.figures.incidents + report.figures.false_positives
    )


@CHECKED
@given(FACTS.flatmap(lambda facts: st.tuples(st.just(facts), st.permutations(facts))))
def test_the_order_of_reviews_does_not_matter(two: tuple[list[Fact], list[Fact]]) -> None:
    """Nor which page of the list they were on."""
    facts, shuffled = two
    assert fold(shuffled, QUARTER, now=AFTER) == fold(facts, QUARTER, now=AFTER)


@CHECKED
@given(FACTS, FACTS)
def test_drills_duplicates_and_other_months_change_no_figure(facts: list[Fact], others: list[Fact]) -> None:
    """Whatever they look like, and whatever they turned out to be."""
    drills = [a_fact(f.detected_at, drill=True, classification=f.classification, severity=f.severity) for f in others]
    duplicates = [a_fact(f.detected_at, classification=Classification.DUPLICATE) for f in others]
    elsewhere = [a_fact(f.detected_at - days(365)) for f in others]
    without = fold(facts, QUARTER, now=AFTER)
    with_them = fold([*drills, *facts, *duplicates, *elsewhere], QUARTER, now=AFTER)
    counted = {"reviews", "drills", "duplicates"}
    assert with_them.model_dump(exclude=counted) == without.model_dump(exclude=counted)
    inside = fold(others, QUARTER, now=AFTER).reviews
    assert with_them.drills == without.drills + inside
    assert with_them.duplicates == without.duplicates + inside


@CHECKED
@given(FACTS)
def test_no_incident_is_dropped_and_no_share_is_beyond_its_whole(facts: list[Fact]) -> None:
    """Open or resolved, timed or not known; shares between 0 and 1; a mean only of what is known."""
    found = fold(facts, QUARTER, now=AFTER).figures
    assert found.incidents == found.resolved + found.open == found.failures.incidents
    assert found.resolved == found.repair.incidents + found.unknown.restoration
    assert found.p1.within <= found.p1.repair.incidents
    assert found.runbook.automatic <= found.runbook.by_runbook <= found.runbook.ran <= found.incidents
    for share in (found.p1.share, found.runbook.share, found.false_positive_rate):
        assert share is None or 0 <= share <= 1
    assert (found.repair.mean is None) == (found.repair.incidents == 0)
    assert (found.failures.mean is None) == (found.incidents < 2)
