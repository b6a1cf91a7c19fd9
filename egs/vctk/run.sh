#!/usr/bin/env bash
# CSTR VCTK Corpus 0.92 (doi.org/10.7488/ds/2645). Files specific to this corpus:
#   local/prepare_data.py  fetches and prepares it
#   conf/*.yaml            sets, models, budgets
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2

corpus=vctk
about="CSTR VCTK 0.92: short English sentences by 109 speakers of many accents, 48 kHz"
default_config=conf/default.yaml

. ../../utils/recipe.sh
recipe "$@"
