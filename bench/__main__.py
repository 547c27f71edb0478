"""`python -m bench [CASE…]`: measure, and print the tables. See docs/performance.md."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.cases import CASES
from bench.measure import Usage, run
from bench.numbers import numbers
from bench.peers import OCISYNC, found_peers
from bench.record import Bench
from bench.table import markdown, measured_table
from bench.workloads import TINY, Sizes
from tests.servers.docker_registry import DockerRegistry
from tests.servers.tls import make_certificate


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases; 1 when a number is not reached, unless the sizes are tiny."""
    asked = _parser().parse_args(arguments)
    if asked.registry:
        DockerRegistry.program = asked.registry
    with TemporaryDirectory(prefix="ocisync-bench-") as temporary:
        bench = _bench(asked, Path(asked.work or temporary).absolute())
        if asked.tls:
            bench.tls = make_certificate(Path(temporary))
            os.environ["SSL_CERT_FILE"] = str(bench.tls.authority)  # which every client heeds
        with bench.folder() as folder:
            run([OCISYNC, "--help"], folder)  # compiles what is not compiled yet
        for case in asked.cases or CASES:
            CASES[case](bench)
        found = numbers(bench)
    if asked.json:
        asked.json.write_text(json.dumps(_document(bench), indent=1))
    print(measured_table(bench), end="\n\n")
    print(markdown(("number", "figure", "to reach", "", "bare client"), [one.cells for one in found]))
    return int(not asked.tiny and not all(one.holds for one in found))


def _bench(asked: argparse.Namespace, work: Path) -> Bench:
    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    peers = {name: peer for name, peer in found_peers().items() if not asked.peers or name in asked.peers}
    return Bench(work, TINY if asked.tiny else Sizes(), asked.runs, peers, tell, 1 if asked.tiny else 3)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", choices=[*CASES, []], help=f"all, or of {', '.join(CASES)}")
    parser.add_argument("--tiny", action="store_true", help="very small workloads: shows that everything runs")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, of which the median is shown (3)")
    parser.add_argument("--work", type=Path, help="where workloads are made, and kept; some 25 GB of disk in all")
    parser.add_argument("--peers", nargs="*", default=(), help="only these peers; all on PATH otherwise")
    parser.add_argument("--registry", help="the registry's program at both ends (docker-registry)")
    parser.add_argument("--tls", action="store_true", help="TLS at both ends, where they are registries")
    parser.add_argument("--json", type=Path, help="write every run to this file as well")
    return parser


def _document(bench: Bench) -> list[dict[str, object]]:
    return [
        {"case": case, "phase": phase, "client": client, "runs": [_plain(one) for one in runs]}
        for (case, phase, client), runs in bench.records.items()
    ]


def _plain(usage: Usage) -> dict[str, object]:
    found = {one.name: getattr(usage, one.name) for one in fields(usage)}
    return found | {"source": dict(usage.source), "target": dict(usage.target)}


if __name__ == "__main__":
    sys.exit(main())
