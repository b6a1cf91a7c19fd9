#!/usr/bin/env bash
# A corpus of your own; README.md says how. What is particular to it:
#   local/corpus.sh       where it is, how its list is read, how it is split
#   local/sentences.txt   free sentences to speak
#   conf/*.yaml           models and budgets
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2

corpus=$(basename "$PWD")
about="speech and texts of the list that local/corpus.sh names"
default_config=conf/default.yaml

. ../../utils/recipe.sh
recipe "$@"
