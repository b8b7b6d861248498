//! Writes safetensors and small files so that a reader never sees half of one: a temporary file in the same folder,
//! fsync, rename, fsync of the folder. On any error, a full disk included, the temporary files are removed and nothing
//! that was there before has changed. One tensor is in memory at a time.

use super::error::FileError;
use super::folder::{INDEX, SINGLE};
use candle_core::{CpuStorage, DType, Storage, Tensor};
use half::{bf16, f16};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How a checkpoint is written.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// F32, F16 or BF16, for every tensor.
    pub dtype: DType,
    /// A new shard is begun before one would grow beyond this; a single larger tensor gets a shard of its own.
    pub max_shard_bytes: u64,
    /// The `__metadata__` of each file; transformers wants `format: pt`, which is added when absent.
    pub metadata: BTreeMap<String, String>,
}

impl Default for WriteOptions {
    /// f32, shards of 5 GB as transformers makes them.
    fn default() -> Self {
        Self {
            dtype: DType::F32,
            max_shard_bytes: 5_000_000_000,
            metadata: BTreeMap::new(),
        }
    }
}

/// Name and shape of a tensor to be written; all are known before the first byte, for the header.
pub type Planned = (String, Vec<usize>);

/// Write bytes to a file atomically, replacing what is there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_atomic_parts(path, [bytes])
}

/// Write parts one after the other to a file atomically, replacing what is there; the parts need not be joined in memory.
pub fn write_atomic_parts<'a>(
    path: &Path,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(), FileError> {
    let mut draft = Draft::new(path)?;
    for part in parts {
        draft
            .file
            .write_all(part)
            .map_err(FileError::io(path, "write"))?;
    }
    draft.commit()
}

/// Write a checkpoint to `folder` (made if absent): `model.safetensors`, or shards and their index as transformers
/// names them. `produce` is called once for each tensor, in the order of `plan`. Returns the files written.
///
/// # Errors
/// The folder already holds weights (they would be mixed up), `produce` fails or gives another shape than planned,
/// a finite value overflows f16, or the disk refuses.
pub fn write_safetensors<E>(
    folder: &Path,
    plan: &[Planned],
    options: &WriteOptions,
    mut produce: impl FnMut(&str) -> Result<Tensor, E>,
) -> Result<Vec<PathBuf>, FileError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let fresh = !folder.exists();
    fs::create_dir_all(folder).map_err(FileError::io(folder, "make the folder"))?;
    let written = write_shards(folder, plan, options, &mut produce);
    if written.is_err() && fresh {
        // Only an empty folder is removed; the error itself is the news.
        let _ = fs::remove_dir(folder);
    }
    written
}

fn write_shards<E>(
    folder: &Path,
    plan: &[Planned],
    options: &WriteOptions,
    produce: &mut impl FnMut(&str) -> Result<Tensor, E>,
) -> Result<Vec<PathBuf>, FileError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    for name in [SINGLE, INDEX] {
        if folder.join(name).exists() {
            return Err(FileError::invalid(
                folder,
                "folder",
                "one without weights",
                format!("{name} in it"),
            ));
        }
    }
    let shards = split(folder, plan, options)?;
    let names = shard_names(shards.len());
    let mut drafts = Vec::with_capacity(shards.len() + 1);
    for (name, shard) in names.iter().zip(&shards) {
        drafts.push(write_file(&folder.join(name), shard, options, produce)?);
    }
    if shards.len() > 1 {
        let path = folder.join(INDEX);
        let mut draft = Draft::new(&path)?;
        let text = index_json(&names, &shards, options);
        draft
            .file
            .write_all(text.as_bytes())
            .map_err(FileError::io(&path, "write"))?;
        drafts.push(draft);
    }
    // The index comes last: until it is there, the folder is not a checkpoint.
    let mut files = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let target = draft.target.clone();
        if let Err(error) = draft.commit() {
            for file in files {
                let _ = fs::remove_file(file);
            }
            return Err(error);
        }
        files.push(target);
    }
    Ok(files)
}

/// Write one safetensors file atomically, replacing what is there; see [`write_safetensors`].
pub fn write_safetensors_file<E>(
    path: &Path,
    plan: &[Planned],
    options: &WriteOptions,
    mut produce: impl FnMut(&str) -> Result<Tensor, E>,
) -> Result<(), FileError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    check_plan(path, plan, options)?;
    write_file(path, plan, options, &mut produce)?.commit()
}

fn dtype_name(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::F32 => Some("F32"),
        DType::F16 => Some("F16"),
        DType::BF16 => Some("BF16"),
        _ => None,
    }
}

/// Bytes of each planned tensor, once it is known that the dtype is served and no name repeats.
fn check_plan(
    path: &Path,
    plan: &[Planned],
    options: &WriteOptions,
) -> Result<Vec<u64>, FileError> {
    if dtype_name(options.dtype).is_none() {
        return Err(FileError::invalid(
            path,
            "dtype",
            "F32, F16 or BF16",
            format!("{:?}", options.dtype),
        ));
    }
    let mut seen = std::collections::BTreeSet::new();
    plan.iter()
        .map(|(name, shape)| {
            if name == "__metadata__" || !seen.insert(name) {
                return Err(FileError::tensor(
                    path,
                    name,
                    "name",
                    "a name of its own",
                    "a reserved or repeated name",
                ));
            }
            let elements = super::bytes::element_count(shape).map(|n| n as u64);
            elements
                .and_then(|n| n.checked_mul(options.dtype.size_in_bytes() as u64))
                .ok_or_else(|| {
                    FileError::tensor(
                        path,
                        name,
                        "shape",
                        "a size that fits in a file",
                        format!("{shape:?}"),
                    )
                })
        })
        .collect()
}

fn split<'a>(
    folder: &Path,
    plan: &'a [Planned],
    options: &WriteOptions,
) -> Result<Vec<&'a [Planned]>, FileError> {
    let sizes = check_plan(folder, plan, options)?;
    let mut shards = Vec::new();
    let (mut start, mut total) = (0, 0u64);
    for (at, &size) in sizes.iter().enumerate() {
        if at > start && total.saturating_add(size) > options.max_shard_bytes {
            shards.push(&plan[start..at]);
            (start, total) = (at, 0);
        }
        total = total.saturating_add(size);
    }
    shards.push(&plan[start..]);
    Ok(shards)
}

fn shard_names(count: usize) -> Vec<String> {
    if count == 1 {
        return vec![SINGLE.to_owned()];
    }
    (1..=count)
        .map(|i| format!("model-{i:05}-of-{count:05}.safetensors"))
        .collect()
}

fn index_json(names: &[String], shards: &[&[Planned]], options: &WriteOptions) -> String {
    let elements = |(_, shape): &Planned| shape.iter().product::<usize>();
    let parameters: usize = shards.iter().flat_map(|s| s.iter()).map(elements).sum();
    let home = |(name, shard): (&String, &&[Planned])| {
        shard
            .iter()
            .map(|(tensor, _)| (tensor.clone(), Value::from(name.as_str())))
            .collect::<Vec<_>>()
    };
    let weight_map: serde_json::Map<String, Value> =
        names.iter().zip(shards).flat_map(home).collect();
    let metadata = json!({"total_parameters": parameters, "total_size": parameters * options.dtype.size_in_bytes()});
    format!(
        "{:#}\n",
        json!({"metadata": metadata, "weight_map": weight_map})
    )
}

/// A safetensors header as it begins the file: its length, then JSON, padded with spaces so that the data begins at a
/// multiple of 8.
pub fn header_bytes(header: serde_json::Map<String, Value>) -> Vec<u8> {
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    bytes
}

fn header(plan: &[Planned], options: &WriteOptions) -> Vec<u8> {
    let mut metadata = options.metadata.clone();
    metadata
        .entry("format".to_owned())
        .or_insert_with(|| "pt".to_owned());
    let mut object = serde_json::Map::new();
    object.insert("__metadata__".to_owned(), json!(metadata));
    let mut at = 0;
    for (name, shape) in plan {
        let end = at + shape.iter().product::<usize>() * options.dtype.size_in_bytes();
        let entry =
            json!({"dtype": dtype_name(options.dtype), "shape": shape, "data_offsets": [at, end]});
        object.insert(name.clone(), entry);
        at = end;
    }
    header_bytes(object)
}

fn write_file<E>(
    path: &Path,
    plan: &[Planned],
    options: &WriteOptions,
    produce: &mut impl FnMut(&str) -> Result<Tensor, E>,
) -> Result<Draft, FileError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut draft = Draft::new(path)?;
    draft
        .file
        .write_all(&header(plan, options))
        .map_err(FileError::io(path, "write"))?;
    for (name, shape) in plan {
        let tensor = produce(name).map_err(|e| FileError::Produce {
            file: path.to_path_buf(),
            tensor: name.clone(),
            source: e.into(),
        })?;
        if tensor.dims() != shape.as_slice() {
            let (expected, found) = (
                format!("{shape:?} as planned"),
                format!("{:?}", tensor.dims()),
            );
            return Err(FileError::tensor(path, name, "shape", expected, found));
        }
        write_tensor(path, name, &tensor, options.dtype, &mut draft.file)?;
    }
    Ok(draft)
}

fn write_tensor(
    path: &Path,
    name: &str,
    tensor: &Tensor,
    dtype: DType,
    out: &mut impl Write,
) -> Result<(), FileError> {
    let fail = |e: candle_core::Error| {
        FileError::tensor(path, name, "data", "a float tensor on the CPU", e)
    };
    let tensor = match tensor.dtype() {
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => tensor,
        other => {
            return Err(FileError::tensor(
                path,
                name,
                "dtype",
                "a float tensor",
                format!("{other:?}"),
            ));
        }
    };
    let tensor = tensor.contiguous().map_err(fail)?;
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(cpu), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        return Err(FileError::tensor(
            path,
            name,
            "data",
            "a tensor on the CPU",
            "one on another device",
        ));
    };
    match cpu {
        CpuStorage::F64(v) => encode(path, name, &v[start..end], |v| *v as f32, dtype, out),
        CpuStorage::F32(v) => encode(path, name, &v[start..end], |v| *v, dtype, out),
        CpuStorage::F16(v) => encode(path, name, &v[start..end], |v| v.to_f32(), dtype, out),
        CpuStorage::BF16(v) => encode(path, name, &v[start..end], |v| v.to_f32(), dtype, out),
        _ => Err(FileError::tensor(
            path,
            name,
            "dtype",
            "a float tensor",
            "another dtype",
        )),
    }
}

/// Values as little-endian bytes of `dtype`. A finite value that f16 can only hold as infinity is refused.
fn encode<T>(
    path: &Path,
    name: &str,
    values: &[T],
    widen: impl Fn(&T) -> f32,
    dtype: DType,
    out: &mut impl Write,
) -> Result<(), FileError> {
    let mut buffer = Vec::with_capacity(4 << 14);
    for values in values.chunks(1 << 14) {
        buffer.clear();
        for value in values.iter().map(&widen) {
            match dtype {
                DType::F16 => {
                    let half = f16::from_f32(value);
                    if half.is_infinite() && value.is_finite() {
                        return Err(FileError::tensor(
                            path,
                            name,
                            "values",
                            "at most 65504 for f16",
                            value,
                        ));
                    }
                    buffer.extend_from_slice(&half.to_le_bytes());
                }
                DType::BF16 => buffer.extend_from_slice(&bf16::from_f32(value).to_le_bytes()),
                _ => buffer.extend_from_slice(&value.to_le_bytes()),
            }
        }
        out.write_all(&buffer)
            .map_err(FileError::io(path, "write"))?;
    }
    Ok(())
}

/// A file that is not there yet: written beside its target under another name, removed unless committed.
struct Draft {
    target: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    committed: bool,
}

impl Draft {
    fn new(target: &Path) -> Result<Self, FileError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let Some(name) = target.file_name() else {
            return Err(FileError::invalid(
                target,
                "path",
                "the name of a file",
                "a path without one",
            ));
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{number}.partial", std::process::id()));
        let temporary = target.with_file_name(temporary);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(FileError::io(target, "make a temporary file beside it"))?;
        Ok(Self {
            target: target.to_path_buf(),
            temporary,
            file: BufWriter::with_capacity(1 << 16, file),
            committed: false,
        })
    }

    fn commit(mut self) -> Result<(), FileError> {
        let target = self.target.clone();
        self.settle().map_err(FileError::io(&target, "write"))
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
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be done about a failure here; the error that led to it is already on its way.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
