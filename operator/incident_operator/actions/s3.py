"""S3: whether anybody can read what is meant for all, why not, and give public read back without opening more.

What is declared is not a document but one statement of fixed form: anybody may s3:GetObject the objects under a prefix
that have one tag. A run can't ask for more. S3 answers 403 also for an object that does not exist, to whoever may not
list: so existence is asked for by a role before a policy is blamed. Source: facts on AWS (section 4, row 15), facts on
verification.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

from pydantic import Field

from ..api.meta import Risk, parse_instant
from ..api.plan import Call, DiffLine, Guard, Hazard, Precondition, Read, Repeat, Undo
from ..api.runbook import FindingKind
from ..core.draft import Judgement, NotApplicable, PlanDraft, Waits
from ..core.planning import is_protected
from .base import ActionModel, CheckAction, Facts, FixAction, Found, Inputs, Output, ReasonInfo, Unclear, register
from .policies import Pair, listed, speaks_of, statements
from .ports import NotFound, Reader, ReadError

CALL_TIMEOUT = timedelta(seconds=10)
#: How far back a change can be what broke it.
TRAIL_WINDOW = timedelta(days=7)
#: S3 takes policies of 20 KiB; a plan holds the whole of it twice, and its facts once more.
MAX_POLICY = 12 * 1024
#: How many objects are looked at to learn whether objects are tagged.
SAMPLE = 20
_BUCKET = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
_READ = "s3:GetObject"


class BucketInputs(Inputs):
    """A bucket, and where it is."""

    bucket: str = Field(pattern=_BUCKET)
    region: str | None = None

    @property
    def arn(self) -> str:
        """The bucket's ARN."""
        return f"arn:aws:s3:::{self.bucket}"


class CanaryInputs(BucketInputs):
    """Objects that everybody is meant to read, by key."""

    canaries: tuple[str, ...] = Field(min_length=1, max_length=10)


class ObjectsInputs(CanaryInputs):
    """One object besides that nobody outside is meant to read: what proves that no more was opened."""

    private_object: str = Field(min_length=1, max_length=1024)


class DeclaredInputs(CanaryInputs):
    """The one statement that gives public read.

    Shape: literal but for the bucket and the canaries: a run names what is looked at, never who may read what.
    """

    sid: str = Field("PublicReadGetObject", pattern=r"^[A-Za-z0-9]{1,64}$", json_schema_extra={"literal": True})
    tag_key: str = Field("data-classification", max_length=128, json_schema_extra={"literal": True})
    tag_value: str = Field("public-dataset", max_length=256, json_schema_extra={"literal": True})
    prefix: str = Field("", pattern=r"^[A-Za-z0-9!_.()/-]*$", max_length=512, json_schema_extra={"literal": True})

    def statement(self) -> dict[str, Any]:
        """Return the declared statement."""
        return {
            "Sid": self.sid,
            "Effect": "Allow",
            "Principal": "*",
            "Action": _READ,
            "Resource": f"{self.arn}/{self.prefix}*",
            "Condition": {"StringEquals": {f"s3:ExistingObjectTag/{self.tag_key}": self.tag_value}},
        }


# --- what is read -----------------------------------------------------------------------------------------------------


class SeenObject(ActionModel):
    """One object, as anybody sees it and as it is. Shape: `status` is 200, 403 or 404."""

    key: str
    status: int
    exists: bool
    tags: dict[str, str] = Field(default_factory=dict)


def _tags(inputs: BucketInputs, key: str, reader: Reader) -> dict[str, str] | None:
    """Return an object's tags; None where there is no such object."""
    try:
        found = reader.aws("s3", "get_object_tagging", {"Bucket": inputs.bucket, "Key": key}, region=inputs.region)
    except NotFound:
        return None
    return dict(found)


def _look_at(inputs: ObjectsInputs, reader: Reader) -> tuple[SeenObject, ...]:
    """Look at each canary, then at the private object. Errors: ReadError."""
    keys = tuple(dict.fromkeys((*inputs.canaries, inputs.private_object)))
    asked = [{"Bucket": inputs.bucket, "Key": key} for key in keys]
    reader.prefetch("s3", "head_object", *asked, region=inputs.region)
    reader.prefetch("s3", "get_object_tagging", *asked, region=inputs.region)
    seen = []
    for key in keys:
        tags = _tags(inputs, key, reader)
        seen.append(SeenObject(key=key, status=_status(inputs, key, reader), exists=tags is not None, tags=tags or {}))
    return tuple(seen)


def _status(inputs: BucketInputs, key: str, reader: Reader) -> int:
    """Return what anybody gets who asks for an object. Errors: ReadError for what is no answer of S3's."""
    try:
        reader.aws("s3", "head_object", {"Bucket": inputs.bucket, "Key": key}, region=inputs.region)
    except NotFound:
        return 404
    except ReadError as error:
        if error.reason != "PublicAccessDenied":
            raise
        return 403
    return 200


class PolicyChange(ActionModel):
    """Who took the declared statement away, or wrote the policy that lacks it."""

    event: str
    actor: str
    at: datetime


class PolicyFacts(Facts):
    """The bucket's policy, and who made it what it is.

    Shape: `document` is None where the bucket has none; `unseen`: CloudTrail does not show the change that made the
    policy what it is (yet).
    """

    document: Any = None
    change: PolicyChange | None = None
    unseen: bool = False
    protected: tuple[str, ...] = ()
    looked_at: datetime


def _document(inputs: BucketInputs, reader: Reader) -> Any:
    try:
        return reader.aws("s3", "get_bucket_policy", {"Bucket": inputs.bucket}, region=inputs.region)
    except NotFound as missing:
        if missing.code != "NoSuchBucketPolicy":
            raise
        return None


def read_policy(inputs: DeclaredInputs, reader: Reader) -> PolicyFacts:
    """Read the policy, and where it is not as declared, who changed it. Errors: ReadError."""
    document = _document(inputs, reader)
    if stands(inputs, document):
        return PolicyFacts(document=document, looked_at=reader.now)
    arguments = {
        "LookupAttributes": [{"AttributeKey": "ResourceName", "AttributeValue": inputs.bucket}],
        "StartTime": (reader.now - reader.scaled(TRAIL_WINDOW)).replace(second=0, microsecond=0).isoformat(),
    }
    answer = reader.aws("cloudtrail", "lookup_events", arguments, region=inputs.region)
    events = sorted(
        (e for e in answer if e["name"] in ("PutBucketPolicy", "DeleteBucketPolicy") and not e["error"]),
        key=lambda e: str(e["at"]),
        reverse=True,
    )
    change = _who_took(inputs, document, events)
    return PolicyFacts(
        document=document,
        change=change,
        unseen=change is None,
        protected=reader.protected_actors,
        looked_at=reader.now,
    )


def _who_took(inputs: DeclaredInputs, document: Any, events: Sequence[Mapping[str, Any]]) -> PolicyChange | None:
    """Return the change since which the declared statement is not there; None where the newest one is not shown.

    Shape: `events` newest first. What stands must be what the newest event left, else an event is still missing.
    """
    if not events or not _same(_left_by(events[0]), document):
        return None
    since = events[0]
    for event in events:
        if stands(inputs, _left_by(event)):
            break
        since = event
    at = since["at"]
    return PolicyChange(
        event=since["name"],
        actor=since["actor"] or "unknown",
        at=parse_instant(at) if isinstance(at, str) else at,
    )


def _left_by(event: Mapping[str, Any]) -> Any:
    """Return the policy that a change left; None for a deletion."""
    if event["name"] == "DeleteBucketPolicy":
        return None
    written = event["parameters"].get("bucketPolicy")
    return json.loads(written) if isinstance(written, str) else written


def _same(one: Any, other: Any) -> bool:
    return bool((one or {}).get("Statement") == (other or {}).get("Statement"))


def named(document: Any, sid: str) -> Mapping[str, Any] | None:
    """Return the statement of a Sid; None where there is none."""
    return next((s for s in statements(document) if s.get("Sid") == sid), None)


def stands(inputs: DeclaredInputs, document: Any) -> bool:
    """Tell whether the declared statement is in the policy, exactly; lists of one count as the one."""
    found = named(document, inputs.sid)
    return found is not None and _plain(found) == _plain(inputs.statement())


def _plain(statement: Mapping[str, Any]) -> dict[str, Any]:
    principal = statement.get("Principal")
    if isinstance(principal, Mapping) and listed(principal.get("AWS")) == ["*"] and set(principal) == {"AWS"}:
        principal = "*"
    condition = {
        operator: {key: sorted(listed(values)) for key, values in keys.items()}
        for operator, keys in (statement.get("Condition") or {}).items()
    }
    return {
        **{
            key: value
            for key, value in statement.items()
            if key not in ("Principal", "Action", "Resource", "Condition")
        },
        "Principal": principal,
        "Action": sorted(listed(statement.get("Action"))),
        "Resource": sorted(listed(statement.get("Resource"))),
        "Condition": condition,
    }


def denying(inputs: DeclaredInputs, document: Any) -> Mapping[str, Any] | None:
    """Return a statement that denies everybody one of the canaries; None where there is none.

    A Deny under a condition counts where the condition is on the objects' tags; others (TLS, networks) leave most
    readers alone.
    """
    for statement in statements(document):
        pairs = (Pair(action=_READ, resource=f"{inputs.arn}/{key}") for key in inputs.canaries)
        if statement.get("Effect") != "Deny" or not any(speaks_of(statement, pair) for pair in pairs):
            continue
        principal = statement.get("Principal")
        names = listed(principal.get("AWS")) if isinstance(principal, Mapping) else listed(principal)
        keys = [key for block in (statement.get("Condition") or {}).values() for key in block]
        on_tags = any(key.lower().startswith("s3:existingobjecttag/") for key in keys)
        if ("*" in names or "NotPrincipal" in statement) and (not keys or on_tags):
            return statement
    return None


# --- s3.anonymous-reads -----------------------------------------------------------------------------------------------


class ReadsFacts(Facts):
    """Each canary and the private object, as anybody sees them."""

    canaries: tuple[SeenObject, ...]
    private: SeenObject


def read_objects(inputs: ObjectsInputs, reader: Reader) -> ReadsFacts:
    """Look at the objects. Errors: ReadError."""
    by_key = {seen.key: seen for seen in _look_at(inputs, reader)}
    return ReadsFacts(
        canaries=tuple(by_key[key] for key in dict.fromkeys(inputs.canaries)), private=by_key[inputs.private_object]
    )


class ReadsOutput(Output):
    """How many canaries anybody can read, of all, and what the private object answers."""

    readable: int
    forbidden: int
    missing: int
    total: int
    private_status: int


@register
class AnonymousReads(CheckAction[ObjectsInputs, ReadsFacts]):
    """Can anybody read what is meant for all, and nobody what is not?"""

    name = "s3.anonymous-reads"
    title = "Reads by anybody"
    inputs_model = ObjectsInputs
    facts_model = ReadsFacts
    reads = ("s3:GetObjectTagging", "s3:ListBucket")
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "CanariesForbidden": ReasonInfo(doc="Objects that exist and are meant for all are refused to all."),
        "CanariesMissing": ReasonInfo(
            doc="A named object does not exist: S3 answers 403 or 404, and no policy is to blame.", root_cause=True
        ),
        "PrivateObjectExposed": ReasonInfo(doc="Anybody can read the object that nobody is meant to read."),
        "PrivateObjectMissing": ReasonInfo(
            doc="The private object does not exist: nothing proves that no more is open than should be."
        ),
    }

    def observe(self, inputs: ObjectsInputs, reader: Reader) -> ReadsFacts:
        """Ask for each as anybody would, and by the grant's role whether it exists."""
        return read_objects(inputs, reader)

    def output(self, facts: ReadsFacts) -> ReadsOutput:
        """Return counts."""
        return ReadsOutput(
            readable=sum(seen.status == 200 for seen in facts.canaries),
            forbidden=sum(seen.status != 200 and seen.exists for seen in facts.canaries),
            missing=sum(not seen.exists for seen in facts.canaries),
            total=len(facts.canaries),
            private_status=facts.private.status,
        )

    def findings(self, inputs: ObjectsInputs, facts: ReadsFacts) -> Sequence[Found] | Unclear:
        """Tell what is refused from what is not there."""
        found = []
        forbidden = [seen for seen in facts.canaries if seen.status != 200 and seen.exists]
        if forbidden:
            message = f"{len(forbidden)} of {len(facts.canaries)} objects in {inputs.bucket} are refused to everybody"
            found.append(Found(reason="CanariesForbidden", message=message, subject=inputs.arn))
        missing = [seen for seen in facts.canaries if not seen.exists]
        if missing:
            message = f"{len(missing)} of {len(facts.canaries)} named objects do not exist in {inputs.bucket}"
            found.append(Found(reason="CanariesMissing", message=message, subject=inputs.arn))
        if facts.private.status == 200:
            message = f"everybody can read {inputs.private_object} in {inputs.bucket}"
            found.append(Found(reason="PrivateObjectExposed", message=message, subject=inputs.arn))
        elif not facts.private.exists:
            message = f"{inputs.private_object} does not exist in {inputs.bucket}: it can't prove anything"
            found.append(Found(reason="PrivateObjectMissing", message=message, subject=inputs.arn))
        return found


# --- s3.bucket-policy -------------------------------------------------------------------------------------------------


class PolicyOutput(Output):
    """The policy in short."""

    exists: bool
    statements: int
    sids: tuple[str, ...] = ()
    declared: bool


@register
class BucketPolicy(CheckAction[DeclaredInputs, PolicyFacts]):
    """Does the policy say what is declared, and if not, since when and by whom?"""

    name = "s3.bucket-policy"
    title = "The bucket's policy"
    inputs_model = DeclaredInputs
    facts_model = PolicyFacts
    reads = ("s3:GetBucketPolicy", "cloudtrail:LookupEvents")
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "PublicReadMissing": ReasonInfo(doc="The policy lacks the declared statement.", root_cause=True),
        "PublicReadDiffers": ReasonInfo(
            doc="The policy has a statement of the declared Sid that says something else.", root_cause=True
        ),
        "ExplicitDeny": ReasonInfo(doc="The policy denies everybody in so many words.", root_cause=True),
        "AccessRemovedOnPurpose": ReasonInfo(
            doc="A protected actor took the declared statement away: nothing gives it back by itself.", root_cause=True
        ),
    }

    def observe(self, inputs: DeclaredInputs, reader: Reader) -> PolicyFacts:
        """Read the policy and its changes."""
        return read_policy(inputs, reader)

    def output(self, facts: PolicyFacts) -> PolicyOutput:
        """Return the Sids."""
        found = statements(facts.document)
        return PolicyOutput(
            exists=facts.document is not None,
            statements=len(found),
            sids=tuple(str(s.get("Sid", ""))[:64] for s in found[:12]),
            declared=facts.change is None and not facts.unseen,
        )

    def findings(self, inputs: DeclaredInputs, facts: PolicyFacts) -> Sequence[Found] | Unclear:
        """Compare by Sid, and say who changed it."""
        denied = denying(inputs, facts.document)
        as_declared = stands(inputs, facts.document)
        if as_declared and denied is None:
            return []
        change = facts.change
        who = f"; {change.event} by {change.actor} at {change.at:%Y-%m-%d %H:%M:%S}Z" if change else ""
        if denied is not None:
            reason, message = "ExplicitDeny", f"{inputs.bucket}: an explicit Deny refuses everybody"
        elif change is not None and is_protected(change.actor, facts.protected):
            reason, message = "AccessRemovedOnPurpose", f"{inputs.bucket}: a protected actor took public read away"
        elif named(facts.document, inputs.sid) is not None:
            reason, message = "PublicReadDiffers", f"{inputs.bucket}: statement {inputs.sid} is not as declared"
        else:
            reason, message = "PublicReadMissing", f"{inputs.bucket}: the policy has no statement {inputs.sid}"
        found = Found(
            reason=reason,
            message=message + who,
            subject=inputs.arn,
            actor=change.actor if change else None,
            at=change.at if change else None,
        )
        if not as_declared and facts.unseen:
            return Unclear(
                reason="ActorUnknown",
                message="CloudTrail does not show (yet) who changed the policy",
                found=(found,),
                retry_at=facts.looked_at,
            )
        return [found]


# --- s3.public-access-block -------------------------------------------------------------------------------------------


class BlockFacts(Facts):
    """The bucket's public-access block: the settings that are on. None of the bucket's own is four times off."""

    on: tuple[str, ...] = ()

    @property
    def keeping_out(self) -> tuple[str, ...]:
        """The settings that keep a policy from giving public read."""
        return tuple(name for name in self.on if name in ("BlockPublicPolicy", "RestrictPublicBuckets"))


def read_block(inputs: BucketInputs, reader: Reader) -> BlockFacts:
    """Read the block. Errors: ReadError, also where there is no such bucket."""
    try:
        found = reader.aws("s3", "get_public_access_block", {"Bucket": inputs.bucket}, region=inputs.region)
    except NotFound as missing:
        if missing.code != "NoSuchPublicAccessBlockConfiguration":
            raise
        return BlockFacts()
    return BlockFacts(on=tuple(sorted(name for name, value in found.items() if value)))


class BlockOutput(Output):
    """The settings that are on."""

    on: tuple[str, ...] = ()


@register
class PublicAccessBlock(CheckAction[BucketInputs, BlockFacts]):
    """Does the bucket's public-access block keep everybody out?"""

    name = "s3.public-access-block"
    title = "The public-access block"
    inputs_model = BucketInputs
    facts_model = BlockFacts
    reads = ("s3:GetBucketPublicAccessBlock",)
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "PublicAccessBlocked": ReasonInfo(
            doc="The bucket blocks public access: no policy can give it, and nothing here ever turns a block off.",
            root_cause=True,
        ),
    }

    def observe(self, inputs: BucketInputs, reader: Reader) -> BlockFacts:
        """Read the bucket's own block. That of the account refuses the fix's call, and shows there."""
        return read_block(inputs, reader)

    def output(self, facts: BlockFacts) -> BlockOutput:
        """Return what is on."""
        return BlockOutput(on=facts.on)

    def findings(self, inputs: BucketInputs, facts: BlockFacts) -> Sequence[Found] | Unclear:
        """A block of access lists alone keeps no policy from working."""
        if not facts.keeping_out:
            return []
        message = f"{inputs.bucket} blocks public access ({', '.join(facts.keeping_out)})"
        return [Found(reason="PublicAccessBlocked", message=message, subject=inputs.arn)]


# --- s3.object-tags ---------------------------------------------------------------------------------------------------


class TagsFacts(Facts):
    """How many objects of a sample have the tag, which canaries lack it, and how many canaries do not exist."""

    sampled: int
    tagged: int
    untagged_canaries: tuple[str, ...] = ()
    missing_canaries: int = 0


class TagsOutput(Output):
    """The same in numbers."""

    sampled: int
    tagged: int
    untagged_canaries: int


@register
class ObjectTags(CheckAction[DeclaredInputs, TagsFacts]):
    """Do the objects have the tag that the declared statement asks for?"""

    name = "s3.object-tags"
    title = "The objects' tags"
    inputs_model = DeclaredInputs
    facts_model = TagsFacts
    reads = ("s3:GetObjectTagging", "s3:ListBucket")
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "ObjectsUntagged": ReasonInfo(
            doc="Named objects lack the tag: the declared statement does not give them to anybody.", root_cause=True
        ),
        "SomeUntagged": ReasonInfo(doc="Some objects of the sample lack the tag.", kind=FindingKind.INFO),
    }

    def observe(self, inputs: DeclaredInputs, reader: Reader) -> TagsFacts:
        """List a few objects under the prefix, and read their tags and the canaries'."""
        listing = {"Bucket": inputs.bucket, "MaxKeys": SAMPLE, **({"Prefix": inputs.prefix} if inputs.prefix else {})}
        sample = reader.aws("s3", "list_objects_v2", listing, region=inputs.region)[:SAMPLE]
        keys = tuple(dict.fromkeys((*sample, *inputs.canaries)))
        asked = [{"Bucket": inputs.bucket, "Key": key} for key in keys]
        reader.prefetch("s3", "get_object_tagging", *asked, region=inputs.region)
        tags = {key: _tags(inputs, key, reader) for key in keys}
        known = {key: found.get(inputs.tag_key) == inputs.tag_value for key, found in tags.items() if found is not None}
        return TagsFacts(
            sampled=sum(key in known for key in sample),
            tagged=sum(known.get(key, False) for key in sample),
            untagged_canaries=tuple(key for key in dict.fromkeys(inputs.canaries) if known.get(key) is False),
            missing_canaries=sum(key not in known for key in dict.fromkeys(inputs.canaries)),
        )

    def output(self, facts: TagsFacts) -> TagsOutput:
        """Return numbers."""
        return TagsOutput(sampled=facts.sampled, tagged=facts.tagged, untagged_canaries=len(facts.untagged_canaries))

    def findings(self, inputs: DeclaredInputs, facts: TagsFacts) -> Sequence[Found] | Unclear:
        """Canaries without the tag are a problem; others may be private on purpose. What is not there has no tags."""
        found = []
        tag = f"{inputs.tag_key}={inputs.tag_value}"
        if facts.untagged_canaries:
            message = f"{len(facts.untagged_canaries)} named objects in {inputs.bucket} lack the tag {tag}"
            found.append(Found(reason="ObjectsUntagged", message=message, subject=inputs.arn))
        if facts.tagged < facts.sampled:
            message = f"{facts.sampled - facts.tagged} of {facts.sampled} objects looked at lack the tag {tag}"
            found.append(Found(reason="SomeUntagged", message=message, subject=inputs.arn))
        if facts.missing_canaries:
            message = f"{facts.missing_canaries} named objects do not exist in {inputs.bucket}: nobody knows their tags"
            return Unclear(reason="CanariesMissing", message=message, found=tuple(found))
        return found


# --- s3.merge-bucket-policy -------------------------------------------------------------------------------------------


class MergeInputs(DeclaredInputs, ObjectsInputs):
    """What is declared, and the objects that prove it."""


class MergeFacts(Facts):
    """All that decides on the merge."""

    policy: PolicyFacts
    block: BlockFacts
    objects: ReadsFacts


@register
class MergeBucketPolicy(FixAction[MergeInputs, MergeFacts]):
    """Put the declared statement back into the policy, beside all others as they stand."""

    name = "s3.merge-bucket-policy"
    title = "Put the declared public read back into the bucket's policy"
    inputs_model = MergeInputs
    facts_model = MergeFacts
    reads = tuple(
        sorted({*AnonymousReads.reads, *BucketPolicy.reads, *PublicAccessBlock.reads})  # what its parts read
    )
    writes = ("s3:PutBucketPolicy", "s3:DeleteBucketPolicy")
    risk = "Disruptive, and it exposes data: never automatic, the Security tier agrees."
    undo = "The policy that was there is put back exactly, or deleted where there was none, if nobody changed it since."
    waits = Waits(wait=timedelta(seconds=60), every=timedelta(seconds=20), deadline=timedelta(minutes=5))
    reasons: ClassVar[Mapping[str, ReasonInfo]] = {
        "NothingMissing": ReasonInfo(doc="The declared statement stands; what refuses readers is something else."),
        "AlreadyReadable": ReasonInfo(doc="Everybody can read the named objects."),
        "PublicAccessBlocked": ReasonInfo(
            doc="The bucket blocks public access. A block is never turned off here: the owner serves the objects "
            "another way, such as CloudFront with origin access."
        ),
        "ObjectsUntagged": ReasonInfo(
            doc="The named objects lack the tag: the statement would not give them to anybody."
        ),
        "CanariesMissing": ReasonInfo(doc="A named object does not exist: no policy brings it back."),
        "NoProof": ReasonInfo(
            doc="The private object is missing, tagged as public, or readable: it could prove nothing."
        ),
        "ExplicitDeny": ReasonInfo(doc="An Allow can't beat a Deny, and somebody wrote it on purpose."),
        "AccessRemovedOnPurpose": ReasonInfo(doc="A protected actor took the statement away."),
        "StatementDiffers": ReasonInfo(doc="Somebody wrote a statement of that Sid: it is theirs to change."),
        "PolicyTooLarge": ReasonInfo(doc="The policy is larger than a plan can hold: a person merges it."),
    }

    def observe(self, inputs: MergeInputs, reader: Reader) -> MergeFacts:
        """Read the policy, the block and the objects."""
        return MergeFacts(
            policy=read_policy(inputs, reader), block=read_block(inputs, reader), objects=read_objects(inputs, reader)
        )

    def plan(self, inputs: MergeInputs, facts: MergeFacts) -> PlanDraft | NotApplicable:
        """Add the one statement to what stands now; the plan is void once that is something else."""
        why = self._why_not(inputs, facts)
        if why is not None:
            return why
        before = facts.policy.document
        merged = {
            **(before or {"Version": "2012-10-17"}),
            "Statement": [*statements(before), inputs.statement()],
        }
        target: dict[str, Any] = {"Bucket": inputs.bucket}
        reading = Read(service="s3", operation="get_bucket_policy", arguments=target)
        change = facts.policy.change
        return PlanDraft(
            title=f"put statement {inputs.sid} back into the policy of {inputs.bucket}",
            calls=(_put(inputs, merged, f"add statement {inputs.sid} to the policy of {inputs.bucket}"),),
            touches=(inputs.arn,),
            risk=Risk.DISRUPTIVE,
            hazards=(Hazard.EXPOSES_DATA,),
            region=inputs.region,
            preconditions=(
                Precondition(read=reading, path="Statement", equals=before["Statement"] if before else None),
            ),
            verify=self.waits.verify(
                f"anybody can read {len(facts.objects.canaries)} named objects, nobody {inputs.private_object}",
            ),
            diff=(
                DiffLine(
                    what=f"policy of {inputs.bucket}: everybody may read objects tagged "
                    f"{inputs.tag_key}={inputs.tag_value}",
                    before=f"{len(statements(before))} statements, none of them {inputs.sid}",
                    after=json.dumps(inputs.statement(), sort_keys=True)[:2048],
                ),
                DiffLine(
                    what="who took it away",
                    after=f"{change.actor}, {change.event} at {change.at:%Y-%m-%d %H:%M:%S}Z"
                    if change
                    else "unknown: CloudTrail shows changes up to 15 minutes late",
                ),
            ),
            undo=Undo(
                calls=(_put(inputs, before, "put the former policy back") if before else _delete(inputs),),
                safe_when="the policy is still what was written",
                guards=(Guard(read=reading, path="Statement"),),
            ),
            revert_if_worse=True,
        )

    def _why_not(self, inputs: MergeInputs, facts: MergeFacts) -> NotApplicable | None:
        """Return why nothing is merged, the reason that a person should hear first."""
        bucket, objects, policy = inputs.bucket, facts.objects, facts.policy
        tag = f"{inputs.tag_key}={inputs.tag_value}"
        untagged = [s for s in objects.canaries if s.exists and s.tags.get(inputs.tag_key) != inputs.tag_value]
        private = objects.private
        said: list[tuple[bool, str, str]] = [
            (
                bool(facts.block.keeping_out),
                "PublicAccessBlocked",
                f"{bucket} blocks public access ({', '.join(facts.block.keeping_out)}): its owner and security decide; "
                "CloudFront with origin access serves images from a blocked bucket",
            ),
            (
                denying(inputs, policy.document) is not None,
                "ExplicitDeny",
                f"the policy of {bucket} denies everybody in so many words: its owner must lift it",
            ),
            (
                policy.change is not None and is_protected(policy.change.actor, policy.protected),
                "AccessRemovedOnPurpose",
                f"a protected actor took statement {inputs.sid} away from {bucket}: they decide",
            ),
            (
                stands(inputs, policy.document),
                "NothingMissing",
                f"the policy of {bucket} has statement {inputs.sid} as declared",
            ),
            (
                named(policy.document, inputs.sid) is not None,
                "StatementDiffers",
                f"somebody wrote a statement {inputs.sid} that is not the declared one: it is not overwritten",
            ),
            (
                any(not seen.exists for seen in objects.canaries),
                "CanariesMissing",
                f"a named object does not exist in {bucket}: no policy brings it back",
            ),
            (
                bool(untagged),
                "ObjectsUntagged",
                f"{len(untagged)} named objects in {bucket} lack the tag {tag}: the statement would not open them",
            ),
            (
                all(seen.status == 200 for seen in objects.canaries),
                "AlreadyReadable",
                f"everybody can read the named objects in {bucket}",
            ),
            (
                not private.exists or private.status == 200 or private.tags.get(inputs.tag_key) == inputs.tag_value,
                "NoProof",
                f"{inputs.private_object} is missing, tagged {tag} or readable: it proves nothing",
            ),
            (
                len(json.dumps(policy.document)) > MAX_POLICY,
                "PolicyTooLarge",
                f"the policy of {bucket} is larger than {MAX_POLICY} bytes: merge it by hand",
            ),
        ]
        return next((NotApplicable(reason=r, message=message) for fits, r, message in said if fits), None)

    def applied(self, call: Call, inputs: MergeInputs, facts: MergeFacts) -> bool | None:
        """Tell by the policy: it is what the call writes, or is not; None where somebody wrote a third one."""
        ours = stands(inputs, facts.policy.document)
        if call.operation == "delete_bucket_policy":
            return facts.policy.document is None
        if _same(json.loads(call.arguments["Policy"]), facts.policy.document):
            return True
        writes_ours = stands(inputs, json.loads(call.arguments["Policy"]))
        return False if ours != writes_ours else None

    def measure(self, inputs: MergeInputs, reader: Reader) -> ReadsFacts:
        """Look at the objects as anybody would."""
        return read_objects(inputs, reader)

    def judge(self, inputs: MergeInputs, before: MergeFacts, after: ReadsFacts) -> Judgement:
        """All canaries are readable, and the private object is not. One that became readable is worse than before."""
        if after.private.status == 200:
            message = f"everybody can read {inputs.private_object}: more is open than was meant"
            return Judgement(outcome="Worse", measured=True, message=message)
        readable = sum(seen.status == 200 for seen in after.canaries)
        message = f"anybody can read {readable} of {len(after.canaries)} named objects, nobody {inputs.private_object}"
        return Judgement(outcome="Helped" if readable == len(after.canaries) else None, measured=True, message=message)


def _put(inputs: BucketInputs, document: Mapping[str, Any], summary: str) -> Call:
    return Call(
        service="s3",
        operation="put_bucket_policy",
        arguments={"Bucket": inputs.bucket, "Policy": json.dumps(document, separators=(",", ":"))},
        permissions=("s3:PutBucketPolicy",),
        resources=(inputs.arn,),
        # S3 has no guard of its own for policies: if its outcome is unknown, `applied` looks before it is made again.
        repeat=Repeat.ABSOLUTE,
        timeout=CALL_TIMEOUT,
        summary=summary,
    )


def _delete(inputs: BucketInputs) -> Call:
    return Call(
        service="s3",
        operation="delete_bucket_policy",
        arguments={"Bucket": inputs.bucket},
        permissions=("s3:DeleteBucketPolicy",),
        resources=(inputs.arn,),
        repeat=Repeat.ABSOLUTE,
        timeout=CALL_TIMEOUT,
        summary="delete the policy that was added",
    )
