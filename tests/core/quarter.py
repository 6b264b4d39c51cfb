"""A quarter of 40 incidents, written by hand, and the reviews that say so: what the report of 2026Q4 is checked with.

Besides the 40 there are 5 false positives, 3 drills and 4 duplicates in the quarter, and 2 incidents just outside.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from incident_operator.api.review import PostIncidentReview

#: id, detected (UTC, 00:00 where no time is written), severity, type, minutes from detection until users were well for
#: good (`open`: not yet; `?`: resolved, but nobody knows since when), who brought it back, remarks:
#: `alone` no person had to agree, `again` it had come back once, `hand` no run, `running` its run has not ended,
#: `said` the run did not resolve it and people wrote how long it was.
INCIDENTS = """
O01  2026-10-02        P1  LambdaFailure        20    Runbook        alone
O02  2026-10-04        P1  LambdaFailure        28    Runbook        -
O03  2026-10-06        P1  LambdaFailure        42    Runbook        alone
O04  2026-10-08        P2  LambdaFailure        60    SelfRecovered  -
O05  2026-10-09        P2  LambdaFailure        90    Runbook        -
O06  2026-10-11        P1  DatabasePerformance  30    Runbook        -
O07  2026-10-13        P1  DatabasePerformance  25    Manual         -
O08  2026-10-16        P2  DatabasePerformance  120   Manual         -
O09  2026-10-18        P2  DatabasePerformance  open  -              -
O10  2026-10-20        P0  AlbTargetHealth      15    Runbook        alone
O11  2026-10-22        P0  AlbTargetHealth      45    Runbook        -
O12  2026-10-25        P3  AlbTargetHealth      240   SelfRecovered  -
O13  2026-10-27        P3  AlbTargetHealth      180   Runbook        again
O14  2026-10-28        P3  AlbTargetHealth      ?     Runbook        -
N01  2026-11-01        P1  LambdaFailure        10    Runbook        alone
N02  2026-11-03        P1  LambdaFailure        50    SelfRecovered  -
N03  2026-11-05        P1  LambdaFailure        35    Runbook        -
N04  2026-11-07        P1  LambdaFailure        29    Runbook        alone
N05  2026-11-09        P2  LambdaFailure        56    Runbook        -
N06  2026-11-11        P1  DatabasePerformance  66    Runbook        again
N07  2026-11-13        P1  DatabasePerformance  open  -              -
N08  2026-11-15        P2  DatabasePerformance  100   Runbook        -
N09  2026-11-17        P2  DatabasePerformance  80    -              said
N10  2026-11-20        P2  DatabasePerformance  40    Runbook        alone
N11  2026-11-21        P0  AlbTargetHealth      12    Runbook        alone
N12  2026-11-23        P0  AlbTargetHealth      18    Manual         hand
N13  2026-11-25        P2  AlbTargetHealth      64    SelfRecovered  -
N14  2026-11-27        P3  AlbTargetHealth      220   Runbook        -
N15  2026-11-29        P3  AlbTargetHealth      open  -              running
D01  2026-12-01        P1  LambdaFailure        22    Runbook        alone
D02  2026-12-05        P1  LambdaFailure        18    Runbook        alone
D03  2026-12-09        P2  LambdaFailure        50    Runbook        -
D04  2026-12-11        P1  DatabasePerformance  27    Runbook        -
D05  2026-12-13        P2  DatabasePerformance  73    SelfRecovered  -
D06  2026-12-15        P2  DatabasePerformance  90    Runbook        again
D07  2026-12-17        P3  DatabasePerformance  300   Manual         -
D08  2026-12-19        P0  AlbTargetHealth      20    Runbook        alone
D09  2026-12-21        -   AlbTargetHealth      30    Runbook        -
D10  2026-12-23        P2  -                    40    SelfRecovered  -
D11  2026-12-31        P2  LambdaFailure        open  -              -
"""
#: Beside them, in the same columns; before the remarks, what they are.
OTHERS = """
F01  2026-10-03        P2  LambdaFailure        5     SelfRecovered  FalsePositive
F02  2026-10-31T23:59  P3  AlbTargetHealth      open  -              FalsePositive
F03  2026-11-02        P1  LambdaFailure        3     SelfRecovered  FalsePositive
F04  2026-12-02        P2  DatabasePerformance  open  -              FalsePositive
F05  2026-12-31T23:59  P2  LambdaFailure        8     Manual         FalsePositive
X01  2026-10-02        P1  LambdaFailure        500   Manual         Duplicate
X02  2026-11-11        P1  DatabasePerformance  open  -              Duplicate
X03  2026-11-11        P1  DatabasePerformance  1     Runbook        Duplicate
X04  2026-12-30        P0  AlbTargetHealth      2     Runbook        Duplicate
E01  2026-10-15        P1  LambdaFailure        1     Runbook        Drill
E02  2026-11-15        P0  DatabasePerformance  open  -              Drill
E03  2026-12-15        P1  AlbTargetHealth      1     Runbook        Drill
Q01  2026-09-30T23:59  P1  LambdaFailure        999   Manual         -
Q02  2027-01-01        P1  LambdaFailure        999   Manual         -
"""


def reviews(table: str = INCIDENTS + OTHERS, namespace: str = "shop") -> list[PostIncidentReview]:
    """Return the reviews that say what a table says, in its order."""
    return [_review(number, line.split(), namespace) for number, line in enumerate(table.split("\n")) if line.strip()]


def _review(number: int, row: list[str], namespace: str) -> PostIncidentReview:
    name, day, severity, kind, minutes, by, remark = row
    detected = datetime.fromisoformat(day).replace(tzinfo=UTC)
    restored = detected + timedelta(minutes=int(minutes)) if minutes.isdigit() else None
    ticket = f"INC-{name}"
    spec: dict[str, Any] = {"ticket": ticket, "detectedAt": detected}
    status: dict[str, Any] = {"drill": remark == "Drill"}
    if kind != "-":
        status["incidentType"] = kind
    if severity != "-":
        # Some were written by people, over what the run knew; others only the run knows.
        status["severity"] = severity if number % 2 else "P3"
        spec |= {} if number % 2 else {"severity": severity}
    if remark in ("FalsePositive", "Duplicate"):
        status["classification"] = remark
    if remark == "said":
        spec["duration"] = f"{minutes}m"
    elif restored is not None:
        status |= {"restoredAt": restored, "resolvedBy": by, "automatic": remark == "alone"}
    if remark != "hand":
        status["runs"] = _runs(remark, detected, restored, by)
    if minutes == "?":  # as it was told before restorations were facts of their own
        status["resolution"] = {"phase": "Resolved", "outcome": by, "summary": "", "by": by, "at": detected}
    if remark == "again":
        status["reopened"] = 1
    return PostIncidentReview.model_validate(
        {"metadata": {"name": ticket.lower(), "namespace": namespace}, "spec": spec, "status": status}
    )


def _runs(remark: str, detected: datetime, restored: datetime | None, by: str) -> list[dict[str, Any]]:
    run: dict[str, Any] = {"name": "run", "uid": "1", "startedAt": detected}
    if remark == "running":
        return [run]
    ended = {**run, "finishedAt": (restored or detected) + timedelta(minutes=10), "phase": "Unresolved"}
    if by == "-" or remark == "said":
        return [ended]
    resolved = {**ended, "phase": "Resolved", "resolution": by, "outcome": by}
    if remark == "again":  # well after a minute, for ten of them
        first = {**resolved, "name": "first", "finishedAt": detected + timedelta(minutes=11)}
        return [
            first | {"restoredAt": detected + timedelta(minutes=1)},
            resolved | {"startedAt": detected + timedelta(minutes=12), "restoredAt": restored},
        ]
    return [resolved | ({"restoredAt": restored} if restored else {})]
