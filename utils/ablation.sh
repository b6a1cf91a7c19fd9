# The experiment that all recipes share; sourced by egs/<corpus>/run_ablation.sh, which first sets
#   default_config  the experiment used without --config
# and then calls: ablation "$@"

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

ablation_usage() {
    cat <<TXT
usage: ./run_ablation.sh [--status] [--hours H] [--only RUNS] [--config FILE] [--tag NAME]
                         [key=value ...]

Prepares the recipe's data, then trains, synthesizes and scores every system of the experiment at every
seed. It may be stopped at any moment: the same command resumes, and does nothing twice.

  --status        show finished and remaining work, with times, and exit
  --hours H       stop after H hours; training is interrupted at a checkpoint
  --only RUNS     only these runs, in this order, for example 'stage*-seed1,cascade-seed1'
  --config FILE   the experiment (default $default_config)
  --tag NAME      work goes to exp/NAME (default: the experiment's file name)
  key=value       override a configuration key in every system, for example corpus.tests=[dev]

The default experiment writes ablation.json, ABLATION.md and figures/ here, any other to exp/NAME.
TXT
}

ablation_stop() { echo "run_ablation.sh: error: $*" >&2; exit 2; }

ablation() {
    local config=$default_config tag='' hours='' only='' only_status='' overrides=() status=0
    while [ $# -gt 0 ]; do
        case $1 in
            --config | --tag | --hours | --only)
                [ $# -ge 2 ] || ablation_stop "$1 needs a value; try --help"
                printf -v "${1#--}" '%s' "$2"
                shift ;;
            --status) only_status=1 ;;
            -h | --help) ablation_usage; exit 0 ;;
            [a-z]*=*) overrides+=("$1") ;;
            *) ablation_stop "unknown argument '$1': options are --status --hours --only" \
                "--config --tag --help, settings are key=value" ;;
        esac
        shift
    done
    [ -f "$config" ] || ablation_stop "$config: no such experiment in $PWD"
    "$root/tools/install.sh" --extras score
    PATH=$("$root/tools/install.sh" --where)/bin:$PATH
    tag=${tag:-$(basename "$config" .yaml)}
    local arguments=(--config "$config" --tag "$tag")
    if [ "$config" = "$default_config" ] && [ "$tag" = "$(basename "$config" .yaml)" ] &&
        [ ${#overrides[@]} = 0 ]; then
        arguments+=(--results .)
    fi
    if [ -z "$only_status" ]; then
        local recipe
        recipe=$(e2etts ablate --recipe --config "$config")
        ./run.sh --stop_stage 2 --config "$recipe" --tag "$tag" "${overrides[@]}"
        "$root/tools/get_whisper.sh" ||
            echo "run_ablation.sh: warning: no Whisper recogniser available: using PocketSphinx" >&2
    fi
    e2etts ablate "${arguments[@]}" ${hours:+--hours "$hours"} ${only:+--only "$only"} \
        ${only_status:+--status} "${overrides[@]}" || status=$?
    [ $status -lt 128 ] || echo "run_ablation.sh: stopped; the same command resumes" >&2
    return $status
}
