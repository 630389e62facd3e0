#!/bin/sh
# Makes what kustomization.yaml reads from secrets/, once, ignored by git: a password for each user of Kafka and
# ClickHouse, the command key, the notification key. Make the users with these passwords (deploy/README.md), and put the authority's
# certificate to secrets/ca.crt.
#   sh secrets.sh [DIRECTORY]
set -eu
umask 077
directory=${1:-$(dirname "$0")/secrets}
[ ! -e "$directory" ] || { echo "secrets: $directory is there already" >&2; exit 1; }
mkdir -p "$directory"
cd "$directory"

secret() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

for process in setup worker sink gateway scheduler late-lane payments reconciler notifier; do
  printf 'CREDITSTREAM_KAFKA__CLIENT_OPTIONS={"security.protocol":"SASL_SSL","sasl.mechanism":"SCRAM-SHA-512","sasl.username":"creditstream-%s","sasl.password":"%s","ssl.ca.location":"/etc/creditstream/tls/ca.crt"}\n' \
    "$process" "$(secret)" >"kafka-$process.env"
done
for pair in setup:owner sink:sink late-lane:reader; do
  printf 'CREDITSTREAM_CLICKHOUSE__USER=%s\nCREDITSTREAM_CLICKHOUSE__PASSWORD=%s\n' "${pair#*:}" "$(secret)" >"clickhouse-${pair%%:*}.env"
done
# The same user as the late lane's, under the name by which a gateway reads.
sed -e s/__USER/__ANALYST_USER/ -e s/__PASSWORD/__ANALYST_PASSWORD/ clickhouse-late-lane.env >clickhouse-gateway.env
key_id=$(date -u +%Y-%m-%d)
printf 'CREDITSTREAM_COMMAND_KEY_ID=%s\nCREDITSTREAM_COMMAND_KEYS={"%s":"%s"}\n' "$key_id" "$key_id" "$(secret)" >command-keys.env
printf 'CREDITSTREAM_NOTIFIER__KEY_ID=%s\nCREDITSTREAM_NOTIFIER__KEYS={"%s":"%s"}\n' "$key_id" "$key_id" "$(secret)" >notification-keys.env
# Your mail server, whom mails come from, and where their button leads.
printf 'CREDITSTREAM_NOTIFIER__SMTP_HOST=smtp.example.com\nCREDITSTREAM_NOTIFIER__SMTP_USER=\nCREDITSTREAM_NOTIFIER__SMTP_PASSWORD=\nCREDITSTREAM_NOTIFIER__MAIL_FROM=credits@example.com\nCREDITSTREAM_NOTIFIER__PUBLIC_URL=https://credits.example.com\n' >mail.env
printf 'CREDITSTREAM_PAYMENTS__PROVIDER=simulated\n' >payments.env
printf 'username=creditstream-lag\npassword=%s\n' "$(secret)" >lag.env
: >ca.crt
echo "secrets: written to $directory; put the authority's certificate to ca.crt there" >&2
