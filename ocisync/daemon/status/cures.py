"""What to do about a failure, by its code; messages say what happened and where."""

from __future__ import annotations

_DAMAGED = "The content was damaged on its way or at the source. If this continues, push the image to the source again."
_BAD_MANIFEST = "The registry or the archive holds a manifest that cannot be used. Push or save the image again."
_NETWORK = "It is tried again automatically. If this continues, check firewalls and proxies in between."
_CURES = {
    "auth.denied": "Check user and password of this host under `registries`, and that it may read or push there.",
    "auth.realm": "The registry sends log-ins to another host. If you trust it, add that host to `realms`.",
    "source.missing": "Check name and tag at the source. Some registries answer 404 when you are not logged in.",
    "limit.rate": "Wait, or log in for a higher limit. `rate_limit` of the registry keeps pulls for others.",
    "limit.exceeded": "Look at the image: it is larger or deeper than allowed. Raise limits only for what you trust.",
    "limit.files": "Raise the limit of open files (LimitNOFILE of the unit, ulimit -n).",
    "limit.memory": "Give the process more memory, or lower `daemon.concurrent_images`.",
    "limit.threads": "Raise the limit of tasks (TasksMax of the unit).",
    "prune.refused": "Look at `ocisync plan`; then run `ocisync once --force-prune RULE`.",
    "manifest.unsupported": "The image is of a kind that cannot be copied, such as docker's schema 1. Build it again.",
    "manifest.invalid": _BAD_MANIFEST,
    "manifest.ambiguous": _BAD_MANIFEST,
    "verify.digest": _DAMAGED,
    "verify.size": _DAMAGED,
    "verify.diffid": "The archive's layers do not match its configuration. Save the image again.",
    "verify.untrusted": "Nobody whom the rule trusts signed the image. Have it signed, or correct the rule's keys.",
    "verify.unsigned": "No signature was found. Have the image signed; `wait` lets signatures follow.",
    "verify.payload": "The signature is about something else. `ocisync inspect --verify POLICY IMAGE` tells more.",
    "verify.expired": "The certificate was not valid when the image was signed: it must be signed again.",
    "verify.young": "The image is not as old as the rule demands, or its age is not known.",
    "verify.root": "Give the policy a `trusted_root`, or let ocisync reach tuf-repo-cdn.sigstore.dev.",
    "verify.extra": "Install sigstore's library: pip install 'ocisync[sigstore]'.",
    "net.unreachable": "Check the host's name, the network and `proxy`. It is tried again automatically.",
    "net.truncated": f"The connection broke. {_NETWORK}",
    "net.stalled": f"No data came for a long time. {_NETWORK}",
    "tls.verify": "Give the registry's authority with `ca`, or correct its certificate.",
    "registry.error": "The registry answered with an error. Look at its own log; it is tried again automatically.",
    "s3.config": "Check bucket, region, endpoint and credentials of the target: `ocisync status --targets` tries them.",
    "store.error": "The storage refused. Check its rights and quota: `ocisync status --targets` tries it.",
    "disk": "Free some room, or correct the rights of the folder. It then continues by itself.",
    "archive.invalid": "The file is not a complete image archive. Save it again, and rename it into the folder when "
    "it is complete.",
    "input.invalid": "Correct what the message names, then drop the file again.",
    "name.invalid": "Give the file a name that an image can have: lower case, digits, `.`, `_`, `-`.",
    "set.incomplete": "Drop the missing platform's file, or change `platforms` of the rule.",
    "set.ambiguous": "Keep one file for each platform.",
    "internal": "This is a defect of ocisync. Please report it with the traceback in the log.",
}


def cure_of(code: str) -> str:
    """What to do; empty where the message must do."""
    return _CURES.get(code, "")
