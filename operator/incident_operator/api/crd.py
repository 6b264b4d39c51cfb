"""Turn the models of this package into CustomResourceDefinitions: `python -m incident_operator.api.crd crds`.

pydantic writes JSON Schema; the API server takes a subset, "structural" OpenAPI v3. What has no structural form
(recursion, unions, tuples of fixed shape) is an error here, never a silent loss.
"""

import copy
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .kinds import KINDS
from .meta import GROUP, VERSION, KubernetesObject

#: Bounds where a model gives none: CEL rules need them for their cost, etcd for its sanity.
_MAX_LENGTH, _MAX_ITEMS, _MAX_PROPERTIES = 4096, 256, 256
_KEPT = frozenset(
    {"type", "format", "pattern", "enum", "minimum", "maximum", "minLength", "maxLength"}
    | {"minItems", "maxItems", "required", "description", "nullable"}
)
_FORMATS = frozenset({"date", "date-time", "duration", "int32", "int64"})
_PRESERVE = "x-kubernetes-preserve-unknown-fields"


class NotStructural(TypeError):
    """A model that the API server could not store as written; the message names the field."""


def schema(model: type[KubernetesObject]) -> dict[str, Any]:
    """Return the structural schema of a kind. Errors: NotStructural."""
    root = model.model_json_schema(by_alias=True)
    converted = _Converter(root.get("$defs", {})).convert(root, model.__name__, frozenset())
    # The API server knows these itself, and refuses more than `type` for metadata.
    converted["properties"]["metadata"] = {"type": "object"}
    converted["properties"]["kind"] = {"type": "string"}
    converted["properties"]["apiVersion"] = {"type": "string"}
    converted["required"] = ["spec"]
    # The empty status is no status: defaults are for what people write.
    converted["properties"]["status"] = _without_defaults(converted["properties"]["status"])
    return converted


class _Converter:
    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def convert(self, node: Mapping[str, Any], path: str, seen: frozenset[str]) -> dict[str, Any]:
        """Return one schema node in structural form."""
        if "$ref" in node:
            name = node["$ref"].rsplit("/", 1)[1]
            if name in seen:
                raise NotStructural(f"{path}: {name} contains itself; keep the field as JsonObject")
            rest = {key: value for key, value in node.items() if key != "$ref"}
            return self.convert({**self._definitions[name], **rest}, path, seen | {name})
        if "anyOf" in node:
            return self._optional(node, path, seen)
        if unfit := {"oneOf", "allOf", "prefixItems", "patternProperties"} & node.keys():
            raise NotStructural(f"{path}: {', '.join(sorted(unfit))} has no structural form")
        if node.get(_PRESERVE):
            return self._opaque(node)
        out = {key: copy.deepcopy(node[key]) for key in sorted(_KEPT & node.keys())}
        out |= {key: copy.deepcopy(value) for key, value in node.items() if key.startswith("x-kubernetes-")}
        if "const" in node:
            out["enum"] = [node["const"]]
        for bound in ("minimum", "maximum"):
            exclusive = "exclusive" + bound.capitalize()
            if exclusive in node:
                out |= {bound: node[exclusive], exclusive: True}
        if out.get("format") not in _FORMATS:
            out.pop("format", None)
        if "description" in out:
            out["description"] = re.sub(r"\s+", " ", out["description"]).strip()
        if node.get("default") not in (None, [], {}):
            out["default"] = copy.deepcopy(node["default"])
        if "properties" in node:
            out["properties"] = {
                name: self.convert(child, f"{path}.{name}", seen) for name, child in node["properties"].items()
            }
        if "items" in node:
            out["items"] = self.convert(node["items"], f"{path}[]", seen)
        if isinstance(node.get("additionalProperties"), Mapping):
            out["additionalProperties"] = self.convert(node["additionalProperties"], f"{path}{{}}", seen)
        return self._bounded(out, path)

    def _optional(self, node: Mapping[str, Any], path: str, seen: frozenset[str]) -> dict[str, Any]:
        """`X | None` is X, not required: absent is the only way to say none."""
        kinds = [self.convert(kind, path, seen) for kind in node["anyOf"] if kind.get("type") != "null"]
        if len(kinds) == 1:
            merged = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
            return {**kinds[0], **{key: value for key, value in merged.items() if key in _KEPT}}
        if all(kind.get("type") == "string" and "enum" in kind for kind in kinds):
            values = dict.fromkeys(value for kind in kinds for value in kind["enum"])
            return {"type": "string", "enum": list(values), "maxLength": max(map(len, values)), **_default_of(node)}
        raise NotStructural(f"{path}: a union of {[kind.get('type') for kind in kinds]} has no structural form")

    @staticmethod
    def _opaque(node: Mapping[str, Any]) -> dict[str, Any]:
        kept = {key: node[key] for key in ("description", "type", _PRESERVE) if key in node}
        return kept if kept.get("type") in (None, "object") else {_PRESERVE: True}

    @staticmethod
    def _bounded(out: dict[str, Any], path: str) -> dict[str, Any]:
        kind = out.get("type")
        if kind is None:
            raise NotStructural(f"{path}: no type; annotate it as AnyJson if any JSON is meant")
        if kind == "string" and "enum" in out:
            # Nothing longer passes anyway; without it CEL counts with strings of megabytes.
            out["maxLength"] = max(len(value) for value in out["enum"])
        elif kind == "string" and "format" not in out:
            out.setdefault("maxLength", _MAX_LENGTH)
        if kind == "array":
            out.setdefault("maxItems", _MAX_ITEMS)
        if "additionalProperties" in out:
            out.setdefault("maxProperties", _MAX_PROPERTIES)
        return out


def _default_of(node: Mapping[str, Any]) -> dict[str, Any]:
    return {"default": node["default"]} if node.get("default") is not None else {}


def _without_defaults(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_defaults(item) for item in node]
    if not isinstance(node, dict):
        return node
    # A property may itself be called "default"; a schema's default is not a schema.
    return {
        key: {name: _without_defaults(child) for name, child in value.items()}
        if key == "properties"
        else _without_defaults(value)
        for key, value in node.items()
        if key != "default"
    }


def definition(model: type[KubernetesObject]) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind."""
    resource = model.resource
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema(model)},
        "additionalPrinterColumns": [
            {
                "name": c.name,
                "type": c.type,
                "jsonPath": c.json_path,
                **({"priority": c.priority} if c.priority else {}),
            }
            for c in resource.columns
        ],
    }
    if resource.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in resource.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{resource.plural}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "incident-operator", "app.kubernetes.io/part-of": "incident-operator"},
        },
        "spec": {
            "group": GROUP,
            "scope": resource.scope,
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": list(resource.short_names),
                # Not `incidents`: that is a kind of ours.
                "categories": ["incident-response"],
            },
            "versions": [version],
        },
    }


def manifests() -> dict[str, str]:
    """Return every file of `crds/`: its YAML by its name."""
    files = {}
    for model in KINDS:
        text = yaml.safe_dump(definition(model), sort_keys=False, width=120, allow_unicode=True)
        files[f"{GROUP}_{model.resource.plural}.yaml"] = "# Generated by `make crds` from api/; never edited.\n" + text
    names = "".join(f"- {name}\n" for name in sorted(files))
    files["kustomization.yaml"] = (
        "# Generated by `make crds` from api/; never edited.\n"
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n" + names
    )
    return files


def main(folder: Path) -> None:
    """Write every file, and delete those of kinds that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = manifests()
    for stale in set(folder.glob("*.yaml")) - {folder / name for name in wanted}:
        stale.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
