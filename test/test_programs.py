"""Search for external programs."""

import shutil

import pytest

from e2etts.errors import UserError
from e2etts.programs import find_program


def test_programs_are_looked_up_in_order(tmp_path, monkeypatch):
    monkeypatch.delenv("E2ETTS_FLITE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="flite: not found in .*fetch_deb.py tools/deb flite"):
        find_program("flite", tmp_path / "deb")
    inside = tmp_path / "deb/usr/bin/flite"
    libraries = tmp_path / "deb/usr/lib/x86_64-linux-gnu"
    inside.parent.mkdir(parents=True)
    (libraries / "espeak-ng-data").mkdir(parents=True)
    inside.write_text("")
    program = find_program("flite", tmp_path / "deb")
    assert program.path == str(inside)
    assert program.env["LD_LIBRARY_PATH"].split(":")[0] == str(libraries)
    assert program.env["ESPEAK_DATA_PATH"] == str(libraries)
    shutil.copy("/bin/sh", tmp_path / "flite")
    assert find_program("flite", tmp_path / "deb").path == str(tmp_path / "flite")
    monkeypatch.setenv("E2ETTS_FLITE", str(tmp_path / "none"))
    with pytest.raises(UserError, match="E2ETTS_FLITE=.*no such program"):
        find_program("flite", tmp_path / "deb")


def test_a_program_without_its_data_is_passed_over(tmp_path, monkeypatch):
    deb = tmp_path / "deb"
    for root in (tmp_path, deb):
        (root / "usr/bin").mkdir(parents=True)
        shutil.copy("/bin/sh", root / "usr/bin/festival")
    monkeypatch.setenv("PATH", str(tmp_path / "usr/bin"))
    wanted = {"data": "usr/share/voice", "packages": ("festival", "festvox-x"),
              "component": "contrib"}
    assert find_program("festival", deb).root == tmp_path
    with pytest.raises(UserError, match="festival with /usr/share/voice: not found in PATH or .*"
                       "'apt install festival festvox-x' or .*--component contrib tools/deb fest"):
        find_program("festival", deb, **wanted)
    (deb / "usr/share/voice").mkdir(parents=True)
    assert find_program("festival", deb, **wanted).root == deb
