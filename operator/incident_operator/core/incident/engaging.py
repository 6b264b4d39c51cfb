"""Whom to tell now: pages of the ladder, roles of the matrix, updates, and the end.

An *engagement* is one message to one contact (or to stakeholders) by one channel. It is stored before it is handed
over, and handed over again where it is not known that it arrived: at least once. A page is repeated in its own
engagement, so what an outage of ours held up goes out once to each contact, not once for each page missed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zlib import crc32

from ...api.escalation import ChannelType, EscalationPolicySpec
from ...api.incident import Engagement, EngagementState, IncidentStatus, Occasion
from ...api.meta import Severity
from ..escalation import Engagement as RoleEngagement
from ..escalation import SeverityChange, engagements, next_page, pages_until
from ..schedule import earliest
from ..story import Tell, told
from .folding import waiting_since
from .view import HANDED, LIVE, Handed, IncidentView, by_key, detected_at
from .ways import BROADCAST, PAGES, Ways

#: After so many tries a message that no answer came to is given up; a page is tried anew when it is repeated.
_TRIES = 8
_BACKOFF, _LONGEST = timedelta(seconds=5), timedelta(minutes=5)
_MAX = 96
STAKEHOLDERS = "Stakeholders"
#: A room hears of turns at most so often, however fast they come.
_APART = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """A message that is due by now, whether it was given already or not. `channel` None: there is no way."""

    key: str
    occasion: Occasion
    whom: str
    channel: str | None
    due_at: datetime
    role: str | None = None
    about: str = ""


def take_note(status: IncidentStatus, handed: Iterable[Handed]) -> tuple[IncidentStatus, tuple[Tell, ...]]:
    """Return the status with what became of messages that were handed over."""
    tells = list[Tell]()
    for outcome in handed:
        place = by_key(status).get(outcome.key)
        if place is None:
            continue
        old = status.engagements[place]
        new = _after(old, outcome)
        listed = (*status.engagements[:place], new, *status.engagements[place + 1 :])
        times = status.times
        if new.state in HANDED and new.occasion in PAGES:
            times = times.model_copy(update={"paged": times.paged or outcome.at})
        timeline = status.timeline
        if new.state in HANDED and old.times == 0:
            timeline = told(timeline, outcome.at, "Told", _words(new), f"engagement {new.key}")
        if new.state == EngagementState.FAILED and old.state != EngagementState.FAILED:
            text = f"{_words(new)} failed: {new.reason}"
            timeline = told(timeline, outcome.at, "NotTold", text, f"engagement {new.key}")
            tells.append(Tell("NotTold", text, warning=True))
        status = status.model_copy(update={"engagements": listed, "times": times, "timeline": timeline})
    return status, tuple(tells)


def _words(engagement: Engagement) -> str:
    by = f" by {engagement.channel}" if engagement.channel else ""
    role = f" ({engagement.role})" if engagement.role and engagement.role != engagement.whom else ""
    return f"{engagement.occasion} to {engagement.whom}{role}{by}"


def _after(old: Engagement, outcome: Handed) -> Engagement:
    """Return an engagement after one try; a try for an earlier page changes nothing about the newer one."""
    changes: dict[str, object] = {"reference": outcome.reference or old.reference}
    arrived = outcome.state in ("Sent", "Delivered")
    if arrived:
        changes |= {"at": outcome.at, "times": old.times + 1}
    if old.due_at != outcome.due_at or old.state == EngagementState.DROPPED:
        return old.model_copy(update=changes)
    tries = old.tries + 1
    if arrived:
        changes |= {"state": EngagementState(outcome.state), "reason": None, "next_at": None, "about": outcome.about}
    elif outcome.state == "Failed" or tries >= _TRIES:
        changes |= {"state": EngagementState.FAILED, "reason": outcome.reason, "next_at": None}
    else:
        pause = max(min(_BACKOFF * 2 ** (tries - 1), _LONGEST), outcome.retry_after or timedelta())
        changes |= {"reason": outcome.reason, "next_at": outcome.at + pause}
    return old.model_copy(update={**changes, "tries": tries})


def engage(view: IncidentView, status: IncidentStatus, now: datetime) -> IncidentStatus:
    """Return the status with every message that is due by now. Errors: UnknownTimeZone."""
    if view.policy is None or view.incident.spec.drill:
        return status
    wanted = tuple(_wanted(view, view.policy, status, now))
    known = {engagement.key: engagement for engagement in status.engagements}
    fresh = [_begun(want) for want in wanted if want.key not in known]
    kept = [_kept(old, next((w for w in wanted if w.key == old.key), None)) for old in status.engagements]
    listed = [*kept, *fresh]
    if len(listed) > _MAX:  # those that are over go first
        over = [e.key for e in listed if e.state != EngagementState.DUE][: len(listed) - _MAX]
        listed = [e for e in listed if e.key not in over]
    return status.model_copy(update={"engagements": tuple(listed)})


def _begun(want: _Wanted) -> Engagement:
    lost = {"state": EngagementState.FAILED, "reason": "NoChannel"} if want.channel is None else {}
    return Engagement.model_validate(
        {
            "key": want.key[:320],
            "occasion": want.occasion,
            "whom": want.whom[:64],
            "role": want.role,
            "channel": want.channel,
            "due_at": want.due_at,
            "about": want.about[:256],
            **lost,
        }
    )


def _kept(old: Engagement, want: _Wanted | None) -> Engagement:
    """Return a known engagement: due again where it is, dropped where a page is not wanted any more."""
    if want is None:
        unwanted = old.occasion in PAGES and old.state == EngagementState.DUE
        return old.model_copy(update={"state": EngagementState.DROPPED, "next_at": None}) if unwanted else old
    # An update on its way says what is new when it gets there.
    on_its_way = old.occasion == Occasion.UPDATE and old.state == EngagementState.DUE
    # One that went out late said all that those missed meanwhile would have said: after an outage there is one.
    said_since = old.occasion == Occasion.UPDATE and old.at is not None and want.due_at <= old.at
    if want.channel is None or want.due_at <= old.due_at or on_its_way or said_since:
        return old
    again = {"state": EngagementState.DUE, "due_at": want.due_at, "tries": 0, "next_at": None, "reason": None}
    return old.model_copy(update=again)


def _wanted(
    view: IncidentView, policy: EscalationPolicySpec, status: IncidentStatus, now: datetime
) -> Iterator[_Wanted]:
    ways = Ways(policy)
    if view.incident.spec.confidential:
        yield from _audience(view, ways, status, now)
        return
    if status.phase in LIVE:
        yield from _pages(view, policy, ways, status, now)
        yield from _roles(view, policy, ways, status, now)
        yield from _updates(view, policy, ways, status, now)
        yield from _heard(ways, status)
    else:
        yield from _end(ways, status, now)
    yield from _answered(view, policy, ways, status, now)


def engaged_roles(
    view: IncidentView, policy: EscalationPolicySpec, status: IncidentStatus, now: datetime
) -> tuple[RoleEngagement, ...]:
    """Return when each role is engaged, by every severity the incident was given. Errors: UnknownTimeZone."""
    first, *rest = status.severities
    changes = [SeverityChange(severity=entry.severity, at=entry.at) for entry in rest]
    return engagements(policy, first.severity, detected_at(view.incident, now), changes)


def _ladder(
    view: IncidentView, policy: EscalationPolicySpec, status: IncidentStatus, now: datetime
) -> tuple[Occasion, datetime] | None:
    """Return what is paged about and since when: the incident itself, then a plan that waits for people."""
    if policy.paging is None or status.phase not in LIVE:
        return None
    if status.acknowledged_at is None:
        role = next(e for e in engaged_roles(view, policy, status, now) if e.role.name == policy.paging.role)
        return Occasion.PAGE, max(role.at, status.reopened_at or role.at)
    waiting = waiting_since(view.runs)
    if waiting is not None and status.acknowledged_at < waiting:
        return Occasion.APPROVAL, waiting
    return None


def _pages(
    view: IncidentView, policy: EscalationPolicySpec, ways: Ways, status: IncidentStatus, now: datetime
) -> Iterator[_Wanted]:
    ladder = _ladder(view, policy, status, now)
    if ladder is None:
        return
    occasion, since = ladder
    for page in pages_until(policy, _severity(status), since, now, ways.unreachable(status)):
        channels: list[str | None] = [*ways.to_page(page.contact)]
        for channel in channels or [None]:
            key = f"{occasion.lower()}/{page.contact}/{channel or '-'}"
            yield _Wanted(key=key, occasion=occasion, whom=page.contact, channel=channel, due_at=page.at)


def _roles(
    view: IncidentView, policy: EscalationPolicySpec, ways: Ways, status: IncidentStatus, now: datetime
) -> Iterator[_Wanted]:
    for engagement in engaged_roles(view, policy, status, now):
        role = engagement.role
        if _is_paged(policy, engagement) or engagement.at > now:
            continue
        reached: list[tuple[str, str | None]] = [
            (contact, channel) for contact in role.contacts for channel in ways.by_mail(contact)
        ]
        if not reached:  # nobody of that role has an address: the room is told to fetch them
            reached = [(role.name, channel) for channel in ways.of(*BROADCAST)]
        for whom, channel in reached or [(role.name, None)]:
            key = f"role/{role.name}/{whom}/{channel or '-'}"
            yield _Wanted(
                key=key, occasion=Occasion.ENGAGED, whom=whom, role=role.name, channel=channel, due_at=engagement.at
            )


def _is_paged(policy: EscalationPolicySpec, engagement: RoleEngagement) -> bool:
    """Tell whether a role is told by the ladder, and by nothing else."""
    return policy.paging is not None and engagement.role.name == policy.paging.role


def _updates(
    view: IncidentView, policy: EscalationPolicySpec, ways: Ways, status: IncidentStatus, now: datetime
) -> Iterator[_Wanted]:
    """Yield what stakeholders hear: at the opening, whenever something turned, and every `updateEvery`."""
    opened = status.reopened_at or status.times.alerted or now
    every = policy.severities.rule(_severity(status)).update_every
    due = opened + every * ((now - opened) // every) if every else opened
    known, about = by_key(status), gist(status)
    for channel in ways.of(*BROADCAST):
        key = f"update/{channel}"
        last = status.engagements[known[key]] if key in known else None
        turned = last is not None and last.state in HANDED and last.about != about
        soonest = max(now, last.at + _APART) if last is not None and last.at is not None else now
        yield _Wanted(
            key=key,
            occasion=Occasion.UPDATE,
            whom=STAKEHOLDERS,
            channel=channel,
            due_at=soonest if turned else due,
            about=about,
        )


def gist(status: IncidentStatus) -> str:
    """Return a mark of what stakeholders hear of when it changes.

    A number, no text: what is stored is redacted, and must compare equal all the same.
    """
    said = (status.severity, status.phase, status.commander, status.cause.summary if status.cause else None)
    return str(crc32(repr(said).encode()))


def _heard(ways: Ways, status: IncidentStatus) -> Iterator[_Wanted]:
    """Yield that somebody acknowledged, to the services that would go on paging."""
    if status.acknowledged_at is None:
        return
    for channel in _paged_by(ways, status):
        yield _Wanted(
            key=f"acknowledged/{channel}",
            occasion=Occasion.ACKNOWLEDGED,
            whom=STAKEHOLDERS,
            channel=channel,
            due_at=status.acknowledged_at,
        )


def _answered(
    view: IncidentView, policy: EscalationPolicySpec, ways: Ways, status: IncidentStatus, now: datetime
) -> Iterator[_Wanted]:
    """Yield that no plan waits for people any more, to the services that were told that one does."""
    ladder = _ladder(view, policy, status, now)
    if ladder is not None and ladder[0] == Occasion.APPROVAL:
        return
    for channel in ways.of(ChannelType.PAGER_DUTY):
        asked = [e.at for e in status.engagements if e.occasion == Occasion.APPROVAL and e.channel == channel and e.at]
        if asked:
            key = f"answered/{channel}"
            yield _Wanted(key=key, occasion=Occasion.RESOLVED, whom=STAKEHOLDERS, channel=channel, due_at=max(asked))


def _paged_by(ways: Ways, status: IncidentStatus) -> list[str]:
    """Return the paging services that hold this incident open."""
    given = {e.channel for e in status.engagements if e.occasion == Occasion.PAGE and e.times}
    return [channel for channel in ways.of(ChannelType.PAGER_DUTY) if channel in given]


def _end(ways: Ways, status: IncidentStatus, now: datetime) -> Iterator[_Wanted]:
    """Yield that it is over: to whoever heard of it."""
    over = status.times.resolved or now
    told_by = {e.channel for e in status.engagements if e.occasion == Occasion.UPDATE}
    room = [c for c in ways.of(*BROADCAST) if c in told_by]
    for channel in (*room, *_paged_by(ways, status)):
        yield _ended(f"resolved/{channel}", STAKEHOLDERS, channel, over)
    mailed = dict.fromkeys(
        (e.whom, e.channel) for e in status.engagements if e.times and e.channel in ways.of(ChannelType.EMAIL)
    )
    for whom, channel in mailed:
        yield _ended(f"resolved/{channel}/{whom}", whom, channel, over)


def _ended(key: str, whom: str, channel: str | None, at: datetime) -> _Wanted:
    return _Wanted(key=key, occasion=Occasion.RESOLVED, whom=whom, channel=channel, due_at=at)


def _audience(view: IncidentView, ways: Ways, status: IncidentStatus, now: datetime) -> Iterator[_Wanted]:
    """Yield what a confidential incident says: to its own list, by e-mail, and nothing to any room."""
    for whom in view.incident.spec.audience:
        channels: list[str | None] = [*ways.by_mail(whom)]
        for channel in channels or [None]:
            opened = status.times.alerted or now
            key = f"role/{whom}/{whom}/{channel or '-'}"
            yield _Wanted(key=key, occasion=Occasion.ENGAGED, whom=whom, channel=channel, due_at=opened)
            if status.phase not in LIVE and channel is not None:
                yield _ended(f"resolved/{channel}/{whom}", whom, channel, status.times.resolved or now)


def _severity(status: IncidentStatus) -> Severity:
    return status.severities[-1].severity


def to_send(view: IncidentView, status: IncidentStatus, now: datetime) -> tuple[str, ...]:
    """Return the engagements to hand over now."""
    return tuple(
        e.key
        for e in status.engagements
        if e.state == EngagementState.DUE and (e.next_at or e.due_at) <= now and e.key not in view.sending
    )


def is_quiet(status: IncidentStatus) -> bool:
    """Tell whether no message is on its way any more."""
    return all(e.state != EngagementState.DUE for e in status.engagements)


@dataclass(frozen=True, kw_only=True)
class Upcoming:
    """Who is told next if nothing changes, and when."""

    whom: str
    at: datetime


def upcoming(view: IncidentView, status: IncidentStatus, now: datetime) -> tuple[Upcoming, ...]:
    """Return whom the policy wants told later, soonest first. Errors: UnknownTimeZone."""
    policy = view.policy
    silent = view.incident.spec.drill or view.incident.spec.confidential
    if policy is None or silent or status.phase not in LIVE or not status.severities:
        return ()
    found = [
        Upcoming(whom=engagement.role.name, at=engagement.at)
        for engagement in engaged_roles(view, policy, status, now)
        if engagement.at > now and not _is_paged(policy, engagement)
    ]
    ladder = _ladder(view, policy, status, now)
    if ladder is not None:
        lost = Ways(policy).unreachable(status)
        page = next_page(policy, _severity(status), ladder[1], now, unreachable=lost)
        if page is not None:
            found.append(Upcoming(whom=page.contact, at=page.at))
    every = policy.severities.rule(_severity(status)).update_every
    opened = status.reopened_at or status.times.alerted
    if every and opened is not None and Ways(policy).of(*BROADCAST):
        found.append(Upcoming(whom=STAKEHOLDERS, at=opened + every * ((now - opened) // every + 1)))
    return tuple(sorted(found, key=lambda one: one.at))


def next_turn(view: IncidentView, status: IncidentStatus, now: datetime) -> datetime | None:
    """Return when a message is due next: one that is held back, or the next of the policy. Errors: UnknownTimeZone."""
    held = [e.next_at or e.due_at for e in status.engagements if e.state == EngagementState.DUE]
    later = [one.at for one in upcoming(view, status, now)]
    return earliest(*(at for at in held if at > now), *later)
