"""`ocisync config import`, as a user runs it."""

import stat
from pathlib import Path

import pytest

from tests.servers.command import run_ocisync

EXAMPLES = Path(__file__).parents[1] / "unit" / "config" / "importers"


@pytest.mark.parametrize("name", ["regsync.yml", "skopeo.yml", "dregsy.yaml", "zot.json"])
def test_an_import_is_accepted_by_config_check(name: str, tmp_path: Path) -> None:
    (tmp_path / "hub-token").write_text("a token\n")
    file = tmp_path / "ocisync.yaml"
    done = run_ocisync("config", "import", "--partial", EXAMPLES / name, "-o", file).expect(0)
    assert f"ocisync config check -c {file}" in done.stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "valid;" in run_ocisync("config", "check", "-c", file, env={"HUB_LOGIN": "me"}).expect(0).stdout
    again = run_ocisync("config", "import", EXAMPLES / name).expect(1 if "left out:" in done.stderr else 0)
    assert (again.stdout, again.stderr) == (file.read_text(), done.stderr)


def test_what_is_left_out_is_told_and_fails_the_import(tmp_path: Path) -> None:
    file = tmp_path / "foreign.yml"
    file.write_text("sync: [{source: a.test/x, target: b.test/x, type: repository, interval: 1h, hooks: {a: b}}]\n")
    done = run_ocisync("config", "import", file).expect(1)
    assert (
        done.stderr
        == "left out: rule x: hooks: has no equivalent; ask for `ocisync once --json`, or watch the metrics\n"
    )
    assert "source: a.test/x" in done.stdout
    assert run_ocisync("config", "import", "--partial", file).expect(0).stdout == done.stdout
    file.write_text("sync: [{source: a.test/x, target: b.test/x, type: repository, interval: 1h}]\n")
    assert run_ocisync("config", "import", file).expect(0).stderr == ""


def test_what_is_wrong_is_told_in_words(tmp_path: Path) -> None:
    file = tmp_path / "foreign.yml"
    file.write_text("something: else\n")
    (tmp_path / "taken.yaml").touch()
    cases = {
        (file,): "not recognised. Name the tool it is for: --from regsync, dregsy, zot, skopeo, image-syncer",
        (file, "--from", "zot"): "nothing that could be mirrored",
        (tmp_path / "missing.yml",): "there is no file of this name",
        ("x" * 5000,): "there is no file of this name",
        (EXAMPLES / "skopeo.yml", "-o", tmp_path / "taken.yaml"): "exists already; name another file with --output",
        (EXAMPLES / "skopeo.yml", "-o", tmp_path / "no" / "folder.yaml"): "cannot be written",
    }
    for arguments, told in cases.items():
        done = run_ocisync("config", "import", *arguments).expect(2)
        assert told in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
