//! The store of images: what comes in goes out again, whatever happens meanwhile.

mod commits;
mod harm;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::images::{Files, archive_of, base, digest, gzip, layer, layout, write_layout, zstd};
use support::process::{Outcome, run};
use support::{UVM, scratch, text};

const LIMIT: Duration = Duration::from_secs(120);

/// A user with a store of their own.
struct User {
    home: PathBuf,
}

impl User {
    fn new(name: &str) -> User {
        User { home: scratch(name) }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("XDG_DATA_HOME", self.home.join("data"))
            .env_remove("SOURCE_DATE_EPOCH");
        command.current_dir(&self.home);
        command
    }

    fn uvm(&self, arguments: &[&str]) -> Outcome {
        run(self.command(UVM).args(arguments), b"", LIMIT)
    }

    /// Stdout of what must succeed.
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let outcome = self.uvm(arguments);
        assert_eq!(
            (outcome.status, outcome.stderr.as_str()),
            (0, ""),
            "{arguments:?}: {outcome:?}"
        );
        outcome.stdout
    }

    /// Asserts one line of failure with these words.
    #[track_caller]
    fn refused(&self, arguments: &[&str], words: &str) {
        let outcome = self.uvm(arguments);
        assert_eq!(
            (outcome.status, outcome.stderr.lines().count()),
            (125, 1),
            "{outcome:?}"
        );
        assert!(outcome.stderr.contains(words), "'{words}': {outcome:?}");
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.home.join(name), bytes).expect("write");
        name.to_owned()
    }

    fn images(&self) -> PathBuf {
        self.home.join("data/uvm/images")
    }

    fn blobs(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(self.images().join("blobs/sha256")).expect("list the blobs");
        all.map(|entry| entry.expect("list the blobs").path()).collect()
    }

    /// Names and digests of all images.
    fn listed(&self) -> Vec<(String, String)> {
        let all: Value = serde_json::from_str(&self.ok(&["image", "ls", "--json"])).expect("JSON");
        let all = all.as_array().expect("a list").iter();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        all.map(|image| {
            assert!(image["Size"].as_u64().is_some(), "{image}");
            let name = format!("{}:{}", text(&image["Repository"]), text(&image["Tag"]));
            (name, text(&image["Digest"]))
        })
        .collect()
    }

    /// Asserts that every blob is whole, and that every image can be read and every unused blob be removed.
    #[track_caller]
    fn assert_sound(&self) {
        for blob in self.blobs() {
            let name = blob
                .file_name()
                .expect("a name")
                .to_str()
                .expect("UTF-8")
                .to_owned();
            assert_eq!(digest(&fs::read(&blob).expect("read")), name);
        }
        self.ok(&["image", "prune"]);
        for (name, _) in self.listed() {
            self.ok(&["export", "-o", "/dev/null", &name]);
        }
    }
}

fn oci() -> Files {
    let upper = layer(&[("etc/.wh.secret", ""), ("etc/new", "new\n")]);
    layout(
        &[gzip(base()), zstd(&upper)],
        &json!({"Cmd": ["busybox", "cat", "/etc/new"], "Labels": {"a": "b"}, "StopSignal": "SIGQUIT"}),
    )
}

#[test]
fn images_come_and_go() {
    let user = User::new("come-and-go");
    write_layout(&user.home.join("layout"), &oci());
    assert_eq!(user.ok(&["image", "ls"]).lines().count(), 1);
    user.refused(&["image", "import", "layout"], "give it one");
    let told = user.ok(&["image", "import", "layout", "some/name:1.0"]);
    let (name, manifest) = told.trim_end().split_once(' ').expect("a name and a digest");
    assert_eq!(name, "some/name:1.0");
    // A second name, another kind of file, a directory.
    user.ok(&[
        "image",
        "import",
        &user.file("oci.tar", &archive_of(&oci())),
        "other",
    ]);
    user.ok(&[
        "image",
        "import",
        &user.file("plain.tar.gz", &gzip(base())),
        "plain",
    ]);
    fs::create_dir(user.home.join("root")).expect("create");
    user.file("root/file", b"contents");
    user.ok(&["image", "import", "root", "directory:tag"]);
    let names: Vec<String> = user.listed().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["directory:tag", "other:latest", "plain:latest", "some/name:1.0"]
    );
    assert_eq!(user.listed()[1].1, manifest, "a manifest stays as it is");

    assert_eq!(user.ok(&["run", "other"]), "new\n");
    assert_eq!(user.ok(&["run", &format!("some/name@{manifest}")]), "new\n");
    assert_eq!(
        user.ok(&["run", "plain", "busybox", "cat", "/etc/secret"]),
        "secret\n"
    );
    user.refused(&["run", "other:1"], "no image other:1 in the store");
    user.refused(
        &["run", &format!("other@sha256:{}", "0".repeat(64))],
        "in the store",
    );
    user.refused(&["run", "./other"], "No such file");

    let seen: Value = serde_json::from_str(&user.ok(&["image", "inspect", "some/name:1.0"])).expect("JSON");
    assert_eq!(seen[0]["RepoTags"], json!(["some/name:1.0"]));
    assert_eq!(seen[0]["RepoDigests"], json!([format!("some/name@{manifest}")]));
    assert_eq!(seen[0]["Config"]["Cmd"][0], "busybox");

    // What goes out is what came in.
    user.ok(&["image", "export", "other", "out.tar"]);
    user.ok(&["image", "export", "--layout", "other", "out"]);
    user.ok(&["image", "rm", "other"]);
    // What is not there does not keep the others.
    user.refused(
        &["image", "rm", "other", "some/name:1.0"],
        "no image other:latest",
    );
    assert!(
        !user
            .images()
            .join("blobs")
            .join(manifest.replace(':', "/"))
            .exists()
    );
    assert_eq!(
        user.ok(&["image", "import", "out.tar"]),
        format!("other:latest {manifest}\n")
    );
    assert_eq!(
        user.ok(&["image", "import", "out", "again:a"]),
        format!("again:a {manifest}\n")
    );
    user.assert_sound();

    user.ok(&["image", "rm", "other", "again:a", "plain", "directory:tag"]);
    assert_eq!((user.blobs().len(), user.listed().len()), (0, 0));
}

/// A store that another program has written to.
#[test]
fn other_entries_are_left_alone() {
    let user = User::new("others");
    user.ok(&[
        "image",
        "import",
        &user.file("oci.tar", &archive_of(&oci())),
        "mine",
    ]);
    let path = user.images().join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    let mut other = index["manifests"][0].clone();
    other["annotations"] = json!({"x": "y"});
    index["manifests"]
        .as_array_mut()
        .expect("a list")
        .push(other.clone());
    fs::write(&path, index.to_string()).expect("write");
    user.ok(&["image", "rm", "mine"]);
    let index: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    assert_eq!(index["manifests"], json!([other]));
    assert_eq!(user.blobs().len(), 4);
}

/// Indexes are kept beside the layers; a damaged one is made anew, and one of a file that changed is not used.
#[test]
fn indexes_are_made_once() {
    let user = User::new("index");
    let archive = user.file("plain.tar", base());
    let indexes = || -> Vec<PathBuf> {
        let all = fs::read_dir(user.home.join("data/uvm/layers")).expect("list");
        let paths = all.map(|entry| entry.expect("list").path());
        let is_index = |path: &PathBuf| {
            path.file_name()
                .is_some_and(|name| text(Path::new(name)).starts_with("index-"))
        };
        paths.filter(is_index).collect()
    };
    let list = || user.ok(&["run", &archive, "busybox", "find", "/etc", "/bin"]);
    let expected = list();
    let made = indexes();
    assert_eq!(made.len(), 1);
    let whole = fs::read(&made[0]).expect("read");
    for at in [0, 9, 20, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        fs::write(&made[0], &bytes).expect("write");
        assert_eq!(list(), expected);
        assert_eq!(fs::read(&made[0]).expect("read"), whole);
    }
    fs::write(&made[0], b"").expect("write");
    assert_eq!(list(), expected);
    user.file(
        "plain.tar",
        &[&base()[..base().len() - 1024], &layer(&[("etc/more", "")])].concat(),
    );
    assert_eq!(list().lines().count(), expected.lines().count() + 1);
    assert_eq!(indexes().len(), 2);
}
