//! The number formats in which weights are stored, and how each becomes f32, f64 or bf16.
//! A chunk of output depends on its own bytes only, so the result is the same for any number of threads.
//! Block layouts are ggml's; Q4_0, Q4_1 and Q8_0 have their own loops (they carry most of the files people use),
//! the others go through candle's. Readers: `safetensors.rs`, `gguf.rs`.

use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_1, BlockQ8K,
    GgmlType,
};
use candle_core::{DType, Device, Tensor, WithDType};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

/// A storage format of floating-point weights.
#[allow(missing_docs)] // the names are the formats' own
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    F64,
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
}

/// ggml's number for each format, the format, its name, the elements and the bytes of one block.
const GGML: [(u32, Stored, &str, usize, usize); 15] = [
    (0, Stored::F32, "F32", 1, 4),
    (1, Stored::F16, "F16", 1, 2),
    (2, Stored::Q4_0, "Q4_0", 32, 18),
    (3, Stored::Q4_1, "Q4_1", 32, 20),
    (6, Stored::Q5_0, "Q5_0", 32, 22),
    (7, Stored::Q5_1, "Q5_1", 32, 24),
    (8, Stored::Q8_0, "Q8_0", 32, 34),
    (9, Stored::Q8_1, "Q8_1", 32, 36),
    (10, Stored::Q2K, "Q2_K", 256, 84),
    (11, Stored::Q3K, "Q3_K", 256, 110),
    (12, Stored::Q4K, "Q4_K", 256, 144),
    (13, Stored::Q5K, "Q5_K", 256, 176),
    (14, Stored::Q6K, "Q6_K", 256, 210),
    (15, Stored::Q8K, "Q8_K", 256, 292),
    (30, Stored::Bf16, "BF16", 1, 2),
];

/// Elements of output that one task decodes: a multiple of every block, 1 MiB of f32.
const CHUNK: usize = 1 << 18;
/// Elements decoded at a time on the way to another dtype than f32; a multiple of every block.
const STRIP: usize = 1024;

impl Stored {
    /// The format with this ggml type number, if it is one candle reads.
    pub fn from_ggml(id: u32) -> Option<Self> {
        GGML.iter().find(|row| row.0 == id).map(|row| row.1)
    }

    /// The format with this safetensors dtype name, if it holds weights that can be read exactly.
    pub fn from_safetensors(name: &str) -> Option<Self> {
        match name {
            "F64" => Some(Self::F64),
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Name, elements in a block, bytes of a block.
    fn row(self) -> (&'static str, usize, usize) {
        GGML.iter()
            .find(|row| row.1 == self)
            .map_or(("F64", 1, 8), |row| (row.2, row.3, row.4))
    }

    /// The format's own name: `F32`, `Q4_1`, `Q6_K`.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Elements in one block; the innermost dimension is a multiple of it.
    pub fn block(self) -> usize {
        self.row().1
    }

    /// Bytes of `elements` elements; `None` on overflow or when they do not fill whole blocks.
    pub fn byte_len(self, elements: usize) -> Option<usize> {
        let (_, block, size) = self.row();
        if elements.is_multiple_of(block) {
            (elements / block).checked_mul(size)
        } else {
            None
        }
    }

    /// Decode to a CPU tensor. `bytes` must hold exactly the elements of `shape`, which both readers have checked.
    pub(super) fn decode(
        self,
        bytes: &[u8],
        shape: &[usize],
        dtype: DType,
    ) -> candle_core::Result<Tensor> {
        let elements = shape.iter().product::<usize>();
        if self.byte_len(elements) != Some(bytes.len()) {
            candle_core::bail!(
                "{} bytes do not hold {shape:?} of {}",
                bytes.len(),
                self.name()
            );
        }
        match dtype {
            DType::F32 => self.decode_as::<f32>(bytes, shape, elements),
            DType::F64 => self.decode_as::<f64>(bytes, shape, elements),
            DType::BF16 => self.decode_as::<bf16>(bytes, shape, elements),
            other => candle_core::bail!("weights are loaded as f32, f64 or bf16, not {other:?}"),
        }
    }

    fn decode_as<T: Target>(
        self,
        bytes: &[u8],
        shape: &[usize],
        elements: usize,
    ) -> candle_core::Result<Tensor> {
        let mut out = T::zeroed(elements);
        let (_, block, size) = self.row();
        if elements <= CHUNK {
            T::fill(self, bytes, &mut out);
        } else {
            out.par_chunks_mut(CHUNK)
                .zip(bytes.par_chunks(CHUNK / block * size))
                .for_each(|(out, bytes)| T::fill(self, bytes, out));
        }
        Tensor::from_vec(out, shape, &Device::Cpu)
    }
}

/// A dtype that weights are decoded to.
trait Target: WithDType {
    /// Room for `len` elements.
    fn zeroed(len: usize) -> Vec<Self> {
        vec![Self::zero(); len]
    }

    /// Decode whole blocks.
    fn fill(stored: Stored, bytes: &[u8], out: &mut [Self]) {
        if stored == Stored::F64 {
            for (out, raw) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = Self::from_f64(f64::from_le_bytes(*raw));
            }
            return;
        }
        let (_, block, size) = stored.row();
        let mut strip = [0f32; STRIP];
        for (out, bytes) in out
            .chunks_mut(STRIP)
            .zip(bytes.chunks(STRIP / block * size))
        {
            let strip = &mut strip[..out.len()];
            decode_f32(stored, bytes, strip);
            for (out, &value) in out.iter_mut().zip(strip.iter()) {
                *out = Self::narrow(value);
            }
        }
    }

    fn narrow(value: f32) -> Self;
}

impl Target for f32 {
    fn zeroed(len: usize) -> Vec<Self> {
        vec![0.0; len]
    }
    fn fill(stored: Stored, bytes: &[u8], out: &mut [Self]) {
        decode_f32(stored, bytes, out);
    }
    fn narrow(value: f32) -> Self {
        value
    }
}

impl Target for f64 {
    fn narrow(value: f32) -> Self {
        f64::from(value)
    }
}

impl Target for bf16 {
    /// To nearest, ties to even, NaN kept quiet: what `bf16::from_f32` does, without its branch, so that it vectorises.
    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
        let quiet = (bits >> 16) | 0x40;
        bf16::from_bits(if value.is_nan() { quiet } else { rounded } as u16)
    }
}

fn decode_f32(stored: Stored, bytes: &[u8], out: &mut [f32]) {
    match stored {
        Stored::F64 => each(bytes, out, |raw| f64::from_le_bytes(raw) as f32),
        Stored::F32 => each(bytes, out, f32::from_le_bytes),
        Stored::F16 => decode_f16(bytes, out),
        Stored::Bf16 => each(bytes, out, |raw| {
            f32::from_bits(u32::from(u16::from_le_bytes(raw)) << 16)
        }),
        Stored::Q4_0 => decode_q4_0(bytes, out),
        Stored::Q4_1 => decode_q4_1(bytes, out),
        Stored::Q8_0 => decode_q8_0(bytes, out),
        Stored::Q5_0 => by_candle::<BlockQ5_0>(bytes, out),
        Stored::Q5_1 => by_candle::<BlockQ5_1>(bytes, out),
        Stored::Q8_1 => by_candle::<BlockQ8_1>(bytes, out),
        Stored::Q2K => by_candle::<BlockQ2K>(bytes, out),
        Stored::Q3K => by_candle::<BlockQ3K>(bytes, out),
        Stored::Q4K => by_candle::<BlockQ4K>(bytes, out),
        Stored::Q5K => by_candle::<BlockQ5K>(bytes, out),
        Stored::Q6K => by_candle::<BlockQ6K>(bytes, out),
        Stored::Q8K => by_candle::<BlockQ8K>(bytes, out),
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], decode: impl Fn([u8; N]) -> f32) {
    for (out, raw) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *out = decode(*raw);
    }
}

/// Through an aligned strip, because half's vector conversion wants `&[f16]` and the file promises no alignment.
fn decode_f16(bytes: &[u8], out: &mut [f32]) {
    let mut strip = [f16::ZERO; STRIP];
    for (out, bytes) in out.chunks_mut(STRIP).zip(bytes.chunks(2 * STRIP)) {
        let strip = &mut strip[..out.len()];
        for (half, raw) in strip.iter_mut().zip(bytes.as_chunks().0) {
            *half = f16::from_le_bytes(*raw);
        }
        strip.convert_to_f32_slice(out);
    }
}

fn scale(low: u8, high: u8) -> f32 {
    f16::from_le_bytes([low, high]).to_f32()
}

/// Block: scale d, 16 bytes whose low nibbles are elements 0..16 and high nibbles 16..32; x = (q - 8) d.
fn decode_q4_0(bytes: &[u8], out: &mut [f32]) {
    for (out, block) in out
        .as_chunks_mut::<32>()
        .0
        .iter_mut()
        .zip(bytes.as_chunks::<18>().0)
    {
        let d = scale(block[0], block[1]);
        let (first, second) = out.split_at_mut(16);
        for ((first, second), &q) in first.iter_mut().zip(second).zip(&block[2..]) {
            *first = f32::from(i16::from(q & 15) - 8) * d;
            *second = f32::from(i16::from(q >> 4) - 8) * d;
        }
    }
}

/// Block: scale d, offset m, nibbles as in Q4_0; x = q d + m.
fn decode_q4_1(bytes: &[u8], out: &mut [f32]) {
    for (out, block) in out
        .as_chunks_mut::<32>()
        .0
        .iter_mut()
        .zip(bytes.as_chunks::<20>().0)
    {
        let (d, m) = (scale(block[0], block[1]), scale(block[2], block[3]));
        let (first, second) = out.split_at_mut(16);
        for ((first, second), &q) in first.iter_mut().zip(second).zip(&block[4..]) {
            // Two roundings, as ggml and candle have it: a fused multiply-add would give other bits.
            *first = f32::from(q & 15) * d + m;
            *second = f32::from(q >> 4) * d + m;
        }
    }
}

/// Block: scale d, 32 signed bytes; x = q d.
fn decode_q8_0(bytes: &[u8], out: &mut [f32]) {
    for (out, block) in out
        .as_chunks_mut::<32>()
        .0
        .iter_mut()
        .zip(bytes.as_chunks::<34>().0)
    {
        let d = scale(block[0], block[1]);
        for (out, &q) in out.iter_mut().zip(&block[2..]) {
            *out = f32::from(q.cast_signed()) * d;
        }
    }
}

/// Blocks whose arithmetic candle knows, copied to an aligned strip because the file promises no alignment.
fn by_candle<B: GgmlType>(bytes: &[u8], out: &mut [f32]) {
    const BLOCKS: usize = 32;
    let size = size_of::<B>();
    let mut strip = vec![B::zeros(); BLOCKS];
    for (out, bytes) in out
        .chunks_mut(BLOCKS * B::BLCK_SIZE)
        .zip(bytes.chunks(BLOCKS * size))
    {
        let blocks = bytes.len() / size;
        // SAFETY: a block is `repr(C)`, without padding (candle asserts the sizes), made of integers and halves for
        // which every bit pattern is valid; `blocks` is at most BLOCKS, so the copy stays inside both.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), strip.as_mut_ptr().cast(), blocks * size);
        };
        B::to_float(&strip[..blocks], out);
    }
}
