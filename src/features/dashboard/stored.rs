//! Records read again: what `sae dashboard --json-out` and `sae show --json` have written.
//!
//! Always: foreign input; lengths inside it are not trusted, and whoever shows a record takes of it what is there.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::record::{DASHBOARD_SCHEMA, Dashboard, LATENT_SCHEMA, LatentRecord, Place};
use crate::features::FeatureError;
use crate::files::FileError;

/// No file of records is larger.
const LARGEST: u64 = 1 << 30;
/// Bytes among which a file of records says that it is one.
const HEAD: usize = 256;
/// Files of a folder that are looked into.
const LOOKED: usize = 256;

#[derive(Deserialize)]
struct Schema {
    schema: String,
}

#[derive(Deserialize)]
struct One {
    #[serde(flatten)]
    place: Place,
    #[serde(flatten)]
    latent: LatentRecord,
}

/// Reads a file of records, of several latents or of one.
///
/// # Errors
/// A file that cannot be read, is larger than a gibibyte, or holds something else.
pub fn stored(path: &Path) -> Result<Dashboard, FeatureError> {
    let cannot = |source| FileError::Io {
        file: path.to_owned(),
        action: "read".to_owned(),
        source,
    };
    let expected = format!("{DASHBOARD_SCHEMA} or {LATENT_SCHEMA}");
    let invalid = |field: &str, expected: &str, found: String| {
        FeatureError::from(FileError::Invalid {
            file: path.to_owned(),
            field: field.to_owned(),
            expected: expected.to_owned(),
            found,
        })
    };
    let size = std::fs::metadata(path).map_err(cannot)?.len();
    if size > LARGEST {
        let most = format!("at most {LARGEST} bytes");
        return Err(invalid("size", &most, size.to_string()));
    }
    let text = std::fs::read_to_string(path).map_err(cannot)?;
    let wrong = |e: serde_json::Error| invalid("records", &expected, e.to_string());
    let Schema { schema } = serde_json::from_str(&text).map_err(wrong)?;
    match schema.as_str() {
        DASHBOARD_SCHEMA => serde_json::from_str(&text).map_err(wrong),
        LATENT_SCHEMA => {
            let One { place, latent } = serde_json::from_str(&text).map_err(wrong)?;
            let latents = vec![latent];
            Ok(Dashboard { place, latents })
        }
        _ => Err(invalid("schema", &expected, schema)),
    }
}

/// The files of records in a folder, the one that was changed last at the end. What cannot be read is none.
pub fn stored_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let json = |path: &PathBuf| path.extension().is_some_and(|e| e == "json");
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<_> = files
        .filter(json)
        .take(LOOKED)
        .filter(|path| says_so(path).unwrap_or(false))
        .filter_map(|path| {
            let changed = path.metadata().ok()?.modified().ok()?;
            Some((changed, path))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// Whether a file begins as those that this program writes.
fn says_so(path: &Path) -> std::io::Result<bool> {
    let mut head = Vec::with_capacity(HEAD);
    std::fs::File::open(path)?
        .take(HEAD as u64)
        .read_to_end(&mut head)?;
    let head = String::from_utf8_lossy(&head);
    let named = |schema: &str| head.contains(&format!("\"{schema}\""));
    Ok(named(DASHBOARD_SCHEMA) || named(LATENT_SCHEMA))
}
