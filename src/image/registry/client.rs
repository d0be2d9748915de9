//! Requests to one registry: where they go, who they say they are from, how long they may take.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body, Error, Timeout};

use super::config::Credentials;
use super::tls;

/// Most redirects that are followed.
const REDIRECTS_MAX: usize = 5;
/// Longest answer of a server that gives out tokens, in bytes.
const TOKEN_MAX: u64 = 1 << 20;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(20);
/// What comes back.
pub(super) type Answer = Response<Body>;

/// A registry and one repository there.
pub(super) struct Client {
    agent: Agent,
    /// Scheme, host and port.
    origin: String,
    repository: String,
    credentials: Option<Credentials>,
    /// The header that the registry wanted last.
    authorization: Option<String>,
    /// Whether plain HTTP will do.
    insecure: bool,
    /// How long nothing may come.
    patience: Duration,
}

impl Client {
    pub(super) fn new(
        host: &str,
        repository: &str,
        insecure: bool,
        credentials: Option<Credentials>,
        authority: Option<&Path>,
        patience: Duration,
    ) -> Result<Client> {
        let scheme = if insecure { "http" } else { "https" };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("uvm/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(CONNECT.min(patience)))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience));
        if !insecure {
            config = config.tls_config(tls::config(authority)?);
        }
        Ok(Client {
            agent: config.build().new_agent(),
            origin: format!("{scheme}://{host}"),
            repository: repository.to_owned(),
            credentials,
            authorization: None,
            insecure,
            patience,
        })
    }

    /// Ask for something of the repository, from a byte on. Whatever the status of the answer is, it is neither a redirect nor
    /// a wish to know who asks.
    pub(super) fn get(&mut self, path: &str, accept: &str, from: u64) -> Result<Answer> {
        let url = format!("{}/v2/{}/{path}", self.origin, self.repository);
        let answer = self.follow(&url, accept, from)?;
        if answer.status() != 401 {
            return Ok(answer);
        }
        let wanted = header(&answer, "www-authenticate").unwrap_or_default().to_owned();
        self.authorization = Some(self.introduce(&wanted)?);
        let answer = self.follow(&url, accept, from)?;
        match answer.status().as_u16() {
            401 | 403 => bail!(
                "the registry does not let this user have it (status {})",
                answer.status().as_u16()
            ),
            _ => Ok(answer),
        }
    }

    /// Ask, and follow redirects. Only the registry itself is told who asks.
    fn follow(&self, url: &str, accept: &str, from: u64) -> Result<Answer> {
        let mut url = url.to_owned();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self.agent.get(&url).header("Accept", accept);
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            if let Some(authorization) = &self.authorization
                && origin(&url).is_some_and(|origin| origin == self.origin)
            {
                request = request.header("Authorization", authorization);
            }
            let answer = request.call().map_err(|error| self.failure(error))?;
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let location = header(&answer, "location").context("a redirect that leads nowhere")?;
            url = match location.strip_prefix('/') {
                Some(path) if !path.starts_with('/') => {
                    format!("{}/{path}", origin(&url).context("a redirect from nowhere")?)
                }
                _ => location.to_owned(),
            };
            self.check_scheme(&url, "redirects")?;
        }
        bail!("the registry redirects in circles, or more than {REDIRECTS_MAX} times")
    }

    /// Passwords and images do not change from HTTPS to plain HTTP on the way.
    fn check_scheme(&self, url: &str, what: &str) -> Result<()> {
        let scheme = origin(url).unwrap_or_default();
        match scheme.split(':').next() {
            Some("https") => Ok(()),
            Some("http") if self.insecure => Ok(()),
            _ => bail!(
                "the registry {what} to '{}', which is not HTTPS",
                url.escape_debug()
            ),
        }
    }

    /// The header that says who asks, as the registry wants it.
    fn introduce(&self, wanted: &str) -> Result<String> {
        let (scheme, rest) = wanted.split_once(' ').unwrap_or((wanted, ""));
        let basic = self.credentials.as_ref().map(|known| {
            let text = STANDARD.encode(format!("{}:{}", known.user, known.password));
            format!("Basic {text}")
        });
        if scheme.eq_ignore_ascii_case("basic") {
            return basic
                .context("the registry wants a name and password; docker's config.json has none for it");
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            bail!("the registry wants to know who asks in a way that is not supported");
        }
        let parameters = parameters(rest);
        let value = |name: &str| parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        let (_, realm) = value("realm").context("the registry wants a token and does not say from where")?;
        self.check_scheme(realm, "sends for tokens")?;
        let mut request = self.agent.get(realm);
        let scope = format!("repository:{}:pull", self.repository);
        let scope = value("scope").map_or(scope.as_str(), |(_, scope)| scope);
        request = request.query("scope", scope);
        if let Some((_, service)) = value("service") {
            request = request.query("service", service);
        }
        if let Some(basic) = basic {
            request = request.header("Authorization", basic);
        }
        let answer = request.call().map_err(|error| self.failure(error))?;
        if answer.status() != 200 {
            bail!(
                "the registry gives no token for it (status {})",
                answer.status().as_u16()
            );
        }
        let text = self.body(answer, TOKEN_MAX).context("a token of the registry")?;
        let token: Value = serde_json::from_slice(&text).context("a token of the registry")?;
        let text = token["token"].as_str().or(token["access_token"].as_str());
        let fits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let text = text.filter(fits).context("the registry's answer has no token")?;
        Ok(format!("Bearer {text}"))
    }

    /// All of an answer, if it is not longer than `max`.
    pub(super) fn body(&self, answer: Answer, max: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut reader = answer.into_body().into_reader().take(max + 1);
        let read = reader.read_to_end(&mut bytes);
        read.map_err(|error| self.failure(Error::from(error)))?;
        if bytes.len() as u64 > max {
            bail!("it is longer than {max} bytes");
        }
        Ok(bytes)
    }

    /// What went wrong, for people.
    pub(super) fn failure(&self, error: Error) -> anyhow::Error {
        match error {
            Error::Timeout(Timeout::Connect) => anyhow!("the registry cannot be reached: no answer"),
            Error::Timeout(_) => anyhow!(
                "the registry stalls: nothing came for {} seconds",
                self.patience.as_secs_f64()
            ),
            Error::HostNotFound => anyhow!("there is no host of the registry's name"),
            Error::Io(error) => match tls::distrust(&error) {
                Some(why) => anyhow!("the registry cannot be trusted: {why}"),
                None => anyhow!("talking to the registry: {error}"),
            },
            error => anyhow!("talking to the registry: {error}"),
        }
    }
}

/// A header of an answer.
pub(super) fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
}

/// `key="value"` pairs with commas between.
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((key, rest)) = text.split_once('=') {
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        let key = key.trim_matches([',', ' ']);
        found.push((key.to_owned(), value.to_owned()));
        text = rest;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let read = parameters(r#"realm="https://a/t",service=s x, scope="repository:a/b:pull,push""#);
        let expected = [
            ("realm", "https://a/t"),
            ("service", "s x"),
            ("scope", "repository:a/b:pull,push"),
        ];
        assert_eq!(read, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(
            parameters("realm=\"open"),
            [("realm".to_owned(), "open".to_owned())]
        );
        assert!(parameters("nothing").is_empty());
    }
}
