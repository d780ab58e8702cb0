import os
import stat
import subprocess
import sys

import pytest

from landscape_core.checkpoints.home import home_directory, write_atomically
from landscape_core.specs import InputError


def test_home_is_made_private_and_follows_argument_then_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LANDSCAPE_HOME", str(tmp_path / "env"))
    assert home_directory() == tmp_path / "env"
    made = home_directory(tmp_path / "deep" / "own")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    monkeypatch.delenv("LANDSCAPE_HOME")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="LANDSCAPE_HOME"):
        home_directory(tmp_path / "file")


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    file = tmp_path / "a"
    write_atomically(file, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*a: No space left on device"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_home_and_runs_never_import_torch():
    code = (
        "import sys; import landscape_core.checkpoints.home, landscape_core.checkpoints.runs; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
