"""`kubectl incident report`: the quarter that was computed by hand, from whichever namespaces may be read."""

import json
from pathlib import Path

import pytest

from incident_operator.cli.cluster import PAGE, Cluster
from incident_operator.cli.report_command import show_report
from tests.cli.conftest import Command
from tests.cli.fake_api import FakeApi
from tests.cli.test_review import ask
from tests.core.quarter import INCIDENTS, reviews
from tests.core.test_report import AFTER, SUMMARY, squeezed


class At:
    """A clock that stands."""

    def now(self) -> object:
        """Return a morning after the quarter."""
        return AFTER


def test_the_quarter_is_printed_as_it_was_computed(
    api: FakeApi, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As text, word for word; the command prints it, and writes nothing."""
    api.put(*reviews())
    cluster = Cluster(kubeconfig=str(api.kubeconfig(tmp_path)), context=None, namespace=None)
    clock = At()
    show_report(cluster, None, month=None, quarter="2026Q4", time_zone="UTC", output="md", clock=clock)  # type: ignore[arg-type]
    printed = squeezed(capsys.readouterr().out)
    assert printed[: len(squeezed(SUMMARY))] == squeezed(SUMMARY)
    report = "kubectl incident report --quarter 2026Q4"
    code, out, err = ask(command, *report.split()[2:])
    assert (code, err) == (0, "")
    assert "| False-positive rate | 12% (2 of 16) | 6% (1 of 16) | 15% (2 of 13) | 11% (5 of 45) |" in squeezed(out)
    assert api.writes == []


def test_a_month_is_printed(api: FakeApi, command: Command) -> None:
    """One column, and its table."""
    api.put(*reviews())
    report = "kubectl incident report --month 2026-11"
    code, out, err = ask(command, *report.split()[2:])
    assert (code, err) == (0, "")
    lines = squeezed(out)
    assert lines[0] == "# Incident metrics: 2026-11"
    assert "| Metric | 2026-11 |" in lines
    assert "| MTTR of P1, target < 30 minutes | 38 min: missed |" in lines
    assert "| P0 | AlbTargetHealth | 2 | 2 | 0 | 15 min (of 2) | 2 d | 100% (1 of 1) | 0% (0 of 2) |" in lines


def test_json_has_every_figure_and_null_for_what_is_not_known(api: FakeApi, command: Command) -> None:
    """For programs: camelCase, durations as in manifests, shares between 0 and 1."""
    api.put(*reviews())
    report = "kubectl incident report --month 2026-12 -o json"
    code, out, _ = ask(command, *report.split()[2:])
    assert code == 0
    found = json.loads(out)
    assert (found["read"], found["period"], found["timeZone"]) == ("All namespaces", "2026-12", "UTC")
    assert (found["reviews"], found["drills"], found["duplicates"]) == (15, 1, 1)
    figures = found["figures"]
    assert (figures["incidents"], figures["open"], figures["reopened"]) == (11, 1, 1)
    assert figures["repair"] == {"incidents": 10, "total": "11h10m", "mean": "1h7m"}
    assert figures["p1"] == {
        **{"limit": "30m", "within": 3, "share": 1.0, "open": 0, "unknown": 0, "met": True},
        "repair": {"incidents": 3, "total": "1h7m", "mean": "22m20s"},
    }
    assert figures["failures"] == {"incidents": 11, "mean": "3d"}
    assert figures["runbook"] == {"ran": 11, "byRunbook": 7, "automatic": 3, "share": 7 / 11}
    assert (figures["falsePositives"], figures["falsePositiveRate"]) == (2, 2 / 13)
    assert figures["unknown"] == {"severity": 1, "incidentType": 1, "restoration": 0, "resolvedBy": 0}
    assert [item["review"] for item in found["openIncidents"]] == ["shop/inc-d11"]
    last = found["months"][0]["groups"][-1]
    assert (last["severity"], last["incidentType"], last["figures"]["failures"]["mean"]) == (
        *(None, "AlbTargetHealth"),
        None,
    )


def test_html_is_a_page_with_tables(api: FakeApi, command: Command) -> None:
    """The same figures."""
    api.put(*reviews())
    code, out, err = ask(command, "report", "--quarter", "2026Q4", "-o", "html")
    assert (code, err) == (0, "")
    assert out.startswith("<!DOCTYPE html>")
    assert "<title>Incident metrics: 2026Q4</title>" in out
    assert out.count("<table>") == 7
    assert "<td>66% (25 of 38)</td>" in out
    assert "|" not in out


def test_a_month_without_incidents_says_so_and_where_some_are(api: FakeApi, command: Command) -> None:
    """On stderr what to type; exit 0, for nothing is wrong."""
    api.put(*reviews())
    code, out, err = ask(command, "report", "--month", "2025-02")
    assert (code, "No incidents in 2025-02.\n" in out) == (0, True)
    assert err == "there are reviews of 2026-09 to 2027-01: kubectl incident report --month 2027-01\n"
    code, out, err = ask(command, "report", "--month", "2026-11", "-n", "nowhere")
    assert (code, "Namespace nowhere; months in UTC" in out, "No incidents in 2026-11.\n" in out) == (0, True, True)
    assert err == "Namespace nowhere: no review at all; -n names another namespace, and kubectl get pir -A lists them\n"


def test_the_zone_moves_the_month(api: FakeApi, command: Command) -> None:
    """N01 was detected at the first instant of November in UTC: west of there that was October."""
    api.put(*reviews(INCIDENTS))
    for zone, of_month in (("UTC", 14), ("America/New_York", 15)):
        out = ask(command, "report", "--month", "2026-10", "--time-zone", zone, "-o", "json")[1]
        assert (json.loads(out)["figures"]["incidents"], json.loads(out)["timeZone"]) == (of_month, zone)


def test_without_a_month_it_is_the_current_one_so_far(
    api: FakeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the page says that it is not over."""
    api.put(*reviews())
    cluster = Cluster(kubeconfig=str(api.kubeconfig(tmp_path)), context=None, namespace=None)
    clock = At()
    show_report(cluster, "shop", month=None, quarter=None, time_zone="UTC", output="md", clock=clock)  # type: ignore[arg-type]
    out = capsys.readouterr().out
    assert out.startswith("# Incident metrics: 2027-01\n")
    assert "Namespace shop; months in UTC; read 2027-01-04 09:00 UTC; 2027-01 is not over yet. 1 review in" in out


def test_more_reviews_than_a_page_holds_are_all_read(api: FakeApi, command: Command) -> None:
    """Page by page; begun anew where the list became too old on the way, and still each once."""
    table = "\n".join(f"I{n:04} 2026-11-{n % 28 + 1:02} P2 LambdaFailure 10 Runbook -" for n in range(PAGE + 101))
    api.put(*reviews(table))
    api.stale_pages = 1
    code, out, err = ask(command, "report", "--month", "2026-11", "-o", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["figures"]["incidents"] == PAGE + 101
    assert api.pages == [PAGE, PAGE, 101]
    api.stale_pages = 99
    code, out, err = ask(command, "report", "--month", "2026-11")
    assert (code, out) == (1, "")
    assert err == "error: the reviews change faster than they can be read\n  try again in a while, or with -n\n"


def test_who_may_not_read_all_reads_what_they_may(api: FakeApi, command: Command) -> None:
    """Namespace by namespace, and it is said what was left out: a part is never shown as the whole."""
    api.put(*reviews(INCIDENTS), *reviews("A01 2026-11-30 P1 LambdaFailure 5 Runbook -", "other"))
    api.put(*reviews("B01 2026-11-30 P1 LambdaFailure 5 Runbook -", "secret"))
    everything = json.loads(ask(command, "report", "--month", "2026-11", "-o", "json")[1])
    assert everything["figures"]["incidents"] == 17
    api.closed = {"*", "secret"}
    code, out, err = ask(command, "report", "--month", "2026-11", "-o", "json")
    assert code == 0
    assert (json.loads(out)["read"], json.loads(out)["figures"]["incidents"]) == ("Namespaces other, shop", 16)
    assert err == "1 namespace left out: you may not list reviews in all of the cluster; -n reads one namespace\n"


def test_who_may_not_see_namespaces_reads_their_own(api: FakeApi, command: Command) -> None:
    """That of the kubeconfig; where not even that may be read, it says whom to ask."""
    api.put(*reviews(INCIDENTS, "shopsmart"))
    api.closed = {"*", "namespaces"}
    code, out, err = ask(command, "report", "--month", "2026-11", "-o", "json")
    assert (code, json.loads(out)["read"], json.loads(out)["figures"]["incidents"]) == (0, "Namespace shopsmart", 15)
    assert "other namespaces are left out" in err
    api.closed.add("shopsmart")
    for arguments in ([], ["-n", "shopsmart"]):
        code, out, err = ask(command, "report", *arguments)
        assert (code, out) == (1, "")
        assert "cannot list resource" in err.splitlines()[0]
        assert "ask for the ClusterRole incident-" in err.splitlines()[1]


def test_a_review_that_cannot_be_read_is_told_and_counted_nowhere(api: FakeApi, command: Command) -> None:
    """As one of a newer version; the others are reported."""
    readable, other = reviews(
        "A01 2026-11-30 P1 LambdaFailure 5 Runbook -\nA02 2026-11-30 P1 LambdaFailure 5 Runbook -"
    )
    api.put(readable, other.model_copy(update={"status": other.status.model_copy(update={"reopened": -1})}))
    code, out, err = ask(command, "report", "--month", "2026-11", "-o", "json")
    assert (code, json.loads(out)["figures"]["incidents"]) == (0, 1)
    assert err.splitlines()[0].startswith("left out: PostIncidentReview inc-a02: status.reopened: ")
    assert err.splitlines()[1] == "no figure counts 1 review of another version: update kubectl-incident"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--month", "11/2026"], "--month: '11/2026' is no month; write it as 2026-11"),
        (["--quarter", "2026-4"], "--quarter: '2026-4' is no quarter; write it as 2026Q4"),
        (["--month", "2026-11", "--quarter", "2026Q4"], "one period at a time"),
        (["--time-zone", "Mars/Olympus"], "there is no time zone 'Mars/Olympus'; write an IANA name"),
        (["-o", "yaml"], "'yaml' is not one of 'md', 'json', 'html'"),
    ],
)
def test_wrong_usage_says_what_to_write(api: FakeApi, command: Command, arguments: list[str], why: str) -> None:
    """Before anything is read."""
    code, out, err = ask(command, "report", *arguments)
    assert (code, out) == (64, "")
    assert why in err
    assert api.pages == []
