//! Images on their way out of the store, as an OCI layout or an archive of one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::{Descriptor, Entry, Store, index_of};
use crate::image::compressed::hex;
use crate::image::layout;

/// Names and texts of the documents beside the blobs.
type Documents = [(&'static str, String); 2];

impl Store {
    /// Write an image to a directory that is not there yet, or is empty.
    pub fn export_layout(&self, entry: &Entry, directory: &Path) -> Result<()> {
        let _held = self.hold()?;
        let (parts, documents) = self.parts(entry)?;
        fs::create_dir_all(directory)?;
        if fs::read_dir(directory)?.next().is_some() {
            bail!("the directory is not empty");
        }
        fs::create_dir_all(directory.join("blobs/sha256"))?;
        for digest in &parts {
            let to = directory.join("blobs/sha256").join(digest);
            io::copy(&mut File::open(self.blob(digest))?, &mut File::create(to)?)?;
        }
        for (name, document) in documents {
            fs::write(directory.join(name), document)?;
        }
        Ok(())
    }

    /// Write an image as an archive, which depends on the image alone.
    pub fn export_archive(&self, entry: &Entry, out: &mut dyn Write) -> Result<()> {
        let _held = self.hold()?;
        let (parts, documents) = self.parts(entry)?;
        let mut archive = Builder::new(out);
        for directory in ["blobs/", "blobs/sha256/"] {
            let mut header = header(EntryType::Directory, 0o755, 0);
            archive.append_data(&mut header, directory, io::empty())?;
        }
        for digest in &parts {
            let blob = File::open(self.blob(digest))?;
            let mut header = header(EntryType::Regular, 0o644, blob.metadata()?.len());
            archive.append_data(&mut header, format!("blobs/sha256/{digest}"), blob)?;
        }
        for (name, document) in documents {
            let mut header = header(EntryType::Regular, 0o644, document.len() as u64);
            archive.append_data(&mut header, name, document.as_bytes())?;
        }
        archive.into_inner()?.flush()?;
        Ok(())
    }

    /// The digests of all blobs of an image, in order, and the documents beside them.
    fn parts(&self, entry: &Entry) -> Result<(Vec<String>, Documents)> {
        let manifest = self.manifest(entry).context("reading the image")?;
        let (media_type, text) = manifest.text.context("reading the image")?;
        let described = Descriptor {
            media_type,
            digest: hex(&Sha256::digest(&text)),
            size: text.len() as u64,
        };
        let mut parts = vec![
            described.digest.clone(),
            layout::digest(&layout::parse(&text)?["config"])?,
        ];
        parts.extend(manifest.layers.into_iter().filter_map(|layer| layer.digest));
        parts.sort();
        parts.dedup();
        let mut descriptor = described.to_json();
        descriptor["annotations"] = entry.descriptor["annotations"].clone();
        let documents = [
            ("index.json", index_of(vec![descriptor]).to_string()),
            ("oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string()),
        ];
        Ok((parts, documents))
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
