"""Fronts of nginx that are set up wrongly in one way each, and the causes that the doctor has to name."""

PROXY = "location / { proxy_pass $ORIGIN; }"
_ABSENT = "location / { proxy_pass $ORIGIN; proxy_intercept_errors on; error_page 404 @absent; }"
_LIST = "location ~ /tags/list$ { default_type application/json; "
_OCI_MANIFEST = " application/vnd.oci.image.manifest.v1+json; "
_HIDDEN = "proxy_pass $ORIGIN; proxy_hide_header"

# name: directives of a server (with $ORIGIN, $ROOT, $DIGEST and $DEAD, a port without a server), and causes
FRONTS = {
    "no_root": ("location = /v2/ { return 404; }" + PROXY, "root.missing"),
    "forbidden_root": ("location = /v2/ { alias $ROOT/v2/team/; }" + PROXY, "root.forbidden"),
    "broken_root": ("location = /v2/ { proxy_pass http://127.0.0.1:$DEAD; }" + PROXY, "root.error"),
    "below_a_path": ("location /team/ { proxy_pass $ORIGIN/; }", "root.below_path"),
    "slash_loop": (
        "location = /v2/ { return 301 /v2; } location = /v2 { return 301 /v2/; }" + PROXY,
        "redirect.endless",
    ),
    "dead_redirect": (
        "location ~ /blobs/ { return 307 http://127.0.0.1:$DEAD$request_uri; }" + PROXY,
        "redirect.dead",
    ),
    "no_challenge": ("location / { return 401; }", "auth.no_challenge"),
    "absent_is_403": (_ABSENT + "location @absent { return 403; }", "absent.forbidden"),
    "absent_is_a_page": (
        _ABSENT.replace("404", "404 =200") + "location @absent { default_type text/html; return 200 '<html>'; }",
        "absent.found referrers.type",
    ),
    "absent_is_500": (_ABSENT + "location @absent { return 500; }", "absent.error"),
    "name_unknown": (
        _ABSENT + "location @absent { return 404 '{\"errors\":[{\"code\":\"NAME_UNKNOWN\"}]}'; }",
        "absent.name_unknown",
    ),
    "no_tag": ("location ~ /manifests/latest { return 404; }" + PROXY, "manifest.missing"),
    "plain_directory": (
        "root $ROOT; location = /v2/ { default_type application/json; return 200 '{}'; }",
        "manifest.type digest.header_missing tags.type",
    ),
    "a_page_for_all": ("location / { default_type text/html; return 200 '<html>'; }", "manifest.not_json"),
    "charset": (
        "charset utf-8; charset_types application/vnd.oci.image.index.v1+json" + _OCI_MANIFEST + PROXY,
        "manifest.type_parameters",
    ),
    "gzip": (
        "gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;" + PROXY,
        "manifest.compressed blob.compressed",
    ),
    "rewritten": (
        "location / { proxy_pass $ORIGIN; sub_filter_types *; sub_filter 'schemaVersion' 'schemaversion'; }",
        "manifest.altered",
    ),
    "no_digests": ("location ~ sha256: { return 404; }" + PROXY, "digest.missing"),
    "refused_colons": ("location ~ sha256: { return 400; }" + PROXY, "digest.refused"),
    "no_digest_header": ("location / { " + _HIDDEN + " Docker-Content-Digest; }", "digest.header_missing"),
    "wrong_digest_header": (
        "location / { " + _HIDDEN + " Docker-Content-Digest; add_header Docker-Content-Digest sha256:00; }",
        "digest.header_wrong",
    ),
    "no_head": ("if ($request_method = HEAD) { return 405; }" + PROXY, "head.refused"),
    "refused_blobs": ("location ~ /blobs/ { return 403; }" + PROXY, "blob.refused"),
    "lost_blobs": ("location ~ /blobs/ { return 404; }" + PROXY, "blob.missing"),
    "lost_platforms": (
        "location = /v2/team/app/manifests/$DIGEST { proxy_pass $ORIGIN; }"
        "location ~ /manifests/sha256: { return 404; }" + PROXY,
        "child.missing",
    ),
    "other_blobs": (
        "location ~ /blobs/sha256:0 { proxy_pass $ORIGIN; } location ~ /blobs/ { alias $ROOT/v2/index.html; }" + PROXY,
        "blob.altered blob.size",
    ),
    "cached_tags": (
        "location / { " + _HIDDEN + " Cache-Control; add_header Cache-Control 'max-age=86400'; }",
        "cache.tags",
    ),
    "cached_404": (
        _ABSENT + "location @absent { add_header Cache-Control 'public, max-age=86400' always; return 404; }",
        "cache.absent",
    ),
    "no_ranges": ("root $ROOT; max_ranges 0; location /v2/team/app/blobs/ { }" + PROXY, "range.ignored"),
    "no_list": ("location ~ /tags/list$ { return 404; }" + PROXY, "tags.missing"),
    "list_is_a_page": ("location ~ /tags/list$ { return 200 '<html>'; }" + PROXY, "tags.not_json"),
    "list_is_text": ("location ~ /tags/list$ { root $ROOT; default_type text/plain; }" + PROXY, "tags.type"),
    "unsorted": (
        _LIST + "return 200 '{\"tags\":[\"latest\",\"1.0\"]}'; }" + PROXY,
        "tags.unsorted",
    ),
    "stale_list": (
        _LIST + "return 200 '{\"tags\":[\"1.0\"]}'; }" + PROXY,
        "tags.incomplete",
    ),
    "some_referrers": (
        "location ~ /referrers/$DIGEST { default_type application/vnd.oci.image.index.v1+json;"
        " return 200 '{\"schemaVersion\":2,\"manifests\":[]}'; }" + PROXY,
        "referrers.partial",
    ),
}  # fmt: skip
