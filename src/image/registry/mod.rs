//! Pulling images: the part of OCI's distribution specification that this takes, over blocking HTTP.
//!
//! A registry is hostile: every blob is checked against its digest before it gets a name in the store, lengths are bounded by
//! what the manifest says, redirects are counted, and silence ends the pull. A blob that came in part is kept in `partial/`, and the
//! next pull goes on there. The client is our own upon ureq: the usual crate for registries brings an asynchronous runtime
//! and some 150 crates for what is a handful of requests here.

mod client;
mod config;
mod tls;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::statvfs;
use serde_json::Value;

use super::cache;
use super::compressed::{check_bytes, compare, sha256};
use super::layout::{self, DOCUMENT_MAX, INDEX_DEPTH};
use super::reference::Reference;
use super::store::{Descriptor, Held, Store};
use client::{Answer, Client, header};
use config::Registries;

/// What manifests and indexes may be.
const DOCUMENTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// How often a blob is asked for that ends early, while some of it comes each time.
const TRIES: usize = 5;
/// How much is moved at once, in bytes.
const PIECE: usize = 128 << 10;

/// How to pull.
pub struct PullOptions {
    /// The registry speaks plain HTTP.
    pub insecure: bool,
    /// The host to ask instead.
    pub mirror: Option<String>,
    /// A file of certificates of authorities that are believed as well.
    pub authority: Option<PathBuf>,
    /// How long nothing may come before the pull is given up.
    pub patience: Duration,
}

/// Hears of each blob: its digest, its size, how much of it is here.
pub type Progress<'a> = dyn FnMut(&str, u64, u64) + 'a;

/// Bring an image from a registry into the store, under the name that it has there. Returns the manifest's digest.
pub fn pull(
    store: &Store,
    name: &Reference,
    options: &PullOptions,
    progress: &mut Progress<'_>,
) -> Result<String> {
    let registries = Registries::read()?;
    let (host, repository) = name.host();
    let host = host.map_or_else(|| registries.default(), |host| Ok(host.to_owned()))?;
    let asked = options
        .mirror
        .clone()
        .or_else(|| registries.mirror(&host))
        .unwrap_or(host);
    let insecure = options.insecure || registries.is_insecure(&asked);
    let credentials = config::credentials(&asked)?;
    let authority = options.authority.clone().or_else(|| registries.authority(&asked));
    let client = Client::new(
        &asked,
        repository,
        insecure,
        credentials,
        authority.as_deref(),
        options.patience,
    )?;
    let held = store.hold()?;
    let mut pull = Pull {
        client,
        held: &held,
        progress,
    };
    let descriptor = pull.image(name).with_context(|| format!("from {asked}"))?;
    store.name(&held, name, &descriptor)?;
    Ok(descriptor.digest)
}

struct Pull<'a, 'b> {
    client: Client,
    held: &'a Held,
    progress: &'a mut Progress<'b>,
}

impl Pull<'_, '_> {
    /// Everything of an image; its manifest last.
    fn image(&mut self, name: &Reference) -> Result<Descriptor> {
        let by_digest = name.digest.as_ref().map(|digest| format!("sha256:{digest}"));
        let mut wanted = by_digest.or(name.tag.clone()).context("a name without a tag")?;
        for _ in 0..INDEX_DEPTH {
            let (media_type, text) = self.manifest(&wanted).context("its manifest")?;
            let document = layout::parse(&text).context("its manifest")?;
            if document["manifests"].is_array() {
                wanted = format!("sha256:{}", layout::digest(layout::choose(&document)?)?);
                continue;
            }
            let layers = layout::layers(&document)?;
            self.check_room(layers)?;
            let config = &document["config"];
            let config_type = config["mediaType"].as_str().unwrap_or_default();
            self.blob(config, DOCUMENT_MAX, config_type)
                .context("its configuration")?;
            for (number, layer) in layers.iter().enumerate() {
                let kind = layout::layer_type(layer)?;
                let done = self.blob(layer, u64::MAX, kind);
                done.with_context(|| format!("layer {} of {}", number + 1, layers.len()))?;
            }
            return self.held.put_bytes(&text, &media_type);
        }
        bail!("its indexes are nested more than {INDEX_DEPTH} deep")
    }

    /// Fails if the disk has no room for all layers that are missing, before it is filled by what a registry makes up.
    fn check_room(&self, layers: &[Value]) -> Result<()> {
        let missing = |layer: &&Value| {
            !layout::digest(layer).is_ok_and(|digest| self.held.store().blob(&digest).exists())
        };
        let sizes = layers
            .iter()
            .filter(missing)
            .filter_map(|layer| layer["size"].as_u64());
        let total = sizes.fold(0, u64::saturating_add);
        let disk =
            statvfs(self.held.partial("").as_path()).context("asking for the room on the store's disk")?;
        let room = disk.f_bavail.saturating_mul(disk.f_frsize);
        if total > room {
            bail!("its layers take {total} bytes, and the disk of the store has room for {room}");
        }
        Ok(())
    }

    /// Media type and text of a manifest or index, by tag or digest.
    fn manifest(&mut self, wanted: &str) -> Result<(String, Vec<u8>)> {
        let answer = self
            .client
            .get(&format!("manifests/{wanted}"), &DOCUMENTS.join(", "), 0)?;
        match answer.status().as_u16() {
            200 => {}
            404 => bail!("the registry has no such image"),
            status => bail!("the registry answers with status {status}"),
        }
        let media_type = header(&answer, "content-type").unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        if !DOCUMENTS.contains(&media_type.as_str()) {
            bail!(
                "it is of type '{}', which is not supported",
                media_type.escape_debug()
            );
        }
        let told = header(&answer, "docker-content-digest").map(str::to_owned);
        let text = self.client.body(answer, DOCUMENT_MAX)?;
        let digest = [Some(wanted), told.as_deref()].into_iter().flatten();
        for digits in digest.filter_map(|digest| digest.strip_prefix("sha256:")) {
            check_bytes(&text, digits)?;
        }
        Ok((media_type, text))
    }

    /// Have a blob in the store.
    fn blob(&mut self, descriptor: &Value, max: u64, media_type: &str) -> Result<()> {
        let digest = layout::digest(descriptor)?;
        let size = descriptor["size"]
            .as_u64()
            .context("its manifest does not say how long it is")?;
        if size > max {
            bail!("it is longer than {max} bytes");
        }
        if media_type.is_empty() {
            bail!("its manifest does not say what it is");
        }
        if self.held.has(&digest, size, false) {
            (self.progress)(&digest, size, size);
            return Ok(());
        }
        let path = self.held.partial(&digest);
        let Some(mut file) = lock_partial(&path).context("writing a blob of the store")? else {
            // Another pull was faster.
            return self.blob(descriptor, max, media_type);
        };
        if self.held.has(&digest, size, false) {
            fs::remove_file(&path)?;
            return Ok(());
        }
        self.fetch(&mut file, &digest, size)?;
        if let Err(error) = check_file(&mut file, &digest) {
            // The next one begins anew.
            fs::remove_file(&path)?;
            return Err(error);
        }
        self.held
            .adopt(&file, &path, &digest)
            .context("writing a blob of the store")
    }

    /// Fill a file, going on where it ends.
    fn fetch(&mut self, file: &mut File, digest: &str, size: u64) -> Result<()> {
        let mut have = file.metadata()?.len();
        if have > size {
            file.set_len(0)?;
            have = 0;
        }
        let mut tries = 0;
        while have < size {
            let answer = self.client.get(&format!("blobs/sha256:{digest}"), "*/*", have)?;
            let before = have;
            have = begin(&answer, file, have, size)?;
            if let Err(error) = self.receive(answer, file, digest, &mut have, size) {
                tries += 1;
                if have <= before || tries == TRIES || error.is::<TooLong>() {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Write to a file what comes.
    fn receive(
        &mut self,
        answer: Answer,
        file: &mut File,
        digest: &str,
        have: &mut u64,
        size: u64,
    ) -> Result<()> {
        file.seek(SeekFrom::Start(*have))?;
        let mut from = answer.into_body().into_reader();
        let mut piece = vec![0; PIECE];
        loop {
            let n = from
                .read(&mut piece)
                .map_err(|error| self.client.failure(error.into()))?;
            if n == 0 {
                break;
            }
            if n as u64 > size - *have {
                return Err(TooLong.into());
            }
            file.write_all(&piece[..n])
                .context("writing a blob of the store")?;
            *have += n as u64;
            (self.progress)(digest, size, *have);
        }
        if *have < size {
            bail!("it ended after {have} of {size} bytes");
        }
        Ok(())
    }
}

/// More came than the manifest says.
#[derive(Debug, thiserror::Error)]
#[error("it is longer than its manifest says")]
struct TooLong;

/// Where the body of an answer belongs in a file of which the first `have` bytes were there.
fn begin(answer: &Answer, file: &File, have: u64, size: u64) -> Result<u64> {
    let range = header(answer, "content-range").unwrap_or_default();
    let start = match answer.status().as_u16() {
        206 if range.starts_with(&format!("bytes {have}-")) => have,
        200 => 0,
        // What is here is of no use, and the next answer begins at the beginning.
        206 | 416 => {
            file.set_len(0)?;
            bail!("the registry cannot go on where it stopped; try again");
        }
        404 => bail!("the registry does not have it"),
        status => bail!("the registry answers with status {status}"),
    };
    let told = header(answer, "content-length").and_then(|text| text.parse::<u64>().ok());
    if told.is_some_and(|told| told != size - start) {
        bail!("the registry says that it has another length than its manifest says");
    }
    file.set_len(start)?;
    Ok(start)
}

/// A partial blob, locked; none if it has become a whole one.
fn lock_partial(path: &std::path::Path) -> io::Result<Option<File>> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    cache::lock(&file, true)?;
    let same = fs::metadata(path).is_ok_and(|there| {
        let here = file.metadata();
        here.is_ok_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino()))
    });
    Ok(same.then_some(file))
}

fn check_file(file: &mut File, digest: &str) -> Result<()> {
    file.seek(SeekFrom::Start(0))?;
    compare(&sha256(file)?, digest)
}
