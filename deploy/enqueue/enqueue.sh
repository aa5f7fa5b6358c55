#!/bin/sh
# enqueue.sh [options of redis-cli] < items.json        hands in a JSON array of badges; RUN=name names their run
# What the message means is said in README.md, beside this file. REDIS_CLI=valkey-cli for Valkey's.
set -eu
id=$(cat /proc/sys/kernel/random/uuid 2>/dev/null || uuidgen)
run=${RUN:+\"run\": \"$RUN\", }
body=$({ printf '[[], {%s"items": ' "$run"; cat; printf '}, {}]'; } | base64 | tr -d '\n')
printf '%s' '{"body": "'"$body"'", "content-encoding": "utf-8", "content-type": "application/json",
 "headers": {"lang": "sh", "task": "badges.enqueue", "id": "'"$id"'", "origin": "enqueue.sh"},
 "properties": {"body_encoding": "base64", "correlation_id": "'"$id"'", "delivery_tag": "'"$id"'", "delivery_mode": 2,
  "priority": 0, "delivery_info": {"exchange": "", "routing_key": "celery"}}}' |
  "${REDIS_CLI:-redis-cli}" "$@" -x LPUSH celery
