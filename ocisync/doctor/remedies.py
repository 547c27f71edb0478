"""What mends each cause, as the exact setting of whatever serves the registry; deploy/serving has whole files. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line reads this module at its start
    from ocisync.doctor.probe import ProbeResponse

ANY = "registry"  # remedies that are the same whatever serves it
_BUCKET = re.compile(r"(?P<bucket>[a-z0-9][a-z0-9.-]+)\.s3[.-]")
_SERVERS = {
    "amazons3": "s3", "nginx": "nginx", "caddy": "caddy", "cloudflare": "cloudflare", "seaweedfs": "s3", "garage": "s3",
}  # fmt: skip
_HEADERS = {"x-amz-cf-id": "cloudfront", "x-amz-request-id": "s3", "cf-ray": "cloudflare"}
_AGAIN = "publish it again: ocisync once, or ocisync copy SOURCE TARGET"


def fronts_of(answers: Sequence[ProbeResponse]) -> tuple[str, ...]:
    """What seems to have answered, by its headers; it may be several, one behind the other."""
    found: dict[str, None] = {}
    for answer in answers:
        server = f"{answer.header('server')} {answer.header('via')}".lower()
        found |= {front: None for word, front in _SERVERS.items() if word in server}
        found |= {front: None for name, front in _HEADERS.items() if answer.header(name)}
    return tuple(found)


def remedies_for(code: str, fronts: Sequence[str], host: str) -> Mapping[str, str]:
    """What mends a cause, by front: those that were recognised, else all that are known."""
    known = _CURES.get(code, {})
    chosen = {front: text for front, text in known.items() if front in (*fronts, ANY)}
    bucket = _BUCKET.match(host)
    name = bucket["bucket"] if bucket else "BUCKET"
    return {front: text.replace("BUCKET", name) for front, text in (chosen or known).items()}


def bucket_policy(bucket: str) -> str:
    """The policy that lets anybody read, and makes S3 answer 404 instead of 403 for what is not there."""
    statements = [
        ("ReadTheRegistry", "s3:GetObject", f"arn:aws:s3:::{bucket}/*"),
        ("AnswerAbsentWith404", "s3:ListBucket", f"arn:aws:s3:::{bucket}"),
    ]
    document = {
        "Version": "2012-10-17",
        "Statement": [
            {"Sid": sid, "Effect": "Allow", "Principal": "*", "Action": action, "Resource": resource}
            for sid, action, resource in statements
        ],
    }
    return json.dumps(document, indent=2)


_POLICY = f"the bucket policy (and switch off Block Public Access for policies):\n{bucket_policy('BUCKET')}"
_NGINX_ROOT = "location = /v2/ { default_type application/json; return 200 '{}'; }"
_CADDY_ROOT = 'handle /v2/ {\n  header Content-Type application/json\n  respond "{}" 200\n}'
_FUNCTION_ROOT = (
    "a viewer-request function:\nfunction handler(event) {\n  if (event.request.uri === '/v2/') {\n"
    "    return { statusCode: 200, headers: { 'content-type': { value: 'application/json' } }, body: '{}' };\n"
    "  }\n  return event.request;\n}"
)
_ROOT = {
    "nginx": _NGINX_ROOT,
    "caddy": _CADDY_ROOT,
    "cloudfront": _FUNCTION_ROOT,
    "s3": "write both keys, `v2/` and `v2/index.html`, with the body {} and Content-Type application/json; every "
          "publication by ocisync does. By hand:\nprintf '{}' > empty.json; for key in v2/ v2/index.html; do aws s3api "
          "put-object --bucket BUCKET --key $key --body empty.json --content-type application/json; done",
    "cloudflare": "a URL rewrite rule: if http.request.uri.path eq \"/v2/\", rewrite the path to /v2/index.html",
}  # fmt: skip
_NO_COMPRESSION = {
    "nginx": "gzip off;  # and, where they are built in, brotli off; zstd off;",
    "caddy": "no `encode` for the registry: exclude it by a matcher, `@page not path /v2/*` and `encode @page gzip`",
    "cloudfront": "Compress: false in the cache behaviour of /v2/*",
    "cloudflare": "a compression rule: if starts_with(http.request.uri.path, \"/v2/\"), disable compression",
    "s3": "store the objects without Content-Encoding",
}  # fmt: skip
_MANIFEST_TYPES = {
    "nginx": "a directory keeps no Content-Types: let `ocisync serve DIR` answer manifests\n"
             "location ~ ^/v2/.+/manifests/ { proxy_pass http://127.0.0.1:5000; }\n"
             "in front of S3, take the type from there: no `default_type`, no `types` and no `add_header Content-Type`",
    "caddy": "a directory keeps no Content-Types: let `ocisync serve DIR` answer manifests\n"
             "@manifests path_regexp ^/v2/.+/manifests/\nreverse_proxy @manifests 127.0.0.1:5000",
    "s3": "the object has no or a wrong Content-Type, which S3 keeps from the upload: " + _AGAIN + "; `aws s3 cp` and "
          "`aws s3 sync` guess it, so copy with `--content-type`, or not with them",
}  # fmt: skip
_FRESH_TAGS = {
    "nginx": "location ~ ^/v2/.+/(tags/list|manifests/[^:/]+)$ { … add_header Cache-Control no-cache; expires off; }",
    "caddy": "@moving path_regexp ^/v2/.+/(tags/list|manifests/[^:/]+)$\nheader @moving Cache-Control no-cache",
    "cloudfront": "the managed policy CachingDisabled for */tags/list and */manifests/*, or MinTTL 0 in a cache policy "
                  "that honours the origin's Cache-Control",
    "cloudflare": "cache rules: bypass for /v2/ except where the path has `sha256:`",
    "s3": "the objects' own Cache-Control: tags and tags/list are written with no-cache by ocisync; " + _AGAIN,
}  # fmt: skip
_DIGEST_HEADER = {
    "nginx": "in front of S3, where ocisync keeps the digest beside each manifest:\n"
             "location ~ ^/v2/.+/manifests/ { … add_header Docker-Content-Digest "
             "$upstream_http_x_amz_meta_docker_content_digest; }\n"
             "over a directory: proxy manifests to `ocisync serve DIR`",
    "caddy": "in front of S3: `header_down` cannot copy; use deploy/serving/s3.Caddyfile. Over a directory: "
             "reverse_proxy manifests to `ocisync serve DIR`",
    "cloudfront": "a viewer-response function:\nfunction handler(event) {\n  var headers = event.response.headers;\n"
                  "  var kept = headers['x-amz-meta-docker-content-digest'];\n"
                  "  if (kept) headers['docker-content-digest'] = { value: kept.value };\n  return event.response;\n}",
    "cloudflare": "a response header transform rule for paths with /manifests/: set Docker-Content-Digest to "
                  'http.response.headers["x-amz-meta-docker-content-digest"][0]',
    "s3": "S3 cannot send it: put a front before the bucket (deploy/serving), or `ocisync serve s3://BUCKET`; or do "
          "without, as only oras needs it",
}  # fmt: skip
_ABSENT = {
    "nginx": "remove try_files, error_page and deny rules that apply to /v2/; then\n"
             "location /v2/ { try_files $uri =404; }",
    "caddy": "no `try_files` with a page for /v2/*; file_server answers 404 by itself",
    "cloudfront": "no CustomErrorResponses that turn 403 or 404 into 200; give the distribution s3:ListBucket on the "
                  "bucket beside s3:GetObject, so that S3 answers 404",
    "s3": "no error document for a single-page application; a website endpoint's error document keeps the status 404",
}  # fmt: skip
_CURES: Mapping[str, Mapping[str, str]] = {
    "host.unreachable": {ANY: "check the name, the port and the firewall"},
    "tls.refused": {
        "nginx": "ssl_certificate must hold the certificate and its intermediates (fullchain.pem), for this host name",
        "caddy": "name the host in the Caddyfile: Caddy gets a trusted certificate by itself",
        ANY: "or give clients the authority: docker /etc/docker/certs.d/HOST/ca.crt, containerd hosts.toml `ca`, "
             "podman /etc/containers/certs.d/HOST/ca.crt",
    },
    "tls.none": {ANY: "serve https; or tell every client: docker `insecure-registries`, containerd hosts.toml, podman "
                      "registries.conf `insecure = true`, crane --insecure, oras --plain-http"},
    "root.missing": _ROOT,
    "root.forbidden": {**_ROOT, "nginx": f"a folder without an index is 403: {_NGINX_ROOT}", "s3": _POLICY},
    "root.error": {ANY: "look into the front's error log; its upstream may be down"},
    "root.below_path": {
        "nginx": "server_name REGISTRY-HOST; location /v2/ { proxy_pass http://S3-HOST/BUCKET/v2/; }",
        "caddy": "rewrite * /BUCKET{uri}\nreverse_proxy S3-HOST",
        "s3": "use the bucket's own host name (virtual-hosted style: https://BUCKET.s3.REGION.amazonaws.com), its "
              "website endpoint, or a front that maps / to the bucket",
    },
    "auth.no_challenge": {
        "nginx": "auth_basic \"registry\"; sends it. For anonymous readers: auth_basic off; for /v2/",
        ANY: "send `WWW-Authenticate: Basic realm=\"registry\"` with every 401, or let anonymous readers in",
    },
    "redirect.endless": {
        "nginx": "remove the rule that redirects /v2/ (often one that adds or removes the slash at the end, or that "
                 "sends http to https behind a front that has done so)",
        "caddy": "remove the `redir` that applies to /v2/*",
        ANY: "behind a CDN that speaks http to the origin, do not redirect to https at the origin",
    },
    "redirect.dead": {
        "nginx": "absolute_redirect off;  # or remove the redirect: serve blobs yourself",
        ANY: "make the redirect's address reachable from clients, or serve the content without a redirect",
    },
    "redirect.downgrade": {ANY: "redirect to https: a front that ends TLS must tell the upstream (X-Forwarded-Proto)"},
    "absent.forbidden": {
        "s3": _POLICY,
        "cloudfront": "allow the distribution s3:ListBucket on arn:aws:s3:::BUCKET beside s3:GetObject on its objects: "
                      "S3 then says 404",
        "nginx": "over a directory: remove `deny`/`internal` rules for /v2/. In front of S3 correct its policy "
                 "(grant s3:ListBucket); else: proxy_intercept_errors on; error_page 403 =404 @absent;",
        "caddy": "over a directory: no `respond 403`. In front of S3 correct the bucket's policy (grant s3:ListBucket)",
        ANY: "or put `ocisync serve` in front of the bucket",
    },
    "absent.found": _ABSENT,
    "absent.error": _ABSENT,
    "absent.name_unknown": {ANY: "answer 404 with the code MANIFEST_UNKNOWN or BLOB_UNKNOWN, or with no body"},
    "manifest.missing": {ANY: f"name a tag that is in tags/list, or {_AGAIN}"},
    "manifest.refused": {**_ABSENT, "s3": _POLICY},
    "manifest.not_json": {**_ABSENT, ANY: "what answers is not the registry: look at its body with curl"},
    "manifest.malformed": {
        ANY: "make the image with another version of the tool and publish it again; ocisync verify finds others"
    },
    "manifest.type": _MANIFEST_TYPES,
    "manifest.type_parameters": {
        "nginx": "charset off;  # for /v2/",
        "caddy": "header /v2/* Content-Type must not be set with a charset",
        "cloudfront": "no response headers policy that overrides Content-Type",
        "s3": "the object's own Content-Type has them: " + _AGAIN,
    },
    "manifest.compressed": _NO_COMPRESSION,
    "manifest.altered": {
        "nginx": "remove sub_filter, ssi, addition and similar filters for /v2/; empty the proxy_cache",
        "cloudflare": "switch off Email Obfuscation, Rocket Loader and the like for /v2/, and purge the cache",
        ANY: f"purge caches; if it stays, the stored manifest is corrupt: {_AGAIN}",
    },
    "digest.missing": {ANY: f"v2/NAME/manifests/sha256:… must be written before the tag; some tools do not: {_AGAIN}"},
    "digest.refused": {
        "nginx": "no location may deny a path with a colon; a regular expression for them: "
                 "location ~ ^/v2/.+/(manifests|blobs)/sha256:[0-9a-f]+$ { … }",
        "cloudflare": "a WAF exception for /v2/: skip managed rules",
        "cloudfront": "a WAF exception for /v2/*",
        ANY: "allow `:` and `%3A` in paths below /v2/",
    },
    "digest.header_missing": _DIGEST_HEADER,
    "digest.header_wrong": {**_DIGEST_HEADER, ANY: "purge caches: the header and the body are of different times"},
    "head.refused": {
        "nginx": "limit_except GET { deny all; }  # GET includes HEAD; in `if ($request_method …)` name HEAD too",
        "caddy": "@allowed method GET HEAD",
        "cloudfront": "AllowedMethods: [GET, HEAD]",
        "s3": "a presigned or signed URL is made for one method only: let anonymous readers in, or use a front",
    },
    "head.differs": {
        "nginx": "proxy_cache_convert_head on;  # its default; and the same location for GET and HEAD",
        ANY: "answer HEAD with the headers of GET",
    },
    "length.missing": _NO_COMPRESSION,
    "child.missing": {ANY: _AGAIN},
    "blob.missing": {ANY: f"{_AGAIN}; ocisync verify TARGET --repair mends a whole registry"},
    "blob.refused": {**_ABSENT, "s3": _POLICY},
    "blob.altered": {ANY: "remove filters that rewrite bodies; purge caches; then ocisync verify TARGET --deep"},
    "blob.size": {ANY: "purge caches; then ocisync verify TARGET --repair"},
    "blob.compressed": _NO_COMPRESSION,
    "range.ignored": {
        "nginx": "remove max_ranges 0; in front of S3: proxy_force_ranges on, or proxy_cache off for blobs",
        "cloudfront": "CloudFront does Range by itself for objects up to 50 GB: is an edge function answering?",
        ANY: "pass Range on and answer 206",
    },
    "tags.missing": {ANY: "ocisync writes it with every publication; else: ocisync reconcile TARGET"},
    "tags.not_json": {**_ABSENT, ANY: "ocisync reconcile TARGET writes it anew"},
    "tags.type": {
        "nginx": "location ~ ^/v2/.+/tags/list$ { default_type application/json; }",
        "caddy": "@list path_regexp ^/v2/.+/tags/list$\nheader @list Content-Type application/json",
        "s3": "ocisync reconcile TARGET, or copy the object with --content-type application/json",
    },
    "tags.unsorted": {ANY: "ocisync reconcile TARGET sorts it, unless the target's order is `newest`"},
    "tags.incomplete": {ANY: "ocisync reconcile TARGET; and see that tags/list is not cached"},
    "cache.tags": _FRESH_TAGS,
    "cache.absent": {
        "nginx": "add_header without `always`; proxy_cache_valid 404 0;",
        "cloudfront": "ErrorCachingMinTTL: 0 for 403 and 404",
        "cloudflare": "edge TTL by status code: 404 no-store",
        ANY: "no Cache-Control on 404",
    },
    "cache.blobs": {
        "nginx": "location ~ ^/v2/.+/(manifests|blobs)/sha256: { … add_header Cache-Control "
                 "\"public, max-age=31536000, immutable\"; }",
        ANY: "Cache-Control: public, max-age=31536000, immutable for paths with sha256:",
    },
    "referrers.type": {
        **_ABSENT,
        "s3": "the object's Content-Type must be application/vnd.oci.image.index.v1+json: ocisync reconcile TARGET",
        "nginx": "location ~ ^/v2/.+/referrers/ { types {} default_type application/vnd.oci.image.index.v1+json; "
                 "try_files $uri =404; }",
    },
    "referrers.partial": {ANY: "ocisync reconcile TARGET writes a list, possibly empty, for every manifest"},
}  # fmt: skip
