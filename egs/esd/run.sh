#!/usr/bin/env bash
# Emotional Speech Database (arXiv 2105.14762). Files specific to this corpus:
#   local/prepare_data.py  prepares it; the authors send the link
#   conf/*.yaml            sets, models, budgets
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2

corpus=esd
about="ESD: 350 sentences in 5 emotions by 10 English and 10 Mandarin speakers, 16 kHz"
default_config=conf/default.yaml

. ../../utils/recipe.sh
recipe "$@"
