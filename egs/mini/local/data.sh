#!/usr/bin/env bash
# Stage 1 of egs/mini: recordings, synthetic speech, data/<set>. See SOURCES.md.
#   local/data.sh [--config conf/default.yaml] [corpus_data.KEY=VALUE ...]
# Run from egs/mini; PYTHON names the interpreter.
set -euo pipefail
exec "${PYTHON:-python3}" local/prepare_data.py "$@"
