//! `manifest.json`: what a store holds, what it was made on and from, and how far it is.
//!
//! Always: it is rewritten atomically after each shard, and lists a shard only once its bytes are on the disk. Two captures
//! of the same rows with the same settings have equal manifests but for their progress.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    CaptureSpec, Facts, Kept, Lost, Packing, Policy, StoreDtype, StoreError, Tally,
    plan::{Survey, by_row, inner_dims},
};
use crate::config::ModelConfig;
use crate::files::write::write_atomic;
use crate::hooks::HookPoint;
use crate::model::Fingerprint;

/// Name of the format.
pub const SCHEMA: &str = "candlescope.activations/1";
/// Its file.
pub const FILE: &str = "manifest.json";
/// No manifest is larger than this.
const MAX_BYTES: u64 = 1 << 30;

/// One captured point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredPoint {
    /// Its address.
    pub point: HookPoint,
    /// What it is.
    pub definition: String,
    /// The axes of its tensors: `[token, d_model]`, or `[head, query, key]` for one tensor a row.
    pub axes: String,
    /// Sizes after the token axis; the heads of a point that is stored by row.
    pub dims: Vec<usize>,
    /// True for attention points, stored as `POINT/row-N`; else all tokens of a shard are in one tensor `POINT`.
    pub by_row: bool,
}

/// Where the rows come from and how texts became tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceInfo {
    /// `text`, `file`, `jsonl`, `table`, `documents`, `suite` or `ids`.
    pub kind: String,
    /// File name without its folder, or the suite's name.
    pub name: String,
    /// SHA-256 of the file or text; the suite's content hash.
    pub sha256: String,
    /// `raw`, or `chat` through the model's template.
    pub encoding: String,
    /// Column of a JSONL file.
    pub column: Option<String>,
    /// Most tokens of a row.
    pub max_len: usize,
    /// Were longer rows cut (at their end)?
    pub truncate: bool,
    /// Most rows.
    pub limit: Option<usize>,
    /// The time that templates with a date were given.
    pub now: Option<String>,
    /// How documents were packed into rows; absent if each is a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packing: Option<Packing>,
}

/// What a store was made on and from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The model as the user called it.
    pub model: String,
    /// Its forward pass.
    pub fingerprint: Fingerprint,
    /// Which kernels ran.
    pub numerical_path: String,
    /// The rows.
    pub source: SourceInfo,
}

/// A shard on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardInfo {
    /// File name.
    pub file: String,
    /// Of the file.
    pub sha256: String,
    /// Of the file.
    pub bytes: u64,
    /// Its first row.
    pub first_row: usize,
    /// How many rows.
    pub rows: usize,
    /// Stored tokens.
    pub tokens: u64,
    /// Of these, how many training sees and how many not, where a policy decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tally: Option<Tally>,
    /// What the number format lost, for each point that is stored by token in another format than f32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Lost>,
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// Program and version.
    pub made_by: String,
    /// The model as the user called it.
    pub model: String,
    /// Its forward pass.
    pub fingerprint: Fingerprint,
    /// Which kernels ran.
    pub numerical_path: String,
    /// The points, in the order asked for.
    pub points: Vec<StoredPoint>,
    /// Number format of activations.
    pub dtype: StoreDtype,
    /// Which positions of each row.
    pub positions: Kept,
    /// Rows of one pass; part of the result, since padding changes rounding.
    pub batch: usize,
    /// Size at which shards are closed.
    pub shard_bytes: u64,
    /// The rows.
    pub source: SourceInfo,
    /// Chained SHA-256 over the token ids of all rows.
    pub ids_sha256: String,
    /// What training leaves out, and the numbers that it goes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
    /// Rows that the whole store has.
    pub rows: usize,
    /// Tokens of each row, whether stored or not.
    pub tokens_per_row: Vec<u32>,
    /// What is there.
    pub shards: Vec<ShardInfo>,
    /// True once every row is there.
    pub complete: bool,
}

impl Manifest {
    pub(super) fn new(
        spec: &CaptureSpec,
        config: &ModelConfig,
        origin: &Origin,
        survey: &Survey,
    ) -> Self {
        let point = |at: &HookPoint| {
            let info = at.point.info();
            let axes = info.shape_text(config);
            StoredPoint {
                point: *at,
                definition: info.definition.into(),
                axes: axes
                    .replacen("[batch, pos", "[token", 1)
                    .replacen("[batch, ", "[", 1),
                dims: inner_dims(*at, config),
                by_row: by_row(*at),
            }
        };
        Self {
            schema: SCHEMA.into(),
            made_by: concat!("candlescope ", env!("CARGO_PKG_VERSION")).into(),
            model: origin.model.clone(),
            fingerprint: origin.fingerprint.clone(),
            numerical_path: origin.numerical_path.clone(),
            points: spec.points.iter().map(point).collect(),
            dtype: spec.dtype,
            positions: spec.kept,
            batch: spec.batch,
            shard_bytes: spec.shard_bytes,
            source: origin.source.clone(),
            ids_sha256: survey.ids_sha256.clone(),
            facts: None,
            rows: survey.lengths.len(),
            tokens_per_row: survey.lengths.clone(),
            shards: Vec::new(),
            complete: false,
        }
    }

    /// Rows that are on disk.
    pub fn rows_done(&self) -> usize {
        self.shards.last().map_or(0, |s| s.first_row + s.rows)
    }

    /// Tokens that are on disk.
    pub fn tokens_done(&self) -> u64 {
        self.shards.iter().map(|s| s.tokens).sum()
    }

    /// Tokens on disk that training sees, and those that it does not; all are seen where no policy decides.
    pub fn tally(&self) -> Tally {
        let mut all = Tally::default();
        for shard in &self.shards {
            let kept = || Tally {
                kept: shard.tokens,
                ..Tally::default()
            };
            all.and(&shard.tally.unwrap_or_else(kept));
        }
        all
    }

    /// What the number format lost so far, for each point.
    pub fn lost(&self) -> Vec<Lost> {
        let mut all: Vec<Lost> = Vec::new();
        for lost in self.shards.iter().flat_map(|shard| &shard.lost) {
            match all.iter_mut().find(|l| l.point == lost.point) {
                Some(sum) => sum.and(lost),
                None => all.push(lost.clone()),
            }
        }
        all
    }

    /// Reads and checks a store's manifest.
    ///
    /// # Errors
    /// No manifest, another schema, fields that contradict each other.
    pub fn read(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        let refuse = |why: String| StoreError::NotAStore {
            path: path.clone(),
            why,
        };
        let size = std::fs::metadata(&path)
            .map_err(|e| refuse(format!("its {FILE} cannot be read ({e})")))?
            .len();
        if size > MAX_BYTES {
            return Err(refuse(format!(
                "{size} bytes; at most {MAX_BYTES} are read"
            )));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| refuse(e.to_string()))?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| refuse(e.to_string()))?;
        if value["schema"] != SCHEMA {
            return Err(refuse(format!(
                "schema: expected {SCHEMA}, found {}",
                value["schema"]
            )));
        }
        let manifest: Self = serde_json::from_value(value).map_err(|e| refuse(e.to_string()))?;
        manifest.consistent().map_err(refuse)?;
        Ok(manifest)
    }

    fn consistent(&self) -> Result<(), String> {
        if self.tokens_per_row.len() != self.rows {
            let found = self.tokens_per_row.len();
            return Err(format!(
                "tokens_per_row: expected {} entries, found {found}",
                self.rows
            ));
        }
        let mut next = 0;
        for (i, shard) in self.shards.iter().enumerate() {
            if shard.file != shard_name(i) {
                return Err(format!(
                    "shards[{i}].file: expected {}, found {:?}",
                    shard_name(i),
                    shard.file
                ));
            }
            let end = shard.first_row.checked_add(shard.rows);
            let end =
                end.filter(|&end| shard.first_row == next && shard.rows > 0 && end <= self.rows);
            if shard.tally.is_some() != self.facts.is_some()
                || shard.tally.is_some_and(|t| {
                    t.kept
                        .checked_add(t.first)
                        .and_then(|n| n.checked_add(t.special))
                        .and_then(|n| n.checked_add(t.norm))
                        != Some(shard.tokens)
                })
            {
                return Err(format!(
                    "shards[{i}].tally: expected one of all {} tokens where a policy decides",
                    shard.tokens
                ));
            }
            next =
                end.ok_or_else(|| format!("shards[{i}]: its rows do not follow the shard before"))?;
        }
        if self.complete != (next == self.rows) {
            return Err(format!(
                "complete is {}, but the shards hold {next} of {} rows",
                self.complete, self.rows
            ));
        }
        Ok(())
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), StoreError> {
        let path = folder.join(FILE);
        let text = serde_json::to_string_pretty(self).map_err(|e| StoreError::NotAStore {
            path: path.clone(),
            why: e.to_string(),
        })?;
        Ok(write_atomic(&path, (text + "\n").as_bytes())?)
    }

    /// Refuses to go on with a store that was begun with anything else, and says with what.
    pub(super) fn same_capture(
        &self,
        begun: &Self,
        now: Option<&Policy>,
        folder: &Path,
    ) -> Result<(), StoreError> {
        begun_on(&begun.fingerprint, &self.fingerprint, folder)?;
        let differs = |field, begun: String, now: String| {
            (begun != now).then(|| StoreError::OtherSettings {
                folder: PathBuf::from(folder),
                field,
                begun,
                now,
            })
        };
        let names = |m: &Self| {
            let names: Vec<_> = m.points.iter().map(|p| p.point.to_string()).collect();
            names.join(",")
        };
        let policy = |of: Option<&Policy>| {
            of.map_or_else(
                || "none".into(),
                |p| serde_json::to_string(p).unwrap_or_default(),
            )
        };
        let text = |value: &SourceInfo| serde_json::to_string(value).unwrap_or_default();
        let found = [
            differs("program", begun.made_by.clone(), self.made_by.clone()),
            differs(
                "numerical path",
                begun.numerical_path.clone(),
                self.numerical_path.clone(),
            ),
            differs("list of points", names(begun), names(self)),
            differs("dtype", begun.dtype.tag().into(), self.dtype.tag().into()),
            differs(
                "choice of positions",
                begun.positions.to_string(),
                self.positions.to_string(),
            ),
            differs(
                "batch size",
                begun.batch.to_string(),
                self.batch.to_string(),
            ),
            differs(
                "shard size",
                begun.shard_bytes.to_string(),
                self.shard_bytes.to_string(),
            ),
            differs(
                "choice of what is left out",
                policy(begun.facts.as_ref().map(|f| &f.policy)),
                policy(now),
            ),
            differs("source", text(&begun.source), text(&self.source)),
            differs(
                "sequence of tokens",
                begun.ids_sha256.clone(),
                self.ids_sha256.clone(),
            ),
        ];
        found.into_iter().flatten().next().map_or(Ok(()), Err)
    }
}

fn begun_on(begun: &Fingerprint, now: &Fingerprint, folder: &Path) -> Result<(), StoreError> {
    Ok(now.expect(begun, &folder.display().to_string())?)
}

/// `acts-00000.safetensors`
pub(super) fn shard_name(index: usize) -> String {
    format!("acts-{index:05}.safetensors")
}
