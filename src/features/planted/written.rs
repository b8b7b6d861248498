//! The rows of a benchmark as files, so that another program can be trained and scored on the very same numbers.
//!
//! A folder for each repeat: `rows.npy` `[rows, d]` in the order of training, `held.npy`, `features.npy` (unit rows) and
//! `strengths.npy` `[held, features]`, what fired; `plan.json` beside them says how everything is trained.

use std::path::{Path, PathBuf};

use candlescope_sae::SaeError;
use candlescope_sae::bench::Kind;
use candlescope_sae::dense;
use ndarray::{Array2, ArrayView2, Axis, concatenate};
use serde_json::json;

use super::{Bench, BenchOptions};
use crate::files::FileError;
use crate::files::write::{write_atomic, write_atomic_parts};

/// Why rows could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A world cannot be planted.
    #[error(transparent)]
    Sae(#[from] SaeError),
    /// The disk refuses.
    #[error(transparent)]
    File(#[from] FileError),
    /// A folder cannot be made.
    #[error("{path}: {source}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Writes the rows of all repeats, and the plan with the coefficients that `bench` found, into a folder that is made if it is
/// not there. Returns the files.
///
/// # Errors
/// Worlds that cannot be planted, a disk that refuses.
pub fn write(
    folder: &Path,
    options: &BenchOptions,
    bench: &Bench,
) -> Result<Vec<PathBuf>, WriteError> {
    let mut files = Vec::new();
    let mut repeats = Vec::new();
    for repeat in 0..options.repeats {
        let world = options.world(repeat)?;
        let planted = world.planted();
        let name = format!("seed-{}", planted.spec().seed);
        let below = folder.join(&name);
        std::fs::create_dir_all(&below).map_err(|source| WriteError::Folder {
            path: below.clone(),
            source,
        })?;
        let (held, strengths) = held(options, planted);
        for (file, rows) in [
            ("rows.npy", world.rows()),
            ("held.npy", held.view()),
            ("features.npy", planted.directions().view()),
            ("strengths.npy", strengths.view()),
        ] {
            let path = below.join(file);
            write_npy(&path, rows)?;
            files.push(path);
        }
        repeats.push(json!({ "folder": name, "seed": planted.spec().seed }));
    }
    let path = folder.join("plan.json");
    write_atomic(
        &path,
        plan(options, bench, &repeats)?.to_string().as_bytes(),
    )?;
    files.push(path);
    Ok(files)
}

fn held(
    options: &BenchOptions,
    planted: &candlescope_sae::synthetic::Planted,
) -> (Array2<f32>, Array2<f32>) {
    let scored = options.scored();
    let features = planted.directions().nrows();
    let (mut rows, mut truths) = (Vec::new(), Vec::new());
    for number in 0..scored.batches {
        let (drawn, truth) = planted.batch(scored.first + number, scored.rows);
        truths.push(dense(&truth, features));
        rows.push(drawn);
    }
    let joined = |parts: &[Array2<f32>], width: usize| {
        let views: Vec<_> = parts.iter().map(Array2::view).collect();
        // All parts are of one width, and there is one at least.
        concatenate(Axis(0), &views).unwrap_or_else(|_| Array2::zeros((0, width)))
    };
    let width = planted.directions().ncols();
    (joined(&rows, width), joined(&truths, features))
}

fn plan(
    options: &BenchOptions,
    bench: &Bench,
    repeats: &[serde_json::Value],
) -> Result<serde_json::Value, SaeError> {
    let planted = options.world(0)?;
    let standings = bench.standings.iter();
    let architectures: Vec<_> = standings
        .map(|s| json!({ "name": s.architecture.name(), "coefficient": s.coefficient }))
        .collect();
    Ok(json!({
        "schema": "candlescope.sae.bench-plan/1",
        "d": options.world.d,
        "features": options.world.features,
        "parents": planted.planted().parents(),
        "d_sae": options.d_sae,
        "k": bench.k,
        "levels": Kind::levels(options.d_sae),
        "batch": options.batch,
        "steps": options.steps,
        "lr": options.lr,
        "b_dec": options.b_dec,
        "penalty_warmup_steps": options.warmup(),
        "dead_after_steps": options.dead_after_steps(),
        "found_at": options.found_at,
        "architectures": architectures,
        "repeats": repeats,
    }))
}

/// NumPy's format, version 1.0: f32, little-endian, row by row.
fn write_npy(path: &Path, rows: ArrayView2<f32>) -> Result<(), FileError> {
    let (n, d) = rows.dim();
    let words = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({n}, {d}), }}");
    // Magic, version and length are 10 bytes; the whole ends with a newline on a multiple of 64.
    let padded = (10 + words.len() + 1).next_multiple_of(64) - 10;
    let mut head = b"\x93NUMPY\x01\x00".to_vec();
    head.extend((padded as u16).to_le_bytes());
    head.extend(format!("{words:<width$}\n", width = padded - 1).into_bytes());
    let numbers: Vec<u8> = rows.iter().flat_map(|x| x.to_le_bytes()).collect();
    write_atomic_parts(path, [head.as_slice(), numbers.as_slice()])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `np.save` of `np.array([[1, 2, 3], [4, 5, 6]], dtype="<f4")` gives these bytes (NumPy 2.2).
    #[test]
    fn an_array_as_numpy_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let rows = ndarray::array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
        write_npy(&path, rows.view()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[..10], *b"\x93NUMPY\x01\x00\x76\x00");
        let words = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        assert_eq!(bytes[10..10 + words.len()], *words.as_bytes());
        assert_eq!((bytes.len(), bytes[127]), (128 + 24, b'\n'));
        assert_eq!(bytes[128 + 20..], 6f32.to_le_bytes());
    }
}
