#!/bin/sh
# Makes the hash-locked requirement files anew from pyproject.toml. Needs pip-tools on the PATH.
set -eu
cd "$(dirname "$0")"
lock() {
    output=$1
    shift
    pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
        --no-emit-index-url --no-emit-find-links --output-file "$output" "$@"
}
# The widest set first; the others are held to its versions.
lock dev.txt --extra embedded --extra postgres --extra valkey --extra analytics --extra knowledge --extra search \
    --extra moderation ../pyproject.toml build.in dev.in
lock base.txt --constraint dev.txt ../pyproject.toml
lock embedded.txt --constraint dev.txt --extra embedded ../pyproject.toml
lock bots.txt --constraint dev.txt --extra knowledge --extra search --extra moderation ../pyproject.toml
lock build.txt --constraint dev.txt build.in
