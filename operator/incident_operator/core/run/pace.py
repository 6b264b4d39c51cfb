"""Whether a run keeps to the document's minutes: that is told to people, and kills nothing."""

from datetime import datetime

from ...api.run import IncidentRunStatus
from ..conditions import is_true, with_condition
from ..story import within_bounds
from .steps import unfinished


def paced(status: IncidentRunStatus, now: datetime, generation: int | None) -> IncidentRunStatus:
    """Return the status with its condition BehindSchedule: True while the step at work is later than its `expectedBy`.

    Shape: False only after it was True; absent before.
    """
    step = None if status.settled else unfinished(status)
    due = step.expected_by if step is not None else None
    late = due is not None and now > due
    if not late and not is_true(status.conditions, "BehindSchedule"):
        return status
    message = "no step is late"
    if step is not None and due is not None:
        message = f"{step.title[:128]}: expected by {due:%Y-%m-%d %H:%M:%S}Z"
    reason = "StepLate" if late else "OnSchedule"
    conditions = with_condition(status.conditions, "BehindSchedule", late, reason, message, now, generation)
    return within_bounds(status.model_copy(update={"conditions": conditions}))
