//! Debian's docker-registry on this machine's loopback.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::process::poll_until;
use super::text;

/// A registry that ends with the test.
pub(crate) struct Registry {
    server: Child,
    pub(crate) address: SocketAddr,
}

impl Registry {
    /// Start one that keeps its images and its configuration in this directory. The lines are those of its configuration's
    /// `http`, with the space before them, and what follows.
    pub(crate) fn start(directory: &Path, more: &str) -> Registry {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = port.expect("a free port");
        let place = directory.display();
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {place}/registry\nhttp:\n  addr: {address}\n{more}"
        );
        let path = directory.join(format!("registry-{}.yml", address.port()));
        fs::write(&path, config).expect("write");
        let mut server = Command::new("docker-registry");
        server.args(["serve", text(&path)]);
        let server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = server.expect("start docker-registry, which Debian packages");
        poll_until("the registry answers", Duration::from_secs(60), || {
            TcpStream::connect(address).is_ok()
        });
        Registry { server, address }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
