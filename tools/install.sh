#!/usr/bin/env bash
# Makes or reuses a virtual environment and installs e2etts into it. Safe to run twice, and quick
# when nothing changed.
#
#   tools/install.sh [--extras dev,score] [--where]
#
# The environment is $E2ETTS_VENV, else the active one, else tools/venv; --where only prints it.
# pip's own settings (PIP_INDEX_URL, HTTPS_PROXY, PIP_CACHE_DIR, ...) hold as usual.
# Exit status: 0 ready; 2 an error outside, with one line on standard error.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${E2ETTS_VENV:-${VIRTUAL_ENV:-$root/tools/venv}}
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac
stamp=$venv/.e2etts-installed
log=$venv.log
need_mib=8000 # torch with its CUDA libraries takes most of it

die() { echo "tools/install.sh: error: $*" >&2; exit 2; }
say() { echo "tools/install.sh: $*"; }

extras=
while [ $# -gt 0 ]; do
    case $1 in
        --extras) [ $# -ge 2 ] || die "--extras needs a list such as dev,score"; extras=$2; shift 2 ;;
        --where) echo "$venv"; exit 0 ;;
        -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) die "unknown argument '$1'; try --help" ;;
    esac
done
case ",$extras," in *[!a-z,]*) die "--extras '$extras': expected names with commas, such as dev,score" ;; esac

# What an installation depends on: when this is unchanged, so is the environment.
state() {
    { echo "$root"; cat "$root/setup.py" "$root/tools/install.sh" "$venv/pyvenv.cfg"; } | sha256sum
}
installed_extras() { sed -n 's/^extras: //p' "$stamp" 2>/dev/null || true; }
ready() {
    [ -x "$venv/bin/python" ] && [ -x "$venv/bin/e2etts" ] && [ -f "$stamp" ] || return 1
    [ "$(head -n 1 "$stamp")" = "$(state)" ] || return 1
    local have=" $(installed_extras) " name
    for name in ${extras//,/ }; do
        [ "${have#* "$name" }" != "$have" ] || return 1
    done
}
if ready; then exit 0; fi

find_python() {
    local name
    for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.10; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    die "no Python >= 3.10 found ($(python3 --version 2>&1 || true)): apt-get install python3, or" \
        "name one: PYTHON=/path/to/python3.11"
}

# The last line of standard error: why pip stopped, and the remedy.
explain() {
    if grep -qiE 'No space left on device|Disk quota exceeded' "$log"; then
        die "no disk space left for $venv or ${TMPDIR:-/tmp}: free $need_mib MiB, or set" \
            "E2ETTS_VENV and TMPDIR to a larger disk; then run this again"
    elif grep -qE 'NewConnectionError|NameResolutionError|Max retries exceeded|ProxyError|ReadTimeout|ConnectTimeout' "$log"; then
        die "no network: pip cannot reach the package index; check the connection, HTTPS_PROXY" \
            "and PIP_INDEX_URL, then run this again (log: $log)"
    fi
    die "pip stopped: $(grep -E '(^|[0-9] )ERROR: ' "$log" | tail -n 1 | sed 's/.*ERROR: //');" \
        "see $log"
}
pip_install() {
    "$venv/bin/python" -m pip install --no-input --disable-pip-version-check --log "$log" "$@" \
        2>>"$log" || explain
}

free_mib() { df -Pm "$1" | awk 'NR == 2 {print $4}'; }

make_venv() {
    local python
    python=$(find_python)
    if [ "$(free_mib "$(dirname "$venv")")" -lt $need_mib ]; then
        die "$(dirname "$venv"): less than $need_mib MiB free; free some, or set E2ETTS_VENV to a" \
            "folder on a larger disk"
    fi
    say "making the virtual environment $venv with $("$python" --version)"
    trap 'rm -rf "$venv"' EXIT # an environment without pip would look finished to the next run
    if "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        "$python" -m venv "$venv" || die "$venv: could not be made; is the disk writable?"
    else # Debian and Ubuntu keep ensurepip in the package python3-venv
        "$python" -m pip --version >/dev/null 2>&1 ||
            die "$python has neither ensurepip nor pip: apt-get install python3-venv, or python3-pip"
        "$python" -m venv --without-pip "$venv" || die "$venv: could not be made; is the disk writable?"
        "$python" -m pip install --no-input --disable-pip-version-check --log "$log" \
            --target "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
            pip 2>>"$log" || explain
    fi
    trap - EXIT
}

mkdir -p "$(dirname "$venv")" 2>/dev/null || die "$(dirname "$venv"): cannot be made or written"
[ -w "$(dirname "$venv")" ] || [ -w "$venv" ] || die "$venv: not writable; set E2ETTS_VENV elsewhere"
if command -v flock >/dev/null; then # two recipes started at once install one after the other
    exec 9>"$venv.lock"
    flock -n 9 || { say "waiting for another installation into $venv"; flock 9; }
    if ready; then exit 0; fi
fi

: >"$log"
if [ ! -x "$venv/bin/python" ]; then
    if [ -d "$venv" ] && [ -n "$(ls -A "$venv")" ] && [ ! -f "$venv/pyvenv.cfg" ]; then
        die "$venv: exists and is not a virtual environment; move it away or set E2ETTS_VENV"
    fi
    make_venv
elif ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    die "$venv: has $("$venv/bin/python" --version), needs 3.10 or newer; deactivate it or remove it"
elif ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    die "$venv: has no pip; run $venv/bin/python -m ensurepip, or remove it"
fi

# Extras of earlier calls stay installed when setup.py changes.
all=$(printf '%s\n' ${extras//,/ } $(installed_extras) | sort -u | paste -sd ' ')
rm -f "$stamp"
say "installing e2etts ${all:+with the extras $all }into $venv (about 7 GB, 2 to 10 minutes the first time)"
list=${all// /,}
pip_install --editable "$root${list:+[$list]}"
case " $all " in
    *" score "*) # resemblyzer requires webrtcvad, which needs a compiler; webrtcvad-wheels stands in
        pip_install --no-deps 'resemblyzer==0.1.4' ;;
esac
printf '%s\nextras: %s\n' "$(state)" "$all" >"$stamp.part"
mv "$stamp.part" "$stamp"
say "ready: $("$venv/bin/python" --version), $venv"
