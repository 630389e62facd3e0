#!/bin/sh
# Makes the secrets of a compose deployment, once: .env beside docker-compose.yml, mode 0600, ignored by git.
# ClickHouse is given hashes of its passwords only. To change them: deploy/runbooks/rotate-keys.md.
#   sh deploy/secrets.sh [FILE]
set -eu
umask 077
file=${1:-$(dirname "$0")/../.env}
if [ -e "$file" ]; then
  echo "secrets: $file is there already, and data may depend on it; see deploy/runbooks/rotate-keys.md" >&2
  exit 1
fi

secret() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
sha256() { printf %s "$1" | { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; } | cut -d' ' -f1; }

key_id=$(date -u +%Y-%m-%d)
{
  echo "CREDITSTREAM_COMMAND_KEY_ID=$key_id"
  echo "CREDITSTREAM_COMMAND_KEYS='{\"$key_id\": \"$(secret)\"}'"
  echo "CREDITSTREAM_NOTIFIER__KEY_ID=$key_id"
  echo "CREDITSTREAM_NOTIFIER__KEYS='{\"$key_id\": \"$(secret)\"}'"
  for user in OWNER SINK READER ANALYST; do
    password=$(secret)
    echo "CLICKHOUSE_${user}_PASSWORD=$password"
    echo "CLICKHOUSE_${user}_SHA256=$(sha256 "$password")"
  done
  echo "GRAFANA_ADMIN_PASSWORD=$(secret)"
} >"$file"
echo "secrets: written to $file; keep a copy where you keep secrets, it is in no backup of ours" >&2
