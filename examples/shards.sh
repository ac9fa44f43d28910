#!/bin/sh
#SBATCH --array=0-3
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=shard-%a.log
#SBATCH --signal=B:TERM@120
#
# Ask for the price of each order of orders.csv, in four tasks: sbatch shards.sh
# Without Slurm, all four run here: sh shards.sh
#
# If tasks were killed, start it again, or only those tasks that have something left:
# sbatch --array="$(journal shards prices --open)" shards.sh
# The calls that were in flight are repeated, since they change nothing.

if [ -z "${SLURM_ARRAY_TASK_ID-}" ]; then
    for task in 0 1 2 3; do
        SLURM_ARRAY_TASK_ID=$task sh "$0" &
    done
    wait
    exec journal export prices prices.csv --force --columns order,status,result
fi
exec journal run orders.csv --key order --shard SLURM_ARRAY_TASK_ID/4 --job prices \
    --on-interrupted retry -j 4 --max-attempts 5 -- curl -fsS "$SHOP_URL/quotes?kg={kg}"
