"""What tests write into a ledger."""

from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, sha256
from ocisync.model.media_types import OCI_LAYER_GZIP, OCI_MANIFEST
from ocisync.sync.ledger import Ledger, Published

LAYER = Descriptor(OCI_LAYER_GZIP, sha256(b"layer"), 5)


def list_digests(count: int) -> list[Digest]:
    """So many digests, the same each time."""
    return [Digest(f"sha256:{number:064x}") for number in range(count)]


async def fill_ledger(ledger: Ledger) -> None:
    """Images, a layer and facts; some of them replaced by later ones."""
    one, two, three = list_digests(3)
    await ledger.record("t", "a", {"1": Published(one, 10.0), "2": Published(two, 10.0)}, {one: 1, two: 2})
    await ledger.record(
        "t", "a", {"2": Published(three, 20.5, "a scope", "what referred", OCI_MANIFEST, 7)}, {three: 3}
    )
    await ledger.record("t", "b", {"1": Published(one, 30.0)}, {one: 1})
    await ledger.record("other", "a", {"9": Published(one, 30.0)}, {one: 1})
    await ledger.record("t", "c", {"1": Published(one, 30.0, "linux/amd64")}, {})
    await ledger.record_layer("t", "a", sha256(b"diff"), "gzip", LAYER)
    await ledger.put_facts("created", {one: "1.5", two: ""})
    await ledger.put_facts("created", {two: "2.5"})
    await ledger.put_facts("platforms", {one: "[]"})
