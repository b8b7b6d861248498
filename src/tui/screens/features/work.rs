//! What the features screen has done on the worker: a dictionary opened on the model, the prompt read through it, a latent's
//! own weights looked at.
//!
//! Always: what goes wrong comes back as a value; tokens that training leaves out are encoded all the same, and say why they
//! count for nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{Array2, ArrayView2, Axis};

use super::Job;
use super::records::Records;
use crate::activations::{Policy, Reason};
use crate::features::dashboard::{LogitEffects, Neighbour, logit_effects, neighbours};
use crate::features::{FeatureError, Labels, Splice, open};
use crate::hooks::{Edit, HookPoint, Hooks};
use crate::model::{Batch, Checkpoint, LogitsAt, ModelError};
use crate::tui::work::Ticket;

/// Tokens on either side of the logits, and latents with similar decoder rows.
const MOST: usize = 10;

/// Which dictionary is asked for, in the words of the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ask {
    pub path: PathBuf,
    pub reads: Option<HookPoint>,
    pub writes: Option<HookPoint>,
    /// Also one that was made on another forward pass.
    pub foreign: bool,
}

/// A dictionary on the open model.
pub(super) struct Open {
    pub ask: Ask,
    /// Tells it from those opened before.
    pub number: u64,
    /// Its path without its folders.
    pub name: String,
    /// The format of its files.
    pub format: String,
    /// Which model it says it is of.
    pub of_model: Option<String>,
    /// With the model's points; holds the dictionary.
    pub splice: Splice,
}

/// What lies beside a dictionary.
pub(super) struct Beside {
    pub records: Records,
    /// None where they cannot be read, which `wrong` says.
    pub labels: Option<Labels>,
    /// What could not be read, and why.
    pub wrong: Vec<String>,
}

/// A token of the prompt with the latents that fire on it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub id: u32,
    pub text: String,
    /// Why training leaves it out, if it does.
    pub out: Option<&'static str>,
    /// Latents with their values, the strongest first.
    pub codes: Vec<(usize, f32)>,
    /// `‖x − x̂‖² / ‖x‖²`; of a transcoder, of what it writes.
    pub unexplained: f64,
}

/// What a latent does on the tokens of a prompt that count.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Total {
    pub sum: f64,
    pub max: f32,
    /// The token of `max`.
    pub at: usize,
    /// The tokens, rising.
    pub places: Vec<usize>,
}

/// A prompt through a dictionary.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    /// Of this state of prompt and interventions, by this dictionary.
    pub of: (u64, u64),
    pub pieces: Vec<Piece>,
    /// Over the tokens that count.
    pub totals: BTreeMap<usize, Total>,
    /// The largest value on a token that counts.
    pub most: f32,
    /// Latents a token, over those that count.
    pub l0: f64,
    /// `Σ ‖x − x̂‖² / Σ ‖x‖²` over them.
    pub unexplained: f64,
}

/// What a latent's own weights say.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Effects {
    pub latent: usize,
    /// Of this dictionary.
    pub dictionary: u64,
    pub logits: Option<LogitEffects>,
    pub neighbours: Vec<Neighbour>,
    pub norm: f32,
}

/// What comes back.
pub(super) enum Answer {
    /// A dictionary, with what lies beside it.
    Opened(Box<(Open, Beside)>),
    /// A job ended without one; why, if it failed.
    Ended(Option<String>),
    /// What lies beside the dictionary of this number, looked at again.
    Beside(u64, Box<Beside>),
    /// Records with a file more, for the dictionary of this number.
    Records(u64, Result<(Records, usize), String>),
    /// Labels with one changed.
    Labels(u64, Result<Labels, String>),
    Reading((u64, u64), Result<Reading, String>),
    Effects((u64, usize), Result<Effects, String>),
}

/// An answer with the request it belongs to.
pub(super) struct Told {
    pub model: usize,
    /// Which job; jobs alone have one.
    pub job: Option<(u64, Job)>,
    pub answer: Answer,
}

/// Opens a dictionary on the model.
pub(super) fn opening(checkpoint: &Checkpoint, ticket: &Ticket, ask: Ask, number: u64) -> Answer {
    match opened(checkpoint, ticket, ask, number) {
        Ok(opened) => Answer::Opened(Box::new(opened)),
        Err(_) if ticket.cancelled() => Answer::Ended(None),
        Err(error) => Answer::Ended(Some(error.to_string())),
    }
}

fn opened(
    checkpoint: &Checkpoint,
    ticket: &Ticket,
    ask: Ask,
    number: u64,
) -> Result<(Open, Beside), FeatureError> {
    let wanted = |share: f64, note: &str| {
        ticket.progress(share, note);
        if ticket.cancelled() {
            return Err(FeatureError::from(ModelError::Cancelled));
        }
        Ok(())
    };
    wanted(0.0, "reading the dictionary")?;
    let opened = open(&ask.path)?;
    if !ask.foreign {
        wanted(0.5, "comparing it with the model")?;
        opened.expect(checkpoint)?;
    }
    let read = ask.reads.map_or_else(|| opened.read(), Ok)?;
    let same = ask.reads.is_some() && opened.dictionary.about().writes.is_empty();
    let write = match ask.writes {
        Some(at) => at,
        None if same => read,
        None => opened.write()?,
    };
    let format = opened.found.format.name().to_owned();
    let of_model = opened.dictionary.about().model.clone();
    let dictionary = Arc::new(opened.dictionary);
    let splice = Splice::new(dictionary, &opened.name, [read, write], checkpoint.config())?;
    wanted(0.8, "looking for records and labels beside it")?;
    let beside = beside(&ask.path, &splice);
    wanted(1.0, "opened")?;
    let name = ask
        .path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned());
    let open = Open {
        name: name.unwrap_or_else(|| opened.name.clone()),
        ask,
        number,
        format,
        of_model,
        splice,
    };
    Ok((open, beside))
}

/// Records and labels beside a dictionary.
pub(super) fn beside(path: &Path, splice: &Splice) -> Beside {
    let (records, mut wrong) = Records::beside(path, splice);
    let labels = Labels::beside(path, splice.dictionary());
    let labels = labels.map_err(|e| wrong.push(e.to_string())).ok();
    Beside {
        records,
        labels,
        wrong,
    }
}

/// The prompt through the dictionary, under these edits.
pub(super) fn reading(
    checkpoint: &Checkpoint,
    of: (u64, u64),
    splice: &Splice,
    ids: &[u32],
    edits: Vec<Edit>,
) -> Answer {
    let result = read(checkpoint, of, splice, ids, edits).map_err(|e| e.to_string());
    Answer::Reading(of, result)
}

fn read(
    checkpoint: &Checkpoint,
    of: (u64, u64),
    splice: &Splice,
    ids: &[u32],
    edits: Vec<Edit>,
) -> Result<Reading, FeatureError> {
    let batch = Batch::single(ids)?;
    let mut hooks = Hooks::new().edits(edits).capture(splice.read());
    if splice.write() != splice.read() {
        hooks = hooks.capture(splice.write());
    }
    let output = checkpoint.decoder.forward(&batch, &hooks, LogitsAt::None)?;
    let rows = |at: HookPoint| -> Result<Array2<f32>, FeatureError> {
        let Some(tensor) = output.captured.get(&at) else {
            let what = format!("the pass did not reach {at}");
            return Err(FeatureError::Nothing { what });
        };
        let dtype = candle_core::DType::F32;
        let flat: Vec<f32> = tensor.to_dtype(dtype)?.flatten_all()?.to_vec1()?;
        let width = flat.len() / ids.len().max(1);
        Array2::from_shape_vec((ids.len(), width), flat)
            .map_err(|e| candle_core::Error::wrap(e).into())
    };
    let x = rows(splice.read())?;
    let target = if splice.write() == splice.read() {
        x.clone()
    } else {
        rows(splice.write())?
    };
    let dictionary = splice.dictionary();
    let codes = dictionary.encode(x.view())?;
    let rebuilt = dictionary.decode(&codes, x.view())?;
    let reasons = reasons(checkpoint, ids, x.view());
    let piece = |at: usize| {
        let (latents, values) = codes.row(at);
        let pairs = latents.iter().zip(values);
        let mut codes: Vec<(usize, f32)> = pairs.map(|(l, v)| (*l as usize, *v)).collect();
        codes.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let squares = [
            &target.row(at) - &rebuilt.row(at),
            target.row(at).to_owned(),
        ]
        .map(|row| row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>());
        let piece = Piece {
            id: ids[at],
            text: checkpoint.tokenizer.token(ids[at]),
            out: reasons[at],
            codes,
            unexplained: squares[0] / squares[1],
        };
        (piece, squares)
    };
    Ok(summed(of, (0..ids.len()).map(piece).collect()))
}

/// Why tokens of the prompt are left out of training. Norms are held against the median of this prompt.
fn reasons(checkpoint: &Checkpoint, ids: &[u32], x: ArrayView2<f32>) -> Vec<Option<&'static str>> {
    let policy = Policy::training(&checkpoint.tokenizer);
    let norm = |row: ndarray::ArrayView1<f32>| {
        let squares = row.iter().map(|v| f64::from(*v).powi(2));
        squares.sum::<f64>().sqrt()
    };
    let norms: Vec<f64> = x.axis_iter(Axis(0)).map(norm).collect();
    let plain = policy.judge(ids, &[], &[]);
    let kept = norms
        .iter()
        .zip(&plain)
        .filter(|(_, r)| **r == Reason::Kept);
    let mut sorted: Vec<f64> = kept.map(|(norm, _)| *norm).collect();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied();
    let medians: Vec<f64> = median.into_iter().collect();
    let judged = policy.judge(ids, &[norms], &medians);
    let words = |reason| match reason {
        Reason::Kept => None,
        Reason::First => Some("first"),
        Reason::Special => Some("special"),
        Reason::Norm => Some("outlier"),
    };
    judged.into_iter().map(words).collect()
}

/// Totals over the tokens that count; each comes with its squared error and squared norm.
pub(super) fn summed(of: (u64, u64), pieces: Vec<(Piece, [f64; 2])>) -> Reading {
    let mut totals: BTreeMap<usize, Total> = BTreeMap::new();
    let (mut most, mut fired, mut counted) = (0f32, 0usize, 0usize);
    let mut squares = [0.0; 2];
    for (at, (piece, own)) in pieces.iter().enumerate() {
        if piece.out.is_some() {
            continue;
        }
        counted += 1;
        fired += piece.codes.len();
        squares = [squares[0] + own[0], squares[1] + own[1]];
        for &(latent, value) in &piece.codes {
            let total = totals.entry(latent).or_default();
            total.sum += f64::from(value);
            total.places.push(at);
            if value > total.max {
                (total.max, total.at) = (value, at);
            }
            most = most.max(value);
        }
    }
    Reading {
        of,
        pieces: pieces.into_iter().map(|(piece, _)| piece).collect(),
        totals,
        most,
        l0: fired as f64 / counted as f64,
        unexplained: squares[0] / squares[1],
    }
}

/// What a latent's weights say without any text.
pub(super) fn effects(
    checkpoint: &Checkpoint,
    dictionary: u64,
    splice: &Splice,
    latent: usize,
) -> Answer {
    let look = || -> Result<Effects, FeatureError> {
        let logits = logit_effects(checkpoint, splice, &[latent], MOST)?;
        let row = splice.dictionary().parts().decoder.row(latent);
        let near = neighbours(splice, &[latent], MOST);
        Ok(Effects {
            latent,
            dictionary,
            logits: logits.and_then(|all| all.into_iter().next()),
            neighbours: near.into_iter().next().unwrap_or_default(),
            norm: row.dot(&row).sqrt(),
        })
    };
    Answer::Effects((dictionary, latent), look().map_err(|e| e.to_string()))
}
