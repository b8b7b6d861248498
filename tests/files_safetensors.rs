//! Safetensors: single files, shards and their index; what is refused, by name.

#![allow(clippy::unwrap_used)]

mod files_samples;

use candle_core::{DType, Device, Tensor};
use candlescope::files::folder::{INDEX, SINGLE, parse_index};
use candlescope::files::safetensors::SafetensorsFile;
use candlescope::files::{self, Bytes, FileError, Layout, SafetensorsFolder, TensorSource};
use files_samples::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn read(bytes: Vec<u8>) -> Result<SafetensorsFile, FileError> {
    SafetensorsFile::from_bytes(Path::new("sample.safetensors"), Bytes::Owned(bytes))
}

fn one(name: &str, data: &[u8]) -> Vec<u8> {
    let header = format!(
        r#"{{"{name}":{{"dtype":"U8","shape":[{}],"data_offsets":[0,{}]}}}}"#,
        data.len(),
        data.len()
    );
    safetensors(&header, data)
}

fn message<T>(result: Result<T, FileError>) -> String {
    result.err().expect("this should be refused").to_string()
}

/// The same tensors written by the `safetensors` crate through candle read back alike in every dtype.
#[test]
fn reads_what_the_formats_own_crate_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(SINGLE);
    let values: Vec<f32> = (0..700_000)
        .map(|i| (i as f32 * 0.37).sin() * 3.0)
        .collect();
    let large = Tensor::from_vec(values.clone(), (700, 1000), &Device::Cpu).unwrap();
    let tensors: std::collections::HashMap<String, Tensor> = [
        ("f32".to_owned(), large.clone()),
        ("f64".to_owned(), large.to_dtype(DType::F64).unwrap()),
        ("f16".to_owned(), large.to_dtype(DType::F16).unwrap()),
        ("bf16".to_owned(), large.to_dtype(DType::BF16).unwrap()),
        (
            "ids".to_owned(),
            Tensor::new(&[[3i64, -1], [0, 7]], &Device::Cpu).unwrap(),
        ),
    ]
    .into();
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let source = files::open(folder.path()).unwrap();
    assert_eq!(source.names(), ["bf16", "f16", "f32", "f64", "ids"]);
    assert_eq!(source.info("f16").unwrap().shape, [700, 1000]);
    for (name, stored) in [
        ("f32", DType::F32),
        ("f64", DType::F64),
        ("f16", DType::F16),
        ("bf16", DType::BF16),
    ] {
        for wanted in [DType::F32, DType::F64, DType::BF16] {
            let expected = large
                .to_dtype(stored)
                .unwrap()
                .to_dtype(wanted)
                .unwrap()
                .to_dtype(DType::F64)
                .unwrap();
            let found = source.load(name, wanted).unwrap();
            assert_eq!(found.dtype(), wanted);
            let found = found.to_dtype(DType::F64).unwrap();
            let difference = (expected - found)
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap();
            assert_eq!(
                difference.to_scalar::<f64>().unwrap(),
                0.0,
                "{name} as {wanted:?}"
            );
        }
    }
    let found = message(source.load("ids", DType::F32));
    assert!(
        found.contains("tensor `ids`: dtype: expected F64, F32, F16 or BF16, found I64"),
        "{found}"
    );
    let folder = SafetensorsFolder::open(&path).unwrap();
    assert_eq!(
        folder.load_ints("ids").unwrap().to_vec2::<i64>().unwrap(),
        [[3, -1], [0, 7]]
    );
    assert!(
        message(folder.load_ints("f32")).contains("dtype: expected an integer type, found F32")
    );
    assert!(
        message(folder.load_ints("nothing")).contains("no tensor `nothing` among its 5 tensors")
    );
}

#[test]
fn integers_of_every_width_are_widened() {
    let header = r#"{"a":{"dtype":"U64","shape":[1],"data_offsets":[0,8]},"b":{"dtype":"I32","shape":[1],"data_offsets":[8,12]},
        "c":{"dtype":"I16","shape":[1],"data_offsets":[12,14]},"d":{"dtype":"U16","shape":[1],"data_offsets":[14,16]},
        "e":{"dtype":"I8","shape":[1],"data_offsets":[16,17]},"f":{"dtype":"BOOL","shape":[1],"data_offsets":[17,18]}}"#;
    let mut data = 9u64.to_le_bytes().to_vec();
    data.extend((-5i32).to_le_bytes());
    data.extend((-6i16).to_le_bytes());
    data.extend(65_000u16.to_le_bytes());
    data.extend([0xf9, 1]);
    let file = read(safetensors(header, &data)).unwrap();
    let value = |name: &str| file.load_ints(name).unwrap().to_vec1::<i64>().unwrap()[0];
    assert_eq!(
        ["a", "b", "c", "d", "e", "f"].map(value),
        [9, -5, -6, 65_000, -7, 1]
    );
    data[7] = 0x80;
    let file = read(safetensors(header, &data)).unwrap();
    assert!(message(file.load_ints("a")).contains("values below 2^63"));
}

/// Each is one thing wrong; the message names the file, the field and what is there.
#[test]
fn broken_headers_are_refused_by_name() {
    let entry = |dtype: &str, shape: &str, begin: u64, end: u64| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    };
    let w = |dtype: &str, shape: &str, begin: u64, end: u64| {
        safetensors(
            &format!(r#"{{"w":{}}}"#, entry(dtype, shape, begin, end)),
            &[0; 8],
        )
    };
    let two = |a: String, b: String| safetensors(&format!(r#"{{"a":{a},"b":{b}}}"#), &[0; 8]);
    assert!(read(w("F32", "[2]", 0, 8)).is_ok());
    let claim = |length: u64| [&length.to_le_bytes()[..], b"{}"].concat();
    let twice = entry("F32", "[2]", 0, 8);
    let mut not_utf8 = w("F32", "[2]", 0, 8);
    not_utf8[10] = 0xff;
    let cases = [
        (
            vec![],
            "file length: expected at least 8 bytes, found 0 bytes",
        ),
        (
            vec![1, 2, 3],
            "file length: expected at least 8 bytes, found 3 bytes",
        ),
        (
            claim(1 << 60),
            "header length: expected at most 2 (the file has 10 bytes), found 1152921504606846976",
        ),
        (claim(u64::MAX), "header length: expected at most 2"),
        (claim(3), "header length: expected at most 2"),
        (
            safetensors("not json", &[]),
            "header: expected a JSON object",
        ),
        (safetensors("[]", &[]), "an object of tensor names"),
        (
            safetensors(&"[".repeat(100_000), &[]),
            "header: expected a JSON object",
        ),
        (
            safetensors(r#"{"a":{"a":"#, &[]),
            "header: expected a JSON object",
        ),
        (
            safetensors(r#"{"w":{"dtype":"F32"}}"#, &[]),
            "tensor `w`: missing field `shape`",
        ),
        (not_utf8, "header: expected UTF-8 text"),
        (
            w("F31", "[2]", 0, 8),
            "tensor `w`: dtype: expected a known dtype",
        ),
        (w("F32", "[2.5]", 0, 8), "tensor `w`"),
        (w("F32", "[-2]", 0, 8), "tensor `w`"),
        (
            w("F32", "[4294967296,4294967296]", 0, 8),
            "tensor `w`: shape: expected a size that fits",
        ),
        (
            w("F32", "[0,4294967296,4294967296]", 0, 0),
            "tensor `w`: shape: expected a size that fits",
        ),
        (
            w("F32", "[3]", 0, 8),
            "tensor `w`: data_offsets: expected 12 bytes for [3] of F32, found 8 bytes",
        ),
        (
            w("F32", "[2]", 8, 0),
            "tensor `w`: data_offsets: expected a range within the 8 bytes of data, found [8, 0]",
        ),
        (
            w("F32", "[3]", 0, 12),
            "data_offsets: expected a range within the 8 bytes",
        ),
        (
            w("U8", "[7]", 1, 8),
            "tensor `w`: data_offsets: expected to begin at 0",
        ),
        (
            w("U8", "[7]", 0, 7),
            "file length: expected 68 bytes, where the last tensor ends, found 69 bytes",
        ),
        (
            safetensors(&format!(r#"{{"w":{twice},"w":{twice}}}"#), &[0; 8]),
            "the name `w` appears twice",
        ),
        (
            two(entry("U8", "[5]", 0, 5), entry("U8", "[4]", 4, 8)),
            "tensor `b`: data_offsets",
        ),
        (
            two(entry("U8", "[5]", 0, 5), entry("U8", "[4]", 4, 8)),
            "4 (an overlap with another tensor)",
        ),
        (
            two(entry("U8", "[2]", 0, 2), entry("U8", "[4]", 4, 8)),
            "4 (a hole before it)",
        ),
    ];
    for (bytes, expected) in cases {
        let found = message(read(bytes));
        assert!(
            found.starts_with("sample.safetensors: ") && found.contains(expected),
            "{found:?} lacks {expected:?}"
        );
    }
}

fn sharded(folder: &Path, weight_map: &str) {
    fs::write(folder.join("x-1.safetensors"), one("a", &[1, 2])).unwrap();
    fs::write(folder.join("x-2.safetensors"), one("b", &[3])).unwrap();
    fs::write(
        folder.join(INDEX),
        format!(r#"{{"metadata":{{}},"weight_map":{weight_map}}}"#),
    )
    .unwrap();
}

#[test]
fn shards_are_read_through_their_index() {
    let folder = tempfile::tempdir().unwrap();
    sharded(
        folder.path(),
        r#"{"a":"x-1.safetensors","b":"x-2.safetensors"}"#,
    );
    let source = SafetensorsFolder::open(folder.path()).unwrap();
    assert_eq!(source.names(), ["a", "b"]);
    assert_eq!(&*source.raw("b").unwrap(), [3]);
    assert_eq!(source.files().count(), 2);
    // The index itself may be given too.
    assert_eq!(
        files::open(&folder.path().join(INDEX)).unwrap().names(),
        ["a", "b"]
    );
}

#[test]
fn an_index_that_disagrees_with_its_shards_is_refused() {
    let cases = [
        (r#"{"a":"x-1.safetensors"}"#, None),
        (
            r#"{"a":"x-2.safetensors","b":"x-2.safetensors"}"#,
            Some("1 not in the shard named for them: a"),
        ),
        (
            r#"{"a":"x-1.safetensors","b":"x-2.safetensors","c":"x-2.safetensors"}"#,
            Some("named for them: c"),
        ),
        (
            r#"{"a":"x-1.safetensors","b":"x-3.safetensors"}"#,
            Some("1 missing: x-3.safetensors"),
        ),
        (
            r#"{"a":"../x-1.safetensors"}"#,
            Some("tensor `a`: weight_map: expected the name of a file in this folder"),
        ),
        (r#"["a"]"#, Some("weight_map: expected a JSON object")),
        ("", Some("weight_map: expected a JSON object")),
    ];
    for (weight_map, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        sharded(folder.path(), weight_map);
        let result = SafetensorsFolder::open(folder.path());
        match expected {
            None => assert_eq!(result.unwrap().names(), ["a"]),
            Some(expected) => {
                let found = message(result);
                assert!(
                    found.contains(INDEX) && found.contains(expected),
                    "{found:?} lacks {expected:?}"
                );
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    sharded(folder.path(), r#"{"b":"x-2.safetensors"}"#);
    fs::write(folder.path().join("x-2.safetensors"), {
        let header = r#"{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"z":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
        safetensors(header, &[0; 2])
    })
    .unwrap();
    let found = message(SafetensorsFolder::open(folder.path()));
    assert!(found.contains("1 not listed for it: z"), "{found}");
}

#[test]
fn shard_names_stay_inside_the_folder() {
    let index =
        |name: &str| serde_json::json!({"weight_map": BTreeMap::from([("a", name)])}).to_string();
    let read = |name: &str| parse_index(Path::new("i.json"), index(name).as_bytes());
    assert!(read("model-00001-of-00002.safetensors").is_ok());
    for name in [
        "",
        ".",
        "..",
        "/etc/passwd",
        "a/b",
        "a/../b",
        "./a",
        "a/",
        "..\\a",
        "C:a",
        "a\0b",
    ] {
        assert!(read(name).is_err(), "{name:?} was accepted");
    }
}

#[test]
fn paths_that_hold_no_checkpoint_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let open = |path: &Path| message(files::open(path));
    assert!(
        open(folder.path()).contains("neither model.safetensors nor model.safetensors.index.json")
    );
    fs::write(at("q.gguf"), GgufSample::new(vec![]).bytes()).unwrap();
    assert!(open(folder.path()).contains("give the path of the GGUF file itself"));
    assert_eq!(files::layout(&at("q.gguf")).unwrap(), Layout::Gguf);
    fs::rename(at("q.gguf"), at("q.bin")).unwrap();
    assert_eq!(
        files::layout(&at("q.bin")).unwrap(),
        Layout::Gguf,
        "known by its magic"
    );
    assert!(open(&at("absent")).contains("cannot read"));
    fs::write(at("empty.safetensors"), []).unwrap();
    assert!(open(&at("empty.safetensors")).contains("an empty file (0 bytes)"));
    fs::write(at("empty.gguf"), []).unwrap();
    assert!(open(&at("empty.gguf")).contains("an empty file (0 bytes)"));
    fs::create_dir(at(SINGLE)).unwrap();
    assert!(open(folder.path()).contains("expected a regular file, found a folder"));
    fs::remove_dir(at(SINGLE)).unwrap();
    sharded(
        folder.path(),
        r#"{"a":"x-1.safetensors","b":"x-2.safetensors"}"#,
    );
    fs::write(at(SINGLE), one("a", &[1])).unwrap();
    assert!(open(folder.path()).contains("both model.safetensors and"));
}

#[cfg(unix)]
#[test]
fn links_are_followed_loops_and_devices_are_refused() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("blob"), one("a", &[1])).unwrap();
    symlink("blob", at(SINGLE)).unwrap();
    assert_eq!(files::open(folder.path()).unwrap().names(), ["a"]);
    symlink("loop-b", at("loop-a")).unwrap();
    symlink("loop-a", at("loop-b")).unwrap();
    assert!(message(files::open(&at("loop-a"))).contains("loop-a: cannot read"));
    let found = message(files::open(Path::new("/dev/zero")));
    assert!(
        found.contains("expected a regular file, found a device"),
        "{found}"
    );
}

/// Every prefix of a valid file is refused: no truncation goes unnoticed.
#[test]
fn every_truncation_is_refused() {
    for seed in safetensors_seeds() {
        for length in 0..seed.len() {
            assert!(
                read(seed[..length].to_vec()).is_err(),
                "{length} of {} bytes",
                seed.len()
            );
        }
    }
}
