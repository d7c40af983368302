#!/usr/bin/env bash
# Load by h2load, which knows HTTP/2 but not gRPC: one request, framed as gRPC frames it, sent again and again.
#
#     examples/clients/load.sh Embed '{"inputs": [{"text": "A cat sat here."}]}' [HOST:PORT [h2load's options]]
#
# gRPC's errors are HTTP's 200 too, so look at the statuses in the server's own metrics: grpc_server_handled_total.
# Needs buf (pip install buf-bin) and h2load (apt-get install nghttp2-client).
set -euo pipefail

method=$1 request=$2 target=${3:-127.0.0.1:50051} options=("${@:4}")
proto=$(dirname "${BASH_SOURCE[0]}")/../../proto

folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
echo "$request" >"$folder/request.json"
buf convert "$proto" --type "bertapi.v1.${method}Request" --from "$folder/request.json" --to "$folder/message.binpb"

# A frame: one byte that says "not compressed", the message's size in four, biggest first, and the message.
size=$(printf '%08x' "$(stat -c %s "$folder/message.binpb")")
{ printf '\0%b' "$(sed 's/../\\x&/g' <<<"$size")" && cat "$folder/message.binpb"; } >"$folder/frame"

[ "${#options[@]}" != 0 ] || options=(-n 1000 -c 4 -m 8)
h2load "${options[@]}" -d "$folder/frame" -H 'content-type: application/grpc' -H 'te: trailers' \
  "http://$target/bertapi.v1.BertService/$method"
