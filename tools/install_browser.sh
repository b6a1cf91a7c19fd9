#!/usr/bin/env bash
# Makes a headless Chromium available for the test that opens report.html. Without one that test
# is skipped, so a missing browser is a warning and the exit status stays 0.
set -euo pipefail

find_browser() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        # Ubuntu's chromium-browser can be a stub that only names the snap: run it.
        if "$name" --version >/dev/null 2>&1; then command -v "$name"; return 0; fi
    done
    return 1
}

if browser=$(find_browser); then
    echo "tools/install_browser.sh: found $browser"
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "tools/install_browser.sh: installing chromium with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -q update && apt-get -q install -y --no-install-recommends chromium; } >/dev/null 2>&1 ||
        true
    if browser=$(find_browser); then
        echo "tools/install_browser.sh: found $browser"
        exit 0
    fi
fi
echo "tools/install_browser.sh: warning: no Chromium: the report page is not tested in a browser;" \
    "as root: apt-get install chromium" >&2
