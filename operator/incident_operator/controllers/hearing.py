"""What people say in Slack and PagerDuty becomes an Intervention: the same object at every delivery of the hook."""

import hashlib
import logging

from ..adapters.kube import NotFound
from ..api.incident import Incident
from ..api.intervention import Intervention, InterventionSpec, Target, Verb
from ..api.meta import Metadata, OwnerReference
from ..core.heard import Heard
from .context import Context

log = logging.getLogger(__name__)

KIND = "Incident"


async def hear(context: Context, heard: Heard) -> str | None:
    """Store what was heard as a person's word; return why it can't be, for now.

    Errors: KubeError; then the provider sends it again.
    """
    namespace, _, name = heard.incident.partition("/")
    if context.settings.namespaces and namespace not in context.settings.namespaces:
        return f"namespace {namespace} is another operator's"
    raw = context.store.get(KIND, (namespace, name))
    if raw is None:
        try:
            raw = await context.kube.get(KIND, namespace, name)
        except NotFound:
            log.warning("%s of %s: there is no such incident (any more)", heard.verb, heard.incident)
            return None
    await context.kube.create_once(word_of(heard, Incident.model_validate(raw)))
    return None


def word_of(heard: Heard, incident: Incident) -> Intervention:
    """Return the word: in the name of who said it, as the provider knows them. Admission lets no other verb pass."""
    metadata = incident.metadata
    digest = hashlib.sha256(f"{heard.who.partition(':')[0]}/{heard.id}".encode()).hexdigest()[:12]
    return Intervention(
        metadata=Metadata(
            name=f"{metadata.name[:200]}-heard-{digest}",
            namespace=metadata.namespace,
            owner_references=(
                OwnerReference(
                    api_version=incident.api_version, kind=incident.kind, name=metadata.name, uid=metadata.uid
                ),
            ),
        ),
        spec=InterventionSpec(
            target=Target(kind="Incident", name=metadata.name, uid=metadata.uid),
            verb=Verb(heard.verb.value),
            responder=f"{heard.who} ({heard.account})"[:256],
            reason=heard.text or None,
        ),
    )
