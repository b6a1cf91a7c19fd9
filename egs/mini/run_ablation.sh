#!/usr/bin/env bash
# Trains and compares the systems of conf/ablation.yaml; any recipe can have this file.
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2

default_config=conf/ablation.yaml

. ../../utils/ablation.sh
ablation "$@"
