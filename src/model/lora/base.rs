//! Which model an adapter folder belongs to, and where that one lies.
//!
//! Always: only this machine is looked at; whoever may use the network fetches [`wanted`] first. An adapter of an adapter is
//! refused: merge the first one.

use std::path::{Path, PathBuf};

use super::{LoraAdapter, peft};
use crate::model::{
    ModelError,
    fetch::{self, Cache},
    toy,
};

/// A base model that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// The toy of a seed.
    Toy(u64),
    /// A folder or a .gguf file.
    At(PathBuf),
}

/// The name of the base: `said` by the caller, or by the adapter's own config.
///
/// # Errors
/// Nobody says it.
pub fn name(folder: &Path, said: Option<&str>) -> Result<String, ModelError> {
    let name = match said {
        Some(name) => Some(name.to_owned()),
        None => peft::base_name(folder)?,
    };
    name.filter(|name| !name.trim().is_empty())
        .ok_or_else(|| ModelError::Adapter {
            of: folder.display().to_string(),
            expected: "the name of its base model in adapter_config.json, or --base MODEL".into(),
            found: "neither".into(),
        })
}

/// Where the base lies: a path is tried in the adapter's folder and then in the working directory; a name in the cache.
///
/// # Errors
/// It is nowhere, or it is an adapter itself.
pub fn find(folder: &Path, said: Option<&str>) -> Result<Base, ModelError> {
    let name = name(folder, said)?;
    if let Some(seed) = toy::seed(&name) {
        return Ok(Base::Toy(seed));
    }
    let beside = folder.join(&name);
    let here = if said.is_none() && Path::new(&name).is_relative() && beside.exists() {
        Some(beside.clone())
    } else {
        located(&name)
    };
    let Some(path) = here else {
        return Err(ModelError::NoBase {
            adapter: folder.display().to_string(),
            tried: format!("{}, {name} and the cache", beside.display()),
            base: name,
        });
    };
    if LoraAdapter::is_in(&path) {
        return Err(ModelError::Adapter {
            of: folder.display().to_string(),
            expected:
                "a base that is no adapter itself; merge that one with `candlescope model merge`"
                    .into(),
            found: path.display().to_string(),
        });
    }
    Ok(Base::At(path))
}

/// The name to fetch before the adapter can be opened; none where its base is here already.
///
/// # Errors
/// Nobody says which it is.
pub fn wanted(folder: &Path, said: Option<&str>) -> Result<Option<String>, ModelError> {
    match find(folder, said) {
        Err(ModelError::NoBase { base, .. }) => Ok(Some(base)),
        found => found.map(|_| None),
    }
}

/// A text that opens the base from any working directory where it is a path, else its name.
///
/// # Errors
/// As [`name`].
pub fn spoken(folder: &Path) -> Result<String, ModelError> {
    match find(folder, None) {
        Ok(Base::At(path)) => {
            let path = std::path::absolute(&path).unwrap_or(path);
            Ok(path.display().to_string())
        }
        _ => name(folder, None),
    }
}

/// A name that is no model's gives no path; what is said then is that there is none.
fn located(name: &str) -> Option<PathBuf> {
    let cache = Cache::new().ok()?;
    fetch::locate(name, &cache).ok().flatten()
}
