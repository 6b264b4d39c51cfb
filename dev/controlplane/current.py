"""The cluster that the caller's kubectl points at, used in place of one of our own (`CLUSTER=current`).

Nothing of it is started or stopped. The stack's objects carry a label that names its state directory; `down` deletes
what has it, and no more: two stacks on one cluster refuse each other.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from .build import to_stderr
from .cluster import ADMIN, PEOPLE
from .kubeconfig import write_kubeconfig
from .kubectl import Kubectl, KubectlError, Manifest

LABEL = "ops.shopsmart.com/dev-stack"
#: What `up` makes outside of namespaces; the rest goes with these.
KINDS = (
    "namespaces",
    "clusterroles.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io",
    "validatingadmissionpolicies.admissionregistration.k8s.io",
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
    "mutatingadmissionpolicies.admissionregistration.k8s.io",
    "actiongrants.ops.shopsmart.com",
    "clusterrunbooks.ops.shopsmart.com",
)


def labels(state_dir: Path) -> dict[str, str]:
    """Return the label of one stack's objects."""
    return {LABEL: hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:10]}


class CurrentCluster:
    """The cluster of the caller's current context; people are impersonated where the caller may."""

    def __init__(self, state_dir: Path, say: Callable[[str], None] = to_stderr, namespace: str = "default") -> None:
        self._dir, self._say, self._namespace = state_dir.resolve(), say, namespace

    def kubeconfig(self, name: str = ADMIN) -> Path:
        """Return where the kubeconfig of one of PEOPLE is; people's are missing where they can't be impersonated."""
        return self._dir / f"kubeconfig-{name}"

    @property
    def server(self) -> str | None:
        """Return the address of the API server; None while it is not in use."""
        if not self.kubeconfig().exists():
            return None
        config = Kubectl(self.kubeconfig()).json("config", "view", "--minify")
        return str(config["clusters"][0]["cluster"]["server"])

    def running(self) -> bool:
        """Tell whether the API server answers."""
        return self.kubeconfig().exists() and self.answers("/readyz")

    def answers(self, path: str) -> bool:
        """Tell whether the API server answers a GET with success."""
        try:
            Kubectl(self.kubeconfig()).run("get", "--raw", path, timeout=15)
        except KubectlError:
            return False
        return True

    def up(self) -> bool:
        """Take the current context into kubeconfigs of the stack's own. Errors: KubectlError."""
        if self.running():
            return False
        config = Kubectl().json("config", "view", "--minify", "--raw", "--flatten")
        if not config.get("contexts"):
            raise KubectlError("CLUSTER=current, but kubectl has no current context: kubectl config get-contexts")
        context = config["contexts"][0]
        cluster, user = config["clusters"][0]["cluster"], (config.get("users") or [{"user": {}}])[0]["user"]
        self._say(f"using the current context {context['name']} ({cluster['server']})")
        write_kubeconfig(self.kubeconfig(), cluster, user, name=ADMIN, namespace=self._namespace)
        Kubectl(self.kubeconfig()).run("get", "--raw", "/readyz", timeout=30)
        if not Kubectl(self.kubeconfig()).may("impersonate", "users"):
            self._say("you may not impersonate users there: no kubeconfigs for alice, bob, carol and mallory")
            return True
        for name, groups in PEOPLE.items():
            if name != ADMIN:
                person = {**user, "as": name, **({"as-groups": list(groups)} if groups else {})}
                write_kubeconfig(self.kubeconfig(name), cluster, person, name=name, namespace=self._namespace)
        return True

    def down(self) -> bool:
        """Delete the objects that are labelled as the stack's; CRDs stay, they may hold other people's objects."""
        used = self.kubeconfig().exists()
        if used:
            kubectl = Kubectl(self.kubeconfig())
            selector = ",".join(f"{key}={value}" for key, value in labels(self._dir).items())
            known = kubectl.run("api-resources", "--namespaced=false", "-o", "name").split()
            kinds = ",".join(kind for kind in KINDS if kind in known)
            kubectl.run("delete", kinds, "-l", selector, "--ignore-not-found", timeout=180)
        for name in PEOPLE:
            self.kubeconfig(name).unlink(missing_ok=True)
        return used

    def refuse_strangers(self, manifests: list[Manifest]) -> None:
        """Refuse to touch objects that somebody else made. Errors: KubectlError naming them."""
        ours = labels(self._dir)[LABEL]
        strangers = [
            f"{found['kind']}/{found['metadata']['name']}"
            for found in Kubectl(self.kubeconfig()).stored(manifests)
            if found["metadata"].get("labels", {}).get(LABEL) != ours
        ]
        if strangers:
            raise KubectlError(
                f"the cluster has objects of these names that are not this stack's: {', '.join(strangers)}. "
                "It is left as it is; use a cluster where the operator is not installed."
            )
