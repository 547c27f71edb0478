"""`--verify POLICY`: a policy of the configuration, or a file that holds a public key."""

from __future__ import annotations

from pathlib import Path

from ocisync.config.load import load_config
from ocisync.config.models import Config, VerifyPolicy
from ocisync.errors import ConfigError
from ocisync.trust.keys import load_public_key

_MAX_KEY = 64 * 1024  # bytes


def with_policy(given: Path | Config | None, policy: str) -> Config:
    """The configuration, or an empty one, in which the policy is known by the name that was given.

    Raises:
        ConfigError: it is neither a policy of the configuration nor a public key's file.
    """
    config = load_config(given) if isinstance(given, Path) else given or Config(version=1)
    if policy in config.verify:
        return config
    try:
        with Path(policy).open("rb") as stream:
            pem = stream.read(_MAX_KEY)
    except (OSError, ValueError) as exc:
        known = ", ".join(sorted(config.verify)) or "none"
        raise ConfigError(
            f"--verify {policy[:200]}: no policy of the configuration (known are {known}), nor a public key's file"
        ) from exc
    try:
        load_public_key(pem)
    except ConfigError as exc:
        raise exc.at(f"--verify {policy[:200]}") from exc
    return config.model_copy(
        update={"verify": {**config.verify, policy: VerifyPolicy(keys=(pem.decode("ascii", "replace"),))}}
    )
