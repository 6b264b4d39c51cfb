"""Evidence: what CloudTrail shows of a key's calls, written down before anything is changed.

What is written are the events' ids and who, what, when, from where: no request, no answer, no text that anybody wrote.
The events themselves stay in CloudTrail for 90 days; their ids find them. The object's name holds its SHA-256, which S3
compares with what it got. Source: facts on AWS (section 4, row 22).
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from pydantic import Field

from ..api.meta import Risk
from ..api.plan import Call, DiffLine, Repeat, Verify
from ..core.draft import Judgement, NotApplicable, PlanDraft
from .base import Facts, FixAction, ReasonInfo, register
from .iam_credentials import MAX_EVENTS, KeyInputs, events_of
from .ports import NotFound, Reader

#: Of each event, in this order: the actor is the key's user in all of them, and stands in the first line.
_COLUMNS = ("id", "at", "region", "source", "name", "address", "error")


class EvidenceInputs(KeyInputs):
    """Whose calls, when, and where they are written down."""

    evidence_bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")

    @property
    def prefix(self) -> str:
        """Where in the bucket this key's and window's evidence is."""
        start, end = (f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}" for at in (self.window_start, self.window_end))
        return f"cloudtrail/{self.access_key_id}/{start}-{end}-"


class EvidenceFacts(Facts):
    """The evidence as it would be written, and what is there.

    Shape: `text` is empty where CloudTrail shows no call; `written` are the keys under the evidence's prefix, None
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

    def key(self, inputs: EvidenceInputs) -> str:
        """Return the object's key, which holds the whole digest."""
        return f"{inputs.prefix}{self.digest.hex()}.jsonl"


@register
class Collect(FixAction[EvidenceInputs, EvidenceFacts]):
    """Write down what was done with a key in a window, in a bucket that is for evidence."""

    name = "evidence.collect"
    title = "Collect evidence"
    inputs_model = EvidenceInputs
    facts_model = EvidenceFacts
    reads = ("cloudtrail:LookupEvents", "s3:GetBucketPolicyStatus", "s3:ListBucket")
    writes = ("s3:PutObject",)
    risk = "Low: it adds one object to the evidence bucket."
    undo = "None: evidence is never deleted by a machine."
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "BucketMissing": ReasonInfo(doc="There is no such evidence bucket."),
        "BucketPublic": ReasonInfo(doc="Everybody may read the evidence bucket: nothing is written there."),
        "WindowOpen": ReasonInfo(doc="The window has not ended yet."),
        "NothingToCollect": ReasonInfo(doc="CloudTrail shows no call of the key in the window (yet)."),
        "AlreadyCollected": ReasonInfo(doc="The same evidence is there already."),
    }

    def observe(self, inputs: EvidenceInputs, reader: Reader) -> EvidenceFacts:
        """Read the events, and look at the bucket."""
        bucket = {"Bucket": inputs.evidence_bucket}
        try:
            written = reader.aws("s3", "list_objects_v2", {**bucket, "Prefix": inputs.prefix}, region=inputs.region)
        except NotFound:
            return EvidenceFacts(looked_at=reader.now)
        try:
            public = bool(reader.aws("s3", "get_bucket_policy_status", bucket, region=inputs.region)["IsPublic"])
        except NotFound:
            public = False
        events = events_of(inputs.access_key_id, inputs.region, reader, inputs.window_start, inputs.window_end)
        head = {"actors": sorted({event["actor"] for event in events}), "columns": _COLUMNS}
        lines = [json.dumps([_plain(event[name]) for name in _COLUMNS], separators=(",", ":")) for event in events]
        return EvidenceFacts(
            text="".join(f"{line}\n" for line in (json.dumps(head), *lines)) if lines else "",
            events=len(lines),
            more=len(lines) >= MAX_EVENTS,
            written=tuple(written),
            public=public,
            looked_at=reader.now,
        )

    def plan(self, inputs: EvidenceInputs, facts: EvidenceFacts) -> PlanDraft | NotApplicable:
        """Write one object; what is written is named by its digest, so the same evidence is written once."""
        bucket = inputs.evidence_bucket
        why: Mapping[str, tuple[bool, str]] = {
            "BucketMissing": (facts.written is None, f"there is no bucket {bucket}"),
            "BucketPublic": (facts.public, f"everybody may read {bucket}: evidence is not written there"),
            "WindowOpen": (inputs.window_end > facts.looked_at, "the window has not ended yet"),
            "NothingToCollect": (not facts.events, f"CloudTrail shows no call with {inputs.label} in the window"),
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
            verify=Verify(
                signal=f"the object is in {bucket}",
                wait=timedelta(seconds=1),
                every=timedelta(seconds=10),
                deadline=timedelta(minutes=2),
            ),
            diff=(DiffLine(what=f"bucket {bucket}", after=f"{facts.events} events, SHA-256 {facts.digest.hex()}"),),
            irreversible="evidence is never deleted by a machine",
        )

    def applied(self, call: Call, inputs: EvidenceInputs, facts: EvidenceFacts) -> bool | None:
        """Tell by the object's name."""
        return None if facts.written is None else call.arguments["Key"] in facts.written

    def judge(self, inputs: EvidenceInputs, before: EvidenceFacts, after: EvidenceFacts) -> Judgement:
        """The object is there under the digest of what was read; S3 took it only because the digest was right."""
        there = before.key(inputs) in (after.written or ())
        message = f"{before.events} events are {'' if there else 'not '}in {inputs.evidence_bucket}"
        return Judgement(outcome="Helped" if there else None, measured=after.written is not None, message=message)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
