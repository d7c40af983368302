#!/usr/bin/env bash
# Load by h2load, which knows HTTP/2 but not gRPC: one request, framed as gRPC frames it, sent again and again.
#
#     examples/clients/load.sh Embed '{"inputs": [{"text": "A cat sat here."}]}' [HOST:PORT [h2load's options]]
#
# gRPC's errors are HTTP's 200 too. So health and one call are tried first, and under load the server's own metrics have
# the statuses: grpc_server_handled_total.
# Needs buf (pip install buf-bin), h2load and nghttp (apt-get install nghttp2-client).
set -euo pipefail

usage="usage: load.sh METHOD REQUEST [HOST:PORT [h2load's options]]"
method=${1:?$usage} request=${2:?$usage} target=${3:-127.0.0.1:50051} options=("${@:4}")
clients=$(dirname "${BASH_SOURCE[0]}")
GRPC=(-H 'content-type: application/grpc' -H 'te: trailers')
# By number: https://grpc.io/docs/guides/status-codes
STATUSES=(OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED
  RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED)

main() {
  local url="http://$target/bertapi.v1.BertService/$method"
  [ "${#options[@]}" != 0 ] || options=(-n 1000 -c 4 -m 8)
  folder=$(mktemp -d)
  trap 'rm -r "$folder"' EXIT
  echo "$request" >"$folder/request.json"
  buf convert "$clients/../../proto" --type "bertapi.v1.${method}Request" \
    --from "$folder/request.json" --to "$folder/message.binpb"
  frame "$folder/message.binpb" >"$folder/frame"
  # A HealthCheckRequest: field 1, 22 bytes.
  printf '\012\026bertapi.v1.BertService' >"$folder/service.binpb"
  frame "$folder/service.binpb" >"$folder/health"

  check_health
  try_once "$url"
  h2load "${options[@]}" -d "$folder/frame" "${GRPC[@]}" "$url"
}

# One byte that says "not compressed", the message's size in four, biggest first, and the message.
frame() {
  local size
  size=$(printf '%08x' "$(stat -c %s "$1")")
  printf '\0%b' "$(sed 's/../\\x&/g' <<<"$size")"
  cat "$1"
}

# The answer's only field is number 1, and 1 is SERVING.
check_health() {
  local answer
  answer=$(nghttp -d "$folder/health" -H ':method: POST' "${GRPC[@]}" "http://$target/grpc.health.v1.Health/Check" |
    od -An -v -tx1) || true
  case $answer in
    ' 00 00 00 00 02 08 01') echo "health: SERVING" ;;
    '') fail "no answer from $target" ;;
    *) fail "$target is not SERVING" ;;
  esac
}

# The status stands in the trailers, which nghttp shows.
try_once() {
  local headers=() index answer status
  for index in "${!options[@]}"; do
    case ${options[index]} in -H | --header) headers+=(-H "${options[index + 1]}") ;; esac
  done
  answer=$(nghttp -nv -d "$folder/frame" -H ':method: POST' "${GRPC[@]}" "${headers[@]}" "$1") || true
  status=$(trailer grpc-status <<<"$answer")
  [ -n "$status" ] || fail "no status from $target"
  [ "$status" = 0 ] || fail "${STATUSES[status]:-status $status}: $(trailer grpc-message <<<"$answer")$(details <<<"$answer")"
}

trailer() {
  sed -n "s/.* recv (stream_id=[0-9]*) $1: //p"
}

# What else the refusal says (google.rpc.BadRequest, google.rpc.RetryInfo), as JSON on a line of its own.
details() {
  local encoded
  encoded=$(trailer grpc-status-details-bin)
  [ -z "$encoded" ] || { echo && base64 -d <<<"$encoded" 2>/dev/null |
    buf convert "$clients/error_details.proto" --type google.rpc.Status --from '-#format=binpb'; }
}

fail() {
  echo "failed: $1" >&2
  exit 1
}

main
