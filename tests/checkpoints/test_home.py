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
    with pytest.raises(InputError, match=r"the disk is full: free some space for .*, then run it again"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_home_and_runs_never_import_torch():
    code = (
        "import sys; import landscape_core.checkpoints.home, landscape_core.checkpoints.runs; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.fault(
    "Others may write in the home",
    sees="error: others may write in it; take that right away (chmod go-w), or set LANDSCAPE_HOME",
    lost="Nothing",
    on="The server does not start",
)
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o1777])
@pytest.mark.parametrize("room", ["", "runs", "jobs", "cache", "uploads"])
def test_where_others_can_write_nothing_is_kept(tmp_path, mode, room):
    """They could hand us weights and results that we take for our own."""
    folder = tmp_path / "home" / room
    folder.mkdir(parents=True)
    (tmp_path / "home").chmod(0o700)
    folder.chmod(mode)
    with pytest.raises(InputError, match=r"others may write in .*; take that right away \(chmod go-w\)"):
        home_directory(tmp_path / "home")
    folder.chmod(0o755)  # they may look
    assert home_directory(tmp_path / "home")


@pytest.mark.fault(
    "The home belongs to somebody else",
    sees="error: it belongs to another user; set LANDSCAPE_HOME",
    lost="Nothing",
    on="The server does not start",
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("room", ["", "runs", "jobs", "cache"])
def test_what_belongs_to_another_is_not_used(tmp_path, room):
    folder = tmp_path / "home" / room
    folder.mkdir(parents=True)
    os.chown(folder, 12345, 12345)
    with pytest.raises(InputError, match="belongs to another user; set LANDSCAPE_HOME"):
        home_directory(tmp_path / "home")


def test_folders_are_private_whatever_the_umask(tmp_path):
    before = os.umask(0o002)
    try:
        home = home_directory(tmp_path / "home")
        write_atomically(home / "runs" / "a" / "run.json", b"{}")
        assert home_directory(home) == home
        assert {stat.S_IMODE(folder.stat().st_mode) for folder in (home, *home.glob("**/"))} == {0o700}
    finally:
        os.umask(before)


@pytest.mark.fault(
    "The home was made by a newer version",
    sees="error: made by a newer version of this program: update the program",
    lost="Nothing; it is left alone",
    on="The server does not start",
)
@pytest.mark.parametrize(
    ("text", "newer"), [("2\n", True), ("1\n", False), ("17", True), ("\xff\x00", False), ("9" * 50, False)]
)
def test_a_newer_home_is_said_to_be_newer_and_left_alone(tmp_path, text, newer):
    home = home_directory(tmp_path / "home")
    assert (home / "format").read_text() == "1\n"
    (home / "format").write_text(text)
    if newer:
        with pytest.raises(InputError, match=r"made by a newer version of this program .*: update the program"):
            home_directory(home)
    else:
        home_directory(home)
    assert (home / "format").read_text() == text
