//! Writing is exact, atomic and leaves nothing behind; hashes and the scan say what is in a checkpoint.

#![allow(clippy::unwrap_used)]

mod files_samples;

use candle_core::{DType, Device, Tensor};
use candlescope::files::write::{
    Planned, WriteOptions, write_atomic, write_safetensors, write_safetensors_file,
};
use candlescope::files::{
    self, FileError, SafetensorsFolder, TensorInfo, TensorSource, hash, scan_non_finite,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn value(name: &str, shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    let shift = name.len() as f32;
    let values: Vec<f32> = (0..count).map(|i| (i as f32 + shift).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn plan() -> Vec<Planned> {
    vec![
        ("b".into(), vec![3, 4]),
        ("a.weight".into(), vec![5]),
        ("scalar".into(), vec![]),
        ("none".into(), vec![0, 2]),
    ]
}

#[allow(clippy::unnecessary_wraps)] // the writer wants a source that may fail
fn produce(name: &str) -> Result<Tensor, FileError> {
    let plan = plan();
    let shape = &plan.iter().find(|p| p.0 == name).unwrap().1;
    Ok(value(name, shape))
}

fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn same(a: &Tensor, b: &Tensor) -> bool {
    let flat = |t: &Tensor| {
        t.to_dtype(DType::F64)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f64>()
            .unwrap()
    };
    a.dims() == b.dims() && flat(a) == flat(b)
}

/// Read back by this crate and by the format's own; transposed views are written in their own order.
#[test]
fn what_is_written_is_read_back_in_each_dtype() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let folder = tempfile::tempdir().unwrap();
        let metadata = BTreeMap::from([("made_by".to_owned(), "a \"test\"".to_owned())]);
        let options = WriteOptions {
            dtype,
            metadata,
            ..WriteOptions::default()
        };
        let written = write_safetensors(&folder.path().join("new"), &plan(), &options, |name| {
            let tensor = produce(name)?;
            Ok::<_, FileError>(if name == "b" {
                tensor.t().unwrap().contiguous().unwrap().t().unwrap()
            } else {
                tensor
            })
        })
        .unwrap();
        assert_eq!(written, [folder.path().join("new/model.safetensors")]);
        let ours = SafetensorsFolder::open(&folder.path().join("new")).unwrap();
        assert_eq!(ours.metadata()["made_by"], "a \"test\"");
        assert_eq!(ours.metadata()["format"], "pt");
        let theirs = candle_core::safetensors::load(&written[0], &Device::Cpu).unwrap();
        for (name, shape) in plan() {
            let expected = value(&name, &shape).to_dtype(dtype).unwrap();
            assert!(
                same(&ours.load(&name, DType::F32).unwrap(), &expected),
                "{name} as {dtype:?}"
            );
            assert!(same(&theirs[&name], &expected));
            assert_eq!(theirs[&name].dtype(), dtype);
        }
    }
}

#[test]
fn shards_are_cut_and_indexed_as_transformers_does() {
    let folder = tempfile::tempdir().unwrap();
    // f32: 48, 20, 4 and 0 bytes; 30 bytes a shard leaves the first, too large by itself, alone.
    let options = WriteOptions {
        max_shard_bytes: 30,
        ..WriteOptions::default()
    };
    let written = write_safetensors(folder.path(), &plan(), &options, produce).unwrap();
    let names = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ];
    assert_eq!(written, names.map(|n| folder.path().join(n)));
    assert_eq!(listing(folder.path()), names);
    let index: serde_json::Value = serde_json::from_slice(&fs::read(&written[2]).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], 72);
    assert_eq!(index["weight_map"]["b"], names[0]);
    assert_eq!(index["weight_map"]["scalar"], names[1]);
    let source = files::open(folder.path()).unwrap();
    assert_eq!(source.names(), ["a.weight", "b", "none", "scalar"]);
    assert!(same(
        &source.load("b", DType::F32).unwrap(),
        &produce("b").unwrap()
    ));
    // Sharding does not change the content, and one value does.
    let single = tempfile::tempdir().unwrap();
    write_safetensors(single.path(), &plan(), &WriteOptions::default(), produce).unwrap();
    let whole = files::open(single.path()).unwrap();
    assert_eq!(
        hash::content_hash(&*source).unwrap(),
        hash::content_hash(&*whole).unwrap()
    );
    let other = tempfile::tempdir().unwrap();
    write_safetensors(other.path(), &plan(), &WriteOptions::default(), |name| {
        produce(name).unwrap().affine(1.0, 1e-3)
    })
    .unwrap();
    assert_ne!(
        hash::content_hash(&*files::open(other.path()).unwrap()).unwrap(),
        hash::content_hash(&*whole).unwrap()
    );
    // Into a folder that already holds weights nothing is written.
    let found = write_safetensors(folder.path(), &plan(), &options, produce)
        .unwrap_err()
        .to_string();
    assert!(
        found.contains("expected one without weights, found model.safetensors.index.json in it"),
        "{found}"
    );
}

/// A failure in the last tensor of the last shard leaves the folder as it was.
#[test]
fn a_failure_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    let options = WriteOptions {
        max_shard_bytes: 30,
        ..WriteOptions::default()
    };
    let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    let failing = |name: &str| {
        if name == "none" {
            Err(full())
        } else {
            Ok(produce(name).unwrap())
        }
    };
    let found = write_safetensors(folder.path(), &plan(), &options, failing)
        .unwrap_err()
        .to_string();
    assert!(
        found.contains("tensor `none` could not be produced: no storage space"),
        "{found}"
    );
    assert_eq!(listing(folder.path()), ["config.json"]);
    let wrong = |name: &str| {
        if name == "scalar" {
            Ok(value("x", &[2]))
        } else {
            produce(name)
        }
    };
    let found = write_safetensors(folder.path(), &plan(), &options, wrong)
        .unwrap_err()
        .to_string();
    assert!(
        found.contains("tensor `scalar`: shape: expected [] as planned, found [2]"),
        "{found}"
    );
    assert_eq!(listing(folder.path()), ["config.json"]);
    // A folder made for the purpose goes too.
    write_safetensors(&folder.path().join("new"), &plan(), &options, failing).unwrap_err();
    assert_eq!(listing(folder.path()), ["config.json"]);
    // A file that was there keeps its content.
    let path = folder.path().join("store.safetensors");
    write_safetensors_file(&path, &plan(), &options, produce).unwrap();
    let before = fs::read(&path).unwrap();
    write_safetensors_file(&path, &plan(), &options, failing).unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(listing(folder.path()), ["config.json", "store.safetensors"]);
}

/// The kernel itself says no: a limit on the size of files stands in for a full disk, in a child process.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_clear_error() {
    const CHILD: &str = "FILES_WRITE_FULL_DISK";
    if let Ok(folder) = std::env::var(CHILD) {
        let limit = libc::rlimit {
            rlim_cur: 100_000,
            rlim_max: 100_000,
        };
        // SAFETY: both calls change only this child process: writes beyond the limit now fail instead of killing it.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
        }
        let folder = Path::new(&folder);
        let plan = vec![("w".to_owned(), vec![1000, 100])];
        let options = WriteOptions::default();
        let made = |_: &str| Ok::<_, FileError>(value("w", &[1000, 100]));
        let found = write_safetensors(folder, &plan, &options, made)
            .unwrap_err()
            .to_string();
        assert!(
            found.contains("model.safetensors: cannot write: File too large"),
            "{found}"
        );
        let found = write_atomic(&folder.join("report.json"), &vec![b' '; 200_000])
            .unwrap_err()
            .to_string();
        assert!(
            found.contains("report.json: cannot write: File too large"),
            "{found}"
        );
        assert_eq!(listing(folder), Vec::<String>::new());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_full_disk_is_one_clear_error"])
        .env(CHILD, folder.path())
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stdout)
    );
    assert_eq!(listing(folder.path()), Vec::<String>::new());
}

#[test]
fn plans_and_values_that_cannot_be_written_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |plan: &[Planned], dtype: DType, scale: f64| {
        let options = WriteOptions {
            dtype,
            ..WriteOptions::default()
        };
        let path = folder.path().join("x.safetensors");
        let made = |name: &str| produce(name).unwrap().affine(scale, 0.0);
        write_safetensors_file(&path, plan, &options, made)
            .unwrap_err()
            .to_string()
    };
    let one = || plan()[0].clone();
    assert!(
        write(&[one(), one()], DType::F32, 1.0)
            .contains("tensor `b`: name: expected a name of its own")
    );
    assert!(write(&[("__metadata__".into(), vec![])], DType::F32, 1.0).contains("reserved"));
    assert!(
        write(&[one()], DType::I64, 1.0).contains("dtype: expected F32, F16 or BF16, found I64")
    );
    assert!(
        write(&[("w".into(), vec![usize::MAX, 2])], DType::F32, 1.0).contains("tensor `w`: shape")
    );
    assert!(
        write(&[one()], DType::F16, 1e6)
            .contains("tensor `b`: values: expected at most 65504 for f16")
    );
    assert_eq!(listing(folder.path()), Vec::<String>::new());
}

#[test]
fn small_files_are_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manifest.json");
    write_atomic(&path, b"one").unwrap();
    write_atomic(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(listing(folder.path()), ["manifest.json"]);
    let found = write_atomic(&folder.path().join("absent/x.json"), b"")
        .unwrap_err()
        .to_string();
    assert!(
        found.contains("absent/x.json: cannot make a temporary file beside it"),
        "{found}"
    );
    assert!(
        write_atomic(Path::new("/"), b"")
            .unwrap_err()
            .to_string()
            .contains("the name of a file")
    );
}

/// FIPS 180-2's own examples: the empty message, "abc", a million times "a".
#[test]
fn sha256_matches_the_standard() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (
            String::new(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        (
            "abc".to_owned(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            "a".repeat(1_000_000),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        ),
    ];
    let paths: Vec<_> = (0..cases.len())
        .map(|i| folder.path().join(i.to_string()))
        .collect();
    for (path, (text, digest)) in paths.iter().zip(&cases) {
        fs::write(path, text).unwrap();
        assert_eq!(hash::sha256_file(path).unwrap(), *digest);
    }
    assert_eq!(hash::sha256_files(&paths).unwrap(), cases.map(|c| c.1));
    assert!(
        hash::sha256_file(folder.path())
            .unwrap_err()
            .to_string()
            .contains("a regular file")
    );
}

/// A source of one's own that keeps no bytes, as other rooms and their tests make them.
struct InMemory(Vec<(&'static str, Tensor)>);

impl TensorSource for InMemory {
    fn describe(&self) -> String {
        "memory".to_owned()
    }
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|t| t.0.to_owned()).collect()
    }
    fn info(&self, name: &str) -> Option<TensorInfo> {
        let tensor = &self.0.iter().find(|t| t.0 == name)?.1;
        let dtype = if tensor.dtype() == DType::F64 {
            "F64"
        } else {
            "F32"
        };
        Some(TensorInfo {
            dtype: dtype.to_owned(),
            shape: tensor.dims().to_vec(),
        })
    }
    fn load(&self, name: &str, dtype: DType) -> Result<Tensor, FileError> {
        Ok(self
            .0
            .iter()
            .find(|t| t.0 == name)
            .unwrap()
            .1
            .to_dtype(dtype)
            .unwrap())
    }
}

#[test]
fn values_that_are_not_finite_are_counted() {
    let tensor = |values: &[f64]| Tensor::new(values, &Device::Cpu).unwrap();
    let source = InMemory(vec![
        ("a", tensor(&[1.0, 2.0]).to_dtype(DType::F32).unwrap()),
        (
            "b",
            tensor(&[f64::NAN, 0.0, f64::INFINITY, f64::NEG_INFINITY])
                .to_dtype(DType::F32)
                .unwrap(),
        ),
        ("c", tensor(&[1e300])),
        ("d", tensor(&[1e300, f64::NAN])),
    ]);
    assert_eq!(
        scan_non_finite(&source).unwrap(),
        [("b".to_owned(), 3), ("d".to_owned(), 1)]
    );
    let first = [1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat();
    assert_eq!(&*source.raw("a").unwrap(), first);
}
