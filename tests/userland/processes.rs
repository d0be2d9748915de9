//! What tells of the machine and its processes: ps, top, free, df, mount, /proc. Numbers differ, structure does not.

use crate::support::normalise::{blanks, numbers, sorted};
use crate::support::scenario::Scenario;

#[test]
fn ps_shows_the_guest_only() {
    // On its standard input, so that the script is no part of what ps shows.
    Scenario::program(
        "ps",
        "sh",
        r#"
        sleep 1000 & child=$!; bash -c 'exec -a renamed sleep 1000' & su alice -c 'exec sleep 2000' &
        while [ "$(pgrep -cx sleep)" -lt 3 ]; do :; done; while [ "$(pgrep -u alice -c sleep)" -lt 1 ]; do :; done
        ps aux | head -n 1; ps -eo user,stat,args | grep '[s]leep' | sort
        ps -o pid=,ppid= -p $child | awk -v me=$$ '{ print ($2 == me) }'; ps -p $child -o comm=,nlwp=,ni=,pri=,cls=
        ps -ef | head -n 1; ps -C sleep -o args= | sort; ps -p 1 -o pid=; ps -p 99999 >/dev/null; echo "status $?"
        pgrep -f 'sleep 1000' -c; pkill -f 'sleep 2000'; while pgrep -f 'sleep 2000' >/dev/null; do :; done; pidof sleep | wc -w; kill $child; wait $child 2>/dev/null; ps -p $child -o stat=; echo "gone $?"
        [ "$(ps -e -o pid= | wc -l)" -lt 15 ] && echo 'guest processes only'; ps -eL | head -n 1; ps --forest -e -o args= | grep -c '[p]s --forest'
        tr '\0' ' ' </proc/$$/cmdline | cut -c1-6; readlink /proc/$$/exe /proc/$$/cwd /proc/$$/root; cut -d' ' -f2 /proc/$$/stat; grep -E '^(Name|State|Uid|Threads)' /proc/self/status
        pkill -9 sleep
        "#,
    )
    .any_stderr()
    .normalise(blanks)
    .compare();
}

#[test]
fn top_free_uptime_and_vmstat() {
    Scenario::sh(
        "top",
        r#"
        top -b -n1 | sed -n '2,7p' | tr -d '0-9.' | awk '{ print $1 }'; top -b -n1 | grep -c '[t]op'; top -b -n2 -d 0.1 | grep -c '^top -'
        free | awk '{ print $1, NF }'; free -h >/dev/null; free -b | awk '/Mem/ { print ($2 > $3), ($2 > 0) }'
        uptime | grep -c 'load average'; vmstat | head -n 2; w -h 2>/dev/null | wc -l; slabtop -o >/dev/null 2>&1 | wc -l; tload -V | wc -l
        "#,
    )
    .any_stderr()
    .normalise(numbers)
    .normalise(blanks)
    .compare();
}

#[test]
fn df_and_mount() {
    Scenario::sh(
        "mounts",
        r#"
        df / /dev /dev/shm | awk '{ print NF, $NF }'; df -i / | head -n 1; df -h | head -n 1; df --output=target,pcent / | head -n 1; df /missing; echo "status $?"
        mount | awk '{ print $3, $5 }' | grep -E '^/(proc|sys|dev|dev/pts|dev/shm) ' | sort; mount | awk '$3 == "/" { print $3 }' | sort -u
        awk '{ print NF }' /proc/mounts | sort -u; awk '{ print $5 }' /proc/self/mountinfo | grep -E '^/(proc|dev|dev/pts)?$' | sort; mountpoint /proc; mountpoint /usr; findmnt -no TARGET /proc
        stat -f -c %T /proc /dev/shm /dev/pts
        "#,
    )
    .compare();
}

#[test]
fn proc_files_have_their_form() {
    Scenario::sh(
        "proc",
        r#"
        awk '{ print NF }' /proc/loadavg /proc/uptime; grep -c '^processor' /proc/cpuinfo | grep -cv '^0'; grep -E '^(MemTotal|MemFree|MemAvailable|SwapTotal)' /proc/meminfo | awk '{ print $1, $3 }'
        awk '{ print $1, NF }' /proc/stat | grep -E '^(cpu|ctxt|btime|processes) '; cat /proc/self/comm /proc/sys/kernel/ostype; cat /proc/self/environ | tr '\0' '\n' | grep TZ; cat /proc/self/stat | wc -w; awk '{ print NF }' /proc/self/statm
        grep -c stack /proc/self/maps; grep -E '(cat|libc.so)' /proc/self/maps | cut -c26- | awk '{ print $1, $NF }' | head -n 0; cat /proc/self/limits | head -n 1; ls /proc/self/task | wc -l; ls -l /proc/self/fd/0 | wc -l
        awk '{ print $1 }' /proc/self/status | grep -E '^(Name|Umask|State|Tgid|Pid|PPid|TracerPid|Uid|Gid|FDSize|Groups|VmPeak|VmSize|VmRSS|Threads|SigQ|SigPnd|ShdPnd|SigBlk|SigIgn|SigCgt|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|Cpus_allowed|voluntary_ctxt_switches)'
        cat /proc/self/oom_score_adj; ls /proc/self | grep -E '^(auxv|cmdline|comm|cwd|environ|exe|fd|fdinfo|io|limits|maps|mem|mountinfo|mounts|root|smaps|stat|statm|status|task|wchan)$'; cat /proc/filesystems | grep -wE 'tmpfs|proc|devpts' | sort; grep TracerPid /proc/self/status
        cat /proc/sys/kernel/pid_max | grep -c .; cat /proc/sys/fs/file-max | grep -c .; cat /proc/sys/kernel/random/uuid | wc -c; cat /proc/version | cut -d' ' -f1-2; readlink /proc/mounts /proc/self/fd/99; echo x >/proc/version; echo "status $?"; cat /proc/missing; rm /proc/self/stat; mkdir /proc/x; ls /proc/1/task
        hostname; uname -sn; cat /proc/sys/kernel/hostname
        "#,
    )
    .any_stderr()
    .compare();
}

#[test]
fn busybox_applets() {
    Scenario::sh(
        "busybox",
        r#"
        busybox | head -n 1 | cut -d' ' -f1; busybox --list | wc -l
        mkdir /tmp/bb && cd /tmp/bb && seq 100 >n
        for applet in 'cat n' 'head -n 3 n' 'tail -n 3 n' 'wc n' 'sort -rn n' 'uniq n' 'tac n' 'md5sum n' 'sha256sum n' 'cksum n' 'od n' 'hexdump -C n' 'awk {s+=$1}END{print(s)} n' 'sed -n 5p n' 'grep 99 n' \
            'tr -d 0-9' 'cut -c1 n' 'ls -la /etc/passwd' 'stat -c %s n' 'cp n m' 'mv m o' 'ln -s o l' 'readlink l' 'rm l' 'mkdir d' 'rmdir d' 'touch t' 'chmod 600 t' 'chown alice t' 'ls -l t' 'du -s /bin/sh' 'df -P /' \
            'id' 'whoami' 'hostname' 'uname -s' 'pwd' 'echo hi' 'printf %d 3' 'true' 'false' 'test 1 = 2' 'expr 1 + 2' 'seq 3' 'basename /a/b' 'dirname /a/b' 'env -i A=1 env' 'sleep 0' 'date -u -d @0' \
            'gzip -k n' 'gunzip -c n.gz' 'zcat n.gz' 'bzip2 -k n' 'bzcat n.bz2' 'tar cf a.tar n o' 'tar tf a.tar' 'cpio -V' 'find /etc -maxdepth 1 -name passwd' 'xargs echo' 'which sh' 'diff n o' 'cmp n o' 'dd if=n of=p bs=1k' 'truncate -s 5 p' \
            'ps -o pid,comm' 'pidof busybox' 'free' 'uptime' 'mount' 'kill -l' 'nice nice' 'timeout 5 echo in-time' 'tee q' 'mkfifo f' 'mknod z c 1 3' 'tty' 'stty -a' 'sync' 'usleep 1' 'yes --help' 'vi --help' 'ash -c :' 'base64 n' 'factor 42' 'fold -w 10 n' 'nl n' 'paste n o' 'split -l 50 n s' 'unxz -V' 'logname' 'nproc' 'realpath n' 'shuf -e one' 'getopt a -a' 'flock lock true' 'ipcs' 'last' 'mountpoint /' 'setsid true' 'strings /bin/sh' 'top -bn1' 'watch --help'; do
            echo "== $applet"; busybox $applet </etc/hostname >out 2>err; echo "$?"; case $applet in ps*|pidof*|free*|uptime*|mount|df*|top*|ipcs|strings*|nproc|*--help|last|ls*) grep -c . out | grep -cv '^0';; *) head -c 300 out;; esac
        done; ls
        busybox sh -c 'for i in 1 2 3; do echo $i; done | wc -l; echo $((1+1)); trap "echo bye" EXIT'
        "#,
    )
    .any_stderr()
    .compare();
}

#[test]
fn strace_and_versions() {
    Scenario::sh("versions", "for p in 'strace -V' 'gcc --version' 'python3 -V' 'perl -v' 'git --version' 'make --version' 'rsync --version' 'sqlite3 --version' 'bash --version' 'ps -V' 'tar --version' 'busybox --help'; do $p | head -n 1; echo $?; done").compare();
}

#[test]
fn a_tracer_is_shown_what_is_ignored() {
    Scenario::sh(
        "strace",
        "strace -f -o out -e trace=none sh -c 'trap \"\" HUP; kill -HUP $$; kill -WINCH $$; /bin/true'; grep -o -- '--- SIG[A-Z]*' out",
    )
    .compare();
}

#[test]
fn resource_limits() {
    Scenario::sh("limits", "ulimit -n 64; ulimit -n; sh -c 'ulimit -n'; ulimit -Hn; ulimit -s; prlimit --nofile=32:32 sh -c 'ulimit -n'; bash -c 'ulimit -f 1; head -c 5000 /dev/zero >/tmp/f' 2>/dev/null; echo $?; ls -l /tmp/f | cut -d' ' -f5; bash -c 'ulimit -t 1; while :; do :; done' 2>/dev/null; echo $?; bash -c 'ulimit -v 100000; head -c 400000000 /dev/zero | tail -c 300000000 >/dev/null' 2>/dev/null; echo $?")
        .any_stderr()
        .normalise(sorted)
        .compare();
}
