#!/usr/bin/env bash
# AISHELL-3 (arXiv 2010.11567, openslr.org/93). Files specific to this corpus:
#   local/prepare_data.py  fetches and prepares it
#   conf/*.yaml            sets, models, budgets
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2

corpus=aishell3
about="AISHELL-3: 85 hours of read Mandarin by 218 speakers, 44.1 kHz"
default_config=conf/default.yaml

. ../../utils/recipe.sh
recipe "$@"
