//! The documents of an image: descriptors, configurations, manifests, times.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Media type of a manifest.
pub(in crate::image) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of a configuration.
pub(in crate::image) const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a layer that is not compressed.
pub(in crate::image) const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// What leads to a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Digits of its SHA-256.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

impl Descriptor {
    /// As manifests have it.
    pub fn to_json(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": format!("sha256:{}", self.digest),
            "size": self.size,
        })
    }
}

/// A manifest that names a configuration and layers, lowest first.
pub(in crate::image) fn manifest(config: &Descriptor, layers: &[Descriptor]) -> Value {
    let layers: Vec<Value> = layers.iter().map(Descriptor::to_json).collect();
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config.to_json(),
        "layers": layers,
    })
}

/// The configuration of an image that has one layer and says nothing of how it is run.
pub(in crate::image) fn plain_config(created: &str) -> Value {
    json!({
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    })
}

/// Say in a configuration that a layer comes upon the others.
pub(in crate::image) fn add_layer(config: &mut Value, diff_id: &str, created: &str, by: &str) -> Result<()> {
    config["created"] = json!(created);
    let ids = config["rootfs"]["diff_ids"].as_array_mut();
    ids.context("its configuration lists no layers")?
        .push(json!(format!("sha256:{diff_id}")));
    if config["history"].is_null() {
        config["history"] = json!([]);
    }
    let history = config["history"].as_array_mut();
    history
        .context("its configuration has a history that is no list")?
        .push(json!({"created": created, "created_by": by}));
    Ok(())
}

/// The latest time that anything made here has, by the variable SOURCE_DATE_EPOCH: seconds since 1970.
pub fn epoch() -> Result<Option<i64>> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else {
        return Ok(None);
    };
    let number = text.to_str().and_then(|text| text.parse().ok());
    let number = number.filter(|seconds| (0..1 << 40).contains(seconds));
    number.map(Some).with_context(|| {
        format!(
            "SOURCE_DATE_EPOCH is '{}', which is no time in seconds",
            text.display()
        )
    })
}

/// When an image is made: now, or [`epoch`].
pub fn created_now() -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs().cast_signed());
    Ok(rfc3339(epoch()?.unwrap_or(now)))
}

/// A time in seconds since 1970 as RFC 3339 has it, in UTC.
pub fn rfc3339(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    // Years that begin in March: the day that comes and goes is a year's last one.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..=9 => (year + era * 400, month + 3),
        _ => (year + era * 400 + 1, month - 9),
    };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_704_067_199, "2023-12-31T23:59:59Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
