#!/usr/bin/env bash
# seed-tts-eval: zero-shot synthesis of its lists with a system trained elsewhere, and its scores.
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2

default_sets=en,zh
declare -A list_of=([en]=en/meta.lst [zh]=zh/meta.lst [hard]=zh/hardcase.lst)
declare -A lang_of=([en]=en [zh]=zh [hard]=zh)

. local/stages.sh
