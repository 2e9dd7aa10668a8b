#!/usr/bin/env bash
# Fails when launch/setup.sh takes a package from PyPI without naming its version, or when another script takes one at all.
# usage: pinned_packages.sh SOURCE_DIR
set -u
cd "${1:?source folder}" || exit 2
failed=0
eval "$(grep -E '^[a-z_]+=[A-Za-z0-9._=-]+$' launch/setup.sh)"
packages=0
while read -r argument; do
  package=$(eval "printf '%s' $argument")
  packages=$((packages + 1))
  [[ $package =~ ^[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*$ ]] || { echo "launch/setup.sh: '$package' names no version"; failed=1; }
done < <(sed -nE 's/^ *fetch ("[^"]*") .*/\1/p' launch/setup.sh)
[ "$packages" -ge 5 ] || { echo "launch/setup.sh: $packages packages found, expected 5 or more"; failed=1; }
others=$(grep -rnE 'pip3? +(install|download)' launch tests .ci --include='*' | grep -v '^launch/setup.sh:' | grep -v '^tests/pinned_packages.sh:')
[ -z "$others" ] || { printf 'packages are taken from PyPI by launch/setup.sh alone:\n%s\n' "$others"; failed=1; }
exit $failed
