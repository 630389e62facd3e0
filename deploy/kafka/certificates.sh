#!/bin/sh
# A certificate authority and one server certificate signed by it, for Kafka and ClickHouse, as PEM. For a company with
# its own authority: have these files made there.
#   sh deploy/kafka/certificates.sh DIRECTORY NAME…        names and addresses by which clients reach the server
set -eu
umask 077
directory=${1:?a directory for the files}
shift
[ $# -gt 0 ] || { echo "certificates: at least one name of the server" >&2; exit 2; }
[ ! -e "$directory/ca.key" ] || { echo "certificates: $directory has an authority already" >&2; exit 1; }
mkdir -p "$directory"
cd "$directory"

names=
for name in "$@"; do
  case $name in *[!0-9.]*) kind=DNS ;; *) kind=IP ;; esac
  names="$names${names:+,}$kind:$name"
done

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }
key ca.key
openssl req -x509 -new -key ca.key -subj "/CN=creditstream authority" -days 3650 -out ca.crt
key server.key
openssl req -new -key server.key -subj "/CN=kafka" -out server.csr
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$names" >server.ext
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 397 -extfile server.ext -out server.crt 2>/dev/null
cat server.key server.crt ca.crt >server.pem
rm server.csr server.ext
chmod 644 ca.crt server.crt
echo "certificates: $directory; keep ca.key elsewhere, servers need server.* and ca.crt, clients ca.crt" >&2
