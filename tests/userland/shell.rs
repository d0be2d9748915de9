//! The shells: what scripts are made of.

use crate::support::scenario::Scenario;

#[test]
fn pipes_and_redirections() {
    Scenario::sh(
        "pipes",
        r#"
        cd /tmp
        seq 1 1000 | grep 7 | sort -rn | head -n 5 | tr '\n' ' '; echo
        yes | head -n 100000 | wc -l
        echo to-stderr >&2
        { echo one; echo two >&2; } 2>&1 | sort
        echo first >file; echo second >>file; cat <file; wc -c <file
        cat <<here
        here-document $((6 * 7)) $(echo substituted)
here
        cat <<'here'
        nothing $expanded
here
        exec 3>numbered 4<>both; echo three >&3; echo four >&4; exec 3>&- 4>&-; cat numbered both
        ls missing-file; echo "status $?"
        set -o noclobber; echo again >file || echo "kept"
        head -c 3000000 /dev/zero | tr '\0' 'x' | md5sum
        (exit 5) | true; echo "last of the pipe $?"
        : | cat /dev/null - /dev/null && cat /dev/null >/dev/full; echo "full $?"
        echo lost >/dev/full; echo "status $?"
        "#,
    )
    .compare();
}

#[test]
fn globs_and_expansions() {
    Scenario::shell(
        "globs",
        "bash",
        r#"
        mkdir /tmp/globs && cd /tmp/globs
        touch a.c b.c c.h .hidden 'with blank' "$(printf 'new\nline')" [x] 10 9
        echo *.c; echo ?.h; echo [ab]*; echo .h*; echo *; echo nothing*here
        shopt -s nullglob dotglob extglob globstar
        echo nothing*here; echo *; echo !(*.c)
        mkdir -p deep/er/est && touch deep/er/est/file; echo **/file
        for f in *; do printf '<%s>' "$f"; done; echo
        text=/usr/lib/file.tar.gz; echo "${text##*/} ${text%%.*} ${text%.*} ${text/lib/share} ${#text} ${text:5:3} ${text^^}"
        array=(one two "three four"); echo "${#array[@]} ${array[-1]} ${array[@]:1}"
        declare -A map=([a]=1 [b]=2); echo "${map[a]}${map[b]}" {1..5} {a,b}{c,d}
        echo "${unset:-default} ${unset:=set} $unset" $((2**10)) $((0x1f % 7))
        diff <(seq 3) <(seq 4); echo "diff $?"
        mapfile -t lines < <(printf 'a\nb\n'); echo "${lines[*]}"
        read -r x y <<<"first and rest"; echo "$x|$y"
        printf '%05d %x %q\n' 42 255 "it's"
        "#,
    )
    .compare();
}

#[test]
fn every_exit_status() {
    Scenario::sh(
        "statuses",
        r#"
        n=0; while [ $n -lt 256 ]; do sh -c "exit $n"; [ $? = $n ] || echo "$n became $?"; n=$((n + 1)); done
        sh -c 'exit 256'; echo "256 is $?"
        false; echo $?; ! true; echo $?
        missing-command 2>/dev/null; echo $?; /etc/passwd 2>/dev/null; echo $?; /etc 2>/dev/null; echo $?
        exit 77
        "#,
    )
    .status(77)
    .compare();
}

#[test]
fn deaths_by_signals() {
    Scenario::sh(
        "signals",
        r#"
        for signal in HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT XCPU XFSZ VTALRM PROF IO PWR SYS; do
            (ulimit -c 0; sh -c "kill -$signal \$\$; echo survived $signal") 2>/dev/null; echo "$signal $?"
        done
        for signal in CHLD CONT URG WINCH; do sh -c "kill -$signal \$\$"; echo "$signal $?"; done
        for signal in 34 35 50 64; do bash -c "kill -$signal \$\$" 2>/dev/null; echo "$signal $?"; done
        kill -0 $$ && echo alive; kill -0 99999 2>/dev/null || echo none
        kill -l | wc -w
        "#,
    )
    .compare();
}

#[test]
fn ends_by_a_signal_of_its_own() {
    Scenario::sh("own-signal", "echo before; kill -KILL $$; echo after")
        .status(137)
        .compare();
    Scenario::sh(
        "own-term",
        "trap 'echo caught' TERM; kill -TERM $$; trap - TERM; kill -TERM $$",
    )
    .status(143)
    .compare();
    Scenario::sh("own-segv", "ulimit -c 0; kill -SEGV $$")
        .status(139)
        .any_stderr()
        .compare();
}

#[test]
fn traps() {
    Scenario::shell(
        "traps",
        "bash",
        r#"
        trap 'echo usr1' USR1; kill -USR1 $$; kill -USR1 $$
        trap '' TERM; kill -TERM $$; echo "ignored"; bash -c 'kill -TERM $$; echo "inherited"'
        trap 'echo interrupted' INT; (sleep 0.05; kill -INT $$) & wait $!; echo "wait $?"; wait; echo "then $?"
        trap 'echo child' CHLD; /bin/true; trap - CHLD
        trap 'echo error on line of $BASH_COMMAND' ERR; false; true; trap - ERR
        trap 'echo bye $?' EXIT
        f() { trap 'echo return' RETURN; echo in; }; f
        (trap 'echo subshell' EXIT; exit 4); echo $?
        exit 9
        "#,
    )
    .status(9)
    .compare();
}

#[test]
fn jobs_without_a_terminal() {
    Scenario::shell(
        "jobs",
        "bash",
        r#"
        sleep 100 & first=$!; sleep 200 & second=$!
        jobs | sed 's/  */ /g'
        kill $first; wait $first; echo "first $?"
        kill -STOP $second; while [ "$(sed 's/.*) //; s/ .*//' /proc/$second/stat)" != T ]; do :; done; echo stopped
        kill -CONT $second; kill -9 $second; wait $second; echo "second $?"
        for i in 1 2 3 4 5; do (exit $i) & done; wait; echo "all $?"
        # One that ended before the wait begins is none that it waits for.
        (while [ "$(sed 's/.*) //; s/ .*//' /proc/$$/stat)" != S ]; do :; done; exit 6) & wait -n; echo "next $?"
        set -m; sleep 300 & kill %1; wait %1; echo "group $?"
        wait 99999; echo "unknown $?"
        coproc cat; echo through >&"${COPROC[1]}"; read -r line <&"${COPROC[0]}"; echo "$line"
        "#,
    )
    .any_stderr()
    .compare();
}

#[test]
fn functions_and_loops_in_sh() {
    Scenario::sh(
        "functions",
        r#"
        fib() { if [ "$1" -lt 2 ]; then echo "$1"; else echo $(($(fib $(($1 - 1))) + $(fib $(($1 - 2))))); fi; }
        fib 9
        i=0; while :; do i=$((i + 1)); [ $i = 3 ] && continue; [ $i -gt 5 ] && break; echo "$i"; done
        case "$(uname -s)-$(uname -m)" in Linux-x86_64) echo linux;; *) echo other;; esac
        set -- a 'b c' d; echo $#; for x; do echo "<$x>"; done; shift 2; echo "$*"
        getopts ab:c opt -b value && echo "$opt $OPTARG"
        eval 'echo evaluated'; echo "$(echo nested "$(echo deeper)")"
        IFS=:; read -r user x uid rest </etc/passwd; echo "$user $uid"; unset IFS
        umask 027; touch /tmp/masked; mkdir /tmp/masked-dir; stat -c '%a %U:%G' /tmp/masked /tmp/masked-dir
        cd /usr/bin && cd - >/dev/null && pwd && cd .. && pwd; cd /proc/self && pwd -P | grep -c '/proc/[0-9]'
        test -e /etc/passwd -a -r /etc/passwd -a ! -d /etc/passwd && echo tested
        time -p true 2>/dev/null; type cd ls | cat; command -v awk
        exec echo replaced
        "#,
    )
    .compare();
}

#[test]
fn reads_its_input() {
    Scenario::sh(
        "input",
        "read -r a; echo \"got $a\"; wc -l; read -r b; echo \"end $?\"",
    )
    .input("first line\nsecond\nthird\n")
    .compare();
    Scenario::sh("input-large", "md5sum; sha256sum </dev/null")
        .input(vec![b'x'; 5_000_000])
        .compare();
    Scenario::sh("input-none", "cat; tty; echo $?").compare();
}

#[test]
fn deep_and_wide() {
    Scenario::sh(
        "wide",
        r#"
        long=$(head -c 120000 /dev/zero | tr '\0' a); sh -c 'echo ${#1}' x "$long"
        head -c 200000 /dev/zero | tr '\0' b >/tmp/long; sh -c "$(cat /tmp/long)" 2>/dev/null; echo "too long $?"
        n=0; while [ $n -lt 200 ]; do /bin/true; n=$((n + 1)); done; echo $n
        sh -c 'sh -c "sh -c \"sh -c \\\"echo nested; exit 3\\\"\""'; echo $?
        seq 300 | while read -r i; do echo "$i" & done | sort -n | tail -n 1
        f() { [ "$1" = 0 ] || (f $(($1 - 1))); }; f 60; echo "subshells $?"
        "#,
    )
    .any_stderr()
    .compare();
}
