#!/usr/bin/env bash
# Sets up an environment and runs the tests; arguments go to pytest: test/run.sh -k flow
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/install.sh --extras dev,score,metrics
tools/install_browser.sh
# The phoneme tests speak with the real program: without it they would be skipped.
command -v espeak-ng >/dev/null || python3 tools/fetch_deb.py --dependencies tools/deb flite espeak-ng ||
    echo "test/run.sh: warning: no espeak-ng available: the phoneme tests are skipped" >&2
PATH=$(tools/install.sh --where)/bin:$PATH
exec python -m pytest -q -m "not nightly" "$@"
