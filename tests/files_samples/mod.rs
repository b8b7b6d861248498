//! Small valid files of both formats, built byte by byte and independently of the readers, and mutations of them.
//! Used by the `files_*` tests and by `examples/fuzz_files.rs`.

#![allow(dead_code, clippy::unwrap_used, missing_docs)] // each test binary uses its own part

use candle_core::DType;
use candlescope::files::folder::parse_index;
use candlescope::files::safetensors::SafetensorsFile;
use candlescope::files::{Bytes, Gguf, TensorSource};
use std::path::Path;

/// Bytes that look random and are the same everywhere: the top byte of Knuth's 64-bit linear congruence.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut x = seed;
    (0..length)
        .map(|_| {
            x = x
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (x >> 56) as u8
        })
        .collect()
}

/// A GGUF file in pieces, so that a test can break any of them.
#[derive(Clone)]
pub struct GgufSample {
    pub version: u32,
    pub alignment: u64,
    /// Key, type number, payload.
    pub metadata: Vec<(String, u32, Vec<u8>)>,
    /// Name, dimensions innermost first, ggml type number, data.
    pub tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

pub fn gguf_string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

pub fn gguf_array(kind: u32, count: u64, payload: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), payload].concat()
}

impl GgufSample {
    pub fn new(tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>) -> Self {
        Self {
            version: 3,
            alignment: 32,
            metadata: vec![],
            tensors,
        }
    }

    pub fn with(mut self, key: &str, kind: u32, payload: Vec<u8>) -> Self {
        self.metadata.push((key.to_owned(), kind, payload));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, kind, payload) in &self.metadata {
            out.extend(gguf_string(key));
            out.extend(kind.to_le_bytes());
            out.extend(payload);
        }
        let mut offset = 0u64;
        for (name, dims, kind, data) in &self.tensors {
            out.extend(gguf_string(name));
            out.extend((dims.len() as u32).to_le_bytes());
            for d in dims {
                out.extend(d.to_le_bytes());
            }
            out.extend(kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset = (offset + data.len() as u64).next_multiple_of(self.alignment);
        }
        for (_, _, _, data) in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment as usize), 0);
            out.extend(data);
        }
        out
    }
}

/// ggml type number, name, elements and bytes of a block, where a block keeps its half-float scales.
pub const BLOCKS: [(u32, &str, usize, usize, &[usize]); 15] = [
    (0, "F32", 1, 4, &[]),
    (1, "F16", 1, 2, &[0]),
    (2, "Q4_0", 32, 18, &[0]),
    (3, "Q4_1", 32, 20, &[0, 2]),
    (6, "Q5_0", 32, 22, &[0]),
    (7, "Q5_1", 32, 24, &[0, 2]),
    (8, "Q8_0", 32, 34, &[0]),
    (9, "Q8_1", 32, 36, &[0, 2]),
    (10, "Q2_K", 256, 84, &[80, 82]),
    (11, "Q3_K", 256, 110, &[108]),
    (12, "Q4_K", 256, 144, &[0, 2]),
    (13, "Q5_K", 256, 176, &[0, 2]),
    (14, "Q6_K", 256, 210, &[208]),
    (15, "Q8_K", 256, 292, &[]),
    (30, "BF16", 1, 2, &[]),
];

/// `count` blocks of noise whose half-float scales are finite (the top bit of their exponent cleared).
pub fn blocks(name: &str, count: usize, seed: u64) -> Vec<u8> {
    let (_, _, _, size, scales) = *BLOCKS.iter().find(|b| b.1 == name).unwrap();
    let mut data = noise(size * count, seed);
    for block in data.chunks_mut(size) {
        for at in scales {
            block[at + 1] &= 0xBF;
        }
    }
    data
}

/// A safetensors file from a header text and data.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        data,
    ]
    .concat()
}

/// Valid GGUF files: all metadata types, all tensor types, both versions, an alignment of 8, an empty one.
pub fn gguf_seeds() -> Vec<Vec<u8>> {
    let every_type = BLOCKS
        .iter()
        .map(|&(id, name, block, _, _)| {
            (
                format!("t.{name}"),
                vec![block as u64, 2],
                id,
                blocks(name, 2, 3),
            )
        })
        .collect();
    let scalars = [
        (0u32, 1usize),
        (1, 1),
        (2, 2),
        (3, 2),
        (4, 4),
        (5, 4),
        (6, 4),
        (10, 8),
        (11, 8),
        (12, 8),
    ];
    let mut rich = GgufSample::new(vec![("a".into(), vec![4], 0, noise(16, 1))])
        .with("general.architecture", 8, gguf_string("llama"))
        .with("flag", 7, vec![1])
        .with(
            "words",
            9,
            gguf_array(8, 2, &[gguf_string("one"), gguf_string("zwei")].concat()),
        )
        .with("flags", 9, gguf_array(7, 2, &[0, 1]))
        .with("general.alignment", 4, 8u32.to_le_bytes().to_vec());
    rich.alignment = 8;
    rich.version = 2;
    for (kind, size) in scalars {
        rich = rich.with(&format!("scalar.{kind}"), kind, noise(size, 5));
        let few: Vec<u8> = noise(3 * size, 6).into_iter().map(|b| b & 0x7f).collect();
        rich = rich.with(&format!("list.{kind}"), 9, gguf_array(kind, 3, &few));
    }
    vec![
        GgufSample::new(every_type).bytes(),
        rich.bytes(),
        GgufSample::new(vec![]).bytes(),
    ]
}

/// Valid safetensors files: floats, integers, metadata, a scalar, an empty tensor, no tensor at all.
pub fn safetensors_seeds() -> Vec<Vec<u8>> {
    let floats = r#"{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},"c":{"dtype":"F16","shape":[],"data_offsets":[32,34]},"e":{"dtype":"F64","shape":[0,7],"data_offsets":[34,34]}}"#;
    let ints = r#"{"ids":{"dtype":"I64","shape":[2,2],"data_offsets":[0,32]},"mask":{"dtype":"BOOL","shape":[4],"data_offsets":[32,36]},"u":{"dtype":"U16","shape":[2],"data_offsets":[36,40]}}   "#;
    vec![
        safetensors(floats, &noise(34, 1)),
        safetensors(ints, &noise(40, 2)),
        safetensors("{}", &[]),
    ]
}

/// Valid indices.
pub fn index_seeds() -> Vec<Vec<u8>> {
    let index = r#"{"metadata":{"total_size":8},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
    vec![index.as_bytes().to_vec()]
}

/// One way to damage a file. Positions are taken modulo the length.
#[derive(Debug, Clone)]
pub enum Mutation {
    Flip {
        at: usize,
        bit: u8,
    },
    Byte {
        at: usize,
        value: u8,
    },
    Truncate {
        at: usize,
    },
    Append {
        length: usize,
        value: u8,
    },
    Length {
        at: usize,
        wide: bool,
        value: u64,
    },
    Digits {
        at: usize,
        value: u64,
    },
    Splice {
        other: usize,
        from: usize,
        to: usize,
    },
    Repeat {
        from: usize,
        length: usize,
        to: usize,
    },
}

/// Lengths that parsers have been known to get wrong.
pub const LENGTHS: [u64; 16] = [
    0,
    1,
    2,
    31,
    32,
    255,
    65_536,
    100_000_000,
    100_000_001,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 60,
    1 << 63,
    u64::MAX - 7,
    u64::MAX,
];

/// Apply mutations to the seed of this number.
pub fn mutate(seeds: &[Vec<u8>], seed: usize, mutations: &[Mutation]) -> Vec<u8> {
    let mut out = seeds[seed % seeds.len()].clone();
    for mutation in mutations {
        let length = out.len();
        if length == 0 {
            break;
        }
        match *mutation {
            Mutation::Flip { at, bit } => out[at % length] ^= 1 << (bit % 8),
            Mutation::Byte { at, value } => out[at % length] = value,
            Mutation::Truncate { at } => out.truncate(at % length),
            Mutation::Append { length, value } => out.resize(out.len() + length % 64, value),
            Mutation::Length { at, wide, value } => {
                let raw = value.to_le_bytes();
                let raw = if wide { &raw[..] } else { &raw[..4] };
                out[at % length..]
                    .iter_mut()
                    .zip(raw)
                    .for_each(|(out, new)| *out = *new);
            }
            Mutation::Digits { at, value } => {
                // The next run of digits, as a header in JSON has them.
                let start = (0..length)
                    .map(|i| (at + i) % length)
                    .find(|&i| out[i].is_ascii_digit());
                if let Some(start) = start {
                    let end = (start..length)
                        .find(|&i| !out[i].is_ascii_digit())
                        .unwrap_or(length);
                    out.splice(start..end, value.to_string().into_bytes());
                }
            }
            Mutation::Splice { other, from, to } => {
                let other = &seeds[other % seeds.len()];
                out.truncate(to % length);
                out.extend(&other[from % (other.len() + 1)..]);
            }
            Mutation::Repeat {
                from,
                length: span,
                to,
            } => {
                let from = from % length;
                let piece = out[from..(from + span % 64).min(length)].to_vec();
                let to = to % length;
                out.splice(to..to, piece);
            }
        }
    }
    out
}

/// Read everything that a GGUF file offers. Panics only if the reader does, or breaks its word.
pub fn drive_gguf(bytes: Vec<u8>) -> bool {
    let length = bytes.len();
    let Ok(gguf) = Gguf::from_bytes(Path::new("fuzz.gguf"), Bytes::Owned(bytes)) else {
        return false;
    };
    let stored: usize = gguf
        .names()
        .iter()
        .map(|name| gguf.raw(name).unwrap().len())
        .sum();
    assert!(
        stored <= length,
        "{stored} bytes of tensors in a file of {length}"
    );
    load_all(&gguf);
    true
}

/// Read everything that a safetensors file offers.
pub fn drive_safetensors(bytes: Vec<u8>) -> bool {
    let length = bytes.len();
    let Ok(file) = SafetensorsFile::from_bytes(Path::new("fuzz.safetensors"), Bytes::Owned(bytes))
    else {
        return false;
    };
    let names = file.names();
    let stored: usize = names.iter().map(|name| file.raw(name).unwrap().len()).sum();
    assert!(
        stored < length,
        "{stored} bytes of tensors in a file of {length}"
    );
    for name in names {
        // Each dtype is readable one way or refused by name; which, the tests of the format say.
        for dtype in [DType::F32, DType::BF16, DType::F64] {
            let _ = file.load(&name, dtype);
        }
        let _ = file.load_ints(&name);
    }
    true
}

/// Read an index.
pub fn drive_index(bytes: &[u8]) -> bool {
    parse_index(Path::new("fuzz.json"), bytes).is_ok()
}

fn load_all(source: &dyn TensorSource) {
    for name in source.names() {
        let info = source.info(&name).unwrap();
        for dtype in [DType::F32, DType::BF16, DType::F64] {
            let tensor = source.load(&name, dtype).unwrap();
            assert_eq!(tensor.dims(), info.shape.as_slice());
        }
    }
}
