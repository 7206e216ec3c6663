#!/bin/sh
# The shards of a command of exitlm as an array of Slurm.
#
#   sbatch --array=1-8 --requeue slurm-shards.sh PREFIX exitlm gather MODEL --self-chat 4000
#   sbatch --dependency=afterok:JOB --wrap "exitlm train MODEL -o HEADS --gathered PREFIX.*"
#
# Task I of N is the command with --shard I/N -o PREFIX.I. A task that is lost or preempted is queued
# again and goes on behind its last whole block; one that fails is run again alone: sbatch
# --array=3 --export=ALL,SHARDS=8 slurm-shards.sh …
#SBATCH --job-name=exitlm
#SBATCH --cpus-per-task=1
#SBATCH --open-mode=append
set -eu
[ $# -ge 2 ] || {
    echo "usage: slurm-shards.sh PREFIX COMMAND..." >&2
    exit 2
}
prefix=$1
shift
i=${SLURM_ARRAY_TASK_ID:?this is the body of an array: sbatch --array=1-N}
n=${SHARDS:-${SLURM_ARRAY_TASK_COUNT:?}}
exec "$@" --shard "$i/$n" -o "$prefix.$i" --threads "${SLURM_CPUS_PER_TASK:-1}" -q
