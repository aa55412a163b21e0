"""Reads rendered manifests, for .ci/kubernetes and the scripts beside this file."""

import re

import yaml


def read(text):
    return list(yaml.safe_load_all(text))


def bondgate_of(thing):
    """The container bondgate of a workload."""
    pod = thing["spec"]["template"]["spec"]
    containers = [item for key in ("initContainers", "containers") for item in pod.get(key, [])]
    (bondgate,) = [container for container in containers if container["name"] == "bondgate"]
    return bondgate


def variables(container, things):
    """The environment that the kubelet makes for a container; its namespace is that of the ConfigMaps."""
    maps = {thing["metadata"]["name"]: thing for thing in things if thing["kind"] == "ConfigMap"}
    found, namespace = {}, None
    for source in container.get("envFrom", []):
        used = maps[source["configMapRef"]["name"]]
        namespace = used["metadata"]["namespace"]
        found.update(used["data"])
    for variable in container["env"]:
        name = variable["name"]
        if variable.get("valueFrom") == {"fieldRef": {"fieldPath": "metadata.namespace"}}:
            found[name] = namespace
        else:
            # A variable can be used only after its definition.
            found[name] = re.sub(r"\$\((\w+)\)", lambda used: found[used[1]], variable["value"])
    return found
