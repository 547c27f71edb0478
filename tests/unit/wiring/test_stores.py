"""Opening stores."""

import subprocess
import sys
from pathlib import Path

_RUN = "import sys; from ocisync.cli.app import app; app(sys.argv[1:], standalone_mode=False)"
_TELL = "; sys.exit(' '.join({'aiohttp', 'botocore'} & {*sys.modules}) or 0)"


def test_a_pass_that_asks_nothing_over_the_network_does_not_wait_for_its_libraries(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    file = tmp_path / "ocisync.yaml"
    file.write_text(
        f"version: 1\ntargets: {{out: {{type: static, path: {tmp_path}/out}}}}\n"
        f"drop: [{{path: {tmp_path}/drop, target: out}}]\ndaemon: {{state: {tmp_path}/state}}\n"
    )
    command = [sys.executable, "-c", _RUN + _TELL, "once", "-c", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "state").exists()
