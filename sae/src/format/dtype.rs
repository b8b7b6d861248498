//! Element types of foreign tensors, and their bytes as f32. All files read here are little-endian.

use std::io::{self, Read};

use half::{bf16, f16};

/// How the elements of a stored tensor are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
}

impl Dtype {
    /// Bytes of an element.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 => 1,
        }
    }

    /// As safetensors writes it.
    pub(super) fn from_safetensors(name: &str) -> Option<Self> {
        Some(match name {
            "F64" => Self::F64,
            "F32" => Self::F32,
            "F16" => Self::F16,
            "BF16" => Self::Bf16,
            "I64" => Self::I64,
            "I32" => Self::I32,
            "I16" => Self::I16,
            "I8" => Self::I8,
            "U8" | "BOOL" => Self::U8,
            _ => return None,
        })
    }

    /// As numpy writes it (`descr`).
    pub(super) fn from_numpy(descr: &str) -> Option<Self> {
        Some(match descr {
            "<f8" => Self::F64,
            "<f4" => Self::F32,
            "<f2" => Self::F16,
            "<i8" => Self::I64,
            "<i4" => Self::I32,
            "<i2" => Self::I16,
            "|i1" => Self::I8,
            "|u1" | "|b1" => Self::U8,
            _ => return None,
        })
    }

    /// The class of a torch storage, `torch.FloatStorage` without its module.
    pub(super) fn from_torch(class: &str) -> Option<Self> {
        Some(match class {
            "DoubleStorage" => Self::F64,
            "FloatStorage" => Self::F32,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::Bf16,
            "LongStorage" => Self::I64,
            "IntStorage" => Self::I32,
            "ShortStorage" => Self::I16,
            "CharStorage" => Self::I8,
            "ByteStorage" | "BoolStorage" => Self::U8,
            _ => return None,
        })
    }

    /// Appends the values of some bytes, whole elements.
    fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        macro_rules! each {
            ($n:literal, $convert:expr) => {
                out.extend(bytes.as_chunks::<$n>().0.iter().copied().map($convert))
            };
        }
        match self {
            Self::F64 => each!(8, |b| f64::from_le_bytes(b) as f32),
            Self::F32 => each!(4, f32::from_le_bytes),
            Self::F16 => each!(2, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => each!(2, |b| bf16::from_le_bytes(b).to_f32()),
            Self::I64 => each!(8, |b| i64::from_le_bytes(b) as f32),
            Self::I32 => each!(4, |b| i32::from_le_bytes(b) as f32),
            Self::I16 => each!(2, |b| f32::from(i16::from_le_bytes(b))),
            Self::I8 => each!(1, |b| f32::from(i8::from_le_bytes(b))),
            Self::U8 => each!(1, |b: [u8; 1]| f32::from(b[0])),
        }
    }

    /// `count` values from a reader. Memory grows as bytes arrive, so a count that lies costs nothing.
    pub(super) fn read(self, reader: &mut impl Read, count: usize) -> io::Result<Vec<f32>> {
        const ELEMENTS: usize = 1 << 14;
        let mut values = Vec::with_capacity(count.min(1 << 20));
        let mut buffer = vec![0; ELEMENTS * self.size()];
        while values.len() < count {
            let chunk = &mut buffer[..(count - values.len()).min(ELEMENTS) * self.size()];
            reader.read_exact(chunk)?;
            self.decode(chunk, &mut values);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Bit patterns by hand: 1.5 is 1.1b x 2^0 in every float type.
    #[test]
    fn one_and_a_half_in_every_float_type() {
        let cases: [(Dtype, &[u8]); 4] = [
            (Dtype::F64, &[0, 0, 0, 0, 0, 0, 0xf8, 0x3f]),
            (Dtype::F32, &[0, 0, 0xc0, 0x3f]),
            (Dtype::F16, &[0, 0x3e]),
            (Dtype::Bf16, &[0xc0, 0x3f]),
        ];
        for (dtype, mut bytes) in cases {
            assert_eq!(bytes.len(), dtype.size());
            assert_eq!(dtype.read(&mut bytes, 1).unwrap(), [1.5], "{dtype:?}");
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_is_an_error_and_takes_no_memory() {
        let mut bytes: &[u8] = &[0; 10];
        let error = Dtype::F32.read(&mut bytes, usize::MAX / 8).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
