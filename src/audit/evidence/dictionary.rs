//! What dictionaries tell of a checkpoint beside its baseline: one that was trained before, frozen on both; its refit; a
//! crosscoder over both.
//!
//! Always: both read the very same neutral texts, and what is resampled later is a text; tokens that training leaves out
//! (first ones, special ones, outlying norms on either model) are left out here too. What is made of it: the signals 18 to 23.

use std::ops::ControlFlow;
use std::sync::Arc;

use candlescope_probes::BootstrapOptions;
use candlescope_sae::diff::rotations;
use candlescope_sae::measure::Floors;

use super::Part;
use crate::activations::Policy as Drop;
use crate::audit::catalogue::Artefact;
use crate::audit::result::DictionaryUsed;
use crate::audit::signal::Need;
use crate::audit::work::{Stage, Work};
use crate::features::compare::{
    Counts, CrossLatent, Examples, Reading, compare_crosscoder, frozen_contexts,
};
use crate::features::quality::{ContextSums, by_context};
use crate::features::{CompareOptions, FeatureError, Opened, QualityOptions, Splice};
use crate::files::hash::sha256;
use crate::model::Checkpoint;
use crate::text::suites::PromptRow;

/// The dictionaries that an audit was given.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Trained before, on the baseline or an ancestor.
    pub dictionary: Option<Opened>,
    /// The same, trained on for a while on the checkpoint under audit.
    pub refit: Option<Opened>,
    /// The same, trained on for as long on the baseline.
    pub control: Option<Opened>,
    /// Over baseline and checkpoint.
    pub crosscoder: Option<Opened>,
}

/// What they tell.
#[derive(Clone, Debug)]
pub struct Dictionaries {
    /// The dictionary, frozen on both checkpoints.
    pub frozen: Part<Frozen>,
    /// The dictionary and what became of it.
    pub turned: Part<Turned>,
    /// The crosscoder.
    pub crossed: Part<Crossed>,
}

/// A frozen dictionary on both checkpoints. Everything by context is in the order of `texts`.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// Where it reads.
    pub point: String,
    /// Latents.
    pub d_sae: usize,
    /// Ids of the neutral texts that keep a token.
    pub texts: Vec<String>,
    /// Tokens kept.
    pub tokens: u64,
    /// Squared error and squared distance to the mean row: of the baseline, of this checkpoint.
    pub fits: [Vec<[f64; 2]>; 2],
    /// How often latents fire on the baseline, and here.
    pub counts: Counts,
    /// Tokens at which latents changed most; contexts are numbers of neutral texts.
    pub examples: Examples,
    /// Cross-entropies on the baseline and here, of all neutral texts.
    pub losses: Part<[Vec<ContextSums>; 2]>,
}

/// A latent's decoder row before and after a refit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    /// Which.
    pub latent: usize,
    /// `1 − cos` by the refit on the checkpoint under audit.
    pub here: f64,
    /// The same by the refit on the baseline, if there is one.
    pub control: Option<f64>,
}

/// A dictionary and its refit.
#[derive(Clone, Debug, PartialEq)]
pub struct Turned {
    /// Latents whose rows are not 0, by number.
    pub turns: Vec<Turn>,
    /// Latents of which a row is 0.
    pub without_row: usize,
}

/// A crosscoder over both checkpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossed {
    /// Tokens kept.
    pub tokens: u64,
    /// From which ratio on latent scaling finds a latent in the other model.
    pub limit: f64,
    /// All latents, those that tell most first.
    pub latents: Vec<CrossLatent>,
}

/// Firings from which on a latent counts as alive however few the tokens: 0 against 8 differ at p = 0.008.
const LEAST: f64 = 8.0;

impl Frozen {
    /// Silent below a millionth of the tokens, alive from a hundred-thousandth on and at eight firings or more.
    pub fn floors(&self) -> Floors {
        floors(self.tokens)
    }
}

fn floors(tokens: u64) -> Floors {
    let usual = Floors::default();
    Floors {
        alive: usual.alive.max(LEAST / tokens.max(1) as f64),
        ..usual
    }
}

impl Given {
    /// The file of a kind.
    pub fn of(&self, artefact: Artefact) -> Option<&Opened> {
        match artefact {
            Artefact::Dictionary => self.dictionary.as_ref(),
            Artefact::Refit => self.refit.as_ref(),
            Artefact::Control => self.control.as_ref(),
            Artefact::Crosscoder => self.crosscoder.as_ref(),
            Artefact::Pairs | Artefact::Reward => None,
        }
    }

    /// For the report.
    pub fn used(&self) -> Vec<DictionaryUsed> {
        let all = [
            Artefact::Dictionary,
            Artefact::Refit,
            Artefact::Control,
            Artefact::Crosscoder,
        ];
        let used = |artefact: Artefact| {
            let opened = self.of(artefact)?;
            let dictionary = &opened.dictionary;
            let path = std::path::Path::new(&opened.name);
            let parts = dictionary.parts();
            let numbers = parts.encoder.iter().chain(&parts.decoder);
            let bytes: Vec<u8> = numbers.flat_map(|x| x.to_le_bytes()).collect();
            Some(DictionaryUsed {
                artefact,
                name: path
                    .file_name()
                    .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
                reads: dictionary.about().reads.clone(),
                d_sae: dictionary.d_sae(),
                hash: sha256(&bytes),
            })
        };
        all.into_iter().filter_map(used).collect()
    }
}

/// Two checkpoints to be read through dictionaries.
pub struct Readers<'a> {
    /// The checkpoint under audit.
    pub subject: &'a Checkpoint,
    /// The baseline, if there is one, or why it cannot be paired with.
    pub baseline: Result<&'a Checkpoint, String>,
    /// Plain texts.
    pub neutral: &'a [PromptRow],
    /// What signals ask for.
    pub needs: &'a [Need],
    /// Seed of draws.
    pub seed: u64,
    /// Progress and interruption.
    pub work: &'a Work<'a>,
}

/// Contexts of one pass.
const BATCH: usize = 4;
/// Latents with examples.
const TOP: usize = 20;
/// Passes over a text that the frozen dictionary takes on each checkpoint: one for its codes, three for the losses.
pub const PASSES: usize = 4;

impl Readers<'_> {
    /// Reads; each part that fails says why.
    pub fn read(&self, given: &Given) -> Dictionaries {
        Dictionaries {
            frozen: self
                .wanted(Need::Dictionary)
                .and_then(|()| self.frozen(given)),
            turned: self.wanted(Need::Refit).and_then(|()| turned(given)),
            crossed: self
                .wanted(Need::Crosscoder)
                .and_then(|()| self.crossed(given)),
        }
    }

    fn wanted(&self, need: Need) -> Part<()> {
        if self.work.cancelled() {
            Err("interrupted before it was measured".to_owned())
        } else if self.needs.contains(&need) {
            Ok(())
        } else {
            Err("no enabled signal asks for it".to_owned())
        }
    }

    /// The baseline first.
    fn both(&self) -> Part<[&Checkpoint; 2]> {
        let baseline = self.baseline.clone()?;
        Ok([baseline, self.subject])
    }

    fn contexts(&self) -> Part<Vec<Vec<u32>>> {
        let ids = |row: &PromptRow| self.subject.tokenizer.encode(&row.prompt, true);
        let all = self.neutral.iter().map(ids).collect::<Result<Vec<_>, _>>();
        all.map_err(|error| error.to_string())
    }

    fn options(&self) -> CompareOptions {
        CompareOptions {
            batch: BATCH,
            top: TOP,
            bootstrap: BootstrapOptions {
                seed: self.seed,
                ..BootstrapOptions::default()
            },
            ..CompareOptions::new(Drop::training(&self.subject.tokenizer))
        }
    }

    fn frozen(&self, given: &Given) -> Part<Frozen> {
        let opened = opened(given, Artefact::Dictionary)?;
        let models = self.both()?;
        let contexts = self.contexts()?;
        let (options, words) = (self.options(), |error: FeatureError| error.to_string());
        let points = [
            opened.read().map_err(words)?,
            opened.write().map_err(words)?,
        ];
        let splice = Splice::new(
            Arc::new(opened.dictionary.clone()),
            &opened.name,
            points,
            models[0].config(),
        )
        .map_err(words)?;
        let total = 2 * PASSES * contexts.len();
        self.work.stage("dictionary", total, |stage| {
            let mut told = Told::new(self.work, stage, 2);
            let found = frozen_contexts(models, &splice, &contexts, &options, &mut |_| told.pass())
                .map_err(words)?;
            let quality = QualityOptions {
                policy: options.policy.clone(),
                batch: BATCH,
                downstream: true,
                bootstrap: options.bootstrap,
            };
            told.each = PASSES - 1;
            let mut sums =
                |model| by_context(model, &splice, &contexts, &quality, &mut |_| told.pass());
            let losses = sums(models[0]).and_then(|before| Ok([before, sums(models[1])?]));
            let text = |&i: &usize| self.neutral[i].id.clone();
            Ok(Frozen {
                point: splice.read().to_string(),
                d_sae: splice.dictionary().d_sae(),
                texts: found.kept.iter().map(text).collect(),
                tokens: found.counts.rows(),
                fits: found.fits,
                counts: found.counts,
                examples: found.examples,
                losses: losses.map_err(words),
            })
        })
    }

    fn crossed(&self, given: &Given) -> Part<Crossed> {
        let opened = opened(given, Artefact::Crosscoder)?;
        let models = self.both()?;
        let contexts = self.contexts()?;
        let (options, words) = (self.options(), |error: FeatureError| error.to_string());
        let reading = Reading::of(opened).map_err(words)?.ok_or(
            "the file is not a dictionary over two checkpoints: its hook points have no @",
        )?;
        self.work.stage("crosscoder", 2 * contexts.len(), |stage| {
            let mut told = Told::new(self.work, stage, 2);
            let found =
                compare_crosscoder(models, opened, &reading, &contexts, &options, &mut |_| {
                    told.pass()
                })
                .map_err(words)?;
            Ok(Crossed {
                tokens: found.tally.kept,
                limit: found.scaling_limit,
                latents: found.latents,
            })
        })
    }
}

fn opened(given: &Given, artefact: Artefact) -> Part<&Opened> {
    let why = || format!("no {} was given", artefact.words());
    given.of(artefact).ok_or_else(why)
}

fn turned(given: &Given) -> Part<Turned> {
    let before = &opened(given, Artefact::Dictionary)?.dictionary;
    let after = &opened(given, Artefact::Refit)?.dictionary;
    let here = rotations(before, after).map_err(|error| error.to_string())?;
    let control = match &given.control {
        Some(control) => {
            let turns = rotations(before, &control.dictionary);
            Some(turns.map_err(|error| error.to_string())?)
        }
        None => None,
    };
    let turn = |(latent, here): (usize, &Option<f64>)| {
        let of_control = control.as_ref().map(|control| control[latent]);
        // Of latents with a control that has no row there is nothing to take off.
        match (*here, of_control) {
            (Some(here), Some(Some(control))) => Some(Turn {
                latent,
                here,
                control: Some(control),
            }),
            (Some(here), None) => Some(Turn {
                latent,
                here,
                control: None,
            }),
            _ => None,
        }
    };
    let turns: Vec<Turn> = here.iter().enumerate().filter_map(turn).collect();
    Ok(Turned {
        without_row: here.len() - turns.len(),
        turns,
    })
}

/// Counts batches of contexts as passes over texts.
struct Told<'a, 'b> {
    work: &'a Work<'b>,
    stage: &'a Stage<'a>,
    /// Passes over each text of a batch.
    each: usize,
    done: usize,
}

impl<'a, 'b> Told<'a, 'b> {
    fn new(work: &'a Work<'b>, stage: &'a Stage<'a>, each: usize) -> Self {
        Self {
            work,
            stage,
            each,
            done: 0,
        }
    }

    fn pass(&mut self) -> ControlFlow<()> {
        self.done += self.each * BATCH;
        self.stage.at(self.done);
        if self.work.cancelled() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
