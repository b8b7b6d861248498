//! Writes files so that a reader never sees half of one: a temporary file beside the target, synced, then renamed. On any
//! error the temporary file is removed and nothing that was there before has changed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ndarray::{ArrayView1, ArrayView2};
use serde_json::{Map, Value, json};

use crate::SaeError;

fn failed(file: &Path) -> impl Fn(io::Error) -> SaeError {
    move |source| SaeError::Io {
        file: file.to_owned(),
        source,
    }
}

/// What a tensor holds; a matrix may run along either axis in memory.
pub(super) enum Values<'a> {
    Matrix(ArrayView2<'a, f32>),
    Vector(ArrayView1<'a, f32>),
}

/// A file that is not there yet.
pub(super) struct Draft {
    target: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    committed: bool,
}

impl Draft {
    pub(super) fn new(target: &Path) -> Result<Self, SaeError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary =
            target.with_file_name(format!(".{name}.{}-{number}.partial", std::process::id()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(failed(target))?;
        Ok(Self {
            target: target.to_owned(),
            temporary,
            file: BufWriter::with_capacity(1 << 16, file),
            committed: false,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), SaeError> {
        self.file.write_all(bytes).map_err(failed(&self.target))
    }

    fn values(&mut self, values: ArrayView1<f32>) -> Result<(), SaeError> {
        for value in values {
            self.write(&value.to_le_bytes())?;
        }
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.temporary, &self.target)?;
        self.committed = true;
        // The rename itself is durable only once the folder is; not every system lets a folder be opened for that.
        let folder = self.target.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(Ok(folder)) = folder.map(File::open) {
            folder.sync_all()?;
        }
        Ok(())
    }

    /// Makes it the file at its target, and returns that.
    pub(super) fn commit(mut self) -> Result<PathBuf, SaeError> {
        self.settle().map_err(failed(&self.target))?;
        Ok(self.target.clone())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be done about a failure here; the error that led to it is already on its way.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A safetensors file of f32 tensors, not committed yet.
pub(super) fn safetensors(path: &Path, tensors: &[(&str, Values)]) -> Result<Draft, SaeError> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut at = 0;
    for (name, values) in tensors {
        let shape = match values {
            Values::Matrix(m) => m.shape(),
            Values::Vector(v) => v.shape(),
        };
        let end = at + 4 * shape.iter().product::<usize>();
        header.insert(
            (*name).into(),
            json!({"dtype": "F32", "shape": shape, "data_offsets": [at, end]}),
        );
        at = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut draft = Draft::new(path)?;
    draft.write(&(text.len() as u64).to_le_bytes())?;
    draft.write(&text)?;
    for (_, values) in tensors {
        match values {
            Values::Matrix(m) => m.outer_iter().try_for_each(|row| draft.values(row))?,
            Values::Vector(v) => draft.values(*v)?,
        }
    }
    Ok(draft)
}

/// Removes a file if it is there.
pub(super) fn remove(path: &Path) -> Result<(), SaeError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(path)(e)),
        _ => Ok(()),
    }
}
