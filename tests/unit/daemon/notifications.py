"""Notifications as each sender writes them; the names and values are ours."""

from __future__ import annotations

import json
from collections.abc import Mapping

Json = dict[str, object]
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"

HARBOR: Json = {
    "type": "PUSH_ARTIFACT",
    "occur_at": 1750000000,
    "operator": "robot$builder",
    "event_data": {
        "resources": [
            {"digest": "sha256:" + "a" * 64, "tag": "2.1", "resource_url": "harbor.corp.example/team/web:2.1"},
            {"digest": "sha256:" + "b" * 64, "tag": "sha256:" + "b" * 64, "resource_url": "harbor.corp.example/x"},
        ],
        "repository": {"name": "web", "namespace": "team", "repo_full_name": "team/web", "repo_type": "private"},
    },
}
HARBOR_CLOUD: Json = {
    "specversion": "1.0",
    "id": "5f7c",
    "source": "/projects/7/webhook/policies/3",
    "type": "harbor.artifact.pushed",
    "datacontenttype": "application/json",
    "data": HARBOR["event_data"],
}
DOCKER_HUB: Json = {
    "callback_url": "https://registry.hub.docker.com/u/acme/web/hook/1/",
    "push_data": {"pushed_at": 1750000000, "pusher": "me", "tag": "2.1", "media_type": "application/json"},
    "repository": {
        "name": "web",
        "namespace": "acme",
        "repo_name": "acme/web",
        "status": "Active",
        "is_private": False,
    },
}
QUAY: Json = {
    "name": "web",
    "repository": "acme/web",
    "namespace": "acme",
    "docker_url": "quay.io/acme/web",
    "homepage": "https://quay.io/repository/acme/web",
    "updated_tags": ["2.1", "latest"],
}
GITHUB: Json = {
    "action": "published",
    "registry_package": {
        "name": "web",
        "namespace": "Acme",
        "package_type": "CONTAINER",
        "package_version": {"container_metadata": {"tag": {"name": "2.1", "digest": "sha256:" + "a" * 64}}},
    },
}
GITHUB_PACKAGE: Json = {
    "action": "updated",
    "package": {
        "name": "tools/web",
        "owner": {"login": "Acme"},
        "package_type": "container",
        "package_version": {"container_metadata": {"tag": {"name": "2.1"}}},
    },
}
DISTRIBUTION: Json = {
    "events": [
        {"action": "pull", "target": {"repository": "team/web", "tag": "2.1"}},
        {"action": "push", "target": {"repository": "team/web", "mediaType": "application/octet-stream"}},
        {"action": "push", "target": {"repository": "team/web", "mediaType": OCI_MANIFEST, "digest": "sha256:0"}},
        {"action": "push", "target": {"repository": "team/web", "tag": "2.1"}, "request": {"host": "inner:5000"}},
        {"action": "push", "target": {"repository": "team/web", "tag": "2.1"}, "request": {"host": "inner:5000"}},
    ]
}


def encoded(document: object) -> bytes:
    """As it travels."""
    return json.dumps(document).encode()


def github(kind: str) -> Mapping[str, str]:
    """The header that names GitHub's event."""
    return {"X-GitHub-Event": kind}
