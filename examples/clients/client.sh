#!/usr/bin/env bash
# bertserve from the shell, through reflection: health, vectors, masked words, next sentences, and what a refusal says.
#
#     examples/clients/client.sh [HOST:PORT [SECONDS]]
#
# Needs buf (pip install buf-bin) and jq.
set -euo pipefail

target=${1:-127.0.0.1:50051} seconds=${2:-30}
bert=bertapi.v1.BertService
error_details=$(dirname "${BASH_SOURCE[0]}")/error_details.proto

main() {
  local embedded
  # To buf, no time at all is no limit.
  if [[ ! $seconds =~ ^[0-9]*\.?[0-9]+$ || ! $seconds =~ [1-9] ]]; then
    echo "usage: client.sh [HOST:PORT [SECONDS]]" >&2
    return 2
  fi
  call grpc.health.v1.Health/Check "{\"service\": \"$bert\"}" | jq -r '"health: \(.status)"'

  embedded=$(call $bert/Embed '{"inputs": [{"text": "A cat sat here."}, {"text": "A dog lay there."}]}')
  paste <(floats 0 <<<"$embedded") <(floats 1 <<<"$embedded") |
    awk '{ab += $1 * $2; aa += $1 ^ 2; bb += $2 ^ 2}
      END {printf "embed: 2 vectors of %d, cosine %.4f\n", NR, ab / sqrt(aa * bb)}'

  call $bert/FillMask '{"inputs": [{"text": "The [MASK] sat on the mat"}], "options": {"topK": 3}}' |
    jq -r '[.results[0].masks[0].predictions[] | "\(.text) \(100 * .probability | round)%"] | "fill mask: \(join(", "))"'

  call $bert/ScoreNextSentence '{"first": "The river flows through the city.",
      "candidates": ["It empties into the sea.", "The band released their second album."]}' |
    jq -r '[.scores[] | "\(100 * .probability | round)%"] | "next sentence: \(join(", "))"'

  call $bert/FillMask '{"inputs": [{"text": "No word is hidden here"}]}' 2>&1 | sed 's/^failed:/refused:/' || true
}

# The answer as JSON on stdout; or a line on stderr, and a status that is not 0.
call() {
  local method=$1 request=$2 answer
  if ! answer=$(buf curl --protocol grpc --timeout "${seconds}s" -d "$request" "http://$target/$method" 2>&1); then
    echo "failed: $(describe <<<"$answer")" >&2
    return 1
  fi
  echo "$answer"
}

# The numbers of the embedding with that index, one a line.
floats() {
  jq -r ".embeddings[$1].vectors.data" | base64 -d | od -An -v -w4 -tf4
}

# The status, the fields at fault (google.rpc.BadRequest) and when to try again (google.rpc.RetryInfo).
describe() {
  local failure
  failure=$(cat)
  case $failure in
    '{'*) ;;
    # buf's clock runs from its start, and may end before it has sent anything.
    *'deadline exceeded'*) echo "DEADLINE_EXCEEDED: ${failure#Failure: }" && return ;;
    # All that buf says where it cannot ask for the schema, be it that nobody listens or that a token is needed.
    *'failed to find service'*) echo "UNAVAILABLE: no server at $target tells what it serves: ${failure#Failure: }" && return ;;
    *) echo "$failure" && return ;;
  esac
  jq -r '.details[]? | "\(.type) \(.value)"' <<<"$failure" |
    while read -r type value; do
      base64 -d <<<"$value" 2>/dev/null | buf convert "$error_details" --type "$type" --from -#format=binpb
    done |
    jq -rs --argjson failure "$failure" '
      (map(.fieldViolations[]? | "\(.field): \(.description)") | join("; ")) as $faults |
      (map(.retryDelay | select(.) | "; try again in \(rtrimstr("s") | tonumber * 10 | round / 10) s") | join("")) as $again |
      "\($failure.code | ascii_upcase): \(if $faults == "" then $failure.message else $faults end)\($again)"'
}

main
