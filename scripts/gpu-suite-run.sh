#!/usr/bin/env bash
# Runs the contract suite, the tests and the figures of this folder and writes a report:
#
#   ./run.sh [REPORT]               on this machine's first NVIDIA card (default: report.md)
#   ./run.sh --stand-in [REPORT]    over the driver stand-in, to check this script: the figures then mean nothing
#
# Needs bash and NVIDIA's driver; no Rust, no toolkit. CUDA_VISIBLE_DEVICES chooses the card. It fails where a suite
# fails, where a byte leaks, and where there is no card.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

export HAPAX_CUDA=card
if [ "${1:-}" = --stand-in ]; then
    HAPAX_CUDA=stand-in
    shift
fi
report=${1:-report.md}
readonly SECONDS_AT_MOST=300
# Kernels come with their module. Loaded at its first use instead, one may wait for the others that run.
export CUDA_MODULE_LOADING=EAGER

# What the programs need of the C library is known since they were built.
needed=$(cat "$here/glibc")
found=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)
if [ -n "$found" ] && [ "$(printf '%s\n' "$needed" "$found" | sort -V | tail -1)" != "$found" ]; then
    echo "these programs need glibc $needed, and this machine has $found: build the folder on an older system" >&2
    exit 1
fi

suites=(contract interop handles cache model faults)
if [ "$HAPAX_CUDA" = stand-in ]; then
    title='# hapax over the driver stand-in: no card was there, and no figure below means anything'
    suites+=(late left_behind backend probe)
else
    title='# hapax on a card'
fi

export RUST_BACKTRACE=0
failed=()
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

run() {
    local name=$1
    shift
    timeout "$SECONDS_AT_MOST" "$here/$name" "$@" >"$logs/$name" 2>&1
}

rows=()
for suite in "${suites[@]}"; do
    begun=$SECONDS
    if run "$suite" --test-threads=1 --nocapture && grep -Eq '^test result: ok\. [1-9]' "$logs/$suite"; then outcome=passed; else outcome='**FAILED**'; failed+=("$suite"); fi
    counts=$(sed -n 's/^test result: [A-Za-z]*\. \([0-9]* passed; [0-9]* failed\).*/\1/p' "$logs/$suite" | tail -1)
    skipped=$(grep -c 'skipped' "$logs/$suite")
    rows+=("| $suite | $outcome | ${counts:-no result} | $skipped | $((SECONDS - begun)) s |")
    echo "${rows[-1]}"
done

if run card_figures; then figures=passed; else figures='**FAILED**'; failed+=(card_figures); fi
echo "| figures | $figures |"

{
    if [ ${#failed[@]} -eq 0 ]; then echo "$title"; else echo "$title (FAILED: ${failed[*]})"; fi
    echo
    echo "- date: $(date -u '+%Y-%m-%d %H:%M UTC')"
    echo "- hapax: commit $(cat "$here/commit")"
    echo "- host: $(uname -sm), $(nproc) CPUs"
    grep -E '^- ' "$logs/card_figures" || echo '- device: none was reached'
    echo
    echo '## Suites'
    echo
    echo '| suite | | tests | skipped | took |'
    echo '|---|---|---|---|---|'
    printf '%s\n' "${rows[@]}"
    echo
    echo '## Figures'
    echo
    echo "Medians, rounds alternating between hapax and the bare driver in one run: $figures."
    echo
    sed '/^- /d' "$logs/card_figures" | sed '/./,$!d' | head -200
    for name in ${failed[@]+"${failed[@]}"}; do
        printf '\n## What %s said\n\n```text\n' "$name"
        tail -60 "$logs/$name"
        echo '```'
    done
} >"$report"
echo "report: $report"
[ ${#failed[@]} -eq 0 ]
