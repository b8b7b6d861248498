//! Values as they are stored, and what storing them costs.
//!
//! Always: what [`Codec::push`] wrote, [`decode`] gives back as the same f32 whatever the batch or thread, and the loss that
//! is reported is that of the very bytes.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use super::{StoreDtype, StoreError};
use crate::hooks::HookPoint;

/// What a number format lost at one point, over the tokens that training sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// The point.
    pub point: HookPoint,
    /// Tokens measured.
    pub rows: u64,
    /// Sum over tokens of `|x - stored|^2 / |x|^2`; a token of zeros counts as 0.
    pub relative: f64,
    /// The largest of these ratios.
    pub worst: f64,
}

impl Lost {
    pub(super) fn none(point: HookPoint) -> Self {
        Self {
            point,
            rows: 0,
            relative: 0.0,
            worst: 0.0,
        }
    }

    fn count(&mut self, error: f64, size: f64) {
        let ratio = if size > 0.0 { error / size } else { 0.0 };
        self.rows += 1;
        self.relative += ratio;
        self.worst = self.worst.max(ratio);
    }

    /// Both together.
    pub fn and(&mut self, other: &Self) {
        self.rows += other.rows;
        self.relative += other.relative;
        self.worst = self.worst.max(other.worst);
    }

    /// Mean over tokens of the squared error by the squared norm.
    pub fn mean(&self) -> f64 {
        self.relative / (self.rows.max(1)) as f64
    }
}

/// The bytes of one tensor in the making.
pub(super) struct Codec {
    pub(super) dtype: StoreDtype,
    pub(super) bytes: Vec<u8>,
    /// One f32 a token, for int8 alone.
    pub(super) scales: Vec<u8>,
    pub(super) lost: Lost,
}

impl Codec {
    pub(super) fn new(dtype: StoreDtype, point: HookPoint, values: usize, tokens: usize) -> Self {
        let scales = if dtype == StoreDtype::Int8 {
            tokens * 4
        } else {
            0
        };
        Self {
            dtype,
            bytes: Vec::with_capacity(values * dtype.size() as usize),
            scales: Vec::with_capacity(scales),
            lost: Lost::none(point),
        }
    }

    /// Adds the values of one token; `measured`: its loss counts.
    ///
    /// # Errors
    /// A value that f16 cannot hold, one that is not finite in int8.
    pub(super) fn push(
        &mut self,
        values: &[f32],
        measured: bool,
        row: usize,
    ) -> Result<(), StoreError> {
        let start = self.bytes.len();
        let mut scale = 1.0;
        match self.dtype {
            StoreDtype::F32 => {
                for v in values {
                    self.bytes.extend_from_slice(&v.to_le_bytes());
                }
                return Ok(());
            }
            StoreDtype::BF16 => {
                for v in values {
                    self.bytes
                        .extend_from_slice(&bf16::from_f32(*v).to_le_bytes());
                }
            }
            StoreDtype::F16 => {
                let lost = |v: &&f32| v.is_finite() && f16::from_f32(**v).is_infinite();
                if let Some(&value) = values.iter().find(lost) {
                    return Err(StoreError::Overflow {
                        point: self.lost.point.to_string(),
                        row,
                        value,
                    });
                }
                for v in values {
                    self.bytes
                        .extend_from_slice(&f16::from_f32(*v).to_le_bytes());
                }
            }
            StoreDtype::Int8 => {
                scale = self.push_int8(values, row)?;
            }
        }
        if measured {
            let stored = &self.bytes[start..];
            let mut back = vec![0.0; values.len()];
            decode(self.dtype, stored, scale, &mut back);
            let (mut error, mut size) = (0.0_f64, 0.0_f64);
            for (x, y) in values.iter().zip(&back) {
                error += f64::from(x - y).powi(2);
                size += f64::from(*x).powi(2);
            }
            self.lost.count(error, size);
        }
        Ok(())
    }

    fn push_int8(&mut self, values: &[f32], row: usize) -> Result<f32, StoreError> {
        let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        // A maximum passes over NaN.
        if let Some(&value) = values.iter().find(|v| !v.is_finite()) {
            return Err(StoreError::NotFinite {
                point: self.lost.point.to_string(),
                row: row.to_string(),
                value,
            });
        }
        let scale = largest / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let code = |v: &f32| ((v * inverse).round().clamp(-127.0, 127.0) as i8).cast_unsigned();
        self.bytes.extend(values.iter().map(code));
        self.scales.extend_from_slice(&scale.to_le_bytes());
        Ok(scale)
    }
}

/// The values of one token out of its bytes; both have the same number of values.
pub(super) fn decode(dtype: StoreDtype, bytes: &[u8], scale: f32, out: &mut [f32]) {
    match dtype {
        StoreDtype::F32 => {
            for (out, raw) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_le_bytes(*raw);
            }
        }
        StoreDtype::BF16 => {
            for (out, raw) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*raw)) << 16);
            }
        }
        StoreDtype::F16 => {
            for (out, raw) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f16::from_le_bytes(*raw).to_f32();
            }
        }
        StoreDtype::Int8 => {
            for (out, raw) in out.iter_mut().zip(bytes) {
                *out = f32::from(raw.cast_signed()) * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn codec(dtype: StoreDtype) -> Codec {
        Codec::new(dtype, "resid_post.0".parse().unwrap(), 8, 1)
    }

    /// By hand: scale 254 / 127 = 2, codes round(x / 2) with ties away from zero.
    #[test]
    fn int8_by_hand() {
        let mut int8 = codec(StoreDtype::Int8);
        int8.push(&[254.0, -254.0, 3.0, 0.9, 0.0], true, 0).unwrap();
        assert_eq!(int8.bytes, [127, 129, 2, 0, 0]);
        assert_eq!(int8.scales, 2.0_f32.to_le_bytes());
        let expected = (1.0 + 0.9_f32.powi(2)) / (254.0_f32.powi(2) * 2.0 + 9.0 + 0.81);
        assert!((int8.lost.mean() / f64::from(expected) - 1.0).abs() < 1e-5);
        int8.push(&[0.0; 5], true, 0).unwrap();
        assert_eq!((int8.lost.rows, &int8.bytes[5..]), (2, &[0; 5][..]));
        let error = int8
            .push(&[1.0, f32::NAN], true, 7)
            .unwrap_err()
            .to_string();
        assert!(error.contains("NaN") && error.contains('7'), "{error}");
    }

    proptest! {
        #[test]
        fn every_format_comes_back_within_its_step(values in proptest::collection::vec(-1e4_f32..1e4, 1..40)) {
            let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            for (dtype, step) in [
                (StoreDtype::F32, 0.0),
                (StoreDtype::F16, largest / 2048.0 + 1e-7),
                (StoreDtype::BF16, largest / 256.0),
                (StoreDtype::Int8, largest / 127.0 * 0.5001),
            ] {
                let mut made = codec(dtype);
                made.push(&values, true, 0).unwrap();
                let scale = made.scales.first_chunk().map_or(1.0, |s| f32::from_le_bytes(*s));
                let mut back = vec![0.0; values.len()];
                decode(dtype, &made.bytes, scale, &mut back);
                for (x, y) in values.iter().zip(&back) {
                    prop_assert!((x - y).abs() <= step, "{dtype:?} {x} {y}");
                }
            }
        }
    }
}
