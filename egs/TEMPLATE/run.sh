#!/usr/bin/env bash
# Your own corpus; see README.md. Files specific to it:
#   local/corpus.sh       path, format of the list, split
#   local/sentences.txt   sentences to synthesise
#   conf/*.yaml           models and budgets
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2

corpus=$(basename "$PWD")
about="speech and texts of the list that local/corpus.sh names"
default_config=conf/default.yaml

. ../../utils/recipe.sh
recipe "$@"
