//! Names of images: `NAME[:TAG][@sha256:DIGEST]`.

use std::fmt;

use anyhow::{Result, bail};

/// The tag where none is given.
const DEFAULT_TAG: &str = "latest";

/// Longest name, in bytes.
const NAME_MAX: usize = 255;
/// Longest tag, in bytes.
const TAG_MAX: usize = 128;

/// The name of an image, as users write it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The repository: a path, perhaps with the host of a registry before it.
    pub name: String,
    /// The tag; none if there is a digest instead.
    pub tag: Option<String>,
    /// Digits of the manifest's SHA-256.
    pub digest: Option<String>,
}

impl Reference {
    /// Read what a user wrote. With neither a tag nor a digest the tag is `latest`.
    pub fn parse(text: &str) -> Result<Reference> {
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => match digest.strip_prefix("sha256:") {
                Some(digits) if is_sha256(digits) => (rest, Some(digits.to_owned())),
                _ => bail!("'{}' is no digest: sha256: and 64 digits", digest.escape_debug()),
            },
        };
        let last = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[last..].rfind(':') {
            Some(colon) => (&rest[..last + colon], Some(&rest[last + colon + 1..])),
            None => (rest, None),
        };
        if !is_name(name) {
            bail!(
                "'{}' is no name of an image: lower-case letters, digits and single '.', '_', '-' and '/' between them",
                name.escape_debug()
            );
        }
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            bail!(
                "'{}' is no tag: at most {TAG_MAX} letters, digits, '_', '.' and '-'",
                tag.escape_debug()
            );
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG),
            (tag, _) => tag,
        };
        Ok(Reference {
            name: name.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// The registry's host, with its port, and the repository there; no host if the name says none.
    pub fn host(&self) -> (Option<&str>, &str) {
        match self.name.split_once('/') {
            Some((host, path)) if is_host(host) => (Some(host), path),
            _ => (None, &self.name),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@sha256:{digest}")?;
        }
        Ok(())
    }
}

/// Whether this is a SHA-256 in lower-case hexadecimal.
pub(super) fn is_sha256(digits: &str) -> bool {
    digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether the first part of a name is the host of a registry, as docker tells them apart.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

fn is_name(name: &str) -> bool {
    let path = match name.split_once('/') {
        Some((host, path)) if is_host(host) => {
            if !is_address(host) {
                return false;
            }
            path
        }
        _ => name,
    };
    name.len() <= NAME_MAX && path.split('/').all(is_component)
}

/// A host name or an address, perhaps with a port.
fn is_address(host: &str) -> bool {
    let (host, port) = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => (&host[..colon], Some(&host[colon + 1..])),
        _ => (host, None),
    };
    let port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let fits = match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
            host.bytes().all(known) && host.split('.').all(|label| !label.is_empty())
        }
    };
    port && fits
}

/// Letters and digits with separators between: one of `.` `_` `__`, or any number of `-`.
fn is_component(part: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = part.bytes().next().is_some_and(is_word) && part.bytes().last().is_some_and(is_word);
    let separators = part.split(|c: char| c.is_ascii() && is_word(c as u8));
    ends && separators
        .filter(|text| !text.is_empty())
        .all(|text| matches!(text, "." | "_" | "__") || text.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let digest = "0123456789abcdef".repeat(4);
        for (text, shown, host) in [
            ("debian", "debian:latest", None),
            ("a/b-c__d.e:1.2_X", "a/b-c__d.e:1.2_X", None),
            ("localhost/a", "localhost/a:latest", Some("localhost")),
            (
                "127.0.0.1:5000/a/b:t",
                "127.0.0.1:5000/a/b:t",
                Some("127.0.0.1:5000"),
            ),
            ("[::1]:5000/a", "[::1]:5000/a:latest", Some("[::1]:5000")),
            (
                "Registry.example/a",
                "Registry.example/a:latest",
                Some("Registry.example"),
            ),
        ] {
            let read = Reference::parse(text).unwrap();
            assert_eq!((read.to_string().as_str(), read.host().0), (shown, host));
            assert_eq!(Reference::parse(shown).unwrap(), read);
        }
        let by_digest = format!("a/b@sha256:{digest}");
        assert_eq!(Reference::parse(&by_digest).unwrap().to_string(), by_digest);
        assert_eq!(Reference::parse(&by_digest).unwrap().tag, None);
    }

    #[test]
    fn others_are_refused() {
        for bad in [
            "",
            ":",
            "A",
            "a/",
            "/a",
            "a//b",
            "../a",
            "a/..",
            "a:",
            "a:.x",
            "a:b:c",
            "a b",
            "a@",
            "a@sha256:12",
            "a@md5:0",
            "a..b",
            "a___b",
            "-a",
            "ä",
            "a\n",
            "host:99999999/a",
            "[::1/a",
            "a.b:/x",
            ".",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Reference::parse(&"a".repeat(256)).is_err());
        assert!(Reference::parse(&format!("a:{}", "t".repeat(129))).is_err());
    }
}
