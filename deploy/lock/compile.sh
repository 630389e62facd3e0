#!/bin/sh
# Compile the locks from pyproject.toml: run.txt (the product and its local stack), dev.txt (the same and the tools),
# image.txt (what the container image runs: no local stack, but traces), build.txt (what makes the wheel for it),
# compiler.txt (what compiles its core) and peers.txt (what the bench measures beside us, and wants other versions than
# we do).
# Needs uv on PATH. The result installs with plain pip: see deploy/setup.py.
set -eu
cd "$(dirname "$0")/../.."
compile() { uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet "$@"; }
compile --extra run --extra local --extra serve --extra example --group build -o deploy/lock/run.txt pyproject.toml
compile --extra run --extra local --extra serve --extra example --extra otel --group build --group dev \
  -c deploy/lock/run.txt -o deploy/lock/dev.txt pyproject.toml
compile --extra run --extra serve --extra otel -c deploy/lock/run.txt -o deploy/lock/image.txt pyproject.toml
compile --group build -c deploy/lock/run.txt -o deploy/lock/build.txt
compile --group compiler -c deploy/lock/dev.txt -o deploy/lock/compiler.txt
compile --group peers -o deploy/lock/peers.txt
