//! Another model than the open one, opened on the worker: from this machine alone, in the open one's dtype.

use crate::model::fetch::{self, Cache};
use crate::model::{Checkpoint, LoadOptions, toy};

/// Opens a folder, a file or a name that was fetched before.
///
/// # Errors
/// It is not here, or cannot be opened.
pub(super) fn open(name: &str, beside: &Checkpoint) -> Result<Checkpoint, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let options = LoadOptions {
        dtype: beside.decoder.weight_dtype(),
        ..LoadOptions::default()
    };
    if let Some(seed) = toy::seed(name) {
        return Checkpoint::toy_as(seed, &options).map_err(|e| words(&e));
    }
    let cache = Cache::new().map_err(|e| words(&e))?;
    let path = fetch::resolve(name, &cache, false, &fetch::Silent).map_err(|e| words(&e))?;
    Checkpoint::open(name, &path, &options).map_err(|e| words(&e))
}
