#!/usr/bin/env bash
# Stage 1: the list that local/corpus.sh names -> data/{all,train,dev,test,sentences}.
# Run by run.sh, which exports data_dir and sample_rate_hz of the configuration.
set -euo pipefail

. local/corpus.sh
utils=../../utils
python=${PYTHON:-python3}

if [ -z "$list" ]; then
    echo "local/data.sh: error: local/corpus.sh sets no list: see README.md" >&2
    exit 2
fi
"$python" $utils/from_csv.py "$list" "$data_dir/all" --rate "$sample_rate_hz" "${list_options[@]}"
"$python" $utils/split_data_dir.py "$data_dir/all" "$data_dir" "${split_options[@]}"
e2etts validate "$data_dir"/{train,dev,test} --policy skip --rate "$sample_rate_hz"
"$python" $utils/from_csv.py local/sentences.txt "$data_dir/sentences" --text_only \
    --columns lang=1 text=2 "${sentence_options[@]}"
"$python" $utils/summarise_data_dir.py "$data_dir"/{train,dev,test}
