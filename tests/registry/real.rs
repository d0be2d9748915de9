//! Debian's docker-registry, with a password and by TLS.

use std::process::Command;

use serde_json::json;

use super::support::images::write_layout;
use super::support::process::{Outcome, run};
use super::support::registry::Registry;
use super::{LIMIT, User, image};

/// Debian's docker-registry, which wants a password, pushed to by skopeo.
#[test]
fn a_real_registry() {
    let user = User::new("real");
    // uvm and secret, by bcrypt.
    user.write(
        "htpasswd",
        "uvm:$2y$05$iJdkQUSOOxm/AGX4GyzNcudiJpK5eQskTeAtgi1Kwg4SrUJwPUZl.\n",
    );
    let auth = format!(
        "auth:\n  htpasswd:\n    realm: uvm\n    path: {}/htpasswd\n",
        user.home.display()
    );
    let registry = Registry::start(&user.home, &auth);
    let address = registry.address;
    // Not an archive: skopeo would give its files to their owners, which takes root.
    write_layout(&user.home.join("layout"), &image());
    let mut skopeo = Command::new("skopeo");
    skopeo.args([
        "copy",
        "-q",
        "--insecure-policy",
        "--dest-tls-verify=false",
        "--dest-creds=uvm:secret",
    ]);
    skopeo.args([
        &format!("oci:{}/layout", user.home.display()),
        &format!("docker://{address}/a/b:good"),
    ]);
    let pushed = run(
        skopeo.env("HOME", &user.home).env("TMPDIR", &user.home),
        b"",
        LIMIT,
    );
    assert_eq!(pushed.status, 0, "{pushed:?}");
    user.refused(address, "docker's config.json");
    user.write(
        "docker/config.json",
        &json!({"auths": {address.to_string(): {"auth": "dXZtOndyb25n"}}}).to_string(),
    );
    user.refused(address, "does not let");
    user.write(
        "docker/config.json",
        &json!({"auths": {address.to_string(): {"auth": "dXZtOnNlY3JldA=="}}}).to_string(),
    );
    let pulled = user.pull(address, "good");
    assert_eq!(pulled.status, 0, "{pulled:?}");
    let digest = pulled
        .stdout
        .trim_end()
        .split_once(' ')
        .expect("a digest")
        .1
        .to_owned();
    assert_eq!(user.uvm(&["run", &format!("{address}/a/b:good")]).stdout, "new\n");
    let by_digest = user.uvm(&["image", "pull", "--insecure", &format!("{address}/a/b@{digest}")]);
    assert_eq!(by_digest.stdout, format!("{address}/a/b@{digest} {digest}\n"));
    assert_eq!(
        user.uvm(&["run", &format!("{address}/a/b@{digest}")]).stdout,
        "new\n"
    );
    user.assert_sound();
}

/// Authorities of our own, and certificates that they did or did not give.
const CERTIFICATES: &str = r#"
    key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
    given() { # NAME SUBJECT DAYS
        key "$1"
        openssl req -new -key "$1.key" -subj /CN=registry -out "$1.csr"
        printf 'subjectAltName=%s\n' "$2" >"$1.ext"
        openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days "$3" -extfile "$1.ext" -out "$1.crt"
    }
    key ca; openssl req -x509 -new -key ca.key -subj /CN=authority -days 30 -out ca.crt
    key other; openssl req -x509 -new -key other.key -subj /CN=other -days 30 -out other.crt
    given good IP:127.0.0.1 30
    given name DNS:registry.invalid 30
    given old IP:127.0.0.1 -1
    key self; openssl req -x509 -new -key self.key -subj /CN=self -addext subjectAltName=IP:127.0.0.1 -days 30 -out self.crt
"#;

/// By TLS from a real registry: an authority has to be known, and the certificate has to be right.
#[test]
fn certificates_are_checked() {
    let user = User::new("tls");
    let made = run(
        Command::new("bash")
            .args(["-euc", CERTIFICATES])
            .current_dir(&user.home),
        b"",
        LIMIT,
    );
    assert_eq!(made.status, 0, "{made:?}");
    write_layout(&user.home.join("layout"), &image());
    let start = |name: &str| {
        let place = user.home.display();
        let tls = format!("  tls:\n    certificate: {place}/{name}.crt\n    key: {place}/{name}.key\n");
        Registry::start(&user.home, &tls)
    };
    let pull = |registry: &Registry, options: &[&str]| {
        let name = format!("{}/a/b:good", registry.address);
        user.uvm(&[&["image", "pull", "--timeout=20"], options, &[&name]].concat())
    };
    let refused = |outcome: Outcome, words: &str| {
        assert_eq!(
            (outcome.status, outcome.stderr.lines().count()),
            (125, 1),
            "'{words}': {outcome:?}"
        );
        assert!(outcome.stderr.contains(words), "'{words}': {outcome:?}");
    };
    for (name, words) in [
        ("name", "its certificate is for another name"),
        ("old", "its certificate has expired"),
        ("self", "its certificate is none for a server"),
    ] {
        refused(pull(&start(name), &["--ca", "ca.crt"]), words);
    }
    let registry = start("good");
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["copy", "-q", "--insecure-policy", "--dest-tls-verify=false"]);
    skopeo.args(["oci:layout", &format!("docker://{}/a/b:good", registry.address)]);
    let pushed = run(
        skopeo
            .env("HOME", &user.home)
            .env("TMPDIR", &user.home)
            .current_dir(&user.home),
        b"",
        LIMIT,
    );
    assert_eq!(pushed.status, 0, "{pushed:?}");
    refused(
        pull(&registry, &["--ca", "other.crt"]),
        "no authority that is known here",
    );
    refused(
        pull(&registry, &["--ca", "good.key"]),
        "there is no certificate in it",
    );
    refused(
        pull(&registry, &["--ca", "missing.crt"]),
        "missing.crt: No such file",
    );
    assert_eq!(pull(&registry, &["--ca", "ca.crt"]).status, 0);
    // The configuration says so for every pull, also that of `uvm run`.
    let address = registry.address.to_string();
    let authority = user.home.join("ca.crt");
    user.write(
        "config/uvm/registries.json",
        &json!({"ca": {&address: authority}}).to_string(),
    );
    assert_eq!(
        user.uvm(&["image", "rm", &format!("{address}/a/b:good")]).status,
        0
    );
    assert_eq!(user.uvm(&["run", &format!("{address}/a/b:good")]).stdout, "new\n");
    user.assert_sound();
}
