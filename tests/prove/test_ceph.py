"""The recipe for Ceph RGW, where Ceph is installed: Debian's ceph-mon, ceph-osd, ceph-mgr, radosgw and ceph-common."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ocisync.doctor.remedies import bucket_policy
from tests.integration.mainjob import write_config
from tests.integration.test_serving import NAME, check, front, publish
from tests.servers.ceph import ENV, INSTALLED, ceph_rgw, client
from tests.servers.command import run_ocisync

pytestmark = [pytest.mark.prove, pytest.mark.skipif(not INSTALLED, reason="Ceph is not installed")]
BUCKET = "registry"


def test_the_recipe(tmp_path: Path) -> None:
    with ceph_rgw(tmp_path / "ceph") as url:
        s3 = client(url)
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_policy(Bucket=BUCKET, Policy=bucket_policy(BUCKET))
        query = f"endpoint={url}&s3ForcePathStyle=true&region=default"
        publish(f"s3://{BUCKET}/{NAME}:{{tag}}?{query}", tmp_path, ENV)
        for number, kind in enumerate(("nginx", "caddy")):
            folder = tmp_path / f"front-{number}"
            folder.mkdir()
            with front(kind, "s3", folder / "front", {"127.0.0.1:8333": urlsplit(url).netloc}) as seen:
                check(seen, folder)
        place = f"s3://{BUCKET}?{query}"
        run_ocisync("rm", place, f"{NAME}:1.0", env=ENV).expect(0)
        run_ocisync("verify", place, "--deep", env=ENV).expect(0)
        run_ocisync("gc", place, "--grace", "1s", env=ENV, cwd=tmp_path).expect(0)
        target = {"type": "s3", "bucket": BUCKET, "endpoint": url, "region": "default", "path_style": True}
        file = write_config(tmp_path / "status", {"out": target})
        found = json.loads(run_ocisync("status", "-c", file, "--targets", "--json", env=ENV).expect(0).stdout)
        assert found["out"]["conditional writes"] == "yes, ETags unquoted"
        print(found)  # noqa: T201 (what the gateway can do)
