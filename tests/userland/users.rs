//! Users: su, setuid programs, permissions, and the environment.

use crate::support::scenario::Scenario;

#[test]
fn su_changes_the_user() {
    Scenario::sh(
        "su",
        r#"
        su nobody -s /bin/sh -c id; su alice -c 'id; echo $HOME; touch /root/x; echo "status $?"; touch mine; cat /etc/shadow >/dev/null && echo readable'
        su - alice -c 'pwd; umask; echo $USER $LOGNAME $SHELL'; su alice -c 'exit 7'; echo "status $?"; su alice -c 'kill -TERM $$'; echo "status $?"
        su nosuchuser -c id; echo "status $?"; runuser -u alice -- id -un; setpriv --reuid=1000 --regid=1000 --clear-groups id
        su alice -c 'su root -c id </dev/null'; echo "status $?"; chroot --userspec=alice / id -u; chroot / /bin/true; echo "status $?"
        "#,
    )
    .compare();
}

#[test]
fn an_ordinary_user_is_confined() {
    Scenario::sh(
        "alice",
        r#"
        id; whoami; echo $HOME; cd; pwd; touch file; ls -l file | cut -d' ' -f1-4; mkdir -m 700 private; chmod 4755 file; stat -c %a file
        chown root file; echo "$?"; rm /etc/passwd; rm -rf /usr/bin/env; echo "$?"; mount -t tmpfs x /mnt; echo "$?"; hostname other; echo "$?"; date -s 2000-01-01 >/dev/null; echo "$?"; nice -n -5 true; chroot / true; echo "$?"
        touch /tmp/mine; ls -ld /tmp | cut -c1-10; setpriv --reuid=0 id; echo "$?"; mknod dev c 1 3; echo "$?"; ln /etc/shadow link 2>/dev/null; echo "$?"; chgrp root file; echo "$?"
        grep -E '^Cap(Eff|Prm|Inh|Amb)' /proc/self/status
        "#,
    )
    .user("alice")
    .any_stderr()
    .compare();
}

#[test]
fn setuid_programs_gain_their_owner() {
    Scenario::sh(
        "setuid",
        r#"
        cat >/tmp/ids.c <<'here'
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <unistd.h>
int main(void) {
    printf("%d %d %d %d secure %lu %s\n", getuid(), geteuid(), getgid(), getegid(), getauxval(AT_SECURE), getenv("LD_PRELOAD") ? "preload" : "none");
    if (setuid(getuid()) == 0) printf("dropped %d %d, back %d\n", getuid(), geteuid(), setuid(0));
    return 0;
}
here
        gcc -o /usr/local/bin/ids /tmp/ids.c && ids && su alice -c ids
        chmod 4755 /usr/local/bin/ids && su alice -c 'LD_PRELOAD=/nothing.so ids' 2>/dev/null && ids
        chmod 2755 /usr/local/bin/ids && su alice -c ids; chown nobody:nogroup /usr/local/bin/ids; stat -c %a /usr/local/bin/ids; chmod 6755 /usr/local/bin/ids; su alice -c ids; ids
        su alice -c 'setpriv --no-new-privs ids'; printf '#!/bin/sh\nid -u\n' >/usr/local/bin/script; chmod 4755 /usr/local/bin/script; su alice -c script
        echo x >>/usr/local/bin/ids; stat -c %a /usr/local/bin/ids; su alice -c 'passwd -S' 2>/dev/null | cut -d' ' -f1
        "#,
    )
    .compare();
}

#[test]
fn accounts_are_made_and_changed() {
    Scenario::sh(
        "accounts",
        r#"
        groupadd -g 2000 crew; useradd -u 2000 -g crew -m -s /bin/sh bob; id bob; getent passwd bob; ls -ld /home/bob | cut -d' ' -f1,3,4; echo bob:secret | chpasswd; grep -c '^bob:\$y\$' /etc/shadow
        usermod -aG crew alice; id alice; su bob -c 'id; groups; newgrp 2>/dev/null </dev/null; echo $?'; echo secret | su alice -c 'su bob -c id' 2>/dev/null; passwd -l bob | tail -n 1; chage -l bob | tail -n 1; userdel -r bob; id bob; ls /home; getent group crew; groupdel crew; pwck -rq; echo "status $?"
        "#,
    )
    .any_stderr()
    .compare();
}
