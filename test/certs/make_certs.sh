#!/bin/sh
# Makes throw-away certificates for tests: make_certs.sh FOLDER
#
#   ca.pem            the issuer that tests trust
#   server.pem/.key   localhost, 127.0.0.1 and ::1
#   other.pem/.key    a good certificate for another host (other.example)
#   expired.pem/.key  localhost, validity over before today
#   client.pem/.key   for client authentication, same issuer, with a name of each kind
#   stranger_ca.pem, stranger.pem/.key   localhost, from an issuer nobody trusts
#
# Everything lives for two days and nothing of it belongs into the repository.
set -eu

[ $# -eq 1 ] || { echo "usage: make_certs.sh FOLDER" >&2; exit 2; }
mkdir -p "$1"
cd "$1"

log=make_certs.log
: > "$log"
trap 'status=$?; [ $status -eq 0 ] || cat "$log" >&2; exit $status' EXIT

key() {
  openssl ecparam -name prime256v1 -genkey -noout -out "$1" 2>> "$log"
}

issuer() { # name, common name
  key "$1.key"
  openssl req -x509 -new -key "$1.key" -sha256 -days 2 -subj "/CN=$2" \
    -addext "basicConstraints=critical,CA:TRUE" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" -out "$1.pem" 2>> "$log"
}

signed() { # name, issuer, days, subject alternative names, extended usage
  key "$1.key"
  openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr" 2>> "$log"
  {
    echo "basicConstraints=critical,CA:FALSE"
    echo "keyUsage=critical,digitalSignature"
    echo "extendedKeyUsage=$5"
    [ -z "$4" ] || echo "subjectAltName=$4"
  } > "$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -sha256 \
    -days "$3" -extfile "$1.ext" -out "$1.pem" 2>> "$log"
  rm -f "$1.csr" "$1.ext"
}

local_names="DNS:localhost,IP:127.0.0.1,IP:::1"
issuer ca "Chorus test issuer"
issuer stranger_ca "Chorus unknown issuer"
signed server ca 2 "$local_names" serverAuth
signed other ca 2 "DNS:other.example" serverAuth
signed expired ca -1 "$local_names" serverAuth
signed client ca 2 "email:client@example.org,URI:spiffe://example.org/client,DNS:client.example,IP:192.0.2.7" clientAuth
signed stranger stranger_ca 2 "$local_names" serverAuth
