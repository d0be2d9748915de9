//! What the user has said of registries: `$XDG_CONFIG_HOME/uvm/registries.json`, and passwords in docker's `config.json`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// A user of a registry.
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

/// `registries.json`: `{"default": HOST, "mirrors": {HOST: HOST}, "insecure": [HOST], "ca": {HOST: FILE}}`.
pub(super) struct Registries {
    path: Option<PathBuf>,
    value: Value,
}

impl Registries {
    pub(super) fn read() -> Result<Registries> {
        let path = directory("XDG_CONFIG_HOME", ".config").map(|path| path.join("uvm/registries.json"));
        let value = match &path {
            Some(path) => document(path)?,
            None => Value::Null,
        };
        Ok(Registries { path, value })
    }

    /// The registry of names that say none.
    pub(super) fn default(&self) -> Result<String> {
        let host = self.value["default"].as_str().map(str::to_owned);
        host.with_context(|| {
            let place = self
                .path
                .as_ref()
                .map_or("registries.json".into(), |path| path.display().to_string());
            format!("the name says no registry: write HOST/NAME, or set \"default\" in {place}")
        })
    }

    /// What is asked instead of a registry.
    pub(super) fn mirror(&self, host: &str) -> Option<String> {
        self.value["mirrors"][host].as_str().map(str::to_owned)
    }

    /// The file of authorities that are believed of a registry.
    pub(super) fn authority(&self, host: &str) -> Option<PathBuf> {
        self.value["ca"][host].as_str().map(PathBuf::from)
    }

    /// Whether a registry speaks plain HTTP.
    pub(super) fn is_insecure(&self, host: &str) -> bool {
        let listed = self.value["insecure"].as_array();
        listed.is_some_and(|hosts| hosts.iter().any(|known| known == host))
    }
}

/// The name and password for a registry in docker's configuration.
pub(super) fn credentials(host: &str) -> Result<Option<Credentials>> {
    let Some(directory) = directory("DOCKER_CONFIG", ".docker") else {
        return Ok(None);
    };
    let document = document(&directory.join("config.json"))?;
    let Some(auths) = document["auths"].as_object() else {
        return Ok(None);
    };
    // Old entries are URLs.
    let is_host = |key: &str| {
        let key = key.trim_start_matches("https://").trim_start_matches("http://");
        key.split('/').next() == Some(host)
    };
    let Some((_, entry)) = auths.iter().find(|(key, _)| is_host(key)) else {
        return Ok(None);
    };
    let Some(auth) = entry["auth"].as_str() else {
        return Ok(None);
    };
    let text = STANDARD
        .decode(auth)
        .ok()
        .and_then(|text| String::from_utf8(text).ok());
    let text = text.with_context(|| format!("docker's config.json has a damaged entry for {host}"))?;
    let pair = text.split_once(':');
    Ok(pair.map(|(user, password)| Credentials {
        user: user.to_owned(),
        password: password.to_owned(),
    }))
}

/// The directory that a variable names, or one of this name in the home.
fn directory(variable: &str, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(name));
    named.filter(|path| path.is_absolute()).or_else(home)
}

/// A JSON document of the user's; null if it is not there.
fn document(path: &Path) -> Result<Value> {
    let read = || -> Result<Value> {
        match std::fs::read(path) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
            Err(error) => Err(error.into()),
        }
    };
    read().with_context(|| path.display().to_string())
}
