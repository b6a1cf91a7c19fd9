#!/usr/bin/env bash
# seed-tts-eval: zero-shot TTS evaluation of a trained system with the published protocol.
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2

default_sets=en,zh
declare -A list_of=([en]=en/meta.lst [zh]=zh/meta.lst [hard]=zh/hardcase.lst)
declare -A lang_of=([en]=en [zh]=zh [hard]=zh)

. local/stages.sh
