#!/usr/bin/env bash
# Emilia (arXiv 2407.05361). Files specific to this corpus:
#   local/prepare_data.py  prepares archives that you have downloaded
#   conf/*.yaml            sets, models, budgets
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2

corpus=emilia
about="Emilia: speech in the wild in six languages, up to 101 thousand hours, 24 kHz"
default_config=conf/default.yaml

. ../../utils/recipe.sh
recipe "$@"
