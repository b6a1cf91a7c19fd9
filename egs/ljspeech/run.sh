#!/usr/bin/env bash
# LJ Speech (keithito.com/LJ-Speech-Dataset). Files specific to this corpus:
#   local/prepare_data.py  fetches and prepares it
#   conf/*.yaml            sets, models, budgets
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2

corpus=ljspeech
about="LJ Speech 1.1: 24 hours of read English by one speaker, 22.05 kHz"
default_config=conf/default.yaml

. ../../utils/recipe.sh
recipe "$@"
