#!/usr/bin/env bash
# LibriTTS (arXiv 1904.02882, openslr.org/60). Files specific to this corpus:
#   local/prepare_data.py  fetches and prepares it
#   conf/*.yaml            parts, sets, models, budgets
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2

corpus=libritts
about="LibriTTS: 585 hours of read English by 2456 speakers, 24 kHz"
default_config=conf/default.yaml

. ../../utils/recipe.sh
recipe "$@"
