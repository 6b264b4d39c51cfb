"""kubectl, as one person: what the stack asks of a cluster goes the way a user's would."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]


class KubectlError(RuntimeError):
    """kubectl said no; the message is its own."""


def program() -> str:
    """Return this environment's kubectl, else that of PATH. Errors: KubectlError."""
    own = Path(sys.executable).with_name("kubectl")
    found = str(own) if own.exists() else shutil.which("kubectl")
    if found is None:
        raise KubectlError("kubectl is not installed: run `make setup`")
    return found


def documents(text: str) -> list[Manifest]:
    """Return the objects of a YAML stream, without the empty ones."""
    return [document for document in yaml.safe_load_all(text) if document]


def labelled(manifest: Manifest, labels: Mapping[str, str]) -> Manifest:
    """Return a manifest with labels added."""
    metadata = manifest["metadata"]
    return {**manifest, "metadata": {**metadata, "labels": {**metadata.get("labels", {}), **labels}}}


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl with one kubeconfig; None means the caller's own. Errors, everywhere: KubectlError."""

    kubeconfig: Path | None = None

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run and return what it prints."""
        env = {**os.environ, **({"KUBECONFIG": str(self.kubeconfig)} if self.kubeconfig else {})}
        try:
            done = subprocess.run(
                [program(), *arguments],
                env=env,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise KubectlError(f"kubectl {' '.join(arguments)}: no end after {timeout:.0f} s") from error
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def json(self, *arguments: str, stdin: str | None = None) -> Any:
        """Run with `-o json` and return the answer; None for an empty one."""
        text = self.run(*arguments, "-o", "json", stdin=stdin)
        return json.loads(text) if text.strip() else None

    def apply(self, manifests: Sequence[Manifest]) -> None:
        """Apply manifests server-side. What somebody else's hand changed in these fields is set back."""
        if not manifests:
            return
        stream = yaml.safe_dump_all(manifests, sort_keys=False)
        self.run("apply", "--server-side", "--force-conflicts", "--field-manager=dev-stack", "-f", "-", stdin=stream)

    def stored(self, manifests: Sequence[Manifest]) -> list[Manifest]:
        """Return those objects of `manifests` that the cluster has."""
        if not manifests:
            return []
        stream = yaml.safe_dump_all(manifests, sort_keys=False)
        found = self.json("get", "--ignore-not-found", "-f", "-", stdin=stream)
        if not found:
            return []
        return list(found["items"]) if found["kind"] == "List" else [found]

    def may(self, verb: str, resource: str, group: str = "", namespace: str = "") -> bool:
        """Tell whether the person of this kubeconfig may do this, whatever the name; in all namespaces or in one."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {
                "resourceAttributes": {"verb": verb, "resource": resource, "group": group, "namespace": namespace}
            },
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = json.loads(self.run("create", "--raw", path, "-f", "-", stdin=json.dumps(review)))
        return bool(answer["status"]["allowed"])


def kustomized(folder: Path) -> list[Manifest]:
    """Return what a kustomization renders."""
    return documents(Kubectl().run("kustomize", str(folder)))
