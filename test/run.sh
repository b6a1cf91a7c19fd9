#!/usr/bin/env bash
# Sets up an environment and runs the tests; arguments go to pytest: test/run.sh -k flow
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/install.sh --extras dev,score
tools/install_browser.sh
PATH=$(tools/install.sh --where)/bin:$PATH
exec python -m pytest -q "$@"
