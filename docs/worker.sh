#!/bin/bash
# Drains the queue of export tasks: worker.sh https://tasks.example worker.token gs://bucket/recordings
set -u; umask 077; leases=$1/api/v1/leases dir=$(mktemp -d); trap 'kill $(jobs -p) 2> /dev/null; wait; rm -r "$dir"' EXIT
printf 'Authorization: Bearer %s\n' "$(cat "$2")" > "$dir/token"
post() { curl -sS -m 15 --retry 60 --retry-delay 1 --retry-all-errors -H "@$dir/token" --json "$2" -D "$dir/head" -o "$dir/$3" -w '%{http_code}' "$leases$1"; }
held() { case $(post "/$id/heartbeat" "{\"number\": $number}" beat) in 409) false;; 200) ! jq -e .cancel "$dir/beat";; esac; }
while :; do
  case $(post '' '{"worker": "worker.sh", "wait": "4s"}' lease) in 200) ;; 401 | 403) cat "$dir/lease" >&2; exit 77;;
    *) ! grep -qi '^framehaul-tasks: none' "$dir/head" || exit 0; sleep 1; continue;; esac
  read -r id number every < <(jq -r '"\(.id) \(.number) \(.heartbeat)"' "$dir/lease") || { sleep 1; continue; }
  framehaul worker --lease "$dir/lease" --to "$3" > "$dir/word" & job=$!
  { while kill -0 $$ && held; do sleep "$every" || sleep 1; done; kill $job; } > /dev/null 2>&1 & beats=$!
  if wait $job; then end=complete; else end=fail; fi; { kill $beats; wait $beats; } 2> /dev/null
  if [ -s "$dir/word" ]; then post "/$id/$end" "@$dir/word" answer > /dev/null; else exit 1; fi
done
