#!/bin/sh
# Makes the hash-locked files of the client environments anew: sdk-*.in -> sdk-*.txt. Needs pip-tools on the PATH.
set -eu
cd "$(dirname "$0")"
unset PIP_FIND_LINKS PIP_INDEX_URL PIP_EXTRA_INDEX_URL
compile() {
    pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file "sdk-$1.txt" "sdk-$1.in"
}
for client in build ark ark-2024 openai arkruntime maas maas-2024 langchain; do
    compile "$client"
done
# See the remark in sdk-arkruntime.in.
awk '/^[a-z]/ { keep = !/^(volcengine|requests|charset-normalizer)/ || /^volcenginesdk-(ark|core)==/ } keep' \
    sdk-arkruntime.txt > sdk-arkruntime.kept
mv sdk-arkruntime.kept sdk-arkruntime.txt
