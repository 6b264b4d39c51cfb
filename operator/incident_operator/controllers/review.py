"""PostIncidentReview: read → decide → persist → perform. It writes no spec: a review is people's (invariant I9).

Its facts are written by the run that ends (`reviewing`); this one keeps its clock. Both write the one status by
compare-and-swap, and what the clock says of it is folded in one place: `core.review_clock`.
"""

import logging
from datetime import datetime

from pydantic import ValidationError

from ..adapters.kube import Conflict, Forbidden, Invalid, NotFound
from ..adapters.store import Key, Raw, key_of
from ..api.review import PostIncidentReview, PostIncidentReviewStatus
from ..api.runbook import UpdateReason
from ..core.review_clock import Remind, decide_review, told
from .context import Context
from .escalating import NoPolicy, Policies, remind_people
from .runbook import note_update

log = logging.getLogger(__name__)

KIND = "PostIncidentReview"


class ReviewController:
    """Reminds people of reviews and of their action items, and says what is overdue."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._policies = Policies(context)

    async def reconcile(self, key: Key) -> datetime | None:
        """Remind of what has passed; return when to look again.

        Errors: those of the API server, NotDelivered, for the queue to back off: what was not told is told then.
        """
        context = self._context
        while True:
            raw = context.store.get(KIND, key)
            if raw is None:
                return None
            # Read anew each time, a few times in its life: open reviews are many, and not kept twice.
            review = PostIncidentReview.model_validate(raw)
            decision = decide_review(review, context.clock.now())
            if decision.status != review.status:
                for kind, name in decision.lessons:
                    await self._note(raw, kind, name)
                await self._write(key, raw, decision.status)
            elif decision.reminders:
                for remind in decision.reminders:
                    await self._perform(raw, remind)
                keys = [one for remind in decision.reminders for one in remind.keys]
                await self._write(key, raw, told(review.status, keys, context.clock.now()))
            else:
                return decision.wake_at

    async def _write(self, key: Key, raw: Raw, status: PostIncidentReviewStatus) -> None:
        """Store a status; where somebody else wrote, or deleted it, what there is now is decided on again."""
        store, kube = self._context.store, self._context.kube
        try:
            try:
                store.put(KIND, await kube.write_status(raw, status.wire()))
            except Conflict:
                store.put(KIND, await kube.get(KIND, *key))
        except NotFound:
            store.remove(KIND, key)

    async def _note(self, raw: Raw, kind: str, name: str) -> None:
        """Note on a runbook that people want it changed. What can't be cured by trying again is told.

        Errors: others of the API server.
        """
        namespace, review = key_of(raw)
        key = (namespace if kind == "Runbook" else "", name)
        try:
            await note_update(self._context, kind, key, UpdateReason.SUGGESTION_ACCEPTED, f"{namespace}/{review}")
        except (Forbidden, Invalid, ValidationError) as error:
            log.exception("%s %s is not noted to be updated", kind, name)
            message = f"{kind} {name} can't be noted to be updated: {error}"
            self._context.kube.post_event(raw, "UpdateNotNoted", message, "Warning")

    async def _perform(self, raw: Raw, remind: Remind) -> None:
        """Say it in Events of the review, and wait until they are stored; then to whom it is for, by their channels.

        Errors: those of the API server, NotDelivered.
        """
        for tell in remind.tells:
            await self._context.kube.tell(raw, tell.reason, tell.message, "Warning" if tell.warning else "Normal")
        review = PostIncidentReview.model_validate(raw)
        policy = await self._policies.of(review.metadata.namespace or "")
        if not isinstance(policy, NoPolicy):
            await remind_people(self._context, review, remind, policy)
