//! `uvm do` with the tools that people build and install with: each works, what it changed is told, a part of that can be
//! carried out, and this machine is otherwise left as it was.
//!
//! A tool that this machine does not have is not tried; `.ci/run` installs all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::UVM;
use super::support::process::{Outcome, run};
use super::{Facts, LIMIT, snapshot, work};

/// What a tool may touch beside its own directory and its user's home.
const SYSTEM: [&str; 3] = ["/etc", "/usr/local/bin", "/var/lib/dpkg"];

/// One tool at work.
struct Trial<'a> {
    /// Where it runs; also the home of its user.
    directory: &'a Path,
    options: &'a [&'a str],
    command: &'a [&'a str],
    /// Paths below `directory` that it must have added.
    adds: &'a [&'a str],
    /// What of those is carried out on this machine: one that has contents, or a directory of such.
    applies: &'a str,
}

impl Trial<'_> {
    /// Runs it, and looks at what it told and at what has become of this machine.
    fn check(&self) {
        let before = self.everything();
        let outcome = self.run();
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let told = changes(&outcome.stdout);
        for name in self.adds {
            let path = self.directory.join(name);
            assert!(
                told.contains(&("added".to_owned(), path)),
                "{name}: {told:?} {outcome:?}"
            );
        }
        let applied = self.directory.join(self.applies);
        let parent = applied.parent().expect("it is below the directory");
        let after = self.everything();
        assert!(after.contains_key(&applied), "{outcome:?}");
        let other = |path: &PathBuf| !path.starts_with(&applied) && path != parent;
        for (path, facts) in before.iter().filter(|(path, _)| other(path)) {
            assert_eq!(
                after.get(path),
                Some(facts),
                "{} is not what it was",
                path.display()
            );
        }
        let new: Vec<_> = after
            .keys()
            .filter(|path| other(path) && !before.contains_key(*path))
            .collect();
        assert!(new.is_empty(), "{new:?}");
    }

    fn run(&self) -> Outcome {
        let mut command = Command::new(UVM);
        command
            .args(["do", "--diff=json", &format!("--apply={}", self.applies)])
            .args(self.options)
            .arg("--")
            .args(["sh", "-c", "exec \"$@\" >&2", "sh"])
            .args(self.command)
            .current_dir(self.directory)
            .env("HOME", self.directory);
        run(&mut command, b"", LIMIT)
    }

    fn everything(&self) -> BTreeMap<PathBuf, Facts> {
        let mut all = snapshot(self.directory);
        for place in SYSTEM {
            all.extend(snapshot(Path::new(place)));
        }
        all
    }
}

/// What a report of `--diff=json` says was done to which path.
fn changes(report: &str) -> BTreeSet<(String, PathBuf)> {
    let value: serde_json::Value = serde_json::from_str(report).unwrap_or_else(|e| panic!("{e}: {report}"));
    let all = value["changes"].as_array().expect("a list");
    all.iter()
        .map(|change| {
            let text = |key: &str| change[key].as_str().expect("a string").to_owned();
            (text("change"), PathBuf::from(text("path")))
        })
        .collect()
}

/// Whether this machine has a tool.
fn has(command: &[&str]) -> bool {
    let found = Command::new(command[0])
        .args(&command[1..])
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("not tried: this machine has no {}", command.join(" "));
    }
    found
}

fn write(directory: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("create a directory");
        fs::write(path, text).expect("write");
    }
}

fn natively(directory: &Path, command: &str) {
    let outcome = run(
        Command::new("sh").args(["-ec", command]).current_dir(directory),
        b"",
        LIMIT,
    );
    assert_eq!(outcome.status, 0, "{outcome:?}");
}

#[test]
fn make_builds_a_program() {
    if !has(&["make", "--version"]) {
        return;
    }
    let directory = work("make");
    write(
        &directory,
        &[
            (
                "Makefile",
                "all: built/hello\nbuilt/%: %.c\n\tmkdir -p built\n\tcc -O1 -o $@ $<\n",
            ),
            (
                "hello.c",
                "#include <stdio.h>\nint main(void) { return puts(\"hello\") < 0; }\n",
            ),
        ],
    );
    Trial {
        directory: &directory,
        options: &[],
        command: &["make"],
        adds: &["built", "built/hello"],
        applies: "built",
    }
    .check();
    assert_eq!(
        run(&mut Command::new(directory.join("built/hello")), b"", LIMIT).stdout,
        "hello\n"
    );
}

/// A wheel is a zip archive with a list of its files.
const WHEEL: &str = r#"
import zipfile
with zipfile.ZipFile("uvm_trial-1.0-py3-none-any.whl", "w") as wheel:
    files = {"uvm_trial.py": "answer = 42\n",
             "uvm_trial-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: uvm-trial\nVersion: 1.0\n",
             "uvm_trial-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: uvm\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    for name, text in files.items():
        wheel.writestr(name, text)
    record = "uvm_trial-1.0.dist-info/RECORD"
    wheel.writestr(record, "".join(f"{name},,\n" for name in [*files, record]))
"#;

#[test]
fn pip_installs_a_wheel_for_the_user() {
    if !has(&["python3", "-m", "pip", "--version"]) {
        return;
    }
    let directory = work("pip");
    write(&directory, &[("wheel.py", WHEEL)]);
    natively(&directory, "python3 wheel.py");
    let base = run(
        Command::new("python3")
            .args(["-c", "import site; print(site.getusersitepackages())"])
            .env("HOME", &directory),
        b"",
        LIMIT,
    );
    let site = Path::new(base.stdout.trim_end())
        .strip_prefix(&directory)
        .expect("packages of a user are in the home");
    let module = site.join("uvm_trial.py");
    let module = module.to_str().expect("UTF-8");
    // Debian's pip wants to be told twice that the user's packages are the user's.
    let options = ["-e", "PIP_BREAK_SYSTEM_PACKAGES=1"];
    Trial {
        directory: &directory,
        options: &options,
        command: &[
            "python3",
            "-m",
            "pip",
            "install",
            "--user",
            "--no-index",
            "uvm_trial-1.0-py3-none-any.whl",
        ],
        adds: &[module],
        applies: ".local",
    }
    .check();
    let mut import = Command::new("python3");
    import
        .args(["-c", "import uvm_trial; print(uvm_trial.answer)"])
        .env("HOME", &directory);
    assert_eq!(run(&mut import, b"", LIMIT).stdout, "42\n");
}

#[test]
fn npm_installs_a_tarball() {
    if !has(&["npm", "--version"]) {
        return;
    }
    let directory = work("npm");
    write(
        &directory,
        &[
            (
                "package/package.json",
                "{\"name\":\"uvm-trial\",\"version\":\"1.0.0\",\"main\":\"index.js\"}\n",
            ),
            ("package/index.js", "module.exports = 42;\n"),
            (
                "app/package.json",
                "{\"name\":\"app\",\"version\":\"1.0.0\",\"private\":true}\n",
            ),
        ],
    );
    natively(&directory, "tar -czf trial.tgz package");
    Trial {
        directory: &directory,
        options: &[],
        command: &[
            "npm",
            "--prefix",
            "app",
            "install",
            "--offline",
            "--no-audit",
            "--no-fund",
            "./trial.tgz",
        ],
        adds: &[
            "app/node_modules/uvm-trial/index.js",
            "app/package-lock.json",
            ".npm",
        ],
        applies: "app/node_modules",
    }
    .check();
    let mut require = Command::new("node");
    require
        .args(["-p", "require('uvm-trial')"])
        .current_dir(directory.join("app"));
    assert_eq!(run(&mut require, b"", LIMIT).stdout, "42\n");
}

#[test]
fn cargo_builds_offline() {
    let directory = work("cargo");
    write(
        &directory,
        &[
            (
                "Cargo.toml",
                "[package]\nname = \"trial\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n",
            ),
            ("src/main.rs", "fn main() {\n    println!(\"hello\");\n}\n"),
        ],
    );
    // The very program that builds this test: the one that people call looks for its toolchains in the home.
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| env!("CARGO").to_owned());
    let tools = Path::new(&cargo).parent().expect("a directory");
    let others = std::env::var("PATH").unwrap_or_default();
    let path = format!("PATH={}:{others}", tools.display());
    let mut options = vec![
        "-e".to_owned(),
        path,
        "-e".to_owned(),
        "CARGO_TARGET_DIR=target".to_owned(),
    ];
    // It may be in the home of somebody else.
    let mut hidden = Command::new(UVM);
    hidden.args(["do", "--list-hidden"]).env("HOME", &directory);
    for place in run(&mut hidden, b"", LIMIT).stdout.lines() {
        if tools.starts_with(place) {
            options.push(format!("--show={place}"));
        }
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Trial {
        directory: &directory,
        options: &options,
        command: &[&cargo, "build", "--offline"],
        adds: &["Cargo.lock", "target/debug/trial"],
        applies: "target",
    }
    .check();
    let built = run(
        &mut Command::new(directory.join("target/debug/trial")),
        b"",
        LIMIT,
    );
    assert_eq!(built.stdout, "hello\n");
}

#[test]
fn apt_installs_a_package_as_root() {
    if !has(&["apt-get", "--version"]) {
        return;
    }
    let directory = work("apt");
    let inside = format!("package{}/installed", directory.display());
    write(
        &directory,
        &[
            (
                "package/DEBIAN/control",
                "Package: uvm-trial\nVersion: 1.0\nArchitecture: all\nMaintainer: uvm <uvm@localhost>\nDescription: trial\n",
            ),
            (&format!("{inside}/greeting"), "hello\n"),
            ("package/usr/local/bin/uvm-trial", "#!/bin/sh\necho trial\n"),
        ],
    );
    natively(
        &directory,
        "chmod -R u=rwX,go=rX package; chmod 755 package/usr/local/bin/uvm-trial; \
         dpkg-deb --root-owner-group --build package trial.deb; rm -r package",
    );
    let deb = directory.join("trial.deb");
    let install = "apt-get install -y \"$0\" && uvm-trial && dpkg -s uvm-trial | grep -q '^Status: install ok installed'";
    Trial {
        directory: &directory,
        options: &["--user=root"],
        command: &["sh", "-c", install, deb.to_str().expect("UTF-8")],
        adds: &[
            "installed/greeting",
            "/usr/local/bin/uvm-trial",
            "/var/lib/dpkg/info/uvm-trial.list",
        ],
        applies: "installed",
    }
    .check();
    let greeting = fs::read_to_string(directory.join("installed/greeting"));
    assert_eq!(greeting.expect("read"), "hello\n");
}
