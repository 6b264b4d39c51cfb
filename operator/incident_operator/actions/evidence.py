"""Evidence: what CloudTrail, or an API's access log, shows of a key's calls, written down before anything is changed.

What is written are the events' ids and who, what, when, from where: no request, no answer, no text that anybody wrote.
The events themselves stay in CloudTrail for 90 days; their ids find them. The object's name holds its SHA-256, which S3
compares with what it got. Source: facts on AWS (section 4, row 22).
"""

import base64
import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeVar

from pydantic import Field

from ..api.meta import Risk
from ..api.plan import Call, DiffLine, Repeat
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from .apigateway import ApiKeyInputs, read_requests, stages_of
from .base import Facts, FixAction, ReasonInfo, register
from .credentials import MAX_EVENTS, CredentialInputs, counted
from .iam_credentials import KeyInputs, events_of
from .ports import NotFound, Reader

#: Of each event, in this order: the actor is the key's user in all of them, and stands in the first line.
_COLUMNS = ("id", "at", "region", "source", "name", "address", "error")
#: Of each request to an API, in this order.
_REQUEST_COLUMNS = ("id", "at", "address", "method", "path", "status")
#: As many addresses are counted in the first line at most, the most frequent ones.
_ADDRESSES = 100


class _Bucket(CredentialInputs):
    """Where evidence is written down."""

    evidence_bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")

    @property
    @abstractmethod
    def label(self) -> str:
        """How people call what the evidence is about."""

    def _prefix(self, kind: str, key_id: str) -> str:
        start, end = (f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}" for at in (self.window_start, self.window_end))
        return f"{kind}/{key_id}/{start}-{end}-"

    @property
    @abstractmethod
    def prefix(self) -> str:
        """Where in the bucket this key's and window's evidence is."""


I = TypeVar("I", bound=_Bucket)  # noqa: E741  (as in `base`)


class EvidenceInputs(KeyInputs, _Bucket):
    """Whose calls, when, and where they are written down."""

    @property
    def prefix(self) -> str:
        """Where in the bucket this key's and window's evidence is."""
        return self._prefix("cloudtrail", self.key_id)


class RequestEvidenceInputs(ApiKeyInputs, _Bucket):
    """Which API key's requests, when, and where they are written down."""

    @property
    def prefix(self) -> str:
        """Where in the bucket this key's and window's evidence is."""
        return self._prefix("api-requests", self.key_id)


class EvidenceFacts(Facts):
    """The evidence as it would be written, and what is there.

    Shape: `text` is empty where no call is shown; `written` are the keys under the evidence's prefix, None
    where there is no such bucket; `public`: everybody may read the bucket.
    """

    text: str = ""
    events: int = 0
    more: bool = False
    written: tuple[str, ...] | None = None
    public: bool = False
    looked_at: datetime

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).digest()

    def key(self, inputs: "_Bucket") -> str:
        """Return the object's key, which holds the whole digest."""
        return f"{inputs.prefix}{self.digest.hex()}.jsonl"


def _look_at_bucket(inputs: _Bucket, reader: Reader) -> tuple[tuple[str, ...] | None, bool]:
    """Return what is under the evidence's prefix, None where there is no bucket, and whether everybody may read it.

    Errors: ReadError.
    """
    bucket = {"Bucket": inputs.evidence_bucket}
    try:
        written = reader.aws("s3", "list_objects_v2", {**bucket, "Prefix": inputs.prefix}, region=inputs.region)
    except NotFound:
        return None, False
    try:
        public = bool(reader.aws("s3", "get_bucket_policy_status", bucket, region=inputs.region)["IsPublic"])
    except NotFound:
        public = False
    return tuple(written), public


_REASONS: Mapping[str, ReasonInfo] = {
    "BucketMissing": ReasonInfo(doc="There is no such evidence bucket."),
    "BucketPublic": ReasonInfo(doc="Everybody may read the evidence bucket: nothing is written there."),
    "WindowOpen": ReasonInfo(doc="The window has not ended yet."),
    "NothingToCollect": ReasonInfo(doc="No call of the key is shown in the window (yet)."),
    "AlreadyCollected": ReasonInfo(doc="The same evidence is there already."),
}


class _Collecting(FixAction[I, EvidenceFacts]):
    """What is the same, whatever the evidence is of. Shape: `shows` is what shows the calls."""

    facts_model = EvidenceFacts
    writes = ("s3:PutObject",)
    risk = "Low: it adds one object to the evidence bucket."
    undo = "None: evidence is never deleted by a machine."
    waits = Waits(wait=timedelta(seconds=1), every=timedelta(seconds=10), deadline=timedelta(minutes=2))
    shows: ClassVar[str]

    def plan(self, inputs: I, facts: EvidenceFacts) -> PlanDraft | NotApplicable:
        """Write one object; what is written is named by its digest, so the same evidence is written once."""
        bucket = inputs.evidence_bucket
        why: Mapping[str, tuple[bool, str]] = {
            "BucketMissing": (facts.written is None, f"there is no bucket {bucket}"),
            "BucketPublic": (facts.public, f"everybody may read {bucket}: evidence is not written there"),
            "WindowOpen": (inputs.window_end > facts.looked_at, "the window has not ended yet"),
            "NothingToCollect": (not facts.events, f"{self.shows} no call with {inputs.label} in the window"),
            "AlreadyCollected": (facts.key(inputs) in (facts.written or ()), f"the same evidence is in {bucket}"),
        }
        for reason, (fits, message) in why.items():
            if fits:
                return NotApplicable(reason=reason, message=message)
        key = facts.key(inputs)
        arn = f"arn:aws:s3:::{bucket}/{key}"
        many = "the newest " if facts.more else ""
        return PlanDraft(
            title=f"write down {many}{facts.events} calls with {inputs.label} in {bucket}",
            calls=(
                Call(
                    service="s3",
                    operation="put_object",
                    arguments={
                        "Bucket": bucket,
                        "Key": key,
                        "Body": facts.text,
                        "ContentType": "application/x-ndjson",
                        "ChecksumSHA256": base64.b64encode(facts.digest).decode(),
                    },
                    permissions=("s3:PutObject",),
                    resources=(arn,),
                    repeat=Repeat.ABSOLUTE,
                    timeout=timedelta(seconds=10),
                    summary=f"write {facts.events} events to {bucket}",
                ),
            ),
            touches=(arn,),
            risk=Risk.LOW,
            region=inputs.region,
            verify=self.waits.verify(f"the object is in {bucket}"),
            diff=(DiffLine(what=f"bucket {bucket}", after=f"{facts.events} events, SHA-256 {facts.digest.hex()}"),),
            irreversible="evidence is never deleted by a machine",
        )

    def applied(self, call: Call, inputs: I, facts: EvidenceFacts) -> bool | None:
        """Tell by the object's name."""
        return None if facts.written is None else call.arguments["Key"] in facts.written

    def judge(self, inputs: I, before: EvidenceFacts, after: EvidenceFacts) -> Judgement:
        """The object is there under the digest of what was read; S3 took it only because the digest was right."""
        there = before.key(inputs) in (after.written or ())
        message = f"{before.events} events are {'' if there else 'not '}in {inputs.evidence_bucket}"
        return Judgement(outcome="Helped" if there else None, measured=after.written is not None, message=message)


@register
class Collect(_Collecting[EvidenceInputs]):
    """Write down what was done with an access key in a window, in a bucket that is for evidence."""

    name = "evidence.collect"
    title = "Collect evidence"
    inputs_model = EvidenceInputs
    reads = ("cloudtrail:LookupEvents", "s3:GetBucketPolicyStatus", "s3:ListBucket")
    reasons = _REASONS
    shows = "CloudTrail shows"

    def observe(self, inputs: EvidenceInputs, reader: Reader) -> EvidenceFacts:
        """Read the events, and look at the bucket."""
        if inputs.access_key_id is None:
            return EvidenceFacts(written=(), looked_at=reader.now)
        written, public = _look_at_bucket(inputs, reader)
        if written is None:
            return EvidenceFacts(looked_at=reader.now)
        events = events_of(inputs.key_id, inputs.region, reader, inputs.window_start, inputs.window_end)
        head = {"actors": sorted({event["actor"] for event in events}), "columns": _COLUMNS}
        lines = [json.dumps([_plain(event[name]) for name in _COLUMNS], separators=(",", ":")) for event in events]
        return EvidenceFacts(
            text=_text(head, lines),
            events=len(lines),
            more=len(lines) >= MAX_EVENTS,
            written=written,
            public=public,
            looked_at=reader.now,
        )


@register
class CollectRequests(_Collecting[RequestEvidenceInputs]):
    """Write down what was asked with an API key in a window, in a bucket that is for evidence.

    The addresses of all requests are counted; of the newest hundred there is a line each.
    """

    name = "evidence.collect-requests"
    title = "Collect evidence of an API key"
    inputs_model = RequestEvidenceInputs
    reads = ("apigateway:GET", "logs:FilterLogEvents", "s3:GetBucketPolicyStatus", "s3:ListBucket")
    reasons = _REASONS
    shows = "the access logs show"

    def observe(self, inputs: RequestEvidenceInputs, reader: Reader) -> EvidenceFacts:
        """Read the access logs, and look at the bucket."""
        if inputs.api_key_id is None:
            return EvidenceFacts(written=(), looked_at=reader.now)
        written, public = _look_at_bucket(inputs, reader)
        if written is None:
            return EvidenceFacts(looked_at=reader.now)
        stages = stages_of(inputs.key_id, inputs.region, reader)
        log = read_requests(inputs, reader, inputs.window_start, inputs.window_end, stages)
        newest = log.requests[-MAX_EVENTS:]
        head = {
            "apiKeyId": inputs.key_id,
            "requests": len(log.requests),
            "addresses": {seen.what: seen.times for seen in counted(r.address for r in log.requests)[:_ADDRESSES]},
            "columns": _REQUEST_COLUMNS,
        }
        rows = [request.model_dump(mode="json", include=set(_REQUEST_COLUMNS)) for request in newest]
        lines = [json.dumps([row[name] for name in _REQUEST_COLUMNS], separators=(",", ":")) for row in rows]
        return EvidenceFacts(
            text=_text(head, lines),
            events=len(lines),
            more=log.more or len(log.requests) > len(lines),
            written=written,
            public=public,
            looked_at=reader.now,
        )


def _text(head: Mapping[str, Any], lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in (json.dumps(head), *lines)) if lines else ""


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
