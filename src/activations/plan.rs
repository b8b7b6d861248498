//! The store laid out before anything runs: which rows, how many bytes, where shards begin.
//!
//! Always: the layout depends on the rows and the settings alone. Batches begin at multiples of the batch size and shards
//! end between batches, so a capture that goes on after a break forms the same batches and writes the same bytes.

use std::{fmt, ops::Range, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Policy, StoreError, facts::MOST};
use crate::config::ModelConfig;
use crate::files::hash::sha256;
use crate::hooks::{HookPoint, Shape};

/// Rows of token ids, one by one; errors name the row.
pub type RowIter<'a> = Box<dyn Iterator<Item = Result<Vec<u32>, StoreError>> + Send + 'a>;

/// Rows that can be read more than once: to lay the store out, then to fill it.
pub trait Rows {
    /// From the first row.
    ///
    /// # Errors
    /// The source cannot be opened.
    fn rows(&self) -> Result<RowIter<'_>, StoreError>;
}

impl Rows for Vec<Vec<u32>> {
    fn rows(&self) -> Result<RowIter<'_>, StoreError> {
        Ok(Box::new(self.iter().cloned().map(Ok)))
    }
}

/// Number format of stored activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreDtype {
    /// As computed.
    F32,
    /// Half the bytes, 11 bits of mantissa; values above 65504 are refused.
    F16,
    /// Half the bytes, 8 bits of mantissa, the range of f32.
    BF16,
    /// A quarter of the bytes: whole numbers from -127 to 127 beside one f32 scale a token, its largest value / 127.
    Int8,
}

impl StoreDtype {
    /// Bytes of a value.
    pub fn size(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Int8 => 1,
        }
    }

    /// As it is given and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// The name in safetensors headers.
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Int8 => "I8",
        }
    }
}

impl FromStr for StoreDtype {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::BF16),
            "int8" => Ok(Self::Int8),
            other => Err(StoreError::Setting {
                option: "--store-dtype",
                expected: "f32, f16, bf16 or int8",
                found: other.into(),
            }),
        }
    }
}

/// Which positions of a row are stored. For attention points these are the queries; keys are stored all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Every token.
    All,
    /// The last `n` tokens; a shorter row is stored whole.
    Last(usize),
}

impl Kept {
    /// The stored positions of a row of `len` tokens.
    pub fn of(self, len: usize) -> Range<usize> {
        match self {
            Self::All => 0..len,
            Self::Last(n) => len.saturating_sub(n)..len,
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Last(n) => write!(f, "last:{n}"),
        }
    }
}

impl FromStr for Kept {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let last = |n: &str| n.parse().ok().filter(|&n| n > 0).map(Self::Last);
        let kept = match (text, text.strip_prefix("last:")) {
            ("all", _) => Some(Self::All),
            ("last", _) => Some(Self::Last(1)),
            (_, Some(n)) => last(n),
            _ => None,
        };
        kept.ok_or_else(|| StoreError::Setting {
            option: "--positions",
            expected: "all, last or last:N",
            found: text.into(),
        })
    }
}

impl Serialize for Kept {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What to capture and how to store it.
#[derive(Debug, Clone, PartialEq)]
pub struct CaptureSpec {
    /// The points, in this order.
    pub points: Vec<HookPoint>,
    /// Which positions.
    pub kept: Kept,
    /// Number format.
    pub dtype: StoreDtype,
    /// Rows of one pass.
    pub batch: usize,
    /// What training leaves out. Such tokens are stored too, and marked with the reason; `None` marks none.
    pub policy: Option<Policy>,
    /// A shard is closed before it would grow beyond this; a larger batch gets a shard of its own.
    pub shard_bytes: u64,
}

impl CaptureSpec {
    /// Refuses settings that make no sense and points the model lacks.
    pub(super) fn check(&self, config: &ModelConfig) -> Result<(), StoreError> {
        let setting = |option, expected, found: String| StoreError::Setting {
            option,
            expected,
            found,
        };
        if self.points.is_empty() {
            return Err(setting("--points", "at least one point", "none".into()));
        }
        for (i, at) in self.points.iter().enumerate() {
            at.check(config)?;
            if self.points[..i].contains(at) {
                return Err(setting(
                    "--points",
                    "each point once",
                    format!("{at} twice"),
                ));
            }
        }
        if self.batch == 0 {
            return Err(setting("--batch", "at least 1", "0".into()));
        }
        if self.shard_bytes == 0 {
            return Err(setting("--shard-mb", "at least 1", "0".into()));
        }
        let attention = self.points.iter().find(|at| by_row(**at));
        if let (StoreDtype::Int8, Some(at)) = (self.dtype, attention) {
            let expected = "f32, f16 or bf16 for attention, which has no values a token";
            return Err(setting("--store-dtype", expected, format!("int8 for {at}")));
        }
        if self.policy.is_some() && self.kept != Kept::All {
            return Err(setting(
                "--drop",
                "all positions",
                format!("--positions {}", self.kept),
            ));
        }
        if self.policy.is_some() && self.points.iter().all(|at| by_row(*at)) {
            let expected = "a point with values a token";
            return Err(setting("--drop", expected, "attention points alone".into()));
        }
        Ok(())
    }
}

/// True for points whose rows are `[head, query, key]` and cannot be joined along tokens.
pub(super) fn by_row(at: HookPoint) -> bool {
    at.point.info().shape == Shape::Attention
}

/// Values of one token at a point that is stored by token.
pub(super) fn width(at: HookPoint, config: &ModelConfig) -> usize {
    inner_dims(at, config).iter().product()
}

/// Axes after the token of a point that is stored by token; `[head]` for one that is stored by row.
pub(super) fn inner_dims(at: HookPoint, config: &ModelConfig) -> Vec<usize> {
    let dims = at.point.info().dims(config, 1, 1, 1);
    if by_row(at) {
        vec![dims[1]]
    } else {
        dims[2..].to_vec()
    }
}

/// The rows as they will be captured: their lengths, and a hash that binds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Survey {
    pub(super) lengths: Vec<u32>,
    pub(super) ids_sha256: String,
}

/// A hash over rows that can be extended row by row: SHA-256 of the hash so far and the ids as little-endian u32.
pub(super) fn extend_hash(hash: &str, ids: &[u32]) -> String {
    let mut bytes = hash.as_bytes().to_vec();
    bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    sha256(&bytes)
}

impl Survey {
    /// Reads the source once, so that every bad row is found before hours of work.
    pub(super) fn of(rows: &dyn Rows, source_name: &str) -> Result<Self, StoreError> {
        let (mut lengths, mut hash) = (Vec::new(), String::new());
        for ids in rows.rows()? {
            let ids = ids?;
            if ids.is_empty() {
                return Err(StoreError::Row {
                    origin: format!("{source_name}, row {}", lengths.len()),
                    what: "no tokens".into(),
                });
            }
            lengths.push(ids.len() as u32);
            hash = extend_hash(&hash, &ids);
        }
        if lengths.is_empty() {
            return Err(StoreError::NoRows {
                source_name: source_name.into(),
            });
        }
        Ok(Self {
            lengths,
            ids_sha256: hash,
        })
    }
}

/// One shard to be: its rows, its stored tokens, the bytes of its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShardPlan {
    pub(super) rows: Range<usize>,
    pub(super) tokens: u64,
    pub(super) bytes: u64,
}

/// Bytes of `token_ids`, `row` and `position` for one token.
pub(super) const INDEX_BYTES: u64 = 3 * 8;

/// Bytes that a row of `len` tokens takes in the store.
pub(super) fn row_bytes(spec: &CaptureSpec, config: &ModelConfig, len: usize) -> u64 {
    let kept = spec.kept.of(len).len() as u64;
    let of_point = |at: &HookPoint| {
        let inner = inner_dims(*at, config).iter().product::<usize>() as u64;
        let keys = if by_row(*at) { len as u64 } else { 1 };
        inner * keys * spec.dtype.size()
    };
    let by_token = spec.points.iter().filter(|at| !by_row(**at)).count() as u64;
    let scales = if spec.dtype == StoreDtype::Int8 {
        4 * by_token
    } else {
        0
    };
    let marks = u64::from(spec.policy.is_some());
    kept * (INDEX_BYTES + marks + scales + spec.points.iter().map(of_point).sum::<u64>())
}

/// Cuts the rows into shards between batches.
pub(super) fn shards(spec: &CaptureSpec, config: &ModelConfig, lengths: &[u32]) -> Vec<ShardPlan> {
    let mut out: Vec<ShardPlan> = Vec::new();
    for (i, batch) in lengths.chunks(spec.batch).enumerate() {
        let first = i * spec.batch;
        let (mut tokens, mut bytes) = (0, 0);
        for &len in batch {
            tokens += spec.kept.of(len as usize).len() as u64;
            bytes += row_bytes(spec, config, len as usize);
        }
        match out.last_mut() {
            Some(shard) if shard.bytes + bytes <= spec.shard_bytes => {
                shard.rows.end += batch.len();
                shard.tokens += tokens;
                shard.bytes += bytes;
            }
            _ => out.push(ShardPlan {
                rows: first..first + batch.len(),
                tokens,
                bytes,
            }),
        }
    }
    out
}

/// Bytes of the captured tensors of the largest batch while it is in memory, padding included, in f32.
pub(super) fn batch_bytes(spec: &CaptureSpec, config: &ModelConfig, lengths: &[u32]) -> u64 {
    let whole = CaptureSpec {
        kept: Kept::All,
        dtype: StoreDtype::F32,
        ..spec.clone()
    };
    let of_batch = |batch: &[u32]| {
        let longest = batch.iter().copied().max().unwrap_or(0) as usize;
        row_bytes(&whole, config, longest) * batch.len() as u64
    };
    lengths.chunks(spec.batch).map(of_batch).max().unwrap_or(0)
}

/// Bytes of the sample that facts are measured on.
pub(super) fn sample_bytes(spec: &CaptureSpec, config: &ModelConfig, lengths: &[u32]) -> u64 {
    let Some(policy) = &spec.policy else {
        return 0;
    };
    let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
    let sampled = lengths.iter().take(policy.sample).map(|&n| n as usize);
    let tokens = sampled.sum::<usize>().min(MOST + spec.batch * longest);
    let points = spec.points.iter().filter(|at| !by_row(**at));
    let values: usize = points.map(|at| width(*at, config)).sum();
    (tokens * values * 4) as u64
}
