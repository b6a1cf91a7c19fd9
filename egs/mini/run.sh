#!/usr/bin/env bash
# Asterisk core prompts: real recorded speech of one studio voice in each of five languages, and
# labelled synthetic speech for text coverage. Files specific to this corpus:
#   local/data.sh         fetches and prepares it
#   local/sentences.txt   sentences to synthesise
#   conf/*.yaml           sets, languages, models, budgets
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2

corpus=mini
about="Asterisk core prompts in English, Spanish, French, Italian and Russian (about 2 hours)"
default_config=conf/default.yaml

. ../../utils/recipe.sh
recipe "$@"
