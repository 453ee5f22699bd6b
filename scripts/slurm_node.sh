#!/usr/bin/env bash
# A SLURM controller with one node on this machine, for tests: slurm_node.sh start|stop|env FOLDER.
#
# Everything (keys, sockets, state, logs) lies in FOLDER; no systemd, no /etc/slurm, only loopback. Needs root and
# Debian's slurm-wlm and munge. `start` exits with 3 and one line where it cannot be had; `env` prints what a shell
# has to export to talk to it (eval "$(slurm_node.sh env FOLDER)").
set -euo pipefail

action="${1:-}"
folder="${2:-}"
if [ -z "$folder" ] || [[ ! "$action" =~ ^(start|stop|env)$ ]]; then
  echo "usage: slurm_node.sh start|stop|env FOLDER" >&2
  exit 2
fi

cannot() {
  echo "no SLURM here: $1" >&2
  exit 3
}

pids() { cat "$folder"/*.pid 2>/dev/null || true; }

if [ "$action" = env ]; then
  printf 'export SLURM_CONF=%q\n' "$(realpath "$folder")/slurm.conf"
  exit 0
fi

if [ "$action" = stop ]; then
  for pid in $(pids); do kill "$pid" 2>/dev/null || true; done
  for _ in $(seq 50); do
    alive=""
    for pid in $(pids); do kill -0 "$pid" 2>/dev/null && alive=yes; done
    [ -z "$alive" ] && break
    sleep 0.1
  done
  for pid in $(pids); do kill -9 "$pid" 2>/dev/null || true; done
  rm -f "$folder"/*.pid
  exit 0
fi

[ "$(id -u)" = 0 ] || cannot "its daemons need root"
PATH="$PATH:/usr/sbin:/sbin"
for program in munged slurmctld slurmd sbatch squeue; do
  command -v "$program" >/dev/null || cannot "'$program' is not installed (apt-get install slurm-wlm munge)"
done

mkdir -p "$folder/state" "$folder/spool"
chmod 700 "$folder" # munge trusts its key in a folder of one's own alone
folder="$(realpath "$folder")"
ports=$(python3 - <<'PYTHON'
import socket
held = [socket.socket() for _ in range(2)]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))
PYTHON
)
cores="$(nproc)"
cat >"$folder/slurm.conf" <<CONF
ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=${ports% *}
SlurmdPort=${ports#* }
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
JobRequeue=1
KillWait=30
ReturnToService=2
SchedulerParameters=sched_interval=1,sched_min_interval=1,bf_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=localhost NodeAddr=127.0.0.1 CPUs=$cores State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=60 PriorityTier=1 GraceTime=60 State=UP
PartitionName=urgent Nodes=localhost MaxTime=60 PriorityTier=9 State=UP
CONF
export SLURM_CONF="$folder/slurm.conf"

rm -f "$folder/munge.key"
(umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
  --log-file="$folder/munged.log" --seed-file="$folder/munged.seed" --num-threads=2 ||
  cannot "munged does not start; see $folder/munged.log"
slurmctld -i || cannot "slurmctld does not start; see $folder/slurmctld.log"
slurmd -N localhost || cannot "slurmd does not start; see $folder/slurmd.log"
for _ in $(seq 100); do
  if sinfo -h -o %T 2>/dev/null | grep -q idle; then exit 0; fi
  sleep 0.2
done
"$0" stop "$folder"
cannot "the node does not come up; see $folder/slurmctld.log and slurmd.log"
