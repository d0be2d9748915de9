//! Trees of files: tar, find, xargs, rsync, cp and what coreutils do with names, links, modes and holes.

use crate::support::normalise::sorted;
use crate::support::scenario::Scenario;

/// A tree with every kind of file, of several owners, modes and times.
const TREE: &str = r#"
mkdir -p /tmp/tree/sub/deep && cd /tmp/tree
echo content >file && ln file hard && ln -s file link && ln -s /nowhere dangling && mkfifo fifo
mknod null c 1 3 && mknod disk b 7 0 && truncate -s 1M sparse && printf end >>sparse && seq 5000 >sub/numbers
chown alice:alice file && chown 1234:5678 sub && chown -h nobody link && chmod 4755 sub/numbers && chmod 1777 sub && chmod 0 fifo && chmod 640 sparse
touch -d '2001-02-03T04:05:06.789Z' file sub/numbers sparse fifo null disk && touch -h -d '2002-03-04T05:06:07Z' link dangling
touch "$(printf 'odd\nname')" ' blank ' '*' -- -dash && touch -d '2003-01-01T00:00:00Z' sub/deep ./*odd* ' blank ' '*' ./-dash sub . 
list() { find . -type d -printf '%P %y %m %U:%G %T+\n' -o -printf '%P %y %m %U:%G %s %n %l %T+\n' | LC_ALL=C sort; }
"#;

fn tree(name: &'static str, script: &str) -> Scenario {
    Scenario::sh(name, &format!("{TREE}{script}"))
}

#[test]
fn tar_keeps_owners_and_modes() {
    tree(
        "tar",
        r#"
        tar cf /tmp/t.tar --sort=name . && tar tvf /tmp/t.tar --full-time | sort && tar df /tmp/t.tar; echo "compare $?"
        mkdir /tmp/out && tar xf /tmp/t.tar -C /tmp/out && cd /tmp/out && list
        [ file -ef hard ] && echo linked; tar df /tmp/t.tar; echo "compare $?"
        chmod 600 file; echo more >>sub/numbers; tar df /tmp/t.tar; echo "compare $?"
        cd /tmp/tree && tar czf /tmp/t.tgz --sort=name . && tar cJf /tmp/t.txz --sort=name . && gzip -dc /tmp/t.tgz >/tmp/a && xz -dc /tmp/t.txz | cmp - /tmp/a && echo same
        tar cSf /tmp/sparse.tar sparse && tar xSf /tmp/sparse.tar -C /tmp && cmp sparse /tmp/sparse && echo same
        tar cf - . | tar xf - -C /tmp/out; tar c /usr/share/perl5 2>/dev/null | tar t | wc -l
        tar --numeric-owner --owner=7 --group=8 -cf /tmp/o.tar file && tar tvf /tmp/o.tar | cut -d' ' -f1,2
        tar xf /missing.tar; echo "status $?"; head -c 1000 /tmp/t.tar | tar t >/dev/null; echo "short $?"
        "#,
    )
    .any_stderr()
    .compare();
}

#[test]
fn tar_as_an_ordinary_user() {
    Scenario::sh(
        "tar-user",
        r#"
        cd; mkdir d && echo text >d/f && chmod 600 d/f && tar cf d.tar d && rm -r d && tar xf d.tar && stat -c '%a %U:%G' d/f
        tar cf - /etc/passwd /usr/bin/env 2>/dev/null | tar xf - && ls -l usr/bin/env | cut -d' ' -f1,3,4 && cmp usr/bin/env /usr/bin/env && echo same
        chown root d/f; echo "status $?"; mknod dev c 1 3; echo "status $?"; ls /root/x; cat d/missing; echo more >/etc/passwd; echo "status $?"
        "#,
    )
    .user("alice")
    .compare();
}

#[test]
fn find_prints_what_is_in_usr() {
    Scenario::sh(
        "find-usr",
        "find /usr -printf '%p %y %m %U:%G %s %n %l %T@\\n' | sort",
    )
    .normalise(without_directory_sizes)
    .compare();
    Scenario::sh(
        "find-tests",
        r#"
        find /usr/bin -perm -4000 -o -perm -2000 | sort; find /etc -type l -name '*.d' -o -maxdepth 1 -type d | sort
        find /usr -type f -size +1M | sort; find /usr/share -name '*.pm' | wc -l; find /usr -empty -type d | sort
        find / -xdev -maxdepth 1 | sort; find /usr/lib -newer /etc/passwd | wc -l; find /dev -maxdepth 1 -type c -name '[nz]*' | sort
        find /etc -name 'pass*' -exec md5sum {} + | sort; find /usr/bin -samefile /usr/bin/perl | sort; find /usr -links +1 -type f | wc -l
        find /missing; echo "status $?"; find /etc -user alice; find /home -user alice -type d; find /proc/self/fd -maxdepth 0 -type d
        find /usr/bin -inum "$(stat -c %i /usr/bin/env)"; find /usr -xtype l | sort | head; find /usr/share -depth -name doc -prune | tail -1
        "#,
    )
    .compare();
}

/// The size of a directory is the file system's own affair.
fn without_directory_sizes(text: &str) -> String {
    text.lines()
        .map(|line| {
            let mut fields: Vec<_> = line.split(' ').collect();
            if fields.get(1) == Some(&"d") && fields.len() > 5 {
                fields[4] = "-";
                fields[5] = "-";
            }
            fields.join(" ") + "\n"
        })
        .collect()
}

#[test]
fn xargs_runs_several_at_once() {
    Scenario::sh(
        "xargs",
        "seq 200 | xargs -P4 -n 3 sh -c 'echo \"$@\"; [ $# = 3 ]' _; echo \"status $?\"",
    )
    .normalise(sorted)
    .compare();
    Scenario::sh(
        "xargs-limits",
        r#"
        seq 20000 | xargs echo | wc -w; printf 'a b\0c\0' | xargs -0 -n1 echo; echo x | xargs -I{} echo '<{}>'
        find /usr/share/perl5 -type f -print0 | xargs -0 -P4 -n 50 cat | wc -c
        echo 1 | xargs false; echo $?; echo 1 | xargs missing-command 2>/dev/null; echo $?; echo 1 | xargs sh -c 'exit 255' 2>/dev/null; echo $?
        echo 1 | xargs sh -c 'kill -9 $$' 2>/dev/null; echo $?; xargs --show-limits </dev/null 2>&1 | grep -c .
        "#,
    )
    .compare();
}

#[test]
fn rsync_makes_trees_equal() {
    tree(
        "rsync",
        r#"
        rm disk null; touch -d 2003-01-01T00:00:00Z .; rsync -aH /tmp/tree/ /tmp/copy/ && (cd /tmp/copy && list) && [ /tmp/copy/file -ef /tmp/copy/hard ] && echo linked
        rsync -aHi /tmp/tree/ /tmp/copy/; echo "nothing to do $?"
        echo changed >file; touch -d '2020-01-01T00:00:00Z' file; rm -r sub/deep; chmod 700 sub; echo new >new; touch -d '2020-01-01T00:00:00Z' new sub .
        rsync -aHin --delete /tmp/tree/ /tmp/copy/; rsync -aH --delete /tmp/tree/ /tmp/copy/ && diff -r --no-dereference -x fifo /tmp/tree /tmp/copy && echo equal
        rsync -a --exclude='sub' --checksum /tmp/tree/ /tmp/less/; ls -A /tmp/less | wc -l
        rsync -aS --inplace /tmp/tree/sparse /tmp/one; cmp sparse /tmp/one && echo same; rsync -a --link-dest=/tmp/copy /tmp/tree/ /tmp/linked/; [ /tmp/copy/new -ef /tmp/linked/new ] && echo shared
        rsync -a /usr/share/perl5/ /tmp/perl5/ && diff -r /usr/share/perl5 /tmp/perl5 && echo equal
        rsync -a /missing /tmp/x; echo "status $?"
        "#,
    )
    .any_stderr()
    .compare();
}

#[test]
fn copies_and_moves() {
    tree(
        "copies",
        r#"
        cp -a /tmp/tree /tmp/copy && cd /tmp/copy && list; diff -r --no-dereference -x fifo -x null -x disk /tmp/tree /tmp/copy && echo equal
        mv sub moved && mv -n file hard; mv file /tmp/elsewhere && cat /tmp/elsewhere; mv /tmp/elsewhere /dev/shm/ && cat /dev/shm/elsewhere
        cp --sparse=always sparse holes && cmp sparse holes && [ "$(stat -c %b holes)" -lt 100 ] && echo holes
        dd if=/dev/zero of=d bs=4k count=256 2>/dev/null; dd if=/dev/urandom of=d bs=1k seek=100 count=1 conv=notrunc 2>/dev/null; stat -c %s d; truncate -s 10 d; wc -c <d
        fallocate -l 100000 f && stat -c %s f; fallocate -d f; install -o alice -g alice -m 750 /bin/true t && stat -c '%U:%G %a' t
        ln file2 2>/dev/null; ln -s loop loop; cat loop; mkdir a && mv a a/b; rmdir moved; echo "status $?"; rm -r moved && ls
        mkdir -p x/y/z && rmdir -p x/y/z && ls x; readlink -f /bin/sh; realpath -m /a/../b/./c; split -n 3 hard part- && cat part-* | cmp - hard && echo whole
        shred -u d && ls d; mktemp -u /tmp/XXXX | wc -c; touch -r hard newer && [ ! newer -nt hard ] && echo "same time"; du -sb --apparent-size hard | cut -f1
        stat -c '%n %F %a' null disk fifo link . ; test -p fifo && test -c null && test -b disk && test -L link && test -u /usr/bin/su && echo kinds
        flock lock echo locked; (flock 9; flock -n lock2 true; flock -n lock echo no || echo busy) 9>lock; sync; df . >/dev/null && echo df
        "#,
    )
    .any_stderr()
    .compare();
}

#[test]
fn text_tools() {
    Scenario::sh(
        "text",
        r#"
        cd /usr/share/common-licenses 2>/dev/null || cd /etc
        cat * 2>/dev/null | tr -cs A-Za-z '\n' | sort | uniq -c | sort -rn -k1,1 -k2 | head -n 20
        sed -n '1,5p;$p' GPL-3 | cut -c1-40; awk 'length > m { m = length } END { print NR, m }' GPL-3; grep -rlw warranty . | sort; wc * 2>/dev/null | tail -1
        paste -d, GPL-2 GPL-3 | head -n 3; join /etc/passwd /etc/passwd | wc -l; comm -12 /dev/null /dev/null; od -An -tx1 -N16 GPL-3; tac GPL-3 | head -n 2; nl GPL-3 | tail -1
        sort --parallel=2 -S 1M -u GPL-3 | md5sum; gzip -c GPL-3 | gunzip | cmp - GPL-3 && xz -T2 -c GPL-3 | xz -d | cmp - GPL-3 && echo compressed
        cp GPL-3 /tmp/g && sed -i s/GNU/gnu/ /tmp/g && diff GPL-3 /tmp/g | grep -c '^>'; patch --version 2>/dev/null | head -1; seq 10 | shuf --random-source=/dev/zero | head -n 3
        date -u -d @1000000000; date -d '2024-02-29 +1 year' +%F; cal 2>/dev/null; factor 1234567890123; expr 7 '*' 6; base64 /etc/passwd | base64 -d | cmp - /etc/passwd
        timeout 0.1 sleep 10; echo "timeout $?"; timeout -s KILL 0.1 sleep 10; echo "killed $?"; nice -n 5 nice; nohup echo nohup 2>/dev/null; env -i A=b env; nproc | grep -c .; tail -f /etc/passwd --pid=99999 -n 1; stdbuf -o0 echo unbuffered; tee /tmp/t </etc/hostname | wc -l
        "#,
    )
    .any_stderr()
    .compare();
}
