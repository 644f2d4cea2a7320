#!/usr/bin/env bash
# Train on two nodes of eight GPUs with Slurm: sbatch configs/slurm.sh
# Submit it from the root of the repository, on a file system that all nodes see.
#SBATCH --job-name=gpt2-124m
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

# Five minutes before the time is up, every process receives SIGTERM; so it does when the job is
# preempted. The run then saves and exits with status 143, and the job asks to be started again. The
# same command resumes the run. `scancel --signal=USR1 JOB` saves without a stop.
srun python train.py --config gpt2-124m --data.path "${SHARDS:-shards}" \
  --out "runs/$SLURM_JOB_NAME" --resume auto "$@"
status=$?
if [ "$status" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
