//! Building and keeping source code: make, gcc, git.

use crate::support::scenario::Scenario;

#[test]
fn builds_a_c_project_with_make() {
    Scenario::sh(
        "make",
        r#"
        cp -r /srv/project /tmp/tally && cd /tmp/tally
        make -j2 >/tmp/log || exit; sort /tmp/log
        make -j2; make -q; echo "up to date $?"
        make check
        echo 'print("from stdin", 6 * 7);' | build/tally; build/tally -e 'let'; echo "status $?"
        touch src/map.h && make -n | grep -c gcc
        make -j2 >/dev/null && ls build | wc -l && nm build/tally | grep -c ' T '
        size build/tally | wc -l; file -b build/main.o | cut -d, -f1; strip build/tally && build/tally programs/fibonacci.tally
        make clean && ls build; make nothing; echo "no rule $?"
        "#,
    )
    .any_stderr()
    .compare();
}

#[test]
fn gcc_reports_mistakes() {
    Scenario::sh(
        "gcc",
        r#"
        cd /tmp
        printf '#include <stdio.h>\nint main(void) { printf("%%d\\n", 6 * 7); return 3; }\n' >ok.c
        gcc -O2 -o ok ok.c && ./ok; echo "status $?"
        gcc -static -o static ok.c && ./static; gcc -pie -fPIE -o pie ok.c && ./pie; gcc -no-pie -o fixed ok.c && ./fixed
        echo 'int main(void) { return undeclared; }' >bad.c; gcc -c bad.c; echo "status $?"
        echo 'int f(void); int main(void) { return f(); }' >unlinked.c; gcc unlinked.c 2>/dev/null; echo "status $?"
        gcc -E -P - </dev/null; gcc missing.c; echo "status $?"
        gcc -pipe -save-temps -c ok.c && ls ok.*
        ls -A /tmp | sort
        "#,
    )
    .compare();
}

/// The identity and the dates are fixed, so that the names of all objects are the same on both sides.
const GIT: &str = r#"
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@localhost GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@localhost
export GIT_AUTHOR_DATE='2024-01-02T03:04:05Z' GIT_COMMITTER_DATE='2024-01-02T03:04:05Z' GIT_CONFIG_NOSYSTEM=1 GIT_PAGER=cat
git config --global init.defaultBranch main; git config --global advice.detachedHead false
git config --global protocol.file.allow always
"#;

fn git(name: &'static str, script: &str) -> Scenario {
    Scenario::sh(name, &format!("{GIT}{script}"))
}

#[test]
fn git_commits_and_logs() {
    git(
        "git-commit",
        r#"
        cp -r /srv/project /tmp/p && cd /tmp/p && git init && git add . && git commit -m 'First' && git status
        echo change >>README && git diff --stat && git commit -qam 'Second' && git log --stat && git show --format=%H HEAD:README | tail -1
        git mv README READ.ME && git rm -q src/map.h && git status --short && git commit -qm 'Third' && git log --oneline --follow READ.ME
        git checkout -q -b side HEAD~1 && echo side >side && git add side && git commit -qm Side && git merge -q -m Merged main && git log --graph --oneline --all
        git checkout -q main && echo conflict >side && git add side && git commit -qm Conflict; git merge side; echo "merge $?"; git merge --abort
        git rebase -q side; echo "rebase $?"; git status | head -n 3; git rebase --abort
        git stash list; echo dirty >>READ.ME; git stash -q && git stash pop -q && git diff | tail -1; git reset -q --hard
        git tag -a v1 -m One && git describe && git blame -s READ.ME | tail -1; git grep -n fibonacci | sort | head -n 3
        git ls-tree -r HEAD | md5sum; git rev-parse HEAD; git cat-file -p HEAD
        "#,
    )
    .compare();
}

#[test]
fn git_packs_and_clones() {
    git(
        "git-clone",
        r#"
        mkdir /tmp/p && cd /tmp/p && git init -q
        for i in 1 2 3 4 5 6 7 8; do mkdir -p d$i; seq $i 400 >d$i/file; git add . && git commit -qm "Commit $i"; done
        git count-objects | cut -d, -f1; git gc -q && git count-objects && ls .git/objects/pack | sed 's/-.*\././' | sort && git fsck; echo "fsck $?"
        git clone -q /tmp/p /tmp/q && cd /tmp/q && git log --oneline | cat && git remote -v && git fsck
        git clone -q --no-local --depth 2 file:///tmp/p /tmp/shallow && git -C /tmp/shallow rev-list --count HEAD
        git clone -q --bare /tmp/p /tmp/bare.git && git -C /tmp/bare.git branch
        echo more >more && git add more && git commit -qm More && git push -q /tmp/bare.git HEAD:refs/heads/pushed && git -C /tmp/bare.git log -1 --format=%s pushed
        cd /tmp/p && git pull -q /tmp/bare.git pushed && git log -1 --format=%s && git repack -adq && git prune && git verify-pack .git/objects/pack/*.idx; echo "verified $?"
        git archive HEAD | tar t | head -n 4; git bundle create -q /tmp/b HEAD && git clone -q /tmp/b /tmp/from-bundle; ls /tmp/from-bundle
        git worktree add -q /tmp/tree HEAD~2 && git -C /tmp/tree status -sb; git reflog | wc -l
        rm -rf .git/objects/pack/*.pack; git fsck >/dev/null 2>&1; echo "broken $?"
        "#,
    )
    .compare();
}

#[test]
fn git_adds_many_files() {
    git(
        "git-many",
        r#"
        mkdir /tmp/many && cd /tmp/many && git init -q
        for i in $(seq 600); do echo "file $i" >f$i; done
        git add . && git commit -qm All && git rev-parse HEAD && git ls-files | wc -l
        git rm -q 'f1*' && git commit -qm Fewer && git ls-files | wc -l && git rev-parse HEAD && git checkout -q HEAD~1 && ls | wc -l
        "#,
    )
    .compare();
}
