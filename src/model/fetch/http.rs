//! Plain GET requests. What always holds: https only (http between loopback addresses), certificates checked against
//! the system's, redirects followed by hand so that each hop is checked, and a secret never leaves its host.
//! Next: `download.rs` for large bodies.

use std::io::Read;
use std::thread;

use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Timeout};
use url::{Host, Url};

use super::error::FetchError;
use super::sources::Patience;

/// Redirects followed for one request.
const REDIRECTS: u32 = 10;

/// Makes requests.
pub(super) struct Web {
    /// With the proxy of the environment, if any.
    outward: Agent,
    /// For loopback addresses, which no proxy can reach.
    local: Agent,
    pub patience: Patience,
}

/// An answer whose body has not been read.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: u16,
    /// The address after redirects.
    pub url: Url,
    response: Response<Body>,
}

impl Reply {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The declared length of the body.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    /// The body, to be read by someone who counts.
    pub fn into_reader(self) -> impl Read {
        self.response.into_body().into_reader()
    }
}

impl Web {
    pub fn new(patience: Patience) -> Self {
        let builder = || {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .accept_encoding("identity")
                .user_agent(concat!("candlescope/", env!("CARGO_PKG_VERSION")))
                .timeout_resolve(Some(patience.connect))
                .timeout_connect(Some(patience.connect))
                .timeout_recv_response(Some(patience.read))
                .timeout_per_read(Some(patience.read))
                .tls_config(
                    TlsConfig::builder()
                        .root_certs(RootCerts::PlatformVerifier)
                        .build(),
                )
        };
        Self {
            outward: builder().build().into(),
            local: builder().proxy(None).build().into(),
            patience,
        }
    }

    /// One request; redirects are followed. `secret` is sent as a bearer token to the first host only.
    pub fn get(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        secret: Option<&str>,
    ) -> Result<Reply, FetchError> {
        let first = parse(url)?;
        let mut at = first.clone();
        for _ in 0..=REDIRECTS {
            if at.scheme() != "https"
                && !(at.scheme() == "http" && is_loopback(&at) && is_loopback(&first))
            {
                return Err(FetchError::Insecure {
                    url: shown(at.as_str()),
                });
            }
            let agent = if is_loopback(&at) {
                &self.local
            } else {
                &self.outward
            };
            let mut request = agent.get(at.as_str());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if let Some(secret) = secret.filter(|_| at.origin() == first.origin()) {
                request = request.header("authorization", format!("Bearer {secret}"));
            }
            let response = request.call().map_err(|e| lost(&at, &e))?;
            let status = response.status().as_u16();
            let reply = Reply {
                status,
                url: at.clone(),
                response,
            };
            match reply.header("location") {
                Some(to) if matches!(status, 301 | 302 | 303 | 307 | 308) => {
                    at = at.join(to).map_err(|e| FetchError::BadUrl {
                        url: shown(to),
                        reason: e.to_string(),
                    })?;
                }
                _ => return Ok(reply),
            }
        }
        Err(FetchError::Redirects {
            url: shown(url),
            limit: REDIRECTS,
        })
    }

    /// A small document as `(address after redirects, content type, text)`. Busy servers are asked again; a server
    /// that cannot be reached is not, since another source may be at hand.
    pub fn text(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        secret: Option<&str>,
        limit: u64,
    ) -> Result<(Url, String, String), FetchError> {
        let (mut retries, mut pause) = (self.patience.retries, self.patience.pause);
        loop {
            let outcome = self
                .get(url, headers, secret)
                .and_then(|reply| read_text(reply, limit));
            match outcome {
                Err(e) if retries > 0 && is_passing(&e) => {
                    thread::sleep(pause);
                    retries -= 1;
                    pause *= 2;
                }
                outcome => return outcome,
            }
        }
    }
}

/// Whether waiting may help.
pub(super) fn is_passing(error: &FetchError) -> bool {
    match error {
        FetchError::Broken { .. } => true,
        FetchError::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
        _ => false,
    }
}

/// The error for a status that is not what was asked for.
pub(super) fn refused(reply: &Reply) -> FetchError {
    let hint = match reply.status {
        401 | 403 => "access refused; a proxy may block it, or the repository is private, gated or misspelt: accept its terms \
                      on the web site and set HF_TOKEN"
            .to_owned(),
        404 | 410 => "nothing there; check the spelling and the revision".to_owned(),
        407 => "the proxy wants a password; put it into HTTPS_PROXY".to_owned(),
        429 => "too many requests; wait a little".to_owned(),
        451 => "withheld for legal reasons; try another source".to_owned(),
        500.. => "the server has a problem; try again later".to_owned(),
        _ => "not what was expected".to_owned(),
    };
    FetchError::Status {
        url: shown(reply.url.as_str()),
        status: reply.status,
        hint,
    }
}

fn read_text(reply: Reply, limit: u64) -> Result<(Url, String, String), FetchError> {
    if reply.status != 200 {
        return Err(refused(&reply));
    }
    let url = reply.url.clone();
    let kind = reply
        .header("content-type")
        .unwrap_or_default()
        .to_ascii_lowercase();
    let mut bytes = Vec::new();
    reply
        .into_reader()
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| FetchError::Broken {
            url: shown(url.as_str()),
            received: 0,
            reason: e.to_string(),
        })?;
    if bytes.len() as u64 > limit {
        return Err(FetchError::TooLong {
            file: shown(url.as_str()),
            limit,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| FetchError::Malformed {
        url: shown(url.as_str()),
        reason: "it is not UTF-8 text".to_owned(),
    })?;
    Ok((url, kind, text))
}

/// Tells "never got there" from "broke on the way".
fn lost(at: &Url, error: &ureq::Error) -> FetchError {
    use std::io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof,
    };
    let (url, reason) = (shown(at.as_str()), error.to_string());
    let midway = match error {
        ureq::Error::Timeout(which) => !matches!(which, Timeout::Resolve | Timeout::Connect),
        ureq::Error::Io(e) => {
            matches!(
                e.kind(),
                ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof | TimedOut
            )
        }
        ureq::Error::Protocol(_) => true,
        _ => false,
    };
    if midway {
        FetchError::Broken {
            url,
            received: 0,
            reason,
        }
    } else {
        FetchError::Unreachable { url, reason }
    }
}

fn parse(url: &str) -> Result<Url, FetchError> {
    Url::parse(url).map_err(|e| FetchError::BadUrl {
        url: shown(url),
        reason: e.to_string(),
    })
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// An address fit to be shown: without user, password, and query (which may be a signature).
pub(super) fn shown(url: &str) -> String {
    let parsed = Url::parse(url).ok().filter(Url::has_host);
    let Some(mut url) = parsed else {
        // `user:password@host` without a scheme is no address, yet holds a password.
        return url.rsplit('@').next().unwrap_or_default().to_owned();
    };
    // These fail only on addresses that cannot have a user, which is as good.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn plain_http_to_the_outside_is_refused_before_any_packet() {
        let web = Web::new(Patience::default());
        for url in [
            "http://example.org/x",
            "ftp://localhost/x",
            "file:///etc/passwd",
            "http://127.0.0.1.example.org/",
        ] {
            assert!(
                matches!(web.get(url, &[], None), Err(FetchError::Insecure { .. })),
                "{url}"
            );
        }
        assert!(matches!(
            web.get("no address", &[], None),
            Err(FetchError::BadUrl { .. })
        ));
    }

    #[test]
    fn shown_addresses_carry_no_secret() {
        assert_eq!(
            shown("https://me:pw@host/simple/x?sig=1#sha256=2"),
            "https://host/simple/x"
        );
        assert!(!shown("me:pw@host:x").contains("pw"));
    }
}
