# The driver that all recipes share; sourced by egs/<corpus>/run.sh, which first sets
#   corpus          the folder's name
#   about           one line of what the corpus is
#   default_config  the configuration used without --config
# and then calls: recipe "$@"

set -euo pipefail
export LC_ALL=C.UTF-8 # sorted files mean the same order everywhere

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
names=(_ data prepare vocoder tokenizer lm fm rm joint synthesize score pack)
last_stage=11

usage() {
    cat <<TXT
usage: ./run.sh [--stage N] [--stop_stage M] [--config FILE] [--tag NAME] [--corpus_dir DIR]
                [--gpus N] [key=value ...]

$corpus: $about

  --stage N       first stage to run (default 1)
  --stop_stage M  last stage to run (default $last_stage)
  --config FILE   configuration (default $default_config)
  --tag NAME      results go to exp/NAME (default: the configuration's file name)
  --corpus_dir D  a copy of the corpus as published, to reuse (default: stage 1 fetches it)
  --gpus N        GPUs of this machine that train (default 1)
  key=value       override any configuration key, for example stages.lm.train.lr=1e-3

   1 data        fetch the corpus           -> data/<set>/
   2 prepare     text tokens, mel dumps     -> dump/
   3 vocoder     mel to waveform            -> exp/<tag>/vocoder/
   4 tokenizer   first-order joint training -> exp/<tag>/tokenizer/
   5 lm          on the frozen tokenizer    -> exp/<tag>/lm/
   6 fm          on the frozen tokenizer    -> exp/<tag>/fm/
   7 rm          on the frozen tokenizer    -> exp/<tag>/rm/
   8 joint       second-order finetuning    -> exp/<tag>/joint/
   9 synthesize  test sets and sentences    -> exp/<tag>/wavs/
  10 score       tables and report          -> exp/<tag>/RESULTS.md, report.html
  11 pack        one folder to share        -> exp/<tag>/pack/

Every stage may be run again: a finished one does nothing, an interrupted one resumes.
TXT
}

stop() { echo "run.sh: error: $*" >&2; exit 2; }

parse_arguments() {
    stage=1 stop_stage=$last_stage config=$default_config tag= corpus_dir= gpus=1 overrides=()
    while [ $# -gt 0 ]; do
        case $1 in
            --stage | --stop_stage | --config | --tag | --corpus_dir | --gpus)
                [ $# -ge 2 ] || stop "$1 needs a value; try --help"
                printf -v "${1#--}" '%s' "$2"
                shift ;;
            -h | --help) usage; exit 0 ;;
            [a-z]*=*) overrides+=("$1") ;;
            *) stop "unknown argument '$1': options are --stage --stop_stage --config --tag" \
                "--corpus_dir --gpus --help, settings are key=value" ;;
        esac
        shift
    done
    local n
    for n in "$stage" "$stop_stage"; do
        [[ $n =~ ^[0-9]+$ ]] && [ "$n" -ge 1 ] && [ "$n" -le $last_stage ] ||
            stop "stage '$n': expected a number from 1 to $last_stage"
    done
    [[ $gpus =~ ^[1-9][0-9]*$ ]] || stop "--gpus '$gpus': expected a number from 1"
    [ "$stage" -le "$stop_stage" ] || stop "--stage $stage is after --stop_stage $stop_stage"
    [ -f "$config" ] || stop "$config: no such configuration in $PWD; there are: $(echo conf/*.yaml)"
    tag=${tag:-$(basename "$config" .yaml)}
    [[ $tag =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || stop "--tag '$tag': letters, digits, . _ - only"
    exp=exp/$tag
}

# Sets `inputs` (each "stage that makes it:path") and `output` of stage number $1.
declare_stage() {
    local name=${names[$1]} from
    case $1 in
        1) inputs=("1:$config") output=$data_dir/ ;;
        2) inputs=("1:$data_dir/$train_set/wav.scp") output=$dump_dir/ ;;
        [3-8])
            inputs=("2:$dump_dir/vocab.json") output=$exp/$name/
            while read -r from; do
                # A stage of this run, or a folder of another one.
                if [ -v "sources[$from]" ]; then
                    inputs+=("$(stage_number "$from"):$exp/$from/best")
                elif [ -n "$from" ]; then
                    inputs+=("0:$from")
                fi
            done <<<"${sources[$name]}" ;;
        9) inputs=("3:$exp/vocoder/best" "8:$exp/joint/best") output=$exp/wavs/ ;;
        10) inputs=("9:$exp/wavs/tts") output="$exp/RESULTS.md and $exp/report.html" ;;
        11) inputs=("3:$exp/vocoder/best" "8:$exp/joint/best") output=$exp/pack/ ;;
    esac
}
stage_number() {
    local number
    for ((number = 1; number <= last_stage; number++)); do
        [ "${names[number]}" != "$1" ] || echo "$number"
    done
}

# Training stages are in the order in which they need each other, by default that of their numbers.
stages_in_order() {
    local name
    echo 1 2
    for name in "${training_order[@]}"; do stage_number "$name"; done
    for name in "${names[@]:3:6}"; do [ -v "sources[$name]" ] || stage_number "$name"; done
    echo 9 10 11
}

run_verb() { "${launch[@]}" e2etts "$@" --config "$config" --tag "$tag" "${overrides[@]}"; }

stage_data() {
    local script=(local/data.sh)
    [ -e local/data.sh ] || script=(python local/prepare_data.py)
    "${script[@]}" --config "$config" ${corpus_dir:+--corpus_dir "$corpus_dir"} "${overrides[@]}"
}
stage_prepare() { run_verb prepare; }
stage_train() {
    local launch=()
    [ "$gpus" = 1 ] || launch=(torchrun --standalone --nproc_per_node "$gpus" --no_python)
    run_verb train "$1"
}
stage_synthesize() { run_verb synthesize; }
stage_score() {
    "$root/tools/get_whisper.sh" ||
        echo "run.sh: warning: no Whisper recogniser available: PocketSphinx scores English only" >&2
    [ ! -e "$exp/joint/best" ] || run_verb score-rm
    run_verb score
    run_verb report
    # The folder's own table is that of the default run, exactly as configured.
    if [ "$config" = "$default_config" ] && [ "$tag" = default ] && [ ${#overrides[@]} = 0 ]; then
        cp "$exp/results.json" "$exp/RESULTS.md" .
    fi
}
stage_pack() { run_verb pack; }

start_clock() { clock_start=$(date +%s.%N); }
clock() { echo "$clock_start $(date +%s.%N)" | awk '{print $2 - $1}'; }
note_time() { python "$root/utils/stages.py" record "$exp/stages.json" "$1" "$2" --seconds "$3"; }

missing_input() {
    [ "$2" != 0 ] || stop "stage $1 starts from $3, which does not exist: correct stages.${names[$1]}.init"
    local hint=
    [[ $1 != [4-8] || $2 != [4-8] ]] ||
        hint=", or start from another run with stages.${names[$1]}.init=exp/OTHER/${names[$2]}"
    stop "stage $1 needs $3: run --stage $2 first$hint"
}

run_stage() {
    local number=$1 name=${names[$1]} inputs output input reads=()
    if [[ $number = [3-8] ]] && [ ! -v "sources[$name]" ]; then
        echo "stage $number $name: $config has no such stage, nothing to do"
        return
    fi
    declare_stage "$number"
    for input in "${inputs[@]}"; do
        reads+=("${input#*:}")
        [ -e "${input#*:}" ] || missing_input "$number" "${input%%:*}" "${input#*:}"
    done
    echo "stage $number $name: reads ${reads[*]} -> writes $output"
    running="$number $name"
    start_clock
    # Not in a condition: `set -e` would not hold inside the stage.
    case $number in
        [3-8]) stage_train "$name" ;;
        *) "stage_$name" ;;
    esac
    note_time "$number" "$name" "$(clock)"
    running=
}

# When a run ends early, print the stage and the command that resumes it.
print_how_to_resume() {
    local status=$?
    [ $status -ne 0 ] && [ -n "$running" ] || return 0
    local verdict="failed (status $status)"
    [ $status -lt 128 ] || verdict="was interrupted"
    {
        printf 'run.sh: stage %s %s; resume with: ./run.sh --stage %s' "$running" "$verdict" "${running% *}"
        [ "$stop_stage" = $last_stage ] || printf ' --stop_stage %s' "$stop_stage"
        [ "$config" = "$default_config" ] || printf ' --config %q' "$config"
        [ "$tag" = "$(basename "$config" .yaml)" ] || printf ' --tag %q' "$tag"
        [ -z "$corpus_dir" ] || printf ' --corpus_dir %q' "$corpus_dir"
        [ "$gpus" = 1 ] || printf ' --gpus %s' "$gpus"
        [ ${#overrides[@]} = 0 ] || printf ' %q' "${overrides[@]}"
        printf '\n'
    } >&2
}

recipe() {
    running= launch=()
    parse_arguments "$@"
    trap print_how_to_resume EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    start_clock
    "$root/tools/install.sh" --extras score
    setup_seconds=$(clock)
    PATH=$("$root/tools/install.sh" --where)/bin:$PATH
    export PYTHON=python # whichever made the environment, its own runs local/ and tools/
    local facts number
    facts=$(python "$root/utils/stages.py" facts "$config" "${overrides[@]}")
    eval "$facts" # data_dir, dump_dir, train_set, sample_rate_hz, training_order, sources[stage]
    export data_dir sample_rate_hz # for local/data.sh
    # The log of stages lists the setup only where an environment was made.
    [ "${setup_seconds%.*}" -lt 2 ] || note_time 0 setup "$setup_seconds"
    for number in $(stages_in_order); do
        [ "$number" -lt "$stage" ] || [ "$number" -gt "$stop_stage" ] || run_stage "$number"
    done
    local path
    for path in wavs RESULTS.md report.html pack; do
        [ ! -e "$exp/$path" ] || echo "run.sh: $PWD/$exp/$path"
    done
}
