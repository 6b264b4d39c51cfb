"""What people try, on purpose or by mistake: refused by the API server itself, whatever RBAC says, and told what to do.

No operator runs here. Mallory has a role that says `*` in one namespace, and may approve Low in another.
"""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from dev.controlplane.kubectl import Kubectl, KubectlError
from dev.processes import wait_until
from dev.stack import OPERATOR_NAMESPACE, Stack
from incident_operator.api.meta import API_VERSION
from tests.builders import a_plan

RBAC = "rbac.authorization.k8s.io"
UNDO = "ops.shopsmart.com/undo"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Two namespaces: in `name`, with a run and a plan, mallory's role says `*`; in `modest` she may approve Low."""

    stack: Stack
    name: str

    @property
    def modest(self) -> str:
        """The other namespace."""
        return f"{self.name}-modest"

    def person(self, who: str) -> Kubectl:
        """Return a person's kubectl."""
        return Kubectl(self.stack.kubeconfig(who))

    @property
    def operator(self) -> Kubectl:
        """The operator's account."""
        return Kubectl(self.stack.operator_kubeconfig)

    def run(self, name: str, **spec: Any) -> dict[str, Any]:
        """Return a run's manifest."""
        known = {"incident": {"title": "Orders fail"}, "runbookRef": {"name": "none"}}
        return _object("IncidentRun", self.name, name, {**known, **spec})

    def plan(self, name: str) -> dict[str, Any]:
        """Return a plan's manifest."""
        return _object("RemediationPlan", self.name, name, a_plan().spec.wire())

    def uid(self, kind: str, name: str) -> str:
        """Return the uid of an object."""
        return str(self.person("admin").json("get", kind, name, "-n", self.name)["metadata"]["uid"])

    def word(self, name: str, verb: str, target: str, **spec: Any) -> dict[str, Any]:
        """Return an intervention on the plan or run `target`, without a responder."""
        kind = "RemediationPlan" if verb in ("Approve", "Reject", "Revert", "Keep") else "IncidentRun"
        about = {"kind": kind, "name": target, "uid": self.uid(kind, target)}
        return _object("Intervention", self.name, name, {"target": about, "verb": verb, **spec})

    def bind(self, role: str, who: str, namespace: str = "", kind: str = "ClusterRole") -> dict[str, Any]:
        """Return the binding of a role to a person in a namespace."""
        return {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": f"{self.name}-{role}-{who}", "namespace": namespace or self.name},
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
            "subjects": [{"apiGroup": RBAC, "kind": "User", "name": who}],
        }


def _object(kind: str, namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def _role(namespace: str, name: str, groups: list[str], resources: list[str], **more: Any) -> dict[str, Any]:
    rule = {"apiGroups": groups, "resources": resources, "verbs": ["*"], **more}
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": [rule],
    }


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


@pytest.fixture(scope="module")
def place(stack: Stack) -> Iterator[Place]:
    """Return the place; its namespaces' end is the proof that the namespace controller gets through."""
    place = Place(stack=stack, name=f"attack-{uuid.uuid4().hex[:8]}")
    admin = place.person("admin")
    leases = [
        _role(OPERATOR_NAMESPACE, f"{place.name}-leases", ["coordination.k8s.io"], ["leases"]),
        place.bind(f"{place.name}-leases", "mallory", OPERATOR_NAMESPACE, "Role"),
    ]
    admin.apply(
        [
            _namespace(place.name),
            _namespace(place.modest),
            _role(place.name, "everything", ["ops.shopsmart.com", "apps", "coordination.k8s.io"], ["*"]),
            place.bind("everything", "mallory", kind="Role"),
            place.bind("incident-approver-low", "mallory", place.modest),
            *leases,
        ]
    )
    create(place.person("alice"), place.run("run"))
    create(place.operator, place.plan("plan"))
    yield place
    admin.run("delete", "-f", "-", stdin=yaml.safe_dump_all(leases))
    admin.run("delete", "namespace", place.name, place.modest, "--wait", "--timeout=60s")


def create(who: Kubectl, manifest: dict[str, Any], *options: str) -> dict[str, Any]:
    """`kubectl create` it; return what was stored. Errors: KubectlError."""
    return dict(who.json("create", *options, "-f", "-", stdin=json.dumps(manifest)))


def refused(who: Kubectl, *arguments: str, manifest: dict[str, Any] | None = None) -> str:
    """Return the words in which kubectl is refused."""
    with pytest.raises(KubectlError) as refusal:
        who.run(*arguments, stdin=json.dumps(manifest) if manifest else None)
    return str(refusal.value)


# --- interventions ---


@pytest.mark.parametrize("who", ["alice", "mallory", "admin"])
def test_nobody_approves_in_anothers_name(place: Place, who: str) -> None:
    """Neither a responder, nor whose role says `*`, nor the admin."""
    forged = place.word("forged", "Approve", "plan", tier="Low", responder="bob")
    said = refused(place.person(who), "create", "-f", "-", manifest=forged)
    assert f"people speak for themselves only: spec.responder is bob, and you are {who}" in said
    assert "Write your own name there, or leave it out" in said


@pytest.mark.parametrize(
    ("verb", "spec", "needs", "role"),
    [
        ("Approve", {"tier": "Disruptive"}, "approve-disruptive", "incident-approver-disruptive"),
        ("Approve", {"tier": "Destructive"}, "approve-destructive", "incident-approver-destructive"),
        ("Approve", {"tier": "Security"}, "approve-security", "incident-approver-security"),
        ("Reject", {}, "reject", "incident-responder"),
        ("Pause", {}, "pause", "incident-responder"),
        ("Cancel", {"then": "Leave"}, "cancel", "incident-responder"),
    ],
    ids=lambda value: value if isinstance(value, str) and value[0].islower() else "",
)
def test_a_word_needs_its_verb(place: Place, verb: str, spec: dict[str, Any], needs: str, role: str) -> None:
    """The refusal names the verb, its target and the role to ask for."""
    target = "plan" if verb in ("Approve", "Reject") else "run"
    word = place.word("unentitled", verb, target, **spec)
    word["metadata"]["namespace"] = place.modest
    said = refused(place.person("mallory"), "create", "-f", "-", manifest=word)
    resource = "remediationplans" if target == "plan" else "incidentruns"
    assert f"mallory may not {needs} {resource}/{target} in namespace {place.modest}" in said
    assert f"ask for the verb {needs} on {resource} (ClusterRole {role})" in said


def test_the_verb_that_one_has_is_enough(place: Place) -> None:
    """Mallory may approve Low there, and nothing else; what she may, `kubectl auth can-i` tells beforehand."""
    word = place.word("entitled", "Approve", "plan", tier="Low")
    word["metadata"]["namespace"] = place.modest
    create(place.person("mallory"), word, "--dry-run=server")
    asked = "kubectl auth can-i approve-low remediationplans"
    assert place.person("mallory").run(*asked.split()[1:], "-n", place.modest).strip() == "yes"
    assert not _works(place.person("mallory"), *asked.split()[1:], "-n", OPERATOR_NAMESPACE)


def test_breaking_glass_needs_its_own_verb(place: Place) -> None:
    """Who may approve may not do it alone; with the verb, and the tier's, she may."""
    alice = place.person("alice")
    word = place.word("glass", "Approve", "plan", tier="Destructive", breakGlass=True, reason="the shop is down")
    said = refused(alice, "create", "-f", "-", manifest=word)
    assert "alice may not break-glass remediationplans/plan" in said
    assert "together with a second person" in said
    assert "ClusterRole incident-break-glass" in said
    binding = place.bind("incident-break-glass", "alice")
    place.person("admin").apply([binding])
    asked = ("auth", "can-i", "break-glass", "remediationplans/plan", "-n", place.name, "--quiet")
    assert wait_until(lambda: _works(alice, *asked), seconds=10)
    create(alice, word, "--dry-run=server")
    place.person("admin").run("delete", "-f", "-", stdin=yaml.safe_dump(binding))


def _works(who: Kubectl, *arguments: str) -> bool:
    try:
        who.run(*arguments)
    except KubectlError:
        return False
    return True


def test_a_word_is_stamped_with_its_author_and_its_owner(place: Place) -> None:
    """A manifest without a name is signed, goes with its target, and shows no drift."""
    alice, word = place.person("alice"), place.word("signed", "Reject", "plan")
    alice.run("apply", "-f", "-", stdin=json.dumps(word))
    stored = alice.json("get", "intervention", "signed", "-n", place.name)
    assert stored["spec"]["responder"] == "alice"
    (owner,) = stored["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == (
        "RemediationPlan",
        "plan",
        place.uid("remediationplan", "plan"),
    )
    assert "signed unchanged" in alice.run("apply", "-f", "-", stdin=json.dumps(word))
    # Who may patch sees that nothing differs; a change would be refused.
    assert place.person("mallory").run("diff", "-f", "-", stdin=json.dumps(word)) == ""


def test_a_word_is_not_changed(place: Place) -> None:
    """Not what it says, and nothing about it: not even by whose role says `*`."""
    create(place.person("alice"), place.word("kept", "Reject", "plan"))
    patch = ("patch", "intervention", "kept", "-n", place.name, "--type=merge", "-p")
    for who in ("mallory", "admin"):
        said = refused(place.person(who), *patch, '{"spec":{"verb":"Keep"}}')
        assert "an intervention is immutable: say something else with a new one" in said
        for change in ('{"metadata":{"labels":{"a":"b"}}}', '{"metadata":{"ownerReferences":[]}}'):
            said = refused(place.person(who), *patch, change)
            assert f"an intervention is what somebody said, so {who} may not change it" in said


@pytest.mark.parametrize("who", ["mallory", "admin"])
def test_a_no_is_not_taken_away(place: Place, who: str) -> None:
    """A Reject stays, alone or in a crowd."""
    name = f"no-{who}"
    create(place.person("alice"), place.word(name, "Reject", "plan"))
    for which in (name, "--all"):
        said = refused(place.person(who), "delete", "interventions", "-n", place.name, which)
        assert f"an intervention is what somebody said, so {who} may not delete it: it goes with its target" in said
    assert place.person(who).run("get", "intervention", "-n", place.name, name, "-o", "name")


def test_a_word_goes_with_its_target_and_with_nothing_else(place: Place) -> None:
    """The garbage collector gets through; another owner, whose end would be the word's, is refused."""
    create(place.operator, place.plan("leaving"))
    word = place.word("goes", "Reject", "leaving")
    stranger = {"apiVersion": "v1", "kind": "ConfigMap", "name": "mine", "uid": str(uuid.uuid4())}
    owned = {**word, "metadata": {**word["metadata"], "ownerReferences": [stranger]}}
    said = refused(place.person("alice"), "create", "-f", "-", manifest=owned)
    assert "an intervention has no owner but its target; leave metadata.ownerReferences out" in said
    create(place.person("alice"), word)
    place.person("mallory").run("delete", "remediationplan", "leaving", "-n", place.name)
    place.person("admin").run("wait", "--for=delete", "intervention/goes", "-n", place.name, "--timeout=30s")


# --- what the operator alone writes ---


@pytest.mark.parametrize("who", ["mallory", "admin"])
@pytest.mark.parametrize("kind", ["incidentruns/run", "remediationplans/plan", "interventions/word"])
def test_nobody_but_the_operator_writes_a_status(place: Place, kind: str, who: str) -> None:
    """A role that says `*` does not help; the refusal says how to be heard."""
    resource, _, name = kind.partition("/")
    if resource == "interventions":
        name = f"status-{who}"
        create(place.person("alice"), place.word(name, "Note", "run", reason="seen"))
    patch = ("patch", resource, name, "-n", place.name, "--subresource=status", "--type=merge", "-p")
    said = refused(place.person(who), *patch, '{"status":{"settled":true}}')
    assert f"{who} may not write the status of {resource}" in said
    assert "say with an Intervention" in said
    # Not by way of the object either: there a status is not looked at.
    whole = ("patch", resource, name, "-n", place.name, "--type=merge", "-p", '{"status":{"settled":true}}')
    _works(place.person(who), *whole)
    stored = place.person(who).json("get", resource, name, "-n", place.name)
    assert not stored.get("status", {}).get("settled")
    written = {**stored, "metadata": {"name": name, "namespace": place.name}, "status": {"settled": False}}
    del written["spec"]
    applying = ("apply", "--server-side", "--subresource=status", "-f", "-")
    place.operator.run(*applying, stdin=json.dumps(written))


@pytest.mark.parametrize("who", ["mallory", "admin"])
def test_nobody_but_the_operator_writes_a_plan(place: Place, who: str) -> None:
    """Neither a new one nor an approved one."""
    said = refused(place.person(who), "create", "-f", "-", manifest=place.plan("mine"))
    assert f"{who} may not write plans: the operator makes them" in said
    assert "Apply an IncidentRun" in said
    patch = ("patch", "remediationplan", "plan", "-n", place.name, "--type=merge", "-p")
    said = refused(place.person(who), *patch, '{"spec":{"title":"something else"}}')
    assert "a plan is immutable" in said
    said = refused(place.person(who), *patch, '{"metadata":{"ownerReferences":null,"labels":{"a":"b"}}}')
    assert f"{who} may not write plans" in said


def test_nobody_but_the_operator_begins_a_review(place: Place) -> None:
    """It would keep a real incident from being handled; people may edit the one that is there."""
    review = _object("PostIncidentReview", place.name, "pir", {"ticket": "INC-1", "detectedAt": "2024-01-01T00:00:00Z"})
    said = refused(place.person("mallory"), "create", "-f", "-", manifest=review)
    assert "mallory may not create reviews" in said
    assert "Edit that one" in said
    create(place.operator, review)
    titled = ("patch", "postincidentreview", "pir", "-n", place.name, "--type=merge", "-p", '{"spec":{"title":"x"}}')
    place.person("alice").run(*titled)


def _lease(name: str, namespace: str = OPERATOR_NAMESPACE) -> dict[str, Any]:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"holderIdentity": "mallory"},
    }


@pytest.mark.parametrize("prefix", ["lock-", "incident-operator-"])
def test_a_lock_is_neither_taken_nor_broken(place: Place, prefix: str) -> None:
    """Leases of the operator are its own; others, and those elsewhere, are no business of ours."""
    mallory, name = place.person("mallory"), f"{prefix}{place.name}"
    said = refused(mallory, "create", "-f", "-", manifest=_lease(name))
    assert "mallory may not write leases of this name: they are the operator's own locks" in said
    create(place.operator, _lease(name))
    for change in (("patch", "--type=merge", "-p", '{"spec":{"holderIdentity":"mallory"}}'), ("delete",)):
        verb, *options = change
        said = refused(mallory, verb, "lease", name, "-n", OPERATOR_NAMESPACE, *options)
        assert "end by themselves when their holder is gone" in said
    create(mallory, _lease(name, place.name))
    create(mallory, _lease(f"other-{place.name}"))
    mallory.run("delete", "lease", f"other-{place.name}", "-n", OPERATOR_NAMESPACE)
    place.operator.run("delete", "lease", name, "-n", OPERATOR_NAMESPACE)


@pytest.mark.parametrize("name", ["crbk-lambda-failures-0123456789", "rbk-small-0123456789"])
def test_the_runbook_that_a_run_follows_is_not_exchanged(place: Place, name: str) -> None:
    """Revisions named as ours are written by the operator; others by whoever may."""
    revision = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": name, "namespace": place.name},
        "data": {"spec": {}},
        "revision": 1,
    }
    mallory = place.person("mallory")
    said = refused(mallory, "create", "-f", "-", manifest=revision)
    assert "mallory may not write controllerrevisions of this name" in said
    assert "record of the runbook that a run follows" in said
    create(place.operator, revision)
    said = refused(mallory, "delete", "controllerrevision", name, "-n", place.name)
    assert "may not write controllerrevisions" in said
    create(mallory, {**revision, "metadata": {"name": f"web-{name}", "namespace": place.name}})


# --- runs ---


def test_a_run_is_stamped_and_shows_no_drift(place: Place) -> None:
    """Who asked, and that backups keep what was done; a second apply is none, whichever way."""
    alice, run = place.person("alice"), place.run("stamped")
    alice.run("apply", "-f", "-", stdin=json.dumps(run))
    stored = alice.json("get", "incidentrun", "stamped", "-n", place.name)
    assert stored["spec"]["requestedBy"] == "alice"
    assert stored["metadata"]["annotations"]["velero.io/restore-status"] == "true"
    assert "stamped unchanged" in alice.run("apply", "-f", "-", stdin=json.dumps(run))
    assert alice.run("diff", "-f", "-", stdin=json.dumps(run)) == ""
    again = place.person("bob").run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(run))
    assert "serverside-applied" in again
    place.person("mallory").run("replace", "-f", "-", stdin=json.dumps(run))
    kept = alice.json("get", "incidentrun", "stamped", "-n", place.name)
    assert kept["spec"]["requestedBy"] == "alice"
    assert kept["metadata"]["annotations"]["velero.io/restore-status"] == "true"


@pytest.mark.parametrize("who", ["mallory", "admin"])
def test_nobody_asks_for_a_run_in_anothers_name(place: Place, who: str) -> None:
    """Else its approver could be its requester."""
    said = refused(place.person(who), "create", "-f", "-", manifest=place.run("borrowed", requestedBy="bob"))
    assert f"a run is requested by its author: spec.requestedBy is bob, and you are {who}" in said
    own = place.run("own", requestedBy=who)
    assert create(place.person(who), own, "--dry-run=server")["spec"]["requestedBy"] == who


def _authors(place: Place, *who: str) -> None:
    """Let people write policies."""
    place.person("admin").apply([place.bind("incident-author", person) for person in who])
    ask = ("create", "remediationpolicies", "ops.shopsmart.com", place.name)
    for person in map(place.person, who):
        assert wait_until(lambda: person.may(*ask), seconds=10)  # noqa: B023  (called at once)


def _policy(place: Place, name: str, **spec: Any) -> dict[str, Any]:
    about = {"health": {"checks": [{"name": "errors"}]}, "remediation": {"runbookRef": {"name": "runbook"}}}
    return _object("RemediationPolicy", place.name, name, {**about, **spec})


def test_a_policys_runs_are_asked_for_by_who_wrote_it_last(place: Place) -> None:
    """Else its author could agree alone to what it starts; who only annotates it has written nothing."""
    alice, bob, policy = place.person("alice"), place.person("bob"), _policy(place, "stamped")
    _authors(place, "alice", "bob")
    get = ("get", "remediationpolicy", "stamped", "-n", place.name)
    alice.run("apply", "-f", "-", stdin=json.dumps(policy))
    assert alice.json(*get)["spec"]["requestedBy"] == "alice"
    assert "stamped unchanged" in alice.run("apply", "-f", "-", stdin=json.dumps(policy))
    bob.run("annotate", "remediationpolicy", "stamped", "-n", place.name, "read=yes")
    assert alice.json(*get)["spec"]["requestedBy"] == "alice"
    suspended = {**policy, "spec": {**policy["spec"], "guardrails": {"suspend": True}}}
    bob.run("apply", "-f", "-", stdin=json.dumps(suspended))
    assert alice.json(*get)["spec"]["requestedBy"] == "bob"


def test_nobody_writes_a_policy_in_anothers_name(place: Place) -> None:
    """Neither a new one nor, with a change, one that is there."""
    _authors(place, "alice", "bob")
    said = refused(place.person("alice"), "create", "-f", "-", manifest=_policy(place, "borrowed", requestedBy="bob"))
    assert "a policy is requested by who wrote it last: spec.requestedBy is bob, and you are alice" in said
    place.person("alice").run("apply", "-f", "-", stdin=json.dumps(_policy(place, "own")))
    patch = ("patch", "remediationpolicy", "own", "-n", place.name, "--type=merge", "-p")
    said = refused(place.person("bob"), *patch, json.dumps({"spec": {"requestedBy": "carol"}}))
    assert "spec.requestedBy is carol, and you are bob" in said


@pytest.mark.parametrize("who", ["mallory", "admin"])
def test_who_asked_for_a_run_stays(place: Place, who: str) -> None:
    """Also if the name is one's own."""
    patch = ("patch", "incidentrun", "run", "-n", place.name, "--type=merge", "-p")
    said = refused(place.person(who), *patch, json.dumps({"spec": {"requestedBy": who}}))
    assert "spec.requestedBy never changes" in said
    assert "It is alice; create a new IncidentRun" in said


def test_who_names_a_secret_must_be_able_to_read_it(place: Place) -> None:
    """Each of them; and who changes something else in the run need not."""
    alice, bob, admin = place.person("alice"), place.person("bob"), place.person("admin")
    names = [f"secret-{number}" for number in range(8)]
    connections = {f"c{number}": {"secretRef": {"name": name}} for number, name in enumerate(names)}
    run = place.run("connected", connections=connections, automation={"applyUpTo": "Low"})
    readers = _role(place.name, "readers", [""], ["secrets"], resourceNames=names[:7])
    admin.apply([readers, place.bind("readers", "alice", kind="Role")])
    asked = ("auth", "can-i", "get", f"secrets/{names[0]}", "-n", place.name, "--quiet")
    assert wait_until(lambda: _works(alice, *asked), seconds=10)
    said = refused(alice, "create", "-f", "-", manifest=run)
    assert "who names a Secret must be able to read it: alice may not get each of secrets/secret-" in said
    assert f"in namespace {place.name}. Ask for that, or have somebody apply the run who may" in said
    del connections["c7"]
    create(alice, run)
    lower = ("patch", "incidentrun", "connected", "-n", place.name, "--type=merge", "-p")
    bob.run(*lower, '{"spec":{"automation":{"applyUpTo":"None"}}}')
    for name in ("secret-0", "secret-8"):
        change = json.dumps({"spec": {"connections": {"c8": {"secretRef": {"name": name}}}}})
        if name in names:
            bob.run(*lower, change)
        else:
            assert f"bob may not get each of secrets/{name} " in refused(bob, *lower, change)


def test_a_run_names_at_most_eight_secrets_at_once(place: Place) -> None:
    """What the API server can ask about in one write; it says so, instead of failing."""
    connections = {f"c{number}": {"secretRef": {"name": f"s{number}"}} for number in range(9)}
    said = refused(place.person("admin"), "create", "-f", "-", manifest=place.run("many", connections=connections))
    assert "one write may add at most 8 connections with Secrets" in said


@pytest.mark.parametrize("who", ["alice", "mallory", "admin"])
def test_a_change_under_way_keeps_its_run(place: Place, who: str) -> None:
    """Our finalizers are the operator's to remove; people's own are theirs."""
    name = f"held-{who}"
    create(place.person("alice"), place.run(name))
    patch = ("patch", "incidentrun", name, "-n", place.name, "--type=merge", "-p")
    theirs = "example.com/mine"
    place.operator.run(*patch, json.dumps({"metadata": {"finalizers": [UNDO, theirs]}}))
    for left in ([], [theirs]):
        said = refused(place.person(who), *patch, json.dumps({"metadata": {"finalizers": left}}))
        assert f"the finalizers ops.shopsmart.com/* are removed by the operator, not by {who}" in said
        assert "kubectl describe it" in said
    place.person(who).run(*patch, json.dumps({"metadata": {"finalizers": [UNDO]}}))
    place.operator.run(*patch, '{"metadata":{"finalizers":null}}')
