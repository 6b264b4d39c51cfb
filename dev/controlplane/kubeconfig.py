"""Kubeconfigs: one file per person, each with one context."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .certificates import write_private

CONTEXT = "incident-operator-dev"


def write_kubeconfig(
    path: Path, cluster: Mapping[str, Any], user: Mapping[str, Any], *, name: str, namespace: str = "default"
) -> None:
    """Write a kubeconfig that only its owner can read.

    Shape: `cluster` and `user` as kubeconfigs have them (`server`, `certificate-authority-data`; `token`, ...).
    """
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "clusters": [{"name": CONTEXT, "cluster": dict(cluster)}],
        "users": [{"name": name, "user": dict(user)}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": name, "namespace": namespace}}],
    }
    write_private(path, yaml.safe_dump(document, sort_keys=False))


def cluster_entry(server: str, authority: Path) -> dict[str, str]:
    """Return the `cluster` part for a server and its authority's certificate."""
    return {"server": server, "certificate-authority-data": base64.b64encode(authority.read_bytes()).decode()}


def read_entries(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the first `cluster` and `user` parts of a kubeconfig."""
    document = yaml.safe_load(path.read_text())
    return document["clusters"][0]["cluster"], document["users"][0]["user"]
