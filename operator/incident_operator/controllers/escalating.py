"""How the operator tells people: which EscalationPolicy holds, and one message handed to one channel."""

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ..adapters.kube import KubeError, NotFound
from ..adapters.notify import Delivery, State, credential_of
from ..api.escalation import Channel, ChannelType, EscalationPolicy
from ..api.incident import Engagement, Incident, Occasion
from ..api.meta import Severity
from ..api.review import PostIncidentReview
from ..core.calendar import UnknownTimeZone, calendar_of
from ..core.incident import Handed, Ways, about_of, notice_of
from ..core.notice import Notice
from ..core.review_clock import Remind
from .context import Context

log = logging.getLogger(__name__)

POLICY = "default"
_KIND = "EscalationPolicy"
#: The policy of the operator's namespace is in no watch of an operator for other namespaces.
_KEPT_FOR = timedelta(seconds=30)


class NotDelivered(Exception):
    """A channel asks to be tried again later; the message says which, and why."""


@dataclass(frozen=True, kw_only=True)
class NoPolicy:
    """Why nobody can be told."""

    message: str


@dataclass
class Policies:
    """The policy of each namespace: its own, else that of the operator's namespace."""

    context: Context
    _shared: EscalationPolicy | None = None
    _asked_at: datetime | None = field(default=None)

    async def of(self, namespace: str) -> EscalationPolicy | NoPolicy:
        """Return the policy that holds in a namespace. Errors: KubeError."""
        policy = await self.stored(namespace)
        if policy is None:
            where = f"{namespace} or {self.context.settings.operator_namespace}"
            return NoPolicy(message=f"there is no EscalationPolicy {POLICY} in namespace {where}")
        try:
            calendar_of(policy.spec)
        except UnknownTimeZone as error:
            return NoPolicy(message=f"EscalationPolicy {policy.metadata.namespace}/{POLICY}: spec.timeZone: {error}")
        return policy

    async def stored(self, namespace: str) -> EscalationPolicy | None:
        """Return the policy of a namespace as written, whether its calendar can be read or not. Errors: KubeError."""
        policy = self._watched(namespace) or self._watched(self.context.settings.operator_namespace)
        return policy or await self._of_the_operator()

    def _watched(self, namespace: str) -> EscalationPolicy | None:
        return self.context.store.read(_KIND, (namespace, POLICY), EscalationPolicy.model_validate)

    async def _of_the_operator(self) -> EscalationPolicy | None:
        now = self.context.clock.now()
        if self._asked_at is None or now - self._asked_at > _KEPT_FOR:
            try:
                raw = await self.context.kube.get(_KIND, self.context.settings.operator_namespace, POLICY)
                self._shared = EscalationPolicy.model_validate(raw)
            except NotFound:
                self._shared = None
            self._asked_at = now
        return self._shared


async def hand_over(context: Context, incident: Incident, engagement: Engagement, policy: EscalationPolicy) -> Handed:
    """Hand one message to its channel, and return what became of it. Never raises for a provider's fault."""
    about = about_of(incident, engagement)
    channel = next((c for c in policy.spec.channels if c.name == engagement.channel), None)
    if channel is None:
        delivery = None
    else:
        delivery = await _delivered(context, incident, engagement, policy, channel)
    at = context.clock.now()
    if delivery is None or channel is None:
        return Handed(
            key=engagement.key, due_at=engagement.due_at, at=at, state="Failed", reason="ChannelGone", about=about
        )
    mailed = channel.type == ChannelType.EMAIL and delivery.state == State.DELIVERED
    return Handed(
        key=engagement.key,
        due_at=engagement.due_at,
        at=at,
        state="Sent" if mailed else delivery.state.value,
        reason=str(delivery.reason),
        about=about,
        retry_after=delivery.retry_after,
        reference=delivery.reference,
    )


async def _delivered(
    context: Context, incident: Incident, engagement: Engagement, policy: EscalationPolicy, channel: Channel
) -> Delivery:
    credential = await credential_of(context.kube, policy.metadata.namespace or "", channel)
    if isinstance(credential, Delivery):
        return credential
    review = await _review_of(context, incident) if engagement.occasion == Occasion.RESOLVED else None
    notice = notice_of(incident, engagement, policy.spec, context.clock.now(), review)
    if engagement.occasion == Occasion.PUBLISH:
        return await context.messenger.publish(notice, channel, credential)
    return await context.messenger.deliver(notice, channel, credential)


async def _review_of(context: Context, incident: Incident) -> PostIncidentReview | None:
    """Return the incident's review; None where there is none, or where it can't be read now."""
    try:
        raw = await context.kube.get("PostIncidentReview", incident.metadata.namespace or "", incident.metadata.name)
    except KubeError as error:
        if not isinstance(error, NotFound):
            log.warning("the end of %s is told without its review: %s", incident.metadata.name, error)
        return None
    return PostIncidentReview.model_validate(raw)


async def remind_people(context: Context, review: PostIncidentReview, remind: Remind, policy: EscalationPolicy) -> None:
    """Remind those of a review whom it is for: by mail, or in the room where nobody of them has an address.

    Errors: NotDelivered; said again, it has the same key.
    """
    where = f"{review.metadata.namespace}/{review.metadata.name}"
    for whom, channel in Ways(policy.spec).to_remind(remind.owner, remind.roles):
        credential = await credential_of(context.kube, policy.metadata.namespace or "", channel)
        if isinstance(credential, Delivery):
            delivery = credential
        else:
            notice = Notice(
                key="/".join((review.metadata.uid, *remind.keys)),
                incident=where,
                occasion=Occasion.DIGEST,
                severity=review.spec.severity or Severity.P3,
                title=f"Review of {review.spec.ticket or review.metadata.name}",
                lines=(remind.message,),
                recipients=(whom.email,) if whom is not None and whom.email is not None else (),
            )
            delivery = await context.messenger.deliver(notice, channel, credential)
        if delivery.state == State.RETRY:
            raise NotDelivered(f"the reminder of {where} by {channel.name}: {delivery.reason}")
