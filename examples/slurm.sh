#!/usr/bin/env bash
# A study on a Slurm cluster: an array whose first task starts it, and whose other tasks join as workers.
#   STUDY=studies/demo.yaml RUN=/shared/runs/demo bash examples/slurm.sh
# RUN must lie on a file system that every node sees. A task that is killed costs the steps since its last checkpoint.
set -euo pipefail
: "${STUDY:?the study file}" "${RUN:?the run folder, on a shared file system}"

secateur validate "$STUDY"

array=$(sbatch --parsable <<JOB
#!/usr/bin/env bash
#SBATCH --job-name=secateur
#SBATCH --array=1-${WORKERS:-8}
#SBATCH --cpus-per-task=${CPUS:-4}
#SBATCH --time=${TIME:-12:00:00}
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
if [ "\$SLURM_ARRAY_TASK_ID" = 1 ]; then
  exec secateur run "$STUDY" --out "$RUN" --jobs 1 --progress plain
fi
until [ -f "$RUN/study.json" ]; do sleep 5; done
exec secateur worker "$RUN" --jobs 1 --progress plain
JOB
)

# When all tasks have ended, for whatever reason, the report shows what there is.
sbatch --dependency="afterany:$array" --job-name=secateur-report --time=01:00:00 --wrap "secateur report '$RUN'"
echo "tasks: job $array; look with: secateur status $RUN"
