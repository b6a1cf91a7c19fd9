"""tools/fetch_deb.py with a pretended apt: nothing half-written, one line of error."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools/fetch_deb.py"

APT_GET = """#!/bin/sh
echo "apt-get $*" >> {log}
[ -f {root}/fail ] && {{ cat {root}/fail >&2; exit 100; }}
simulate=; download=; names=
for a in "$@"; do case "$a" in
  --simulate) simulate=1;; download) download=1;; -*|install|update) ;; *) names="$names $a";;
esac; done
[ -n "$simulate" ] && for n in $names; do echo "Inst $n (1.0 x [amd64])"; \
echo "Inst lib$n (1.0 x [amd64])"; done
[ -n "$download" ] && for n in $names; do echo $n > ${{n}}_1.0_all.deb; done
exit 0
"""
APT_CACHE = """#!/bin/sh
shift_done=; for a in "$@"; do case "$a" in -*|show) ;; nosuch) ;;
  *) echo "Package: $a"; echo "Size: {size}"; echo "Installed-Size: 10"; echo;; esac; done
"""
DPKG_DEB = """#!/bin/sh
if [ "$1" = --extract ]; then
  [ -f {root}/full ] && {{ echo "write error: No space left on device" >&2; exit 2; }}
  mkdir -p "$3/usr/bin"; cp "$2" "$3/usr/bin/$(cat "$2")"
else echo "$(cat "$3") 1.0"; fi
"""


@pytest.fixture
def fake(tmp_path):
    """Runs the script with pretended tools; ``fake(...)`` returns the finished process."""
    tools = tmp_path / "bin"
    tools.mkdir()

    def tool(name, text, **values):
        path = tools / name
        path.write_text(text.format(root=tmp_path, log=tmp_path / "log", **values))
        path.chmod(0o755)

    tool("apt-get", APT_GET)
    tool("apt-cache", APT_CACHE, size=1000)
    tool("dpkg-deb", DPKG_DEB)
    for name in ("sh", "cat", "cp", "mkdir", "basename"):
        os.symlink(shutil.which(name), tools / name)

    def run(*args):
        return subprocess.run([sys.executable, str(SCRIPT), str(tmp_path / "deb"), *args],
                              capture_output=True, text=True, env={"PATH": str(tools)},
                              check=False)

    run.root, run.tool = tmp_path, tool
    return run


def stamp(fake):
    return json.loads((fake.root / "deb/packages.json").read_text())


def assert_refused(fake, done, *said):
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(lines) == 1 and lines[0].startswith("fetch_deb: error: ")
    assert all(s in lines[0] for s in said), lines[0]
    assert not (fake.root / "deb/usr").exists() and not (fake.root / "deb/packages.json").exists()


def test_packages_are_unpacked_once(fake):
    assert fake("one", "two").returncode == 0
    assert sorted(p.name for p in (fake.root / "deb/usr/bin").iterdir()) == ["one", "two"]
    assert stamp(fake) == {"one": "1.0", "two": "1.0"}
    assert not list((fake.root / "deb").rglob("*.deb"))
    calls = (fake.root / "log").read_text()
    done = fake("one")
    assert done.returncode == 0 and "one 1.0" in done.stdout
    assert (fake.root / "log").read_text() == calls
    assert fake("three").returncode == 0 and set(stamp(fake)) == {"one", "two", "three"}
    assert (fake.root / "log").read_text().count(" update") == 1


def test_dependencies_come_along_on_request(fake):
    fake("--dependencies", "one")
    assert set(stamp(fake)) == {"one", "libone"}


def test_apt_uses_only_its_own_folders(fake):
    fake("one")
    for call in (fake.root / "log").read_text().splitlines():
        for key in ("Dir::State=", "Dir::State::lists=", "Dir::Cache=", "Dir::Cache::archives="):
            assert f"{key}{fake.root}/deb/.apt" in call


def test_no_network_is_one_line_of_error(fake):
    (fake.root / "fail").write_text("W: some warning\nE: Failed to fetch http://x  Temporary "
                                    "failure resolving 'x'\nE: more\n")
    assert_refused(fake, fake("one"), "Failed to fetch", "check the network and run again")


def test_a_full_disk_is_an_error_and_nothing_stays(fake):
    (fake.root / "full").write_text("")
    assert_refused(fake, fake("one"), "No space left", "free some space")
    assert not (fake.root / "deb/.unpack").exists()
    (fake.root / "full").unlink()
    assert fake("one").returncode == 0


def test_too_little_space_is_noticed_before_the_download(fake):
    fake.tool("apt-cache", APT_CACHE, size=10 ** 17)
    assert_refused(fake, fake("one"), "disk full", "MB needed for one")
    assert "download" not in (fake.root / "log").read_text()


def test_an_unknown_package_is_named(fake):
    assert_refused(fake, fake("one", "nosuch"), "nosuch: no such package")


def test_a_machine_without_apt(fake):
    (fake.root / "bin/apt-get").unlink()
    assert_refused(fake, fake("one"), "apt-get: not found, so one cannot be fetched", "PATH")


def test_a_damaged_stamp_is_named(fake):
    fake("one")
    (fake.root / "deb/packages.json").write_text("{")
    done = fake("one")
    assert done.returncode == 2 and "packages.json: damaged" in done.stderr


def test_a_component_is_added_for_debian_only(tmp_path):
    spec = importlib.util.spec_from_file_location("fetch_deb", SCRIPT)
    fetch_deb = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fetch_deb)
    etc, cache = tmp_path / "etc", tmp_path / "cache"
    (etc / "sources.list.d").mkdir(parents=True)
    (cache / "lists").mkdir(parents=True)
    stanza = "Types: deb\nURIs: {}\nSuites: bookworm\nComponents: main\nSigned-By: /k.gpg\n"
    (etc / "sources.list.d/debian.sources").write_text(
        stanza.format("http://deb.debian.org/debian") + "\n"
        + stanza.format("http://deb.debian.org/debian-security"))
    (etc / "sources.list").write_text(
        "# deb http://x/debian/ y main\n"
        "deb [signed-by=/k] http://ftp.de.debian.org/debian/ sid main\n"
        "deb https://other.example/apt sid main\n")
    fetch_deb.add_component("non-free", cache, etc)
    lines = (cache / "sources/sources.list.d/debian.sources").read_text().splitlines()
    assert [x for x in lines if x.startswith("Comp")] == ["Components: main non-free",
                                                          "Components: main"]
    assert lines.count("Signed-By: /k.gpg") == 2
    assert (cache / "sources/sources.list").read_text().splitlines() == [
        "# deb http://x/debian/ y main",
        "deb [signed-by=/k] http://ftp.de.debian.org/debian/ sid main non-free",
        "deb https://other.example/apt sid main"]
    (cache / "lists/fetched").touch()
    fetch_deb.add_component("non-free", cache, etc)  # the same: the lists stay
    assert (cache / "lists/fetched").exists()

