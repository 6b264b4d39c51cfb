"""What people said, and the answers to it: shared by the controllers of what they speak of."""

from ..adapters.kube import Conflict, NotFound
from ..adapters.store import Key
from ..api.intervention import Intervention
from ..core.approval import Answer
from ..core.conditions import with_condition
from .context import Context

KIND = "Intervention"


def words_on(context: Context, kind: str, key: Key) -> tuple[Intervention, ...]:
    """Return the interventions on an object that nobody answered yet, oldest first."""
    return tuple(Intervention.model_validate(raw) for raw in context.store.words_on(kind, key))


async def answer(context: Context, namespace: str, given: Answer) -> None:
    """Write an answer into the condition Effective; with it the intervention is settled. Errors: KubeError."""
    key = (namespace, given.word)
    stored = context.store.get(KIND, key)
    if stored is None:
        return
    word = Intervention.model_validate(stored)
    now = context.clock.now()
    status = word.status.model_copy(
        update={
            "conditions": with_condition(
                word.status.conditions,
                "Effective",
                given.effective,
                given.reason,
                given.message or given.reason,
                now,
                word.metadata.generation,
            ),
            "answered_at": now,
            "settled": True,
        }
    )
    try:
        context.store.put(KIND, await context.kube.write_status(stored, status.wire()))
    except NotFound:
        context.store.remove(KIND, key)
    except Conflict:
        context.store.put(KIND, await context.kube.get(KIND, *key))
