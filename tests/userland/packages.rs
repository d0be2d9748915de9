//! dpkg and apt with packages of our own.

use std::time::Duration;

use crate::support::scenario::Scenario;

#[test]
fn dpkg_installs_and_removes() {
    Scenario::sh(
        "dpkg",
        r#"
        cd /srv/repository
        dpkg -i uvm-hello_1.0_all.deb; echo "without its dependency $?"; dpkg -l uvm-hello | tail -n 1 | cut -c1-3
        dpkg -i uvm-hello-data_1.0_all.deb uvm-hello_1.0_all.deb; echo "status $?"
        uvm-hello; cat /var/lib/uvm-hello/state; stat -c '%U:%G %a' /var/lib/uvm-hello/state
        dpkg -s uvm-hello | grep -E '^(Status|Version|Depends)'; dpkg -L uvm-hello | sort; dpkg -S /usr/bin/uvm-hello
        dpkg --verify uvm-hello; echo changed >>/etc/uvm-hello.conf; dpkg --verify uvm-hello
        dpkg -r uvm-hello-data; echo "depended on $?"
        dpkg -r uvm-hello; ls /etc/uvm-hello.conf /usr/bin/uvm-hello /var/lib/uvm-hello; dpkg -P uvm-hello uvm-hello-data; ls /etc/uvm-hello.conf /var/lib/uvm-hello
        dpkg --audit; dpkg-query -W | wc -l; dpkg -i /etc/passwd; echo "no package $?"
        "#,
    )
    .limit(Duration::from_secs(300))
    .normalise(without_progress)
    .compare();
}

#[test]
fn apt_installs_from_a_local_repository() {
    Scenario::sh(
        "apt",
        r#"
        apt-get -q update && apt-cache policy uvm-hello | head -n 3
        apt-get -q install -y uvm-hello; echo "status $?"; uvm-hello
        apt-get -q install -y uvm-hello; apt-mark showmanual | grep uvm
        apt-get -q remove -y uvm-hello; apt-get -q autoremove --purge -y; command -v uvm-hello; ls /usr/share/uvm-hello
        apt-get -q install -y no-such-package; echo "status $?"
        apt-get -q install -y /srv/repository/uvm-hello-data_1.0_all.deb; cat /usr/share/uvm-hello/name
        apt-get check; apt list --installed 2>/dev/null | grep uvm; apt-get clean
        "#,
    )
    .limit(Duration::from_secs(300))
    .normalise(without_progress)
    .normalise(without_fetching)
    .compare();
}

/// Of a line that is rewritten in place only what stands there at last.
fn without_progress(text: &str) -> String {
    text.lines()
        .map(|line| line.rsplit('\r').next().unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// How apt looked for the parts of a repository, which it does at once and in any order.
fn without_fetching(text: &str) -> String {
    let fetching = |line: &&str| {
        ["Get:", "Ign:", "Hit:", "Fetched"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    text.lines()
        .filter(|line| !fetching(line))
        .flat_map(|line| [line, "\n"])
        .collect()
}
