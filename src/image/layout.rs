//! Which layers an image has and how it is to be run: OCI layouts, as directory or archive, and what `docker save` writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use serde_json::Value;

use super::archive::{self, Kind};
use super::blob::Window;
use super::compressed::{Compression, check_bytes, compression};
use super::reference::is_sha256;
use super::store::{LAYER_TYPE, MANIFEST_TYPE};
use crate::platform::HostFile;

/// Longest document, in bytes.
pub(super) const DOCUMENT_MAX: u64 = 8 << 20;

/// How deep indexes may be in each other.
pub(super) const INDEX_DEPTH: usize = 4;

/// Most layers, as docker has it but with room to spare.
const LAYERS_MAX: usize = 1024;

/// Most files of an archive that holds an image.
const PARTS_MAX: usize = 100_000;

/// How an image is to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Variables, `NAME=VALUE`.
    pub env: Vec<String>,
    /// What is run, before the arguments.
    pub entrypoint: Vec<String>,
    /// Arguments, or all of the command, where the user gives none.
    pub cmd: Vec<String>,
    /// USER\[:GROUP\]; empty for root.
    pub user: String,
    /// Working directory; empty for the root.
    pub working_dir: String,
    /// The signal that asks the command to end, if the image says one.
    pub stop_signal: Option<i32>,
}

/// What an image consists of.
#[derive(Clone)]
pub(super) struct Manifest {
    pub(super) config: Config,
    /// Lowest first.
    pub(super) layers: Vec<Layer>,
    /// The configuration as it is written.
    pub(super) config_text: Vec<u8>,
    /// Media type and text of the manifest, if it is one of OCI's kind.
    pub(super) text: Option<(String, Vec<u8>)>,
    /// What it is called there.
    pub(super) name: Option<String>,
}

/// A layer, compressed or not.
#[derive(Clone)]
pub(super) struct Layer {
    pub(super) window: Window,
    /// The SHA-256 that it must have, in hexadecimal.
    pub(super) digest: Option<String>,
    pub(super) media_type: String,
}

/// Where the parts of an image are.
pub(super) enum Source {
    /// In a directory.
    Directory(PathBuf),
    /// In an archive: a part for each name.
    Archive(BTreeMap<Vec<u8>, Window>),
}

/// Whether a directory is an OCI layout.
pub(super) fn is_layout(path: &Path) -> bool {
    path.join("oci-layout").is_file() && path.join("index.json").is_file()
}

/// Whether a name is one that archives of images have, and not that of a file of a root file system.
fn is_part(name: &[u8]) -> bool {
    let known: [&[u8]; 5] = [
        b"",
        b"oci-layout",
        b"index.json",
        b"manifest.json",
        b"repositories",
    ];
    let depth = name.iter().filter(|&&byte| byte == b'/').count();
    let blob = name == b"blobs" || name.starts_with(b"blobs/");
    // `docker save` once wrote a directory for each layer, named by 64 digits, and IMAGE.json; skopeo and podman write LAYER.tar as well.
    let first = name.split(|&byte| byte == b'/').next().unwrap_or_default();
    let digits = |text: &[u8]| text.len() == 64 && text.iter().all(u8::is_ascii_hexdigit);
    let ending = |ending: &[u8]| first.strip_suffix(ending).is_some_and(digits);
    let old = (depth <= 1 && digits(first)) || ending(b".json") || ending(b".tar");
    known.contains(&name) || blob || old
}

/// A name as archives of images have it: without `./` before it and `/` behind it.
fn plain_name(name: &[u8]) -> &[u8] {
    let name = name.strip_prefix(b"./").unwrap_or(name);
    let name = name.strip_suffix(b"/").unwrap_or(name);
    if name == b"." { b"" } else { name }
}

impl Source {
    /// The parts in an archive; none if it is not that of an image.
    pub(super) fn archive(window: &Window) -> Result<Option<Source>> {
        /// Ends the scan of an archive that is something else.
        #[derive(Debug, thiserror::Error)]
        #[error("no image")]
        struct NoImage;

        let mut parts = BTreeMap::new();
        let mut links = Vec::new();
        let scanned = archive::scan(window, &mut |found| {
            let name = plain_name(&found.path);
            if !is_part(name) || parts.len() > PARTS_MAX {
                return Err(NoImage.into());
            }
            match found.kind {
                Kind::File { offset, size } => {
                    let part = window.part(offset - window.start(), size)?;
                    parts.insert(name.to_vec(), part);
                }
                Kind::Link(target) | Kind::HardLink(target) => links.push((name.to_vec(), target)),
                _ => {}
            }
            Ok(())
        });
        match scanned {
            Err(error) if error.is::<NoImage>() => return Ok(None),
            scanned => scanned?,
        }
        // An equal layer is a link to the first one.
        for (name, target) in links {
            let target = plain_name(target.strip_prefix(b"../").unwrap_or(&target));
            if let Some(part) = parts.get(target).cloned() {
                parts.insert(name, part);
            }
        }
        let is_image = |name: &[u8]| parts.contains_key(name);
        Ok((is_image(b"manifest.json") || is_image(b"index.json")).then_some(Source::Archive(parts)))
    }

    /// A part by its name.
    fn part(&self, name: &str) -> Result<Window> {
        let found = match self {
            Source::Archive(parts) => parts.get(plain_name(name.as_bytes())).cloned(),
            Source::Directory(directory) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let directory = openat(CWD, directory, flags, Mode::empty())?;
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                match openat2(directory, name, flags, Mode::empty(), resolve) {
                    Ok(file) => Some(Window::whole(HostFile::new(file)?)?),
                    Err(rustix::io::Errno::NOENT) => None,
                    Err(errno) => return Err(errno).with_context(|| format!("'{}'", name.escape_debug())),
                }
            }
        };
        found.with_context(|| format!("'{}' is missing", name.escape_debug()))
    }

    fn has(&self, name: &str) -> bool {
        self.part(name).is_ok()
    }

    fn json(&self, name: &str) -> Result<Value> {
        let bytes = self.part(name)?.bytes(DOCUMENT_MAX);
        let parsed = bytes.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        parsed.with_context(|| format!("'{}'", name.escape_debug()))
    }

    /// The document of a descriptor, checked against its digest.
    pub(super) fn document(&self, descriptor: &Value) -> Result<Vec<u8>> {
        let digest = digest(descriptor)?;
        let read = || -> Result<Vec<u8>> {
            let part = self.part(&format!("blobs/sha256/{digest}"))?;
            let bytes = part.bytes(DOCUMENT_MAX)?;
            check_bytes(&bytes, &digest)?;
            Ok(bytes)
        };
        read().with_context(|| format!("document sha256:{}", &digest[..12]))
    }
}

/// A document as a tree of values.
pub(super) fn parse(text: &[u8]) -> Result<Value> {
    Ok(serde_json::from_slice(text)?)
}

/// The digits of a descriptor's digest.
pub(super) fn digest(descriptor: &Value) -> Result<String> {
    let text = descriptor["digest"].as_str().unwrap_or_default();
    let digits = text.strip_prefix("sha256:").filter(|digits| is_sha256(digits));
    match digits {
        Some(digits) => Ok(digits.to_owned()),
        None => bail!("'{}' is no sha256 digest", text.escape_debug()),
    }
}

/// Read what an image consists of.
pub(super) fn read(source: &Source) -> Result<Manifest> {
    match source {
        // A directory is a layout; what cannot be read of it is to be said.
        Source::Archive(_) if !source.has("index.json") => docker(source),
        _ => oci(source),
    }
}

fn oci(source: &Source) -> Result<Manifest> {
    let index = source.json("index.json")?;
    of_descriptor(source, choose(&index)?)
}

/// Read what the image consists of that a descriptor leads to: by its manifest, or by an index of manifests.
pub(super) fn of_descriptor(source: &Source, descriptor: &Value) -> Result<Manifest> {
    let mut chosen = descriptor.clone();
    for _ in 0..INDEX_DEPTH {
        let text = source.document(&chosen)?;
        let document = parse(&text)?;
        if document["manifests"].is_array() {
            chosen = choose(&document)?.clone();
            continue;
        }
        let config_text = source.document(&document["config"]);
        let config_text = config_text.context("the image's configuration")?;
        let layers = layers(&document)?
            .iter()
            .map(|descriptor| layer(source, descriptor));
        let media_type = chosen["mediaType"].as_str().or(document["mediaType"].as_str());
        let name = |key: &str| descriptor["annotations"][key].as_str().map(str::to_owned);
        return Ok(Manifest {
            config: config_of(&parse(&config_text).context("the image's configuration")?),
            layers: layers.collect::<Result<_>>()?,
            config_text,
            text: Some((media_type.unwrap_or(MANIFEST_TYPE).to_owned(), text)),
            name: name("io.containerd.image.name").or_else(|| name("org.opencontainers.image.ref.name")),
        });
    }
    bail!("its indexes are nested more than {INDEX_DEPTH} deep")
}

/// What a manifest says of its layers.
pub(super) fn layers(manifest: &Value) -> Result<&[Value]> {
    let Some(descriptors) = manifest["layers"].as_array() else {
        bail!("its manifest names no layers");
    };
    check_count(descriptors.len())?;
    Ok(descriptors)
}

/// The media type of a layer, if it is one that can be read.
pub(super) fn layer_type(descriptor: &Value) -> Result<&str> {
    let media_type = descriptor["mediaType"].as_str().unwrap_or_default();
    if !media_type.contains("layer") && !media_type.contains("rootfs") || media_type.contains("encrypted") {
        bail!(
            "a layer is of type '{}', which is not supported",
            media_type.escape_debug()
        );
    }
    Ok(media_type)
}

/// A layer of an OCI image.
fn layer(source: &Source, descriptor: &Value) -> Result<Layer> {
    let media_type = layer_type(descriptor)?;
    let digest = digest(descriptor)?;
    let window = source.part(&format!("blobs/sha256/{digest}"))?;
    let told = descriptor["size"].as_u64();
    if told.is_some_and(|size| size != window.len()) {
        bail!(
            "layer sha256:{} has another length than its manifest says",
            &digest[..12]
        );
    }
    Ok(Layer {
        window,
        digest: Some(digest),
        media_type: media_type.to_owned(),
    })
}

/// The manifest for this machine: the only one, or the first for amd64.
pub(super) fn choose(index: &Value) -> Result<&Value> {
    let all = index["manifests"]
        .as_array()
        .context("an index without manifests")?;
    let fits = |one: &&Value| {
        let platform = &one["platform"];
        platform["architecture"] == "amd64" && platform["os"] == "linux"
    };
    match all.as_slice() {
        [] => bail!("it holds no image"),
        [only] => Ok(only),
        several => several
            .iter()
            .find(fits)
            .context("it holds several images, none of them for linux/amd64"),
    }
}

fn docker(source: &Source) -> Result<Manifest> {
    let manifest = source.json("manifest.json")?;
    let Some([image]) = manifest.as_array().map(Vec::as_slice) else {
        bail!("manifest.json does not name exactly one image");
    };
    let config = image["Config"].as_str();
    let config = config.context("manifest.json names no configuration")?;
    let config_text = source.part(config)?.bytes(DOCUMENT_MAX)?;
    let names = strings(&image["Layers"]);
    check_count(names.len())?;
    let document = parse(&config_text).with_context(|| format!("'{}'", config.escape_debug()))?;
    let ids = strings(&document["rootfs"]["diff_ids"]);
    let layer = |(number, name): (usize, &String)| -> Result<Layer> {
        let window = source.part(name)?;
        let compression = compression(&window)?;
        // The configuration says what comes out of a layer, which is the layer itself if it is not compressed.
        let digest = match compression {
            None => ids.get(number).and_then(|id| id.strip_prefix("sha256:")),
            Some(_) => name.strip_prefix("blobs/sha256/"),
        };
        let ending = match compression {
            None => "",
            Some(Compression::Gzip) => "+gzip",
            Some(Compression::Zstd) => "+zstd",
            Some(Compression::Xz) => "+xz",
        };
        Ok(Layer {
            window,
            digest: digest.filter(|digits| is_sha256(digits)).map(str::to_owned),
            media_type: format!("{LAYER_TYPE}{ending}"),
        })
    };
    Ok(Manifest {
        config: config_of(&document),
        layers: names.iter().enumerate().map(layer).collect::<Result<_>>()?,
        config_text,
        text: None,
        name: strings(&image["RepoTags"]).into_iter().next(),
    })
}

fn check_count(layers: usize) -> Result<()> {
    if layers > LAYERS_MAX {
        bail!("it has more than {LAYERS_MAX} layers");
    }
    Ok(())
}

fn strings(list: &Value) -> Vec<String> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn config_of(document: &Value) -> Config {
    let config = &document["config"];
    let text = |name: &str| config[name].as_str().unwrap_or_default().to_owned();
    Config {
        env: strings(&config["Env"]),
        entrypoint: strings(&config["Entrypoint"]),
        cmd: strings(&config["Cmd"]),
        user: text("User"),
        working_dir: text("WorkingDir"),
        stop_signal: signal_number(&text("StopSignal")),
    }
}

/// A signal by its name, with or without SIG, by its number, or by its distance from SIGRTMIN.
fn signal_number(text: &str) -> Option<i32> {
    /// As C libraries have it: the kernel's first two are their own.
    const SIGRTMIN: i32 = 34;
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let named = || nix::sys::signal::Signal::from_str(&format!("SIG{name}")).ok();
    let number = match name.strip_prefix("RTMIN") {
        Some("") => Some(SIGRTMIN),
        Some(distance) => distance
            .parse::<u8>()
            .ok()
            .map(|distance| SIGRTMIN + i32::from(distance)),
        None => text.parse().ok().or_else(|| named().map(|signal| signal as i32)),
    };
    number.filter(|number| (1..=64).contains(number))
}

#[cfg(test)]
mod tests {
    use super::signal_number;

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in [
            ("SIGQUIT", Some(3)),
            ("QUIT", Some(3)),
            ("15", Some(15)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN+30", Some(64)),
            ("SIGRTMIN+31", None),
            ("SIGRTMIN+999", None),
            ("0", None),
            ("65", None),
            ("SIGNOTHING", None),
            ("", None),
        ] {
            assert_eq!(signal_number(text), number, "{text}");
        }
    }
}
