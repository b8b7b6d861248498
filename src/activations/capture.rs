//! Running a model over rows and writing what it thinks, shard by shard.
//!
//! [`Capture::prepare`] finds everything that can be found before the first pass: bad rows, unknown points, a folder in
//! use, a full disk. [`Capture::run`] can be stopped between batches and goes on where the last whole shard ended; the
//! files are then those of an uninterrupted run, bit for bit.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::{
    CaptureSpec, Facts, Harvest, Kept, Manifest, Origin, Rows, StoreError,
    manifest::{FILE, shard_name},
    plan::{self, ShardPlan, Survey, extend_hash},
    shard::{Place, Shard},
};
use crate::hooks::{HookPoint, Hooks, Keep};
use crate::model::{Batch, Decoder, LogitsAt};

/// What a capture will take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Rows of the whole store.
    pub rows: usize,
    /// Tokens that the model reads.
    pub tokens: u64,
    /// Tokens that are stored.
    pub stored_tokens: u64,
    /// Bytes of the whole store's tensors.
    pub bytes: u64,
    /// Of these, already on disk.
    pub bytes_done: u64,
    /// Shards of the whole store.
    pub shards: usize,
    /// Bytes in memory at most, beside the model and its own activations: a shard, or the sample that the facts are of, and
    /// the captures of a batch.
    pub memory: u64,
    /// Bytes free where the store is written.
    pub free: u64,
    /// Tokens a second in the passes that the facts were measured with, where there were any.
    pub rate: Option<u64>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Rows captured, those of earlier runs included.
    pub rows: usize,
    /// Tokens read, those of earlier runs included.
    pub tokens: u64,
    /// Shards on disk.
    pub shards: usize,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// False when it was stopped; `--resume` goes on.
    pub complete: bool,
    /// Rows on disk.
    pub rows: usize,
    /// Stored tokens on disk.
    pub tokens: u64,
    /// Bytes of the shards on disk.
    pub bytes: u64,
}

/// A capture that is ready to run.
pub struct Capture<'a> {
    model: &'a Decoder,
    rows: &'a dyn Rows,
    spec: CaptureSpec,
    folder: PathBuf,
    survey: Survey,
    plan: Vec<ShardPlan>,
    manifest: Manifest,
    estimate: Estimate,
}

impl<'a> Capture<'a> {
    /// Checks everything and lays the store out; writes nothing. With `resume` a store that was begun in `folder` with
    /// the same settings is continued (and an absent one is begun).
    ///
    /// # Errors
    /// Bad rows, points or settings, a folder in use, other settings than the begun store's, too little disk.
    pub fn prepare(
        model: &'a Decoder,
        rows: &'a dyn Rows,
        spec: CaptureSpec,
        origin: &Origin,
        folder: &Path,
        resume: bool,
    ) -> Result<Self, StoreError> {
        let config = model.config();
        spec.check(config)?;
        let survey = Survey::of(rows, &origin.source.name)?;
        let plan = plan::shards(&spec, config, &survey.lengths);
        let mut manifest = Manifest::new(&spec, config, origin, &survey);
        if let Some(begun) = begun(folder, resume)? {
            manifest.same_capture(&begun, spec.policy.as_ref(), folder)?;
            check_sizes(folder, &begun)?;
            manifest = begun;
        }
        let bytes = plan.iter().map(|s| s.bytes).sum();
        let bytes_done = plan[..manifest.shards.len().min(plan.len())]
            .iter()
            .map(|s| s.bytes)
            .sum();
        let mut estimate = Estimate {
            rows: survey.lengths.len(),
            tokens: survey.lengths.iter().map(|&n| u64::from(n)).sum(),
            stored_tokens: plan.iter().map(|s| s.tokens).sum(),
            bytes,
            bytes_done,
            shards: plan.len(),
            memory: plan::batch_bytes(&spec, config, &survey.lengths)
                + plan
                    .iter()
                    .map(|s| s.bytes)
                    .max()
                    .unwrap_or(0)
                    .max(plan::sample_bytes(&spec, config, &survey.lengths)),
            free: free_bytes(folder)?,
            rate: None,
        };
        if bytes - bytes_done > estimate.free {
            return Err(StoreError::DiskFull {
                folder: folder.to_path_buf(),
                needed: bytes - bytes_done,
                free: estimate.free,
            });
        }
        if let (Some(policy), None) = (&spec.policy, &manifest.facts) {
            let harvest = Harvest::new(model, &by_token(&spec))?;
            let (facts, rate) = Facts::measure(&harvest, rows, policy, spec.batch)?;
            manifest.facts = Some(facts);
            estimate.rate = Some(rate as u64);
        }
        Ok(Self {
            model,
            rows,
            spec,
            folder: folder.to_path_buf(),
            survey,
            plan,
            manifest,
            estimate,
        })
    }

    /// What it will take.
    pub fn estimate(&self) -> &Estimate {
        &self.estimate
    }

    /// What a sample of the rows said, where a policy decides what training sees.
    pub fn facts(&self) -> Option<&Facts> {
        self.manifest.facts.as_ref()
    }

    /// How far it is now.
    pub fn progress(&self) -> Progress {
        let rows = self.manifest.rows_done();
        Progress {
            rows,
            tokens: tokens(&self.survey.lengths[..rows]),
            shards: self.manifest.shards.len(),
        }
    }

    /// Runs; `watch` is called after each batch and can stop it. What belongs to an unfinished shard is then dropped.
    ///
    /// # Errors
    /// The model, the disk, or a source that gives other rows than when it was laid out.
    pub fn run(
        mut self,
        watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Outcome, StoreError> {
        let mut progress = self.progress();
        if self.manifest.complete {
            return Ok(self.outcome());
        }
        std::fs::create_dir_all(&self.folder).map_err(|source| StoreError::Io {
            path: self.folder.clone(),
            source,
        })?;
        remove_leftovers(&self.folder);
        self.manifest.write(&self.folder)?;
        let mut source = Reader::new(self.rows, &self.survey)?;
        source.skip(progress.rows)?;
        let plan = std::mem::take(&mut self.plan);
        for (index, shard) in plan.iter().enumerate().skip(self.manifest.shards.len()) {
            let facts = self.manifest.facts.clone();
            let mut open = Shard::new(&self.spec, self.model.config(), shard, facts.as_ref());
            let (mut at, mut stop) = (shard.rows.start, false);
            while at < shard.rows.end {
                let batch = source.take(self.spec.batch.min(shard.rows.end - at))?;
                self.capture(&batch, &mut open)?;
                at += batch.len();
                progress.rows = at;
                progress.tokens += batch.iter().map(|row| row.len() as u64).sum::<u64>();
                stop = watch(progress).is_break();
                if stop && at < shard.rows.end {
                    return Ok(self.outcome());
                }
            }
            if at == self.survey.lengths.len() {
                source.end()?;
            }
            let written = open.write(&self.folder, shard_name(index))?;
            self.manifest.shards.push(written);
            self.manifest.complete = at == self.survey.lengths.len();
            self.manifest.write(&self.folder)?;
            progress.shards = index + 1;
            if stop || watch(progress).is_break() {
                break;
            }
        }
        Ok(self.outcome())
    }

    /// One pass, its rows into the shard.
    fn capture(&self, rows: &[Vec<u32>], shard: &mut Shard) -> Result<(), StoreError> {
        let batch = Batch::new(rows)?;
        let shortest = rows.iter().map(Vec::len).min().unwrap_or(0);
        // Keeping only the last positions inside the pass saves memory, where every row has as many.
        let (keep, dropped) = match self.spec.kept {
            Kept::Last(n) if n <= shortest => (Keep::Last(n), batch.len() - n),
            _ => (Keep::All, 0),
        };
        let hooks = self
            .spec
            .points
            .iter()
            .fold(Hooks::new(), |hooks, at| hooks.capture_kept(*at, keep));
        let captured = self.model.forward(&batch, &hooks, LogitsAt::None)?.captured;
        for (slot, row) in rows.iter().enumerate() {
            let pad = batch.pad()[slot];
            shard.push(row, &captured, &Place { slot, pad, dropped })?;
        }
        Ok(())
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            complete: self.manifest.complete,
            rows: self.manifest.rows_done(),
            tokens: self.manifest.tokens_done(),
            bytes: self.manifest.shards.iter().map(|s| s.bytes).sum(),
        }
    }
}

/// The points that have values of a token.
fn by_token(spec: &CaptureSpec) -> Vec<HookPoint> {
    let points = spec.points.iter().filter(|at| !plan::by_row(**at));
    points.copied().collect()
}

fn tokens(lengths: &[u32]) -> u64 {
    lengths.iter().map(|&n| u64::from(n)).sum()
}

/// The second reading of the source, which must give what the first gave.
struct Reader<'a> {
    rows: super::RowIter<'a>,
    survey: Survey,
    hash: String,
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(rows: &'a dyn Rows, survey: &Survey) -> Result<Self, StoreError> {
        Ok(Self {
            rows: rows.rows()?,
            survey: survey.clone(),
            hash: String::new(),
            at: 0,
        })
    }

    fn next(&mut self) -> Result<Vec<u32>, StoreError> {
        let changed = StoreError::SourceChanged { row: self.at };
        let row = self.rows.next().ok_or(changed)??;
        if self.survey.lengths.get(self.at) != Some(&(row.len() as u32)) {
            return Err(StoreError::SourceChanged { row: self.at });
        }
        self.hash = extend_hash(&self.hash, &row);
        self.at += 1;
        Ok(row)
    }

    fn skip(&mut self, rows: usize) -> Result<(), StoreError> {
        (0..rows).try_for_each(|_| self.next().map(drop))
    }

    fn take(&mut self, rows: usize) -> Result<Vec<Vec<u32>>, StoreError> {
        (0..rows).map(|_| self.next()).collect()
    }

    /// After the last row, before its shard counts as written.
    fn end(&mut self) -> Result<(), StoreError> {
        if self.rows.next().is_none() && self.hash == self.survey.ids_sha256 {
            Ok(())
        } else {
            Err(StoreError::SourceChanged { row: self.at })
        }
    }
}

/// The store that was begun in a folder, if it may be continued.
fn begun(folder: &Path, resume: bool) -> Result<Option<Manifest>, StoreError> {
    let used = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    let in_use = |what| StoreError::FolderInUse {
        folder: folder.to_path_buf(),
        what,
    };
    match (folder.join(FILE).exists(), resume) {
        (true, true) => Manifest::read(folder).map(Some),
        (true, false) => Err(in_use(
            "holds a store already; go on with it with --resume, or name another folder",
        )),
        (false, _) if used => Err(in_use(
            "is not empty and holds no store; name an empty or new folder",
        )),
        (false, _) => Ok(None),
    }
}

/// The shards that the manifest lists must be there in full; their hashes are checked when they are read.
fn check_sizes(folder: &Path, begun: &Manifest) -> Result<(), StoreError> {
    for shard in &begun.shards {
        let path = folder.join(&shard.file);
        let found = std::fs::metadata(&path).map(|m| m.len()).ok();
        if found != Some(shard.bytes) {
            let why = match found {
                Some(bytes) => format!("expected {} bytes, found {bytes}", shard.bytes),
                None => "the manifest lists it, but it is not there".into(),
            };
            return Err(StoreError::NotAStore { path, why });
        }
    }
    Ok(())
}

/// What a killed run left behind. A file that cannot be removed does no harm.
fn remove_leftovers(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = name.starts_with(".acts-") || name.starts_with(".manifest.json.");
        if ours && name.ends_with(".partial") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Bytes free for us on the disk of the nearest folder that exists.
fn free_bytes(folder: &Path) -> Result<u64, StoreError> {
    let nearest = folder
        .ancestors()
        .find(|p| p.exists())
        .unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(nearest).map_err(|e| StoreError::Io {
        path: nearest.to_path_buf(),
        source: e.into(),
    })?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
