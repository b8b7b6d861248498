//! GGUF: what is read, against ggml's own Python package; what is refused, by name.

#![allow(clippy::unwrap_used, clippy::excessive_precision)] // golden values are pasted as they were printed

mod files_samples;

use candle_core::quantized::{GgmlDType, ggml_file::qtensor_from_ggml};
use candle_core::{DType, Device};
use candlescope::files::{Bytes, FileError, Gguf, TensorSource, Value, hash};
use files_samples::*;
use std::path::Path;

fn read(bytes: Vec<u8>) -> Result<Gguf, FileError> {
    Gguf::from_bytes(Path::new("sample.gguf"), Bytes::Owned(bytes))
}

fn refusal(bytes: Vec<u8>) -> String {
    read(bytes)
        .err()
        .expect("the file should be refused")
        .to_string()
}

fn floats(gguf: &Gguf, name: &str) -> Vec<f32> {
    gguf.load(name, DType::F32)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// Four blocks of each format. Golden values: `gguf.quants.dequantize` of the PyPI package gguf (ggml's own) on the same
/// bytes; first two values, last value, and the first 16 digits of the SHA-256 of all f32 values (-0 written as 0).
#[test]
fn every_format_decodes_as_ggml_does() {
    let golden: [(&str, &str, [f32; 3]); 10] = [
        (
            "Q4_0",
            "9681ddfc23b79af6",
            [0.0, 0.84228515625, -0.002166748046875],
        ),
        (
            "Q4_1",
            "f3bcea4b45074fac",
            [
                -1.1229567527770996,
                -0.8421950340270996,
                0.14347970485687256,
            ],
        ),
        (
            "Q5_0",
            "64c0acca061e9e3e",
            [2.52685546875, 3.9306640625, -0.00018328428268432617],
        ),
        (
            "Q5_1",
            "9522864197a889d2",
            [
                -3.0882887840270996,
                -1.4037184715270996,
                -0.09277451038360596,
            ],
        ),
        (
            "Q8_0",
            "8be55eaa4a9d877f",
            [6.73828125, -19.37255859375, 0.004922389984130859],
        ),
        (
            "Q2_K",
            "86c872e2faeda0e4",
            [0.414642333984375, 0.414642333984375, 0.11297607421875],
        ),
        (
            "Q3_K",
            "71cc53c896fe16f3",
            [0.12647438049316406, 0.12647438049316406, -1.21453857421875],
        ),
        (
            "Q4_K",
            "ff40d910b8b2b644",
            [-4.497504711151123, -8.989692687988281, 1.0920047760009766],
        ),
        (
            "Q5_K",
            "93583569b267149c",
            [-0.005317211151123047, -6.743598461151123, 36.03647232055664],
        ),
        (
            "Q6_K",
            "19ec4c64c1353083",
            [2.031320571899414, -0.4514045715332031, 0.14469623565673828],
        ),
    ];
    for (format, digest, values) in golden {
        let &(id, _, block, _, _) = BLOCKS.iter().find(|b| b.1 == format).unwrap();
        let sample = GgufSample::new(vec![(
            "w".into(),
            vec![block as u64, 4],
            id,
            blocks(format, 4, 7),
        )]);
        let gguf = read(sample.bytes()).unwrap();
        assert_eq!(gguf.info("w").unwrap().dtype, format);
        assert_eq!(gguf.info("w").unwrap().shape, [4, block]);
        let found = floats(&gguf, "w");
        assert_eq!(
            [found[0], found[1], found[found.len() - 1]],
            values,
            "{format}"
        );
        let raw: Vec<u8> = found.iter().flat_map(|v| (v + 0.0).to_le_bytes()).collect();
        assert_eq!(&hash::sha256(&raw)[..16], digest, "{format}");
    }
}

/// Large enough for several chunks on several threads, with a last one that is not full; the same bits as candle.
#[test]
fn large_tensors_equal_candle_bit_for_bit() {
    let types = [
        ("F32", GgmlDType::F32),
        ("F16", GgmlDType::F16),
        ("Q4_0", GgmlDType::Q4_0),
        ("Q4_1", GgmlDType::Q4_1),
        ("Q8_0", GgmlDType::Q8_0),
        ("Q6_K", GgmlDType::Q6K),
    ];
    for (format, dtype) in types {
        let &(id, _, block, _, _) = BLOCKS.iter().find(|b| b.1 == format).unwrap();
        let (columns, rows) = (1024, 601);
        let data = blocks(format, columns * rows / block, 11);
        // candle casts the pointer, so it is given bytes at an aligned address.
        let mut aligned = vec![0u64; data.len().div_ceil(8)];
        aligned
            .iter_mut()
            .zip(data.chunks(8))
            .for_each(|(word, bytes)| {
                let mut raw = [0; 8];
                raw[..bytes.len()].copy_from_slice(bytes);
                *word = u64::from_ne_bytes(raw);
            });
        // SAFETY: u64 has no padding and a stricter alignment than u8.
        let view = unsafe { std::slice::from_raw_parts(aligned.as_ptr().cast::<u8>(), data.len()) };
        let theirs = qtensor_from_ggml(dtype, view, vec![rows, columns], &Device::Cpu).unwrap();
        let theirs: Vec<f32> = theirs
            .dequantize(&Device::Cpu)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let sample = GgufSample::new(vec![(
            "w".into(),
            vec![columns as u64, rows as u64],
            id,
            data,
        )]);
        let gguf = read(sample.bytes()).unwrap();
        let ours = floats(&gguf, "w");
        assert!(
            ours.iter()
                .zip(&theirs)
                .all(|(a, b)| a.to_bits() == b.to_bits()),
            "{format}"
        );
        // The other dtypes are that value, rounded once.
        let wide: Vec<f64> = gguf
            .load("w", DType::F64)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let narrow: Vec<half::bf16> = gguf
            .load("w", DType::BF16)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        for ((value, wide), narrow) in ours.iter().zip(wide).zip(narrow) {
            assert_eq!(f64::from(*value).to_bits(), wide.to_bits());
            assert_eq!(half::bf16::from_f32(*value).to_bits(), narrow.to_bits());
        }
    }
}

/// Q8_1 and Q8_K are not in ggml's Python package: by hand, x = q d.
#[test]
fn the_two_activation_formats_by_hand() {
    let mut q8_1 = [half::f16::from_f32(0.5).to_le_bytes(), [0, 0]].concat();
    q8_1.extend((0..32).map(|i| (i - 16i8).cast_unsigned()));
    let mut q8_k = 0.25f32.to_le_bytes().to_vec();
    q8_k.extend((0..256).map(|i| (i - 128) as i8 as u8));
    q8_k.extend([0; 32]);
    let tensors = vec![
        ("a".into(), vec![32], 9, q8_1),
        ("b".into(), vec![256], 15, q8_k),
    ];
    let gguf = read(GgufSample::new(tensors).bytes()).unwrap();
    assert_eq!(
        floats(&gguf, "a"),
        (-16..16).map(|q| q as f32 * 0.5).collect::<Vec<_>>()
    );
    assert_eq!(
        floats(&gguf, "b"),
        (-128..128).map(|q| q as f32 * 0.25).collect::<Vec<_>>()
    );
}

#[test]
fn metadata_of_every_type_is_widened() {
    let mut sample = GgufSample::new(vec![])
        .with("u8", 0, vec![200])
        .with("i8", 1, vec![0xff])
        .with("f32", 6, 1.5f32.to_le_bytes().to_vec())
        .with("yes", 7, vec![1])
        .with("name", 8, gguf_string("smollm"))
        .with(
            "tokens",
            9,
            gguf_array(8, 2, &[gguf_string("Ġthe"), gguf_string("")].concat()),
        )
        .with(
            "types",
            9,
            gguf_array(5, 2, &[1i32.to_le_bytes(), (-3i32).to_le_bytes()].concat()),
        )
        .with("scores", 9, gguf_array(6, 1, &2.5f32.to_le_bytes()))
        .with("masks", 9, gguf_array(7, 2, &[1, 0]))
        .with("f64", 12, 1e300f64.to_le_bytes().to_vec());
    sample.version = 2;
    let gguf = read(sample.bytes()).unwrap();
    assert_eq!(gguf.u64("u8"), Some(200));
    assert_eq!((gguf.u64("i8"), gguf.f64("i8")), (None, Some(-1.0)));
    assert_eq!(gguf.metadata()["i8"], Value::I64(-1));
    assert_eq!((gguf.f64("f32"), gguf.f64("f64")), (Some(1.5), Some(1e300)));
    assert_eq!(
        (gguf.bool("yes"), gguf.str("name")),
        (Some(true), Some("smollm"))
    );
    assert_eq!(gguf.strings("tokens").unwrap(), ["Ġthe", ""]);
    assert_eq!(gguf.ints("types").unwrap(), [1, -3]);
    assert_eq!(gguf.floats("scores").unwrap(), [2.5]);
    assert_eq!(gguf.metadata()["masks"], Value::Bools(vec![true, false]));
    assert_eq!(gguf.str("absent"), None);
    assert_eq!(gguf.str("u8"), None);
}

/// Each of these is a valid file with one thing wrong; the message names that thing.
#[test]
fn broken_files_are_refused_by_name() {
    let tensor = || ("w".to_owned(), vec![32, 2], 2, blocks("Q4_0", 2, 1));
    let good = GgufSample::new(vec![tensor()]);
    let bytes = good.bytes();
    assert!(read(bytes.clone()).is_ok());
    let set = |at: usize, raw: &[u8]| {
        let mut out = bytes.clone();
        out[at..at + raw.len()].copy_from_slice(raw);
        out
    };
    let with =
        |key: &str, kind: u32, payload: Vec<u8>| good.clone().with(key, kind, payload).bytes();
    let tensors = |list: Vec<(String, Vec<u64>, u32, Vec<u8>)>| GgufSample::new(list).bytes();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (set(0, b"GGML"), "magic: expected \"GGUF\", found \"GGML\""),
        (
            set(4, &1u32.to_le_bytes()),
            "version: expected 2 or 3, found 1",
        ),
        (set(4, &3u32.to_be_bytes()), "found a big-endian one"),
        (
            set(8, &(1u64 << 60).to_le_bytes()),
            "tensor count: expected at most",
        ),
        (
            set(16, &u64::MAX.to_le_bytes()),
            "metadata count: expected at most",
        ),
        (
            set(24, &(1u64 << 60).to_le_bytes()),
            "tensors[0].name: expected at most",
        ),
        (set(32, &[0xff]), "tensors[0].name: expected UTF-8"),
        (
            bytes[..bytes.len() - 1].to_vec(),
            "tensor `w`: offset: expected 36 bytes within the 35 bytes",
        ),
        (bytes[..3].to_vec(), "magic: expected at most 3 more bytes"),
        (with("k", 13, vec![]), "metadata `k`: expected a value type"),
        (
            with("k", 7, vec![2]),
            "metadata `k`: expected 0 or 1, found 2",
        ),
        (
            with("k", 9, gguf_array(9, 1, &gguf_array(0, 0, &[]))),
            "found an array of arrays",
        ),
        (
            with("k", 9, gguf_array(8, 1 << 60, &[])),
            "metadata `k` elements: expected at most",
        ),
        (
            with("k", 9, gguf_array(10, 1, &u64::MAX.to_le_bytes())),
            "expected values below 2^63",
        ),
        (
            with("general.alignment", 4, 0u32.to_le_bytes().to_vec()),
            "`general.alignment`: expected a power of two",
        ),
        (
            with("general.alignment", 8, gguf_string("x")),
            "`general.alignment`: expected a power of two",
        ),
        (
            with("split.count", 2, 3u16.to_le_bytes().to_vec()),
            "one of 3 parts",
        ),
        (
            good.clone()
                .with("k", 0, vec![1])
                .with("k", 0, vec![1])
                .bytes(),
            "metadata[1].key: expected a new key, found \"k\" again",
        ),
        (
            tensors(vec![tensor(), tensor()]),
            "tensor `w`: name: expected a new name",
        ),
        (
            tensors(vec![("w".into(), vec![32; 5], 0, vec![])]),
            "tensor `w`: dimension count",
        ),
        (
            tensors(vec![("w".into(), vec![31], 2, vec![])]),
            "innermost dimension: expected a multiple of 32 for Q4_0",
        ),
        (
            tensors(vec![("w".into(), vec![1 << 32, 1 << 33], 0, vec![])]),
            "tensor `w`: dimensions",
        ),
        (
            tensors(vec![("w".into(), vec![0, 1 << 62, 1 << 62], 0, vec![])]),
            "tensor `w`: dimensions",
        ),
        (
            tensors(vec![("w".into(), vec![4], 19, vec![])]),
            "tensor `w`: ggml type: expected F32, F16, BF16",
        ),
        (
            tensors(vec![("w".into(), vec![4], 19, vec![])]),
            "found 19 (IQ1_S)",
        ),
        (
            tensors(vec![("w".into(), vec![4], 4242, vec![])]),
            "found 4242",
        ),
    ];
    for (bytes, message) in cases {
        let found = refusal(bytes);
        assert!(
            found.starts_with("sample.gguf: ") && found.contains(message),
            "{found:?} lacks {message:?}"
        );
    }
}

#[test]
fn overlaps_and_odd_offsets_are_refused() {
    let two = GgufSample::new(vec![
        ("a".into(), vec![16], 0, noise(64, 1)),
        ("b".into(), vec![16], 0, noise(64, 2)),
    ]);
    let bytes = two.bytes();
    // Record of `b`: name length 8, name 1, rank 4, dimension 8, type 4, then its offset.
    let start = 24 + (8 + 1 + 4 + 8 + 4 + 8);
    let at = start + 8 + 1 + 4 + 8 + 4;
    assert_eq!(bytes[at..at + 8], 64u64.to_le_bytes());
    let with_offset = |offset: u64| {
        let mut out = bytes.clone();
        out[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        refusal(out)
    };
    assert!(
        with_offset(32)
            .contains("tensor `b`: offset: expected at least 64, where `a` ends, found 32")
    );
    assert!(with_offset(65).contains("tensor `b`: offset: expected a multiple of 32, found 65"));
    assert!(with_offset(u64::MAX - 31).contains("tensor `b`: offset: expected 64 bytes within"));
}

#[test]
fn a_tensor_that_is_not_there_is_named() {
    let gguf = read(GgufSample::new(vec![]).bytes()).unwrap();
    let found = gguf
        .load("output.weight", DType::F32)
        .unwrap_err()
        .to_string();
    assert_eq!(
        found,
        "sample.gguf: no tensor `output.weight` among its 0 tensors"
    );
    let gguf = read(GgufSample::new(vec![("a".into(), vec![1], 0, vec![0; 4])]).bytes()).unwrap();
    assert!(
        gguf.load("a", DType::U8)
            .unwrap_err()
            .to_string()
            .contains("loaded as f32, f64 or bf16")
    );
}
