# What the scripts of this folder share, which source it:
#
#   row FOLDER COMMAND ...    a row of a table, whose run is in FOLDER: nothing if it is finished, with --resume if it was stopped
#   show FILE COMMAND ...     a table, printed and left in FILE
#   times NUMBER ...          their product, rounded, at least 1
#
# With ECHO=1 rows and tables are commands that are printed and not run. --paper, the only option, takes the paper's sizes.

case ${1-} in
    "") paper= ;;
    --paper) paper=1 ;;
    *) echo "$0 takes --paper or nothing; the rest is set by variables, which its head lists" >&2 && exit 2 ;;
esac
recipes=$(dirname "$(dirname "$0")")
name=$(basename "$0" .sh)
OUT=${OUT:-runs/paper/$name${paper:+_full}}
PYTHON=${PYTHON:-python}
LAUNCH=${LAUNCH:-${paper:+accelerate launch}}
read -ra launch <<<"${LAUNCH:-$PYTHON}"

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
