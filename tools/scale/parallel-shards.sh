#!/bin/sh
# The shards of a command of exitlm, by GNU parallel, on this machine or on others over ssh.
#
#   parallel-shards.sh N PREFIX exitlm gather MODEL --self-chat 4000
#   exitlm train MODEL -o HEADS --gathered PREFIX.*
#
# Each shard is the command with --shard I/N -o PREFIX.I. HOSTS names the machines, as parallel's
# --sshlogin does: "4/node1,4/node2" is four shards at a time on each, ":" this machine (the default).
# They share the folder of PREFIX, the model and the program. One that fails or is killed is tried
# again (TRIES, 3) and goes on behind its last whole block; PREFIX.log says which are done, so the same
# command after an interruption runs those that are missing alone.
set -eu
[ $# -ge 3 ] || {
    echo "usage: parallel-shards.sh N PREFIX COMMAND..." >&2
    exit 2
}
n=$1 prefix=$2
shift 2
seq "$n" | parallel --will-cite --quote --sshlogin "${HOSTS:-:}" --jobs "${JOBS:-100%}" \
    --workdir . --retries "${TRIES:-3}" --joblog "$prefix.log" --resume-failed --line-buffer \
    "$@" --shard "{}/$n" -o "$prefix.{}" -q
