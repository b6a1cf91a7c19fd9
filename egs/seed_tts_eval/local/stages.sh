# The stages of this recipe, numbered as in the others; those that train (2 to 8) do not occur.
# Sourced by ../run.sh, which first sets default_sets, list_of and lang_of.

set -euo pipefail
root=$(cd ../.. && pwd)
stage=1 stop_stage=10 corpus_dir= system= sets=$default_sets seed=0 tag=default overrides=()

usage() {
    cat <<'TXT'
usage: ./run.sh [--stage N] [--stop_stage M] [options] [key=value ...]

seed-tts-eval: synthesis in the voice of a prompt, and scores by the published protocol

  --corpus_dir DIR  the unpacked test set (stage 1; holds en/meta.lst, zh/meta.lst)
  --system WHERE    the system: a pack's folder, or exp/TAG/STAGE/best:DUMP (stage 9)
  --sets A,B        of en, zh, hard (default en,zh)
  --seed N          seed of synthesis (default 0)
  --tag NAME        results go to exp/NAME/seedN (default: default)
  key=value         synthesis.KEY for stage 9, score.KEY for stage 10

   1 data        checks lists and prompts -> data/seedtts_testset
   9 synthesize  lists                    -> exp/<tag>/seed<N>/wavs/<set>/
  10 score       wavs                     -> exp/<tag>/seed<N>/<set>/results.json, RESULTS.md
TXT
}

stop() { echo "run.sh: error: $*" >&2; exit 2; }

while [ $# -gt 0 ]; do
    case $1 in
        --stage | --stop_stage | --corpus_dir | --system | --sets | --seed | --tag)
            [ $# -ge 2 ] || stop "$1 needs a value; try --help"
            printf -v "${1#--}" '%s' "$2"
            shift ;;
        -h | --help) usage; exit 0 ;;
        synthesis.*=* | score.*=*) overrides+=("$1") ;;
        *) stop "unknown argument '$1'; try --help" ;;
    esac
    shift
done
for number in "$stage" "$stop_stage" "$seed"; do
    [[ $number =~ ^[0-9]+$ ]] || stop "'$number': expected a number"
done
[[ $tag =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || stop "--tag '$tag': letters, digits, . _ - only"
[[ $sets =~ ^[a-z]+(,[a-z]+)*$ ]] || stop "--sets '$sets': expected some of ${!list_of[*]}"
for name in ${sets//,/ }; do
    [ -v "list_of[$name]" ] || stop "--sets '$sets': expected some of ${!list_of[*]}"
done

wants() { [ "$stage" -le "$1" ] && [ "$1" -le "$stop_stage" ]; }
overrides_of() { printf '%s\n' "${overrides[@]}" | grep "^$1\." || true; }

"$root/tools/install.sh" --extras score,metrics
PATH=$("$root/tools/install.sh" --where)/bin:$PATH
corpus=data/seedtts_testset exp=exp/$tag/seed$seed

if wants 1; then
    echo "stage 1 data: reads ${corpus_dir:-$corpus} -> writes $corpus"
    if [ -n "$corpus_dir" ]; then
        [ -d "$corpus_dir" ] || stop "$corpus_dir: no such folder"
        mkdir -p data
        ln -sfn "$(cd "$corpus_dir" && pwd)" "$corpus"
    fi
    [ -d "$corpus" ] || stop "no test set: download and unpack it (see README.md)," \
        "then --corpus_dir DIR"
    for name in ${sets//,/ }; do python local/data.py "$name" "$corpus/${list_of[$name]}"; done
fi

if wants 9; then
    [ -n "$system" ] || stop "stage 9 needs --system WHERE; to score existing wavs, see README.md"
    mapfile -t settings < <(overrides_of synthesis)
    for name in ${sets//,/ }; do
        echo "stage 9 synthesize: reads $corpus/${list_of[$name]} -> writes $exp/wavs/$name/"
        python local/synthesize.py --system "$system" --list "$corpus/${list_of[$name]}" \
            --lang "${lang_of[$name]}" --out "$exp/wavs/$name" --seed "$seed" "${settings[@]}"
    done
fi

if wants 10; then
    mapfile -t settings < <(overrides_of score)
    for name in ${sets//,/ }; do
        echo "stage 10 score: reads $exp/wavs/$name/ -> writes $exp/$name/"
        times=()
        [ ! -f "$exp/wavs/$name.times" ] || times=(--times "$exp/wavs/$name.times")
        e2etts score --wavs "$exp/wavs/$name" --list "$corpus/${list_of[$name]}" \
            --lang "${lang_of[$name]}" "${times[@]}" --name "$tag" --set "$name" \
            --metrics seed_tts_eval,rtf --out "$exp/$name" "${settings[@]}"
    done
fi
