//! A dictionary on a model, over some texts: what `eval`, `features`, `show` and `dashboard` begin with.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use super::input::TextArgs;
use crate::activations::{Policy, SourceInfo};
use crate::cli::{args::ModelArgs, interrupt, output::Out, progress::Bar};
use crate::features::dashboard::{CollectOptions, Collected, collect};
use crate::features::{self, Opened, Splice};
use crate::hooks::HookPoint;
use crate::model::{Checkpoint, fetch::Progress as _};

/// Which model, dictionary and text.
#[derive(clap::Args, Debug)]
#[group(skip)]
pub struct OnArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// A dictionary's folder or file
    dictionary: PathBuf,
    #[command(flatten)]
    text: TextArgs,
    /// The hook point it reads, where its file does not say
    #[arg(long, value_name = "POINT")]
    reads: Option<HookPoint>,
    /// The hook point it writes [default: what its file says, else the one it reads]
    #[arg(long, value_name = "POINT")]
    writes: Option<HookPoint>,
    /// Tokens that are left as they are and not measured: none, or a list of first[:N], special, id:N, norm[:X]
    /// [default: first,special,norm:10, as in training]
    #[arg(long, value_name = "WHICH")]
    drop: Option<String>,
    /// Contexts of one pass; `sae eval` holds its logits three times
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub batch: usize,
    /// Use a dictionary that was made on another forward pass
    #[arg(long)]
    accept_foreign: bool,
}

/// All of it, opened and read.
pub struct On {
    pub model: Checkpoint,
    pub opened: Opened,
    pub splice: Splice,
    pub contexts: Vec<Vec<u32>>,
    pub source: SourceInfo,
    pub policy: Policy,
}

impl OnArgs {
    pub fn open(&self, out: &Out) -> anyhow::Result<On> {
        let opened = features::open(&self.dictionary)?;
        let points = points(&opened, self.reads, self.writes)?;
        let model = self.model.open(out)?;
        if !self.accept_foreign {
            opened.expect(&model)?;
        }
        let dictionary = Arc::new(opened.dictionary.clone());
        let splice = Splice::new(dictionary, &opened.name, points, model.config())?;
        let about = opened.dictionary.about();
        let (contexts, source) = self.text.read(&model, about.context, about.prepend_bos)?;
        let policy = match &self.drop {
            Some(text) => Policy::parse(text, &model.tokenizer)?,
            None => Policy::training(&model.tokenizer),
        };
        Ok(On {
            model,
            opened,
            splice,
            contexts,
            source,
            policy,
        })
    }
}

/// Where a dictionary reads and writes: what was named, else what its file says.
pub(super) fn points(
    opened: &Opened,
    reads: Option<HookPoint>,
    writes: Option<HookPoint>,
) -> anyhow::Result<[HookPoint; 2]> {
    let read = match reads {
        Some(at) => at,
        None => opened.read()?,
    };
    let write = match writes {
        Some(at) => at,
        None if reads.is_some() && opened.dictionary.about().writes.is_empty() => read,
        None => opened.write()?,
    };
    Ok([read, write])
}

impl On {
    /// Tokens of all contexts.
    pub fn tokens(&self) -> usize {
        self.contexts.iter().map(Vec::len).sum()
    }

    /// Refuses latents that the dictionary lacks, before anything runs.
    pub fn check(&self, latents: &[usize]) -> anyhow::Result<()> {
        let dictionary = &self.opened.dictionary;
        match latents.iter().find(|l| **l >= dictionary.d_sae()) {
            Some(latent) => Err(dictionary.no_latent(*latent).into()),
            None => Ok(()),
        }
    }

    /// Follows latents over the first contexts, all where `most` is none, with a bar.
    pub fn collect(
        &self,
        latents: &[usize],
        options: &CollectOptions,
        most: Option<usize>,
        out: &Out,
    ) -> anyhow::Result<Collected> {
        let mut tokens = 0;
        let mut before = |ids: &&Vec<u32>| {
            let more = most.is_none_or(|most| tokens < most);
            tokens += ids.len();
            more
        };
        let contexts = self.contexts.iter().take_while(&mut before).count();
        let contexts = &self.contexts[..contexts];
        let tokens: usize = contexts.iter().map(Vec::len).sum();
        let bar = Bar::counting(out);
        bar.start("reading tokens", Some(tokens as u64));
        let (model, splice) = (&self.model, &self.splice);
        let collected = collect(model, splice, contexts, latents, options, &mut |more| {
            bar.advance(more);
            if interrupt::requested() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        bar.done();
        interrupt::check()?;
        Ok(collected?)
    }
}
