//! Pulling images: from a real registry that wants a password, and from servers that mean no good.
#![cfg(feature = "registry")]

mod real;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use support::images::{Files, base, digest, gzip, layer, layout};
use support::process::{Outcome, run};
use support::{UVM, scratch};

const LIMIT: Duration = Duration::from_secs(60);

/// A request: its path, and its headers in lower case.
struct Request {
    path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What a server does: it sends some bytes, and then closes, or says nothing more.
enum Reply {
    Close(Vec<u8>),
    Silence(Vec<u8>),
}

/// Status line, headers, body.
fn reply(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend(format!("{name}: {value}\r\n").bytes());
    }
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        bytes.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    Reply::Close(bytes)
}

/// Serves until the test ends. The threads end with the process.
fn serve(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("an address");
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || handle(stream, &*answer));
        }
    });
    address
}

fn handle(stream: TcpStream, answer: &dyn Fn(&Request) -> Reply) {
    let mut lines = BufReader::new(&stream).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
    }
    // A client that has gone is none of ours.
    match answer(&Request { path, headers }) {
        Reply::Close(bytes) => drop((&stream).write_all(&bytes)),
        Reply::Silence(bytes) => {
            let _ = (&stream).write_all(&bytes);
            let _ = (&stream).read(&mut [0]);
        }
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What an honest registry says of the image `files`.
fn honest(files: &Files, request: &Request) -> Reply {
    let index: Value = serde_json::from_slice(&files.last().expect("an index").1).expect("JSON");
    let manifest = index["manifests"][0]["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    let name = request.path.rsplit('/').next().expect("a name");
    let name = if name == "good" { &manifest } else { name };
    let blob = format!("blobs/sha256/{}", name.trim_start_matches("sha256:"));
    match files.iter().find(|(path, _)| *path == blob) {
        Some((_, bytes)) if request.path.starts_with("/v2/a/b/manifests/") => reply(
            "200 OK",
            &[("Content-Type", MANIFEST), ("Docker-Content-Digest", &manifest)],
            bytes,
        ),
        Some((_, bytes)) if request.path.starts_with("/v2/a/b/blobs/") => reply("200 OK", &[], bytes),
        _ => reply("404 Not Found", &[], b"{}"),
    }
}

fn image() -> Files {
    let upper = layer(&[("etc/new", "new\n")]);
    layout(
        &[gzip(base()), upper],
        &json!({"Cmd": ["busybox", "cat", "/etc/new"]}),
    )
}

/// The blobs of `image`: its layers, as they are named.
fn layer_path(files: &Files, number: usize) -> String {
    let name = files[1 + number].0.rsplit('/').next().expect("a name");
    format!("/v2/a/b/blobs/sha256:{name}")
}

/// A user with a store of their own.
struct User {
    home: PathBuf,
}

impl User {
    fn new(name: &str) -> User {
        User { home: scratch(name) }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(UVM);
        command
            .args(arguments)
            .env("XDG_DATA_HOME", self.home.join("data"))
            .env("XDG_CONFIG_HOME", self.home.join("config"))
            .env("DOCKER_CONFIG", self.home.join("docker"))
            .current_dir(&self.home);
        command
    }

    fn uvm(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(arguments), b"", LIMIT)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.home.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("create");
        fs::write(path, text).expect("write");
    }

    fn pull(&self, address: SocketAddr, name: &str) -> Outcome {
        self.uvm(&[
            "image",
            "pull",
            "--insecure",
            "--timeout=2",
            &format!("{address}/a/b:{name}"),
        ])
    }

    /// Asserts one line of failure with these words, and that nothing came of it.
    #[track_caller]
    fn refused(&self, address: SocketAddr, words: &str) {
        let outcome = self.pull(address, "good");
        assert_eq!(
            (outcome.status, outcome.stderr.lines().count()),
            (125, 1),
            "'{words}': {outcome:?}"
        );
        assert!(outcome.stderr.contains(words), "'{words}': {outcome:?}");
        assert_eq!(self.uvm(&["image", "ls"]).stdout.lines().count(), 1);
    }

    /// Asserts that what is in the store is what its names say.
    #[track_caller]
    fn assert_sound(&self) {
        let blobs = fs::read_dir(self.home.join("data/uvm/images/blobs/sha256")).expect("list");
        for blob in blobs.map(|entry| entry.expect("list").path()) {
            let found = digest(&fs::read(&blob).expect("read"));
            assert_eq!(Path::new(&found), blob.file_name().expect("a name"));
        }
        assert_eq!(self.uvm(&["image", "prune"]).status, 0);
    }
}

/// What a registry answers to a request.
type Answer = &'static (dyn Fn(&[u8]) -> Reply + Send + Sync);

#[test]
fn servers_that_mean_no_good() {
    let files = image();
    let user = User::new("hostile");
    let (first, second) = (layer_path(&files, 0), layer_path(&files, 1));
    // Each server does one thing wrong.
    let bad = |path: &str, answer: &'static (dyn Fn(&[u8]) -> Reply + Send + Sync)| {
        let (files, path) = (files.clone(), path.to_owned());
        let blob = path.rsplit(':').next().unwrap_or_default().to_owned();
        let bytes = files
            .iter()
            .find(|(name, _)| name.ends_with(&blob))
            .expect("a file")
            .1
            .clone();
        serve(move |request| match request.path == path {
            true => answer(&bytes),
            false => honest(&files, request),
        })
    };
    let manifest = "/v2/a/b/manifests/good";
    let cases: [(&str, Answer, &str); 16] = [
        (&first, &|_| Reply::Silence(Vec::new()), "stalls"),
        (
            &first,
            &|_| Reply::Silence(b"HTTP/1.1 200 OK\r\nContent-".to_vec()),
            "stalls",
        ),
        (
            &second,
            &|bytes| match reply("200 OK", &[], bytes) {
                Reply::Close(mut all) => {
                    all.truncate(all.len() - 9);
                    Reply::Silence(all)
                }
                silence => silence,
            },
            "stalls",
        ),
        (&second, &|_| Reply::Close(Vec::new()), "layer 2 of 2"),
        (
            &second,
            &|bytes| reply("200 OK", &[], &bytes[1..]),
            "another length",
        ),
        (
            &second,
            &|bytes| reply("200 OK", &[], &[bytes, b"more"].concat()),
            "another length",
        ),
        (
            &second,
            &|bytes| {
                let body = format!("{:x}\r\n", bytes.len() + 4).into_bytes();
                let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                Reply::Close([&head[..], &body, bytes, b"more\r\n0\r\n\r\n"].concat())
            },
            "longer than its manifest says",
        ),
        (
            &second,
            &|bytes| {
                let mut bytes = bytes.to_vec();
                bytes[700] ^= 1;
                reply("200 OK", &[], &bytes)
            },
            "it is damaged",
        ),
        (
            &second,
            &|_| reply("302 Found", &[("Location", "/v2/round")], b""),
            "does not have it",
        ),
        (&second, &|_| reply("500 Oh", &[], b""), "status 500"),
        (
            manifest,
            &|_| reply("307 Round", &[("Location", "/v2/a/b/manifests/good")], b""),
            "circles",
        ),
        (
            manifest,
            &|_| reply("307 Away", &[("Location", "ftp://127.0.0.1/")], b""),
            "not HTTPS",
        ),
        (
            manifest,
            &|_| reply("200 OK", &[("Content-Type", "text/html")], b"<html>"),
            "'text/html'",
        ),
        (
            manifest,
            &|_| reply("200 OK", &[("Content-Type", MANIFEST)], b"{"),
            "its manifest",
        ),
        (
            manifest,
            &|_| {
                let endless = json!({"digest": format!("sha256:{}", "0".repeat(64)), "size": 1u64 << 60});
                let text = json!({"config": {}, "layers": [endless, endless]}).to_string();
                reply("200 OK", &[("Content-Type", MANIFEST)], text.as_bytes())
            },
            "has room for",
        ),
        (
            manifest,
            &|_| {
                let wrong = format!("sha256:{}", "0".repeat(64));
                reply(
                    "200 OK",
                    &[("Content-Type", MANIFEST), ("Docker-Content-Digest", &wrong)],
                    b"{}",
                )
            },
            "it is damaged",
        ),
    ];
    let found = files.clone();
    for (path, answer, words) in cases {
        let address = match path == manifest {
            true => {
                let files = found.clone();
                serve(move |request| match request.path == "/v2/a/b/manifests/good" {
                    true => answer(b""),
                    false => honest(&files, request),
                })
            }
            false => bad(path, answer),
        };
        user.refused(address, words);
    }
    let files = found;
    let address = serve(move |request| honest(&files, request));
    let missing = user.pull(address, "missing");
    assert!(missing.stderr.contains("no such image"), "{missing:?}");
    user.assert_sound();
    let pulled = user.pull(address, "good");
    assert_eq!(pulled.status, 0, "{pulled:?}");
    assert_eq!(user.uvm(&["run", &format!("{address}/a/b:good")]).stdout, "new\n");
    user.assert_sound();
}

/// A layer that ends early is asked for from there on, in the same pull and in the next one.
#[test]
fn what_came_in_part_is_gone_on_with() {
    let files = image();
    let path = layer_path(&files, 0);
    let ranges: Arc<Mutex<Vec<u64>>> = Arc::default();
    let seen = ranges.clone();
    let whole = files[1].1.len() as u64;
    let address = serve(move |request| {
        if request.path != path {
            return honest(&files, request);
        }
        let range = request
            .header("range")
            .and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let start: usize = range.unwrap_or(0);
        let mut seen = seen.lock().expect("a lock");
        seen.push(start as u64);
        let bytes = &files[1].1;
        let head = match start {
            0 => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len()),
            _ => format!(
                "HTTP/1.1 206 Part\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{}\r\n\r\n",
                bytes.len() - start,
                bytes.len() - 1,
                bytes.len()
            ),
        };
        // The second connection brings nothing, so that the pull gives up.
        let end = match seen.len() {
            1 => start + 100_000,
            2 => start,
            _ => bytes.len(),
        };
        Reply::Close([head.as_bytes(), &bytes[start..end]].concat())
    });
    let user = User::new("resumed");
    let first = user.pull(address, "good");
    assert!(
        first.status == 125 && first.stderr.lines().count() == 1,
        "{first:?}"
    );
    let second = user.pull(address, "good");
    assert_eq!(second.status, 0, "{second:?}");
    let ranges = ranges.lock().expect("a lock").clone();
    assert_eq!(ranges, [0, 100_000, 100_000]);
    assert!(whole > 200_000);
    user.assert_sound();
    assert_eq!(user.uvm(&["run", &format!("{address}/a/b:good")]).stdout, "new\n");
}

/// The registry sends for a token, the token's server wants a password, and the blobs are on another server, which learns neither.
#[test]
fn tokens_and_other_hosts() {
    let files = image();
    let path = layer_path(&files, 0);
    let blob = files[1].1.clone();
    let others = serve(move |request| match request.header("authorization") {
        Some(_) => reply("400 You told me", &[], b""),
        None => reply("200 OK", &[], &blob),
    });
    let tokens = serve(|request| {
        let right = request.path == "/token?scope=repository%3Aa%2Fb%3Apull&service=here"
            && request.header("authorization") == Some("Basic dXZtOnNlY3JldA==");
        match right {
            true => reply("200 OK", &[], br#"{"token": "let-me-in"}"#),
            false => reply("401 No", &[], request.path.as_bytes()),
        }
    });
    let challenge =
        format!("Bearer realm=\"http://{tokens}/token\",service=\"here\",scope=\"repository:a/b:pull\"");
    let address = serve(move |request| {
        if request.header("authorization") != Some("Bearer let-me-in") {
            return reply("401 Who", &[("WWW-Authenticate", &challenge)], b"");
        }
        match request.path == path {
            true => reply(
                "307 There",
                &[("Location", &format!("http://{others}/blob"))],
                b"",
            ),
            false => honest(&files, request),
        }
    });
    let user = User::new("tokens");
    user.refused(address, "no token");
    let auths = json!({"auths": {address.to_string(): {"auth": "dXZtOnNlY3JldA=="}}});
    user.write("docker/config.json", &auths.to_string());
    let pulled = user.pull(address, "good");
    assert_eq!(pulled.status, 0, "{pulled:?}");
    user.assert_sound();
}

#[test]
fn names_say_where_or_the_configuration_does() {
    let files = image();
    let address = serve(move |request| honest(&files, request));
    let user = User::new("names");
    let pull = |name: &str| user.uvm(&["image", "pull", name]);
    let outcome = pull("a/b:good");
    assert!(
        outcome.status == 125 && outcome.stderr.contains("registries.json"),
        "{outcome:?}"
    );
    assert!(
        user.uvm(&["run", "a/b:good"])
            .stderr
            .contains("no image a/b:good in the store")
    );
    user.write(
        "config/uvm/registries.json",
        &json!({"default": address.to_string()}).to_string(),
    );
    let plain = pull("a/b:good");
    assert!(
        plain.status == 125 && plain.stderr.lines().count() == 1,
        "not by TLS: {plain:?}"
    );
    let said = json!({
        "default": "registry.invalid",
        "mirrors": {"registry.invalid": address.to_string()},
        "insecure": [address.to_string()],
    });
    user.write("config/uvm/registries.json", &said.to_string());
    assert_eq!(pull("a/b:good").status, 0);
    assert_eq!(user.uvm(&["run", "a/b:good"]).stdout, "new\n");
    // One that is not in the store is pulled.
    assert_eq!(user.uvm(&["run", "registry.invalid/a/b:good"]).stdout, "new\n");
    assert_eq!(user.uvm(&["image", "ls"]).stdout.lines().count(), 3);
    user.assert_sound();
}

/// Several pulls of one image at a time, some of them killed: each of the others brings it whole.
#[test]
fn pulls_at_once_and_killed() {
    let files = image();
    let address = serve(move |request| honest(&files, request));
    let user = User::new("at-once");
    let name = format!("{address}/a/b:good");
    thread::scope(|scope| {
        for number in 0..4 {
            let (user, name) = (&user, &name);
            scope.spawn(move || {
                for round in 0..3 {
                    let mut child = user
                        .command(&["image", "pull", "--insecure", name])
                        .stdout(Stdio::null())
                        .spawn()
                        .expect("start");
                    if number % 2 == 0 {
                        // A moment, not a wait for anything.
                        thread::sleep(Duration::from_millis(10 * (number + 3 * round)));
                        child.kill().expect("kill");
                        child.wait().expect("wait");
                    } else {
                        assert!(child.wait().expect("wait").success());
                    }
                }
            });
        }
    });
    user.assert_sound();
    assert_eq!(user.uvm(&["run", &name]).stdout, "new\n");
}

/// Bars are for a terminal alone, and of what has come they show no rate.
#[test]
fn bars_are_for_terminals() {
    let files = image();
    let address = serve(move |request| honest(&files, request));
    let user = User::new("bars");
    let quiet = user.pull(address, "good");
    assert_eq!((quiet.status, quiet.stderr.as_str()), (0, ""), "{quiet:?}");
    let other = User::new("bars-at-a-terminal");
    let mut terminal = Command::new("script");
    terminal.env("XDG_DATA_HOME", other.home.join("data"));
    terminal.args([
        "-qec",
        &format!("{UVM} image pull --insecure {address}/a/b:good >/dev/null"),
        "/dev/null",
    ]);
    let shown = run(&mut terminal, b"", LIMIT);
    assert_eq!(shown.status, 0, "{shown:?}");
    assert!(shown.stdout.contains("iB/s"), "{shown:?}");
    let last = shown.stdout.rsplit("\u{1b}[2K").next();
    assert!(
        last.is_some_and(|bar| bar.contains("2.00 KiB/2.00 KiB") && !bar.contains("/s")),
        "{shown:?}"
    );
}
