//! Values of options: sizes, volumes, environment.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::image::Reference;
use crate::machine::{
    BackEndKind, ConsoleName, ConsoleTo, DiskFile, DiskFormat, DiskWrites, TmpfsMount, Volume,
};

/// A number of bytes: `4096`, `64k`, `10m`, `2g` (powers of 1024).
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        "t" | "tb" => 40,
        _ => return Err(format!("'{text}' is no size: give a number with k, m, g or t")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("'{text}' is no size: give a number with k, m, g or t"))?;
    number
        .checked_mul(1 << unit)
        .filter(|n| *n <= i64::MAX as u64)
        .ok_or(format!("'{text}' is too large"))
}

/// Seconds, with a fraction if wanted, more than 0.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no number of seconds above 0");
    let number: f64 = text.parse().map_err(|_| wrong())?;
    if number <= 0.0 {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(number).map_err(|_| wrong())
}

/// `SRC:DST[:ro|:rw]`.
pub(super) fn volume(text: &OsStr) -> Result<Volume> {
    let shown = text.to_string_lossy();
    let mut parts: Vec<&[u8]> = text.as_bytes().split(|&b| b == b':').collect();
    let read_only = match parts.last() {
        Some(&b"ro") if parts.len() == 3 => true,
        Some(&b"rw") if parts.len() == 3 => false,
        _ if parts.len() == 2 => false,
        _ => bail!("-v '{shown}': give SRC:DST or SRC:DST:ro"),
    };
    parts.truncate(2);
    let (source, target) = (parts[0], parts[1]);
    if source.is_empty() {
        bail!("-v '{shown}': the source is empty");
    }
    Ok(Volume {
        source: PathBuf::from(OsStr::from_bytes(source)),
        target: absolute(target).with_context(|| format!("-v '{shown}'"))?,
        read_only,
    })
}

/// `FILE[:raw|:qcow2][:ro|:cow]`.
pub(super) fn disk(text: &OsStr) -> Result<DiskFile> {
    let bytes = text.as_bytes();
    let (bytes, writes) = match (bytes.strip_suffix(b":ro"), bytes.strip_suffix(b":cow")) {
        (Some(rest), _) => (rest, DiskWrites::Refused),
        (_, Some(rest)) => (rest, DiskWrites::Kept),
        _ => (bytes, DiskWrites::Through),
    };
    let (path, format) = match (bytes.strip_suffix(b":raw"), bytes.strip_suffix(b":qcow2")) {
        (Some(path), _) => (path, Some(DiskFormat::Raw)),
        (_, Some(path)) => (path, Some(DiskFormat::Qcow2)),
        _ => (bytes, None),
    };
    if path.is_empty() {
        bail!(
            "--disk '{}': give FILE, with :raw or :qcow2, and :ro or :cow behind it",
            text.to_string_lossy()
        );
    }
    let path = PathBuf::from(OsStr::from_bytes(path));
    Ok(DiskFile { path, format, writes })
}

/// `[NAME=]stdio|pty|file:PATH|unix:PATH`.
pub(super) fn console(text: &OsStr) -> Result<ConsoleTo> {
    let wrong = || {
        let shown = text.to_string_lossy();
        anyhow!(
            "--console '{shown}': give stdio, pty, file:PATH or unix:PATH, after ttyS0= or hvc0= if wanted"
        )
    };
    let bytes = text.as_bytes();
    let (name, to) = if let Some(to) = bytes.strip_prefix(b"hvc0=") {
        (ConsoleName::Hvc0, to)
    } else {
        (ConsoleName::TtyS0, bytes.strip_prefix(b"ttyS0=").unwrap_or(bytes))
    };
    let path = |path: &[u8]| match path {
        [] => Err(wrong()),
        path => Ok(PathBuf::from(OsStr::from_bytes(path))),
    };
    let kind = match (to, to.strip_prefix(b"file:"), to.strip_prefix(b"unix:")) {
        (b"stdio", ..) => BackEndKind::Stdio,
        (b"pty", ..) => BackEndKind::Pty,
        (_, Some(file), _) => BackEndKind::File(path(file)?),
        (_, _, Some(socket)) => BackEndKind::Unix(path(socket)?),
        _ => return Err(wrong()),
    };
    Ok(ConsoleTo { name, kind })
}

/// `DST[:size=SIZE]`.
pub(super) fn tmpfs(text: &OsStr) -> Result<TmpfsMount> {
    let shown = text.to_string_lossy();
    let mut parts = text.as_bytes().splitn(2, |&b| b == b':');
    let target = absolute(parts.next().unwrap_or_default()).with_context(|| format!("--tmpfs '{shown}'"))?;
    let mut limit = None;
    for option in parts.next().into_iter().flat_map(|o| o.split(|&b| b == b',')) {
        let option = String::from_utf8_lossy(option);
        let Some(value) = option.strip_prefix("size=") else {
            bail!("--tmpfs '{shown}': unknown option '{option}', only size= is known");
        };
        limit = Some(
            size(value)
                .map_err(anyhow::Error::msg)
                .with_context(|| format!("--tmpfs '{shown}'"))?,
        );
    }
    Ok(TmpfsMount { target, size: limit })
}

fn absolute(path: &[u8]) -> Result<OsString> {
    if path.first() != Some(&b'/') {
        bail!(
            "'{}' is no absolute path in the guest",
            String::from_utf8_lossy(path)
        );
    }
    Ok(OsStr::from_bytes(path).to_owned())
}

/// `K=V`, or `K` for the value it has on the host (nothing if it has none).
pub(super) fn env(text: &OsStr) -> Result<Option<(OsString, OsString)>> {
    let bytes = text.as_bytes();
    let split = bytes.iter().position(|&b| b == b'=');
    let name = &bytes[..split.unwrap_or(bytes.len())];
    if name.is_empty() {
        bail!(
            "-e '{}': the name is empty; give NAME=VALUE",
            text.to_string_lossy()
        );
    }
    if bytes.contains(&0) {
        bail!("-e: a zero byte in '{}'", text.to_string_lossy());
    }
    let name = OsStr::from_bytes(name).to_owned();
    Ok(match split {
        Some(at) => Some((name, OsStr::from_bytes(&bytes[at + 1..]).to_owned())),
        None => std::env::var_os(&name).map(|value| (name, value)),
    })
}

/// Lines of `-e` values; empty lines and those that begin with `#` are skipped.
pub(super) fn env_file(path: &Path) -> Result<Vec<(OsString, OsString)>> {
    let bytes = std::fs::read(path).with_context(|| format!("--env-file {}", path.display()))?;
    let mut found = Vec::new();
    for (number, line) in bytes.split(|&b| b == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.trim_ascii().is_empty() || line.trim_ascii_start().starts_with(b"#") {
            continue;
        }
        let line = OsString::from_vec(line.to_vec());
        found.extend(
            env(&line).with_context(|| format!("--env-file {}, line {}", path.display(), number + 1))?,
        );
    }
    Ok(found)
}

/// The name of an image.
pub(super) fn reference(text: &str) -> Result<Reference, String> {
    Reference::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("64k"), Ok(65536));
        assert_eq!(size("2G"), Ok(2 << 30));
        for wrong in ["", "k", "-1", "1.5g", "9999999999t", "12q", "0x10"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["", "0", "-1", "nan", "inf", "1e400", "soon"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn volumes() {
        let v = volume(OsStr::new("/a:/b:ro")).unwrap();
        assert_eq!(
            (v.source, v.target, v.read_only),
            ("/a".into(), "/b".into(), true)
        );
        for wrong in ["", "/a", "/a:b", ":/b", "/a:/b:rx", "/a:/b:ro:x"] {
            assert!(volume(OsStr::new(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn disks() {
        let writes = |text| disk(OsStr::new(text)).map(|disk| (disk.path, disk.writes)).ok();
        assert_eq!(writes("a:b"), Some(("a:b".into(), DiskWrites::Through)));
        assert_eq!(writes("a:ro"), Some(("a".into(), DiskWrites::Refused)));
        assert_eq!(writes("a:cow"), Some(("a".into(), DiskWrites::Kept)));
        assert_eq!((writes(""), writes(":cow")), (None, None));
        let both = disk(OsStr::new("a:qcow2:cow")).unwrap();
        assert_eq!(
            (both.path, both.format, both.writes),
            ("a".into(), Some(DiskFormat::Qcow2), DiskWrites::Kept)
        );
        assert_eq!(disk(OsStr::new("a:raw")).unwrap().format, Some(DiskFormat::Raw));
        assert!(disk(OsStr::new(":raw:ro")).is_err());
    }

    #[test]
    fn consoles() {
        let parsed = |text| console(OsStr::new(text)).map(|to| (to.name, to.kind)).ok();
        let (serial, hvc) = (ConsoleName::TtyS0, ConsoleName::Hvc0);
        assert_eq!(parsed("stdio"), Some((serial, BackEndKind::Stdio)));
        assert_eq!(parsed("hvc0=pty"), Some((hvc, BackEndKind::Pty)));
        let file = BackEndKind::File("a=b:c".into());
        assert_eq!(parsed("ttyS0=file:a=b:c"), Some((serial, file)));
        assert_eq!(parsed("unix:/s"), Some((serial, BackEndKind::Unix("/s".into()))));
        for wrong in [
            "",
            "file:",
            "unix:",
            "hvc0=",
            "tty0=pty",
            "ttyS1=pty",
            "Pty",
            "pty:",
            "tcp:1",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn tmpfs_mounts() {
        assert_eq!(tmpfs(OsStr::new("/t:size=1m")).unwrap().size, Some(1 << 20));
        for wrong in ["", "t", "/t:size=", "/t:mode=1"] {
            assert!(tmpfs(OsStr::new(wrong)).is_err(), "{wrong}");
        }
    }
}
