//! Whose certificates are believed, and why one is not.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::CertificateError as Bad;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Where the certificates of this machine's authorities are: Debian's place, Fedora's, openSUSE's, Alpine's.
const CERTIFICATES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS by this machine's own list of authorities, and by those in a file of the user's.
pub(super) fn config(authority: Option<&Path>) -> Result<TlsConfig> {
    let mut roots = Vec::new();
    if let Some(path) = authority {
        let read = std::fs::read(path).map_err(anyhow::Error::from);
        roots = read
            .and_then(|text| match certificates(&text) {
                none if none.is_empty() => bail!("there is no certificate in it, as PEM has them"),
                some => Ok(some),
            })
            .with_context(|| path.display().to_string())?;
    }
    let named = std::env::var_os("SSL_CERT_FILE");
    let places = named.iter().map(Path::new);
    let mut places = places.chain(CERTIFICATES.iter().map(Path::new));
    if let Some(text) = places.find_map(|place| std::fs::read(place).ok()) {
        roots.extend(certificates(&text));
    }
    if roots.is_empty() {
        bail!(
            "this machine has no list of certificate authorities; install ca-certificates, or set SSL_CERT_FILE"
        );
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

fn certificates(text: &[u8]) -> Vec<Certificate<'static>> {
    let items = parse_pem(text).filter_map(Result::ok);
    let certificate = |item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    };
    items.filter_map(certificate).collect()
}

/// What is wrong with a certificate, if that is why a connection failed.
pub(super) fn distrust(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(bad) = error else {
        return None;
    };
    Some(match bad {
        Bad::UnknownIssuer => {
            "its certificate comes from no authority that is known here; --ca FILE adds one".to_owned()
        }
        Bad::Expired | Bad::ExpiredContext { .. } => "its certificate has expired".to_owned(),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => "its certificate is not valid yet".to_owned(),
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
            "its certificate is for another name".to_owned()
        }
        Bad::Other(why) => format!("its certificate is none for a server ({why})"),
        other => format!("its certificate: {other}"),
    })
}
