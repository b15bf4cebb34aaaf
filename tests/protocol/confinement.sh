# Run in a container of either engine by busybox alone: one "name<TAB>value" a line.
B=/bin/busybox
tab="$($B printf '\t')"
row() { $B printf '%s\t%s\n' "$1" "$2"; }

$B grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups|SigIgn|SigBlk)' /proc/self/status |
  while IFS=: read -r name value; do row "status $name" "$(echo $value)"; done

while read -r _ _ _ _ path options rest; do
  rest="${rest#*- }"
  row "mount $path" "${rest%% *} $options"
done </proc/self/mountinfo

for path in /dev/* /dev/pts/ptmx /dev/shm /dev/mqueue; do
  row "device $path" "$($B stat -c '%F %a %u:%g %t:%T' $path)"
  if [ -L $path ]; then row "link $path" "$($B readlink $path)"; fi
done

$B tail -n +2 /proc/self/limits |
  while IFS= read -r line; do row "limit $(echo ${line:0:25})" "$(echo ${line:25})"; done

for path in acpi asound interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats \
  bus fs irq sys sysrq-trigger; do
  if [ -e /proc/$path ]; then row "file /proc/$path" "$($B stat -c '%F %a' /proc/$path)"; fi
done

$B env | while IFS='=' read -r name value; do row "variable $name" "$value"; done
row "umask" "$(umask)"
row "directory" "$PWD"
row "oom_score_adj" "$($B cat /proc/self/oom_score_adj)"
row "domainname" "$($B cat /proc/sys/kernel/domainname)"
for kind in $($B ls /proc/self/ns); do row "namespace $kind" "there"; done

$B find /proc/sys/net /proc/sys/kernel/msg* /proc/sys/kernel/shm* /proc/sys/kernel/sem \
  /proc/sys/fs/mqueue -type f |
  while read -r path; do row "sysctl $path" "$(echo $($B cat $path 2>&1))"; done

if [ -e /sys/fs/cgroup/devices/devices.list ]; then
  $B sort -u /sys/fs/cgroup/devices/devices.list | while read -r rule; do row "rule $rule" "there"; done
fi
