"""SES: what becomes of mails, seconds later and counted by recipient; and who may send as whom."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from threading import Event, RLock
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dev.aws.clock import Clock
from dev.aws.services import Parts
from dev.aws.services.mail import FEEDBACK_DELAY, Mail
from dev.aws.telemetry import METRICS_DELAY, Delayed, Metrics
from dev.aws.wire import Reply

from .conftest import REGION, Account, allow, eventually

SENDER = "shop@example.com"
TEXT = {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "t"}}}
COUNTS = ("DeliveryAttempts", "Bounces", "Complaints", "Rejects")


def simulated(*names: str) -> list[str]:
    """Return addresses of SES's own mailbox simulator."""
    return [f"{name}@simulator.amazonses.com" for name in names]


class Sender:
    """An account that may write as one address."""

    def __init__(self, account: Account) -> None:
        self.account, self.ses = account, account.client("ses")
        self.ses.verify_email_identity(EmailAddress=SENDER)

    def send(self, *to: str, **more: Any) -> None:
        """Send one mail to them all."""
        self.ses.send_email(Source=SENDER, Destination={"ToAddresses": list(to), **more}, Message=TEXT)

    def tell(self, **wanted: str) -> None:
        """Say what becomes of mails to a domain."""
        body = json.dumps({"account": self.account.id, **wanted}).encode()
        request = urllib.request.Request(  # noqa: S310 loopback
            f"{self.account.admin.url}/_sim/mailboxes", data=body, method="POST"
        )
        urllib.request.urlopen(request).close()  # noqa: S310 loopback

    def counted(self) -> tuple[int, ...]:
        """Return attempts, bounces, complaints and rejects, of all data points together."""
        points = self.ses.get_send_statistics()["SendDataPoints"]
        return tuple(sum(point[name] for point in points) for name in COUNTS)

    def measured(
        self, names: Iterable[str], statistic: str = "Sum", joined: Callable[[list[float]], float] = sum
    ) -> dict[str, float]:
        """Return metrics of the account over the last hours, those that have samples."""
        queries = [
            {
                "Id": f"q{number}",
                "Label": name,
                "MetricStat": {
                    "Metric": {"Namespace": "AWS/SES", "MetricName": name},
                    "Period": 3600,
                    "Stat": statistic,
                },
            }
            for number, name in enumerate(names)
        ]
        now = datetime.now(UTC)  # noqa: TID251 real time, as the mails are
        found = self.account.client("cloudwatch").get_metric_data(
            MetricDataQueries=queries, StartTime=now - timedelta(hours=1), EndTime=now + timedelta(hours=1)
        )
        return {one["Label"]: joined(one["Values"]) for one in found["MetricDataResults"] if one["Values"]}


@pytest.fixture
def sender(account: Account) -> Sender:
    """In a fresh account."""
    return Sender(account)


def test_the_mailbox_simulator_does_what_its_addresses_say(sender: Sender) -> None:
    """A complaint is of a mail that was delivered; a mail with three recipients is three; no reputation suffers."""
    assert sender.ses.get_send_statistics()["SendDataPoints"] == []
    sender.send(*simulated("bounce+first", "complaint"), CcAddresses=simulated("success"))
    sender.send("ada@customers.example")
    assert eventually(lambda: sender.counted() == (4, 1, 1, 0))
    wanted = {"Send": 4.0, "Delivery": 3.0, "Bounce": 1.0, "Complaint": 1.0}
    assert eventually(lambda: sender.measured(wanted) == wanted)
    rates = {"Reputation.BounceRate": 0.0, "Reputation.ComplaintRate": 0.0}
    assert sender.measured(rates, "Maximum", max) == rates
    (point,) = sender.ses.get_send_statistics()["SendDataPoints"][-1:]
    assert point["Timestamp"].timestamp() % 900 == 0


def test_a_domain_does_what_the_simulator_was_told(sender: Sender, account: Account) -> None:
    """In one account, until it is told otherwise; one of two bounces, and the rate says so."""
    sender.tell(domain="Gone.example", becomes="Bounce")
    sender.send("eve@gone.example")
    assert eventually(lambda: sender.counted() == (1, 1, 0, 0))
    sender.tell(domain="gone.example", becomes="Delivery")
    sender.send("Eve <eve@gone.example>")
    rate = ("Reputation.BounceRate",)
    assert eventually(lambda: sender.measured(rate, "Minimum", min) == {rate[0]: 0.5})
    assert sender.counted() == (2, 1, 0, 0)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        sender.tell(domain="gone.example", becomes="Lost")


class Hands(Clock):
    """A clock that stands where it was put."""

    at = datetime(2024, 1, 15, 14, 30, tzinfo=UTC)

    def now(self) -> datetime:
        """Return where it stands."""
        return Hands.at


def test_what_becomes_of_a_mail_is_known_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt at once, the bounce after seconds, its metric a minute after that; after two weeks nothing."""
    clock, metrics, begun = Hands(), Metrics(), Hands.at
    delayed = Delayed(clock=clock)
    mail = Mail(Parts(clock=clock, delayed=delayed, metrics=metrics, lock=RLock(), stopping=Event()))
    call: Any = SimpleNamespace(region=REGION, answer=lambda answer: answer)
    call.arguments = {"Source": SENDER, "Destination": {"ToAddresses": simulated("bounce")}}
    principal: Any = SimpleNamespace(account="123456789012")

    def known(after: timedelta) -> tuple[list[Any], list[float]]:
        monkeypatch.setattr(Hands, "at", begun + after)
        delayed.settle()
        points = mail.handlers()["ses", "GetSendStatistics"](call, principal, taken)["SendDataPoints"]  # type: ignore[index]
        bounces = {"Namespace": "AWS/SES", "MetricName": "Bounce"}
        found = metrics.buckets(principal.account, REGION, bounces, begun, begun + timedelta(days=1), 60)
        return [(p["Timestamp"], *(p[name] for name in COUNTS)) for p in points], [s.total for _, s in found]

    def taken() -> Reply:
        return Reply(status=200, headers=(), body=b"")

    mail.handlers()["ses", "SendEmail"](call, principal, taken)
    assert known(timedelta()) == ([(begun, 1, 0, 0, 0)], [])
    assert known(FEEDBACK_DELAY) == ([(begun, 1, 1, 0, 0)], [])
    assert known(FEEDBACK_DELAY + METRICS_DELAY) == ([(begun, 1, 1, 0, 0)], [1.0])
    assert known(timedelta(days=14, minutes=15)) == ([], [1.0])


def test_a_mail_that_ses_never_took_is_not_counted(sender: Sender) -> None:
    """A refused call is no reject: a reject is a mail that was taken and found to carry a virus."""
    with pytest.raises(ClientError, match="MessageRejected"):
        sender.ses.send_email(
            Source="nobody@elsewhere.example", Destination={"ToAddresses": simulated("bounce")}, Message=TEXT
        )
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = SENDER, "ada@customers.example", "s"
    mail.set_content("t")
    mail.add_attachment(b"X-EICAR-" + b"STANDARD-ANTIVIRUS-TEST-FILE!", maintype="application", subtype="zip")
    sender.ses.send_raw_email(RawMessage={"Data": mail.as_bytes()})
    assert eventually(lambda: sender.counted() == (0, 0, 0, 1))


def test_every_way_to_send_is_counted(sender: Sender) -> None:
    """Raw to who the call names, else the headers; by template; by the second version of the API."""
    (bounce,) = simulated("bounce")
    raw = f"From: {SENDER}\nTo: Somebody <{bounce}>\nSubject: s\n\nt".encode()
    sender.ses.send_raw_email(RawMessage={"Data": raw})
    sender.ses.send_raw_email(Source=SENDER, Destinations=simulated("success"), RawMessage={"Data": raw})
    template = {"TemplateName": "t", "SubjectPart": "s", "TextPart": "t", "HtmlPart": "t"}
    sender.ses.create_template(Template=template)
    sender.ses.send_templated_email(
        Source=SENDER, Destination={"ToAddresses": [bounce]}, Template="t", TemplateData="{}"
    )
    sender.ses.send_bulk_templated_email(
        Source=SENDER,
        Destinations=[{"Destination": {"ToAddresses": [bounce]}}, {"Destination": {"ToAddresses": ["a@b.example"]}}],
        Template="t",
        DefaultTemplateData="{}",
    )
    second = sender.account.client("sesv2")
    content = {"Simple": {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "t"}}}}
    second.send_email(FromEmailAddress=SENDER, Destination={"ToAddresses": [bounce]}, Content=content)
    second.send_email(FromEmailAddress=SENDER, Destination={"ToAddresses": [bounce]}, Content={"Raw": {"Data": raw}})
    assert eventually(lambda: sender.counted() == (7, 5, 0, 0))


def test_who_may_send_and_who_may_count(sender: Sender) -> None:
    """The sender of a raw mail stands in its headers; statistics are the account's, of no identity."""
    account = sender.account
    mine = allow(["ses:SendRawEmail", "ses:GetSendStatistics"], f"arn:aws:ses:{REGION}:{account.id}:identity/{SENDER}")
    role = account.admin.assume(account.role("mailer", mine)).client("ses")
    role.send_raw_email(RawMessage={"Data": f"From: {SENDER}\nTo: a@b.example\n\nt".encode()})
    sender.ses.verify_email_identity(EmailAddress="boss@example.com")
    for call, arguments in (
        (role.send_raw_email, {"RawMessage": {"Data": b"From: boss@example.com\nTo: a@b.example\n\nt"}}),
        (role.get_send_statistics, {}),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            call(**arguments)
    reading = allow("ses:GetSendStatistics", "*")
    assert account.admin.assume(account.role("reader", reading)).client("ses").get_send_statistics()["SendDataPoints"]


def test_identities_are_state_and_mails_are_not(sender: Sender) -> None:
    """Who may be written as is what a call changes; the journal has it before and after."""
    before = sender.account.ask("dump")
    assert before["mailIdentities"] == {REGION: [SENDER]}
    sender.send(*simulated("bounce"))
    assert eventually(lambda: sender.counted()[1] == 1)
    assert sender.account.ask("dump") == before
    sender.ses.delete_identity(Identity=SENDER)
    assert "mailIdentities" not in sender.account.ask("dump")
    deleted = sender.account.ask("journal")["calls"][-1]
    assert deleted["operation"] == "DeleteIdentity"
    assert deleted["before"] == [SENDER]
