"""Checks what is for Kubernetes, without a cluster: `cargo xtask ops` runs it.

The chart is rendered by Helm's own library and refused with values that its schema forbids; each
object is held against the schemas of Kubernetes, strictly. Kustomize's output comes on stdin, as does
a list of plain manifests. Kinds that Kubernetes does not know (Argo CD, Kyverno) are only parsed.
"""

import pathlib
import sys

import kubernetes_validate
import yaml
from helm_python import HelmError
from helm_python.chart import Chart

VERSION = "1.35"
FOREIGN = ("argoproj.io/", "kyverno.io/")
HERE = pathlib.Path(__file__).parent
DIGEST = "sha256:" + "0" * 64


def check(text, source):
    """Validates every object in `text`; gives how many there were."""
    count = 0
    for document in yaml.safe_load_all(text):
        if document is None:
            continue
        count += 1
        if document["apiVersion"].startswith(FOREIGN):
            continue
        try:
            kubernetes_validate.validate(document, VERSION, strict=True)
        except Exception as error:
            sys.exit(f"{source}: {document['kind']} {document['metadata']['name']}: {error}")
    return count


def base():
    folder = HERE / "kustomize" / "base"
    return {
        "image": {"repository": "registry.example/moat", "digest": DIGEST},
        "config": (folder / "moat.yaml").read_text(),
        "policy": {"authz.rego": (folder / "authz.rego").read_text()},
    }


def chart():
    count = 0
    loaded = Chart.load(str(HERE / "helm" / "moat"))
    for change in ({}, {"roles": "separate"}, {"service": {"type": "ClusterIP"}}):
        values = loaded.merge_values({**base(), **change})
        loaded.validate_schema(values)
        rendered = loaded.render(values, name="moat", namespace="moat")
        for name, text in rendered.items():
            if name.endswith(".yaml"):
                count += check(text, name)
    for wrong in ({"roles": "all"}, {"replicas": 0}, {"image": {"digest": "latest"}}, {"typo": 1}):
        try:
            loaded.validate_schema(loaded.merge_values({**base(), **wrong}))
        except HelmError:
            continue
        sys.exit(f"the chart's schema takes {wrong}")
    return count


def main():
    count = chart()
    count += check(sys.stdin.read(), "kustomize")
    for path in sorted((HERE / "argocd").glob("*.yaml")) + sorted((HERE / "kyverno").glob("*.yaml")):
        count += check(path.read_text(), path.name)
    print(f"{count} objects")


main()
