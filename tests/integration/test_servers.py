"""The servers that the other tests stand on: each starts, and each fault happens."""

import http.client
import json
from pathlib import Path
from urllib.parse import urlsplit

import botocore.session
import pytest

import ocisync
from tests.servers import faults, images
from tests.servers.client import RegistryClient, Reply, fetch
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.fault_proxy import FaultProxy, fault_proxy
from tests.servers.process import free_port, listening
from tests.servers.seaweed import ACCESS_KEY, SECRET_KEY, Bucket, Seaweed
from tests.servers.skopeo import ArchiveKind, inspect_raw, list_tags, pull, skopeo, skopeo_archive
from tests.servers.tls import Certificate, make_certificate
from tests.servers.tokens import token_server

BLOB = images.noise(300_000, "blob")
PATH = f"/v2/some/image/blobs/{images.digest_of(BLOB)}"


@pytest.fixture
def proxy(registry: DockerRegistry, registry_proxy: FaultProxy) -> FaultProxy:
    """In front of a registry that holds BLOB."""
    images.push_blob(registry.client, "some/image", images.digest_of(BLOB), BLOB)
    return registry_proxy


def get(proxy: FaultProxy, headers: dict[str, str] | None = None) -> Reply:
    return fetch("GET", proxy.url + PATH, headers=headers)


def test_a_registry_stores_an_image_and_tells_its_requests(registry: DockerRegistry, tmp_path: Path) -> None:
    index = images.multi_platform()
    images.push(registry.client, "multi", "1", index)
    before = len(registry.requests())
    assert inspect_raw(f"{registry.host}/multi:1") == index.manifest
    seen = registry.requests()[before:]
    assert [(one.method, one.path, one.status) for one in seen][-1] == ("GET", "/v2/multi/manifests/1", 200)
    files = pull(f"{registry.host}/multi:1", tmp_path / "pulled")
    assert files["manifest.json"] == index.manifest
    blobs = {digest[7:]: blob for child in index.children for digest, blob in child.blobs.items()}
    assert {name: files[name] for name in blobs} == blobs
    assert list_tags(f"{registry.host}/multi") == ["1"]


def test_a_registry_keeps_port_and_contents_over_a_restart(registry: DockerRegistry) -> None:
    image = images.make_image(docker=True)
    images.push(registry.client, "one", "1", image)
    registry.stop()
    assert not listening(registry.port)
    registry.start()
    assert registry.client.expect(200, "GET", "/v2/one/manifests/1", headers={"Accept": "*/*"}).body


def test_a_registry_deletes(registry: DockerRegistry) -> None:
    digest = images.push(registry.client, "one", "1", images.make_image())
    registry.client.expect(202, "DELETE", f"/v2/one/manifests/{digest}")
    registry.client.expect(404, "GET", "/v2/one/manifests/1", headers={"Accept": images.OCI_MANIFEST})


def test_a_registry_asks_for_a_password(tmp_path: Path) -> None:
    with docker_registry(tmp_path, basic=True) as registry:
        assert fetch("GET", f"{registry.url}/v2/").status == 401
        assert RegistryClient(registry.url, "tester", "wrong").request("GET", "/v2/").status == 401
        images.push(registry.client, "one", "1", images.make_image())


def test_a_registry_speaks_tls(tmp_path: Path, certificate: Certificate) -> None:
    with docker_registry(tmp_path, tls=certificate) as registry:
        assert registry.client.request("GET", "/v2/").status == 200
        with pytest.raises(OSError, match="certificate verify failed"):
            fetch("GET", f"{registry.url}/v2/")


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    expired = make_certificate(tmp_path / "tls", days=-1)
    with fault_proxy("http://127.0.0.1:1", expired) as proxy, pytest.raises(OSError, match="expired"):
        fetch("GET", proxy.url, authority=expired.authority)


def test_a_registry_believes_the_token_server(tmp_path: Path, certificate: Certificate) -> None:
    image = images.make_image()
    with token_server(certificate) as tokens, docker_registry(tmp_path, token=tokens.auth) as registry:
        assert fetch("GET", f"{registry.url}/v2/").status == 401
        images.push(registry.client, "one", "1", image)
        assert ("tester", "repository:one:pull,push") in tokens.asked
        anonymous = RegistryClient(registry.url)
        assert anonymous.request("GET", "/v2/one/manifests/1").status == 401
        tokens.anonymous_pull = True
        wanted = {"Accept": images.OCI_MANIFEST}
        assert anonymous.request("GET", "/v2/one/manifests/1", headers=wanted).body == image.manifest
        tokens.expires_in = -120
        assert RegistryClient(registry.url).request("GET", "/v2/one/tags/list").status == 401


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_skopeo_makes_archives(registry: DockerRegistry, tmp_path: Path, kind: ArchiveKind) -> None:
    images.push(registry.client, "one", "1", images.make_image(docker=kind == "docker-archive"))
    made = skopeo_archive(kind, f"{registry.host}/one:1", tmp_path / "one.tar", "one:1")
    assert made.stat().st_size > 4000


def test_our_archives_are_what_skopeo_reads(registry: DockerRegistry, tmp_path: Path) -> None:
    image = images.make_image("archived", docker=True)
    docker = images.docker_archive(tmp_path / "docker.tar", {"one:1": image})
    layout = images.oci_archive(tmp_path / "oci.tar", images.multi_platform())
    raw = json.loads(skopeo("inspect", "--raw", f"docker-archive:{docker}"))
    assert [layer["digest"] for layer in raw["layers"]] == [images.digest_of(layer) for layer in image.layers]
    assert skopeo("inspect", "--raw", f"oci-archive:{layout}") == images.multi_platform().manifest


def test_a_bucket_is_read_at_the_root_of_its_front(bucket: Bucket, bucket_url: str) -> None:
    bucket.put("v2/a/manifests/1", b"{}", "application/json")
    bucket.put("v2/a/blobs/b", BLOB)
    assert fetch("GET", f"{bucket_url}/v2/a/manifests/1").headers["content-type"] == "application/json"
    part = fetch("GET", f"{bucket_url}/v2/a/blobs/b", headers={"Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, BLOB[10:20])
    assert fetch("HEAD", f"{bucket_url}/v2/a/blobs/b").headers["content-length"] == "300000"
    assert fetch("GET", f"{bucket_url}/absent").status == 404
    assert b"<Key>v2/a/blobs/b</Key>" in fetch("GET", f"{bucket_url}/?list-type=2&prefix=v2/a/b").body
    assert bucket.keys("v2/a/m") == ["v2/a/manifests/1"]


def test_buckets_are_many_and_signatures_hold_through_a_proxy(s3: Seaweed, s3_proxy: FaultProxy) -> None:
    first, second = s3.bucket(), s3.bucket()
    first.put("key", b"one")
    assert (first.contents(), second.keys(), first.uploads()) == ({"key": b"one"}, [], [])
    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "region_name": "us-east-1"}
    client = botocore.session.get_session().create_client("s3", endpoint_url=s3_proxy.url, **keys)
    client.put_object(Bucket=second.name, Key="proxied", Body=BLOB)
    assert second.get("proxied").body == BLOB
    assert s3_proxy.seen("PUT", "/proxied")[0].received >= len(BLOB)


def test_the_proxy_passes_and_records(registry: DockerRegistry, proxy: FaultProxy) -> None:
    index = images.multi_platform()
    client = RegistryClient(proxy.url)
    images.push(client, "multi", "1", index)
    assert inspect_raw(f"{proxy.host}/multi:1") == index.manifest
    assert get(proxy).body == BLOB
    [one] = proxy.seen("GET", "/blobs/")
    assert (one.status, one.sent, one.headers["host"], one.faulty) == (200, len(BLOB), proxy.host, False)
    location = client.expect(202, "POST", "/v2/multi/blobs/uploads/").headers["location"]
    assert urlsplit(location).netloc in ("", proxy.host)


def test_the_proxy_keeps_a_connection_and_takes_chunked_uploads(proxy: FaultProxy) -> None:
    connection = http.client.HTTPConnection(proxy.host, timeout=10)
    connection.request("POST", "/v2/chunked/blobs/uploads/")
    started = connection.getresponse()
    started.read()
    upload = f"{started.headers['Location']}&digest={images.digest_of(BLOB)}"
    pieces = (BLOB[at : at + 7000] for at in range(0, len(BLOB), 7000))
    connection.request("PUT", upload, pieces, {"Content-Type": "application/octet-stream"}, encode_chunked=True)
    done = connection.getresponse()
    done.read()
    connection.close()
    assert done.status == 201
    assert proxy.seen("PUT")[0].received == len(BLOB)


def test_rules_count(proxy: FaultProxy) -> None:
    rule = proxy.on("GET", "/blobs/", faults.Reply(503, {"Retry-After": "1"}), skip=1, times=1)
    assert [get(proxy).status for _ in range(3)] == [200, 503, 200]
    assert rule.hits == 1
    assert [one.faulty for one in proxy.seen("GET")] == [False, True, False]


def test_refuse_resets(proxy: FaultProxy) -> None:
    proxy.on("GET", "/blobs/", faults.Refuse())
    with pytest.raises(ConnectionResetError):
        get(proxy)


def test_reset_in_mid_body(proxy: FaultProxy) -> None:
    proxy.on("GET", "/blobs/", faults.ResetBody(1000))
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        get(proxy)
    assert proxy.seen("GET")[0].sent == 1000


@pytest.mark.parametrize("chunked", [False, True])
def test_truncate_ends_too_early(proxy: FaultProxy, chunked: bool) -> None:
    proxy.on("GET", "/blobs/", faults.Truncate(1000, chunked=chunked))
    with pytest.raises(http.client.IncompleteRead) as caught:
        get(proxy)
    assert len(caught.value.partial) == 1000


@pytest.mark.parametrize("after", [-1, 500])
def test_stall_sends_no_more(proxy: FaultProxy, after: int) -> None:
    proxy.on("GET", "/blobs/", faults.Stall(after))
    connection = http.client.HTTPConnection(proxy.host, timeout=0.3)
    with pytest.raises(TimeoutError):
        _read_all(connection)
    connection.close()
    assert proxy.seen("GET")[0].sent == max(after, 0)


def _read_all(connection: http.client.HTTPConnection) -> bytes:
    connection.request("GET", PATH)
    return connection.getresponse().read()


def test_trickle_sends_all_in_the_end(proxy: FaultProxy) -> None:
    proxy.on("GET", "/blobs/", faults.Trickle(size=60_000, pause=0.01))
    assert get(proxy).body == BLOB


def test_flip_turns_one_byte(proxy: FaultProxy) -> None:
    proxy.on("GET", "/blobs/", faults.Flip(250_000))
    body = get(proxy).body
    assert [at for at in range(len(BLOB)) if body[at] != BLOB[at]] == [250_000]


def test_headers_change(proxy: FaultProxy) -> None:
    change = faults.ChangeHeaders({"Docker-Content-Digest": "sha256:lie"}, {"X-New": "1"}, ("ETag",))
    proxy.on("GET", "/blobs/", change)
    reply = get(proxy)
    assert (reply.headers["docker-content-digest"], reply.headers["x-new"]) == ("sha256:lie", "1")
    assert "etag" not in reply.headers
    assert reply.body == BLOB


def test_a_body_changes(proxy: FaultProxy) -> None:
    proxy.on("GET", "/blobs/", faults.ChangeBody(lambda body: body + b"more"))
    assert get(proxy).body == BLOB + b"more"


def test_redirect_names_the_target(proxy: FaultProxy) -> None:
    proxy.on("GET", "/blobs/", faults.Redirect("http://other.example{path}"))
    reply = get(proxy)
    assert (reply.status, reply.headers["location"]) == (307, f"http://other.example{PATH}")


def test_range_is_honoured_ignored_or_moved(proxy: FaultProxy) -> None:
    asked = {"Range": "bytes=100-199"}
    assert (get(proxy, asked).status, get(proxy, asked).body) == (206, BLOB[100:200])
    proxy.rules[:] = []
    proxy.on("GET", "/blobs/", faults.IgnoreRange(), times=1)
    assert (get(proxy, asked).status, proxy.requests[-1].headers["range"]) == (200, "bytes=100-199")
    proxy.on("GET", "/blobs/", faults.WrongRange(5), times=1)
    moved = get(proxy, asked)
    assert (moved.headers["content-range"], moved.body) == ("bytes 105-199/300000", BLOB[105:200])
    proxy.on("GET", "/blobs/", faults.WrongRange(-5, lie=True), times=1)
    lied = get(proxy, asked)
    assert (lied.headers["content-range"], lied.body) == ("bytes 100-199/300000", BLOB[95:200])


def test_a_lost_reply_is_a_finished_request(registry: DockerRegistry, proxy: FaultProxy) -> None:
    proxy.on("PUT", "/blobs/", faults.LoseReply())
    other = images.noise(1000, "other")
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        images.push_blob(RegistryClient(proxy.url), "some/image", images.digest_of(other), other)
    assert registry.client.request("GET", f"/v2/some/image/blobs/{images.digest_of(other)}").body == other


def test_an_upload_is_reset(registry: DockerRegistry, proxy: FaultProxy) -> None:
    proxy.on("PUT", "/blobs/", faults.ResetRequest(1000))
    other = images.noise(200_000, "other")
    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        images.push_blob(RegistryClient(proxy.url), "some/image", images.digest_of(other), other)
    assert registry.client.request("HEAD", f"/v2/some/image/blobs/{images.digest_of(other)}").status == 404


def test_a_call_may_act_before_the_request_goes_on(registry: DockerRegistry, proxy: FaultProxy) -> None:
    image = images.make_image()
    proxy.on("GET", "/manifests/late", faults.Call(lambda _: images.push(registry.client, "one", "late", image)))
    reply = fetch("GET", f"{proxy.url}/v2/one/manifests/late", headers={"Accept": images.OCI_MANIFEST})
    assert reply.body == image.manifest


def test_the_command_line_runs() -> None:
    assert ocisync.__version__ in run_ocisync("--version").expect(0).stdout
    assert run_ocisync("no-such-command").code == 2


def test_a_free_port_is_free() -> None:
    assert not listening(free_port())
