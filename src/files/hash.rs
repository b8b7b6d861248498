//! SHA-256 of files and of what a checkpoint contains, for provenance. Memory is bounded; files and tensors are hashed
//! in parallel, and the result does not depend on the number of threads.

use super::{FileError, TensorSource};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

const BUFFER: usize = 1 << 20;

/// Lower-case hex.
fn hex(digest: &[u8]) -> String {
    digest
        .iter()
        .fold(String::with_capacity(2 * digest.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
            text
        })
}

/// SHA-256 of bytes, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file, in hex, read through a buffer of 1 MiB.
pub fn sha256_file(path: &Path) -> Result<String, FileError> {
    let kind = std::fs::metadata(path).map_err(FileError::io(path, "read"))?;
    if !kind.is_file() {
        return Err(FileError::invalid(
            path,
            "path",
            "a regular file",
            "something else",
        ));
    }
    let mut file = File::open(path).map_err(FileError::io(path, "open"))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hasher.finalize())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(FileError::io(path, "read")(e)),
        }
    }
}

/// SHA-256 of several files, in the order given, hashed in parallel.
pub fn sha256_files(paths: &[PathBuf]) -> Result<Vec<String>, FileError> {
    paths.par_iter().map(|path| sha256_file(path)).collect()
}

/// One hash for all tensors of a checkpoint, whatever files they are spread over and in whatever order.
///
/// Each tensor is hashed by itself, in parallel. The result is the SHA-256 of one line of JSON for each tensor, sorted by
/// name: `["name","dtype",[shape],"sha256 of its stored bytes"]` and a line feed.
pub fn content_hash(source: &dyn TensorSource) -> Result<String, FileError> {
    let lines: Vec<String> = source
        .names()
        .into_par_iter()
        .map(|name| {
            let missing = || FileError::Missing {
                file: source.describe().into(),
                tensor: name.clone(),
                count: 0,
            };
            let info = source.info(&name).ok_or_else(missing)?;
            let digest = sha256(&source.raw(&name)?);
            Ok(serde_json::json!([name, info.dtype, info.shape, digest]).to_string() + "\n")
        })
        .collect::<Result<_, FileError>>()?;
    Ok(sha256(lines.concat().as_bytes()))
}
