//! pax records: `LENGTH KEY=VALUE\n`.

use anyhow::{Context, Result, bail};

use super::sparse::PaxSparse;
use crate::kernel::fs::imagefs::Xattr;
use crate::kernel::time::Timestamp;

/// What the records before a file say of it.
#[derive(Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) sparse: PaxSparse,
}

impl Pax {
    pub(super) fn parse(mut text: &[u8]) -> Result<Pax> {
        let mut pax = Pax::default();
        while let Some(blank) = text.iter().position(|&byte| byte == b' ') {
            let len: usize = number(&text[..blank])?.try_into()?;
            let Some(record) = text.get(blank + 1..len).and_then(|r| r.strip_suffix(b"\n")) else {
                bail!("a pax record has a wrong length");
            };
            let equals = record.iter().position(|&byte| byte == b'=');
            let equals = equals.context("a pax record has no value")?;
            pax.record(&record[..equals], &record[equals + 1..])?;
            text = &text[len..];
        }
        Ok(pax)
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.uid = Some(number(value)?),
            b"gid" => self.gid = Some(number(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"GNU.sparse.name" => self.path = Some(value.to_vec()),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattr(name, value);
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.record(key, value)?;
                }
            }
        }
        Ok(())
    }

    /// Access control lists and the like are not kept: nothing here would act on them.
    fn xattr(&mut self, name: &[u8], value: &[u8]) {
        let kept: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
        if kept.iter().any(|prefix| name.starts_with(prefix)) && name.len() <= 255 && value.len() <= 64 << 10
        {
            self.xattrs.push((name.into(), value.into()));
        }
    }
}

/// A decimal number.
pub(super) fn number(text: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(text)
        .ok()
        .filter(|text| !text.starts_with('+'));
    text.and_then(|text| text.parse().ok())
        .context("a number of a pax record is none")
}

/// Seconds with a fraction, perhaps before 1970.
fn time(text: &[u8]) -> Result<Timestamp> {
    let wrong = "a time of a pax record is none";
    let text = std::str::from_utf8(text).context(wrong)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let sec: i64 = whole.parse().context(wrong)?;
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nsec: u32 = digits.parse().context(wrong)?;
    Ok(match (whole.starts_with('-'), nsec) {
        (true, 1..) => Timestamp {
            sec: sec.checked_sub(1).context(wrong)?,
            nsec: 1_000_000_000 - nsec,
        },
        _ => Timestamp { sec, nsec },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let pax =
            Pax::parse(b"12 path=a/b\n28 SCHILY.xattr.user.x=\n=\0\n\n22 mtime=1.5000000000\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!(*pax.xattrs[0].1, *b"\n=\0\n");
        assert_eq!(
            pax.mtime,
            Some(Timestamp {
                sec: 1,
                nsec: 500_000_000
            })
        );
        let before = Timestamp {
            sec: -2,
            nsec: 750_000_000,
        };
        assert_eq!(time(b"-1.25").unwrap(), before);
        for bad in [
            "9 path=a/b\n",
            "99 path=a\n",
            "x path=a\n",
            "5 a\n\n",
            "10 size=-1\n",
            "0 path=a\n",
            "11 mtime=x\n",
        ] {
            assert!(Pax::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
