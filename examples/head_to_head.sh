#!/usr/bin/env bash
# Rerank one first stage by several methods, fuse, measure and report.
#
#     bash examples/head_to_head.sh                                 the demo collection, embedded engine
#     bash examples/head_to_head.sh dl19 bright-biology             collections that `prepare` knows
#     bash examples/head_to_head.sh FOLDER                          a folder that `prepare` made
#     MODELS=vllm bash examples/head_to_head.sh dl19 dl20 bright    published checkpoints, on GPUs
#     MODELS="grouprank:7B rankzephyr:7B" bash examples/head_to_head.sh dl19
#
# `bright` stands for its twelve sets. Further variables:
#     DRY_RUN=1          print the commands and run none
#     OUT=FOLDER         where everything goes (out/head_to_head)
#     GPUS=N             GPUs of one model (1)
#     FIRST_STAGE=RUN    a run in place of BM25, "{}" in it being the collection's name, as that of
#                        a dense retriever: published figures of BRIGHT are mostly not on BM25
#     GROUPWISE=COMMAND  how to call run-groupwise
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${OUT:-out/head_to_head}
gpus=${GPUS:-1}
if command -v run-groupwise >/dev/null; then groupwise=(run-groupwise); else
    groupwise=(python3 "$root/run_groupwise.py")
fi
if [[ -n ${GROUPWISE:-} ]]; then read -ra groupwise <<<"$GROUPWISE"; fi

bright="biology earth_science economics psychology robotics stackoverflow sustainable_living leetcode
    pony aops theoremqa_questions theoremqa_theorems"
vllm="grouprank:7B grouprank:32B rank_r1:7B rank_r1:14B rankzephyr:7B reasonrank:7B reasonrank:32B"

call() { # run-groupwise with these arguments, shown first
    printf '%q ' "${groupwise[@]}" "$@"
    echo
    [[ -n ${DRY_RUN:-} ]] || "${groupwise[@]}" "$@"
}

prepared() { # set $data and $here to the inputs and outputs of the collection $1
    here=$out/$(basename "$1") data=$out/$(basename "$1")/data
    if [[ -e $1/prepared.json ]]; then data=$1; fi
    [[ -n ${DRY_RUN:-} ]] || mkdir -p "$here"
    if [[ -e $data/prepared.json ]]; then return; fi
    if [[ $1 == demo ]]; then
        local demo=$root/examples/demo
        call prepare files --query_file "$demo/queries.tsv" --qrels "$demo/qrels.txt" \
            --run_path "$demo/bm25.trec" --corpus "$demo/corpus.jsonl" --save_path "$data"
    else
        call prepare "$1" ${FIRST_STAGE:+--run_path "${FIRST_STAGE//\{\}/$1}"} --save_path "$data"
    fi
}

rerank() { # save as $1.trec what a method makes of the first stage: NAME OPTIONS... METHOD OPTIONS...
    local name=$1
    shift
    call run --run_path "$data/first_stage.trec" --query_file "$data/queries.jsonl" \
        --corpus "$data/corpus.jsonl" --save_path "$here/$name.trec" --hits 100 "$@"
    runs+=(--run "$name=$here/$name.trec")
}

on_vllm() { # NAME MODEL OPTIONS... METHOD OPTIONS...
    rerank "$1" --engine vllm --model_name_or_path "$2" \
        --engine_args tensor_parallel_size="$gpus" --engine_args dtype=bfloat16 "${@:3}"
}

prompt() { # the prompt that a checkpoint was trained with, downloaded once
    local folder=${XDG_DATA_HOME:-$HOME/.local/share}/llmrankers-groupwise/prompts
    [[ -z ${DRY_RUN:-} && -e $folder/$1.toml ]] || call prompts pull "$1"
}

is_bright() { [[ $set == bright-* ]] || grep -qs '"dataset": "bright-' "$data/prepared.json"; }

# --- The embedded engine: every method as it is run with language models -----------------------

embedded() {
    local method
    for method in groupwise setwise listwise pointwise; do
        case $method in
            groupwise) rerank groupwise groupwise --group_size 20 --num_repeat 1 ;;
            setwise) rerank setwise setwise --num_child 19 --method heapsort --k 10 ;;
            listwise) rerank listwise listwise --window_size 20 --step_size 10 --num_repeat 1 ;;
            pointwise) rerank pointwise pointwise --method yes_no ;;
        esac
    done
    call fuse --run "$here/groupwise.trec" --run "$data/first_stage.trec" \
        --method min_max --weights 0.7 0.3 --save_path "$here/fused.trec"
    runs+=(--run "fused=$here/fused.trec")
}

# --- Published checkpoints, each with its authors' settings ------------------------------------

# GroupRank: groups of 20, two random repeats, temperature 0.3, top_p 0.8, 8,000 tokens of reply,
# 32,000 in all, passages cut at 3,000 characters, 0.4 of the first stage. The preset holds these.
grouprank() {
    prompt grouprank
    on_vllm "grouprank-$1" "AQ-MedAI/Diver-GroupRank-$1" --preset grouprank \
        groupwise --group_size 20 --num_repeat 2
}

# Rank-R1: LoRA adapters over Qwen2.5, greedy, up to 8,000 tokens of reasoning, 20 documents a
# prompt, heapsort for the best 10; texts cut to 32 and 512 tokens for DL, 1,024 for BRIGHT.
rank_r1() {
    local query=32 passage=512
    if is_bright; then query=1024 passage=1024; fi
    prompt rank-r1
    on_vllm "rank-r1-$1" "Qwen/Qwen2.5-$1-Instruct" --lora_path "ielabgroup/Rank-R1-$1-v0.1" \
        --engine_args max_model_len=32768 --prompt_file rank-r1 --scoring generation \
        --temperature 0 --max_tokens 8000 --query_length "$query" --passage_length "$passage" \
        setwise --num_child 19 --method heapsort --k 10
}

# RankZephyr: windows of 20, step 10, one pass, greedy; a context of 4,096 tokens, to which passages
# are cut evenly. An order of 20 takes about 100 tokens.
rankzephyr() {
    local query=32 passage=512
    if is_bright; then query=1024 passage=1024; fi
    prompt rankzephyr
    on_vllm "rankzephyr-$1" castorini/rank_zephyr_7b_v1_full \
        --engine_args max_model_len=4096 --prompt_file rankzephyr --scoring generation \
        --temperature 0 --max_tokens 200 --query_length "$query" --passage_length "$passage" \
        listwise --window_size 20 --step_size 10 --num_repeat 1
}

# ReasonRank: windows of 20, step 10, one pass, greedy, 3,072 tokens of reasoning and 100 of answer in
# a context of 32,768; passages cut to 100 tokens for DL, 512 for BRIGHT, queries not cut.
reasonrank() {
    local passage=100
    if is_bright; then passage=512; fi
    prompt reasonrank
    on_vllm "reasonrank-$1" "liuwenhan/reasonrank-$1" \
        --engine_args max_model_len=32768 --prompt_file reasonrank --scoring generation \
        --temperature 0 --max_tokens 3172 --query_length 16384 --passage_length "$passage" \
        listwise --window_size 20 --step_size 10 --num_repeat 1
}

# --- All of it ---------------------------------------------------------------------------------

models=${MODELS:-embedded}
if [[ $models == vllm ]]; then models=$vllm; fi
for model in $models; do
    if [[ " embedded $vllm rank_r1:3B " != *" $model "* ]]; then
        echo "head_to_head.sh: MODELS has $model; known are embedded, vllm for all of $vllm" >&2
        exit 2
    fi
done

sets=()
for set in "${@:-demo}"; do
    if [[ $set == bright ]]; then
        for each in $bright; do sets+=("bright-$each"); done
    else
        sets+=("${set%/}")
    fi
done

twice=$(for set in "${sets[@]}"; do basename "$set"; done | sort | uniq -d)
if [[ -n $twice ]]; then
    echo "head_to_head.sh: two of these would be saved in $out/$twice; rename a folder" >&2
    exit 2
fi

for set in "${sets[@]}"; do
    prepared "$set"
    runs=(--run "first_stage=$data/first_stage.trec")
    for model in $models; do "${model%%:*}" "${model#*:}"; done
    call compare --qrels "$data/qrels.txt" "${runs[@]}" --html "$here/report.html"
done
