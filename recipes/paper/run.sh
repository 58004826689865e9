# What the scripts of this folder share, which source it. They need bash 4.4 and the project.
#
#   method NAME [GENERATIONS]    sets `options` to what a method is and, in the small sizes, how long it takes
#   row FOLDER COMMAND ...       a row of a table, whose run is in FOLDER: nothing if it is finished, --resume if it was stopped
#   show FILE COMMAND ...        a table, printed and left in FILE
#   times NUMBER ...             their product, rounded, at least 1
#
# --paper, the only option, takes the paper's sizes. With ECHO=1 commands are printed and not run.

case ${1-} in
    "") paper= ;;
    --paper) paper=1 ;;
    *) echo "$0 takes --paper or nothing; variables, which its head lists, set the rest" >&2 && exit 2 ;;
esac
recipes=$(dirname "$(dirname "$0")")
OUT=${OUT:-runs/paper/$(basename "$0" .sh)${paper:+_full}}
PYTHON=${PYTHON:-python}
LAUNCH=${LAUNCH:-${paper:+accelerate launch}}
read -ra launch <<<"${LAUNCH:-$PYTHON}"

declare -A methods=(
    [tanglenas]="--method drnas" # on entangled weights
    [drnas]="--method drnas --no_entangled"
    [darts]="--method darts"
    [darts2]="--method darts --unrolled"
    [gdas]="--method gdas"
    [spos+rs]="--method spos+rs"
    [spos+es]="--method spos+es"
)

# Of STEPS the first fifth trains the weights only. A method takes `share` times as many, so that all cost the same; how often
# they are looked at, and the batches on which candidates are evaluated, grow with STEPS, so that this is so for any.
method() {
    if [[ ! ${share[$1]-} ]]; then
        echo "METHODS: $1 is none of ${!share[*]}" >&2
        exit 2
    fi
    read -ra options <<<"${methods[$1]}"
    if [[ $paper ]]; then
        return
    fi
    local steps
    steps=$(times "$STEPS" "${share[$1]}")
    options+=(--max_steps "$steps")
    if [[ $1 == spos* ]]; then
        options+=(--population_size 20 --generations "$2" --num_parents 5 --num_mutations 10 --num_crossovers 5
            --candidate_batches "$(times "$STEPS" 0.01667)")
    else
        options+=(--arch_learning_rate "$ARCH_RATE" --arch_warmup_ratio 0.2 --eval_steps "$(times "$steps" 0.1)")
    fi
}

say() {
    printf '%q ' "$@"
    echo
}

row() {
    local folder=$1
    shift
    set -- "$@" --output_dir "$folder"
    if [[ ${ECHO-} ]]; then
        say "$@"
        return
    fi
    if [[ -f $folder/results.json ]]; then # the last file that a recipe writes
        echo "$folder is finished already"
        return
    fi
    if [[ -d $folder/rows ]] || compgen -G "$folder/checkpoints/step-*" >/dev/null; then
        set -- "$@" --resume
    elif [[ -f $folder/config.yaml ]]; then # killed before its first checkpoint: there is nothing to go on from
        rm -r -- "$folder"
    fi
    say "$@"
    "$@"
}

show() {
    local file=$1
    shift
    say "$@"
    [[ ${ECHO-} ]] || "$@" | tee "$file"
}

times() {
    awk 'BEGIN { found = 1; for (i = 1; i < ARGC; i++) found *= ARGV[i]; printf "%d", (found < 1) ? 1 : found + 0.5 }' "$@"
}
