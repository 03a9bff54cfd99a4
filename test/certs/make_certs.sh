#!/bin/sh
# Makes throw-away certificates for tests: make_certs.sh FOLDER
#
#   ca.pem            the issuer that tests trust
#   server.pem/.key   localhost, 127.0.0.1 and ::1
#   other.pem/.key    a good certificate for another host (other.example)
#   expired.pem/.key  localhost, validity over before today
#   client.pem/.key   for client authentication, same issuer, with a name of each kind
#   stranger_ca.pem, stranger.pem/.key   localhost, from an issuer nobody trusts
#   early.pem/.key    localhost, validity not begun
#   self.pem/.key     localhost, signed by itself
#   purpose.pem/.key  localhost, but for clients only
#   old_ca.pem        an issuer whose own certificate is over
#   stale.pem/.key    localhost, for servers and clients, itself good, from that issuer
#   weak.pem/.key     localhost, an RSA key of 1024 bits
#
# Everything but early.pem lives for two days, and nothing of it belongs into the repository.
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
  [ -e "$1.key" ] || key "$1.key"
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
# `openssl req` gives nothing that is over.
key old_ca.key
printf '%s\n' "basicConstraints=critical,CA:TRUE" "keyUsage=critical,keyCertSign,cRLSign" > old_ca.ext
openssl req -new -key old_ca.key -subj "/CN=Chorus old issuer" -out old_ca.csr 2>> "$log"
openssl x509 -req -in old_ca.csr -signkey old_ca.key -sha256 -days -1 -extfile old_ca.ext \
  -out old_ca.pem 2>> "$log"
rm -f old_ca.csr old_ca.ext
signed server ca 2 "$local_names" serverAuth
signed other ca 2 "DNS:other.example" serverAuth
signed expired ca -1 "$local_names" serverAuth
signed client ca 2 "email:client@example.org,URI:spiffe://example.org/client,DNS:client.example,IP:192.0.2.7" clientAuth
signed stranger stranger_ca 2 "$local_names" serverAuth
signed stale old_ca 2 "$local_names" serverAuth,clientAuth
signed purpose ca 2 "$local_names" clientAuth
openssl genrsa -out weak.key 1024 2>> "$log"
signed weak ca 2 "$local_names" serverAuth

key self.key
openssl req -x509 -new -key self.key -sha256 -days 2 -subj "/CN=self" \
  -addext "basicConstraints=critical,CA:FALSE" -addext "keyUsage=critical,digitalSignature" \
  -addext "subjectAltName=$local_names" -addext "extendedKeyUsage=serverAuth" -out self.pem 2>> "$log"

# Only `openssl ca` takes a beginning.
key early.key
openssl req -new -key early.key -subj "/CN=early" -out early.csr 2>> "$log"
mkdir -p early.made
: > early.made/index
cat > early.cnf <<END
[ca]
default_ca = early
[early]
database = early.made/index
new_certs_dir = early.made
policy = any
rand_serial = yes
[any]
commonName = supplied
[names]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = $local_names
END
openssl ca -batch -notext -config early.cnf -cert ca.pem -keyfile ca.key -md sha256 -extensions names \
  -startdate 20991230000000Z -enddate 20991231000000Z -in early.csr -out early.pem 2>> "$log"
rm -rf early.csr early.cnf early.made
