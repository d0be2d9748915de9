//! Small images for tests: archives, layers, layouts.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{rootfs, scratch};

/// A root with busybox, as a plain archive.
pub(crate) fn base() -> &'static [u8] {
    static BASE: OnceLock<Vec<u8>> = OnceLock::new();
    BASE.get_or_init(|| {
        let mut archive = tar::Builder::new(Vec::new());
        for directory in ["bin/", "etc/", "tmp/", "lib64/", "lib/", "lib/x86_64-linux-gnu/"] {
            entry(&mut archive, tar::EntryType::Directory, directory, 0o755, b"");
        }
        for file in [
            "bin/busybox",
            "lib64/ld-linux-x86-64.so.2",
            "lib/x86_64-linux-gnu/libc.so.6",
            "lib/x86_64-linux-gnu/libresolv.so.2",
        ] {
            let bytes = fs::read(rootfs().join(file)).expect("read from the Debian root");
            entry(&mut archive, tar::EntryType::Regular, file, 0o755, &bytes);
        }
        let passwd = b"root:x:0:0:root:/:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/sh\n";
        entry(&mut archive, tar::EntryType::Regular, "etc/passwd", 0o644, passwd);
        entry(
            &mut archive,
            tar::EntryType::Regular,
            "etc/secret",
            0o600,
            b"secret\n",
        );
        entry(&mut archive, tar::EntryType::Fifo, "etc/fifo", 0o4700, b"");
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        archive
            .append_link(&mut header, "bin/sh", "busybox")
            .expect("append");
        header.set_entry_type(tar::EntryType::Link);
        archive
            .append_link(&mut header, "etc/again", "etc/secret")
            .expect("append");
        archive.into_inner().expect("finish")
    })
}

pub(crate) fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_500_000_000);
    header.set_size(size as u64);
    header
}

pub(crate) fn entry(
    archive: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    path: &str,
    mode: u32,
    data: &[u8],
) {
    let mut header = header(kind, mode, data.len());
    archive.append_data(&mut header, path, data).expect("append");
}

pub(crate) fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, data) in files {
        entry(
            &mut archive,
            tar::EntryType::Regular,
            path,
            0o644,
            data.as_bytes(),
        );
    }
    archive.into_inner().expect("finish")
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compress");
    encoder.finish().expect("compress")
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let directory = scratch("xz");
    fs::write(directory.join("file"), bytes).expect("write");
    let done = Command::new("xz")
        .arg("-0")
        .arg(directory.join("file"))
        .status()
        .expect("run xz");
    assert!(done.success());
    fs::read(directory.join("file.xz")).expect("read")
}

/// A layer as it is when it is not compressed.
fn plain(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let read = match bytes {
        [0x1f, 0x8b, ..] => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain),
        [0x28, 0xb5, ..] => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(bytes);
            decoder.expect("zstd").read_to_end(&mut plain)
        }
        _ => return bytes.to_vec(),
    };
    // A layer that a test has damaged has no other digest.
    read.map_or(bytes.to_vec(), |_| plain)
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The files of a layout by name.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// An OCI layout.
pub(crate) fn layout(layers: &[Vec<u8>], config: &Value) -> Files {
    let mut files = vec![(
        "oci-layout".to_owned(),
        br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
    )];
    let mut blob = |bytes: Vec<u8>, kind: &str| {
        let digest = digest(&bytes);
        let descriptor =
            json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()});
        files.push((format!("blobs/sha256/{digest}"), bytes));
        descriptor
    };
    let diff_ids = layers
        .iter()
        .map(|bytes| format!("sha256:{}", digest(&plain(bytes))));
    let diff_ids: Vec<String> = diff_ids.collect();
    let layers: Vec<Value> = layers
        .iter()
        .map(|bytes| blob(bytes.clone(), "application/vnd.oci.image.layer.v1.tar"))
        .collect();
    let config = blob(
        json!({"architecture": "amd64", "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        .to_string()
        .into_bytes(),
        "application/vnd.oci.image.config.v1+json",
    );
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    let manifest = blob(
        manifest.to_string().into_bytes(),
        "application/vnd.oci.image.manifest.v1+json",
    );
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    files.push(("index.json".to_owned(), index.to_string().into_bytes()));
    files
}

/// Writes the files of a layout.
pub(crate) fn write_layout(directory: &Path, files: &[(String, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("create");
        fs::write(path, bytes).expect("write");
    }
}

/// A layout as an archive.
pub(crate) fn archive_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        entry(&mut archive, tar::EntryType::Regular, name, 0o644, bytes);
    }
    archive.into_inner().expect("finish")
}
