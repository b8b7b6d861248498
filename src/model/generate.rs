//! Generation: batched, cached, hooked, streamed, and from a shared prefix that is computed once.
//!
//! A finished row leaves the batch as soon as half of the rows are finished, so a batch costs what its unfinished rows
//! cost. Edits apply to every pass, so a steered generation is steered in the prompt and in each new token alike, unless
//! their selectors say otherwise.

use super::{
    Batch, Decoder, KvCache, LogitsAt, ModelError,
    sample::{SampleOptions, Sampler},
};
use crate::hooks::{Hooks, tail};

/// When and how to generate.
#[derive(Debug, Clone, Default)]
pub struct GenerateOptions {
    /// Most tokens that are added to a row.
    pub max_new: usize,
    /// How they are drawn.
    pub sample: SampleOptions,
    /// Tokens that end a row; they are kept as its last token.
    pub stop: Vec<u32>,
}

/// Whether a row goes on, as the receiver of its tokens decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continue {
    /// Go on.
    Yes,
    /// End this row.
    No,
}

/// A row's new tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generated {
    /// Token ids, the stop token included.
    pub ids: Vec<u32>,
    /// True when a stop token or the receiver ended it, false when it ran into `max_new`.
    pub finished: bool,
}

/// Keys and values of tokens that several prompts begin with, under certain hooks.
#[derive(Debug)]
pub struct Prefix {
    cache: KvCache,
    ids: Vec<u32>,
}

impl Prefix {
    /// Computes the prefix once.
    pub fn new(model: &Decoder, ids: &[u32], hooks: &Hooks) -> Result<Self, ModelError> {
        let mut cache = KvCache::new(model.config(), 1, ids.len());
        // Every prompt goes on after it, and its last tokens do not lie in it (see `room_for_tail`).
        cache.set_prompt_end(usize::MAX);
        if !ids.is_empty() {
            model.forward_cached(&Batch::single(ids)?, &mut cache, hooks, LogitsAt::Last)?;
        }
        Ok(Self {
            cache,
            ids: ids.to_vec(),
        })
    }

    /// The longest prefix that all rows share and that leaves each at least one token of its own.
    pub fn common<R: AsRef<[u32]>>(rows: &[R]) -> usize {
        let Some(first) = rows.first().map(AsRef::as_ref) else {
            return 0;
        };
        let shared = |row: &[u32]| first.iter().zip(row).take_while(|(a, b)| a == b).count();
        let longest = rows
            .iter()
            .map(|row| shared(row.as_ref()))
            .min()
            .unwrap_or(0);
        rows.iter()
            .map(|row| row.as_ref().len().saturating_sub(1))
            .fold(longest, usize::min)
    }

    /// Its tokens.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// A cache for these rows, and what is left of them to compute.
    pub fn split(&self, rows: &[&[u32]], room: usize) -> Result<(KvCache, Batch), ModelError> {
        let n = self.ids.len();
        if let Some(row) = rows
            .iter()
            .find(|row| row.len() <= n || row[..n] != self.ids)
        {
            let why = format!(
                "a row of {} tokens does not begin with the {n} tokens of the shared prefix",
                row.len()
            );
            return Err(ModelError::Cache { why });
        }
        let rest: Vec<&[u32]> = rows.iter().map(|row| &row[n..]).collect();
        let batch = Batch::new(&rest)?;
        let mut cache = self.cache.shared_by(rows.len(), n + batch.len() + room)?;
        cache.set_prompt_end(n + batch.len());
        Ok((cache, batch))
    }
}

/// Generates for each prompt; `on_token(row, id)` sees every token as it comes.
///
/// # Errors
/// An empty prompt, a prompt longer than the context, an edit that cannot apply, bad sampling options.
pub fn generate(
    model: &Decoder,
    prompts: &[&[u32]],
    options: &GenerateOptions,
    hooks: &Hooks,
    on_token: &mut dyn FnMut(usize, u32) -> Continue,
) -> Result<Vec<Generated>, ModelError> {
    let shared = if prompts.len() > 1 {
        room_for_tail(model, prompts, hooks).fold(Prefix::common(prompts), usize::min)
    } else {
        0
    };
    let prefix = Prefix::new(
        model,
        prompts.first().map_or(&[][..], |p| &p[..shared]),
        hooks,
    )?;
    generate_after(model, &prefix, prompts, options, hooks, on_token)
}

/// The longest prefix each prompt can give away under edits that count from the prompt's end.
fn room_for_tail<'a>(
    model: &Decoder,
    prompts: &'a [&[u32]],
    hooks: &Hooks,
) -> impl Iterator<Item = usize> + use<'a> {
    let tail = tail(model.standing_edits().iter().chain(hooks.edit_list()));
    prompts
        .iter()
        .map(move |prompt| prompt.len().saturating_sub(tail))
}

/// [`generate`] with a prefix that was computed before, under the same edits.
pub fn generate_after(
    model: &Decoder,
    prefix: &Prefix,
    prompts: &[&[u32]],
    options: &GenerateOptions,
    hooks: &Hooks,
    on_token: &mut dyn FnMut(usize, u32) -> Continue,
) -> Result<Vec<Generated>, ModelError> {
    let (mut cache, mut batch) = prefix.split(prompts, options.max_new)?;
    if room_for_tail(model, prompts, hooks).any(|most| most < prefix.ids.len()) {
        let why = "the shared prefix holds tokens that an edit counts from the end of the prompt";
        return Err(ModelError::Cache { why: why.into() });
    }
    let longest = prompts.iter().map(|p| p.len()).max().unwrap_or(0);
    if longest + options.max_new > model.config().max_positions() {
        let tokens = longest + options.max_new;
        return Err(ModelError::ContextTooLong {
            tokens,
            n_ctx: model.config().n_ctx,
        });
    }
    let mut sampler = Sampler::new(&options.sample, prompts.len())?;
    let mut out = vec![Generated::default(); prompts.len()];
    // Row of the prompt for each row of the batch.
    let mut live: Vec<usize> = (0..prompts.len()).collect();
    for _ in 0..options.max_new {
        let logits = model
            .forward_cached(&batch, &mut cache, hooks, LogitsAt::Last)?
            .logits()?;
        let mut next = Vec::with_capacity(live.len());
        for (i, &row) in live.iter().enumerate() {
            if out[row].finished {
                next.push(0); // rides along until the batch is compacted
                continue;
            }
            let id = sampler.next(row, &logits.get(i)?.get(0)?)?;
            out[row].ids.push(id);
            let stop = on_token(row, id) == Continue::No;
            out[row].finished = stop || options.stop.contains(&id);
            next.push(id);
        }
        let unfinished: Vec<u32> = (0..live.len() as u32)
            .filter(|&i| !out[live[i as usize]].finished)
            .collect();
        if unfinished.is_empty() {
            break;
        }
        if unfinished.len() * 2 <= live.len() {
            cache.keep_rows(&unfinished)?;
            live = unfinished.iter().map(|&i| live[i as usize]).collect();
            next = unfinished.iter().map(|&i| next[i as usize]).collect();
        }
        batch = Batch::new(&next.iter().map(std::slice::from_ref).collect::<Vec<_>>())?;
    }
    Ok(out)
}
