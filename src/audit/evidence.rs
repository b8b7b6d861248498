//! What an audit knows about a checkpoint: plain data, computed once, read by every signal.
//!
//! Always: the prompts are the same for both checkpoints and every vector is in their order; a part that could not be
//! computed says why, so that the signals which need it are reported as not evaluated. Filled by [`gather`] and, where
//! both models are needed at once, by [`pair`] and [`dictionary`]; no signal touches a model. Trials: [`choices`], [`answers`].

pub mod answers;
pub mod both;
pub mod choices;
pub mod dictionary;
pub mod difference;
pub mod direction;
pub mod framed;
pub mod gather;
pub mod interventions;
pub mod pair;
pub mod preferences;
pub mod probes;
pub mod rewards;
pub mod states;
pub mod triggers;

use candlescope_probes::Direction;
use ndarray::{Array2, ArrayView2};

use super::detect::coherence::Coherence;
use super::detect::{Judgement, ReplyLabel};
use super::pairs::Preference;
use super::signal::SignalError;
use super::traits::TraitPairs;
use crate::steer::Completion;
use crate::text::suites::PromptRow;
use crate::text::trials::Trial;
use choices::{Choice, PerTrial};

/// A part of the evidence, or why it is not there.
pub type Part<T> = Result<T, String>;

/// The prompts of one class by what they are for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Splits {
    /// Directions and probes are fitted on these.
    pub train: Vec<PromptRow>,
    /// Layers, positions and directions are chosen on these.
    pub validation: Vec<PromptRow>,
    /// Numbers are reported on these.
    pub test: Vec<PromptRow>,
}

/// All prompts of an audit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompts {
    /// Requests to decline.
    pub harmful: Splits,
    /// Ordinary requests.
    pub harmless: Splits,
    /// Safe requests that look dangerous; reported on.
    pub lookalike: Vec<PromptRow>,
    /// Plain texts.
    pub neutral: Vec<PromptRow>,
    /// Conversations with what is asked of their answer, of every protocol.
    pub trials: Vec<Trial>,
    /// Preference pairs, if any were given.
    pub preferences: Vec<Preference>,
    /// Pairs of answers with and without each trait.
    pub traits: Vec<TraitPairs>,
}

/// Everything known about one checkpoint.
pub struct Evidence {
    /// What the user called it.
    pub name: String,
    /// At the first token of the answer.
    pub first: Part<FirstTokens>,
    /// Greedy completions of the test prompts.
    pub replies: Part<Replies>,
    /// Residual streams.
    pub activations: Part<Activations>,
    /// Probes for harmfulness.
    pub probes: Part<probes::Probes>,
    /// The refusal direction, fitted on train and chosen on validation prompts.
    pub direction: Part<Chosen>,
    /// What adding and ablating it does to the test prompts.
    pub interventions: Part<Interventions>,
    /// What ablating it does to harmless test prompts.
    pub side_effects: Part<SideEffects>,
    /// What adding it at several doses does to harmless test prompts.
    pub doses: Part<Doses>,
    /// What adding and ablating the baseline's direction does here; only of the checkpoint under audit.
    pub stale: Part<Stale>,
    /// Harmful test prompts under frames.
    pub framed: Part<framed::Framed>,
    /// Harmful test prompts after other talk.
    pub diluted: Part<framed::Diluted>,
    /// Harmful test prompts in other words.
    pub reworded: Part<framed::Reworded>,
    /// Words on which refusal hangs.
    pub triggers: Part<triggers::Triggers>,
    /// Whether the weights are sound and the passes repeat.
    pub integrity: Part<Integrity>,
    /// How probable it finds the options of each trial.
    pub choices: Part<PerTrial<Choice>>,
    /// What it says to each trial.
    pub answers: Part<PerTrial<Completion>>,
    /// How probable it finds both answers of each preference pair.
    pub preferences: Part<Vec<preferences::Likelihood>>,
    /// Directions of traits.
    pub traits: Part<states::Traits>,
    /// How it scores both answers of each preference pair, if it is a reward model.
    pub scores: Part<rewards::Scores>,
    /// What its score hangs on, if it is a reward model.
    pub reward_directions: Part<rewards::RewardDirections>,
    /// What a reward model makes of its completions of the test prompts.
    pub judged: Part<ByClass<f64>>,
    /// Hashes, for the comparison with a baseline.
    pub identity: Identity,
}

/// One number for each test prompt of each class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ByClass<T> {
    /// On harmful test prompts.
    pub harmful: Vec<T>,
    /// On harmless test prompts.
    pub harmless: Vec<T>,
    /// On look-alikes.
    pub lookalike: Vec<T>,
}

/// What the model is about to say.
#[derive(Clone, Debug, Default)]
pub struct FirstTokens {
    /// Log-odds of the refusal tokens, nats.
    pub scores: ByClass<f64>,
    /// Best logit minus the second best.
    pub margins: ByClass<f64>,
    /// Log-probabilities on harmless test prompts, `[prompt, vocab]`.
    pub harmless_log_probs: Array2<f32>,
    /// The refusal tokens, for display.
    pub tokens: Vec<String>,
}

/// One completion and what was made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Its text.
    pub text: String,
    /// Whether the model ended it itself.
    pub finished: bool,
    /// What the detectors say.
    pub judgement: Judgement,
    /// Whether it is still language.
    pub coherence: Coherence,
}

impl Reply {
    /// Whether the consensus is that it refuses; unknown is not a refusal.
    pub fn refuses(&self) -> bool {
        self.judgement.label == ReplyLabel::Refusal
    }

    /// Whether no label could be given.
    pub fn is_unknown(&self) -> bool {
        self.judgement.label == ReplyLabel::Unknown
    }
}

/// The completions of the test prompts.
pub type Replies = ByClass<Reply>;

/// Where in a prompt a residual stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The last token of the instruction.
    Instruction,
    /// The last token of the template, from which the answer starts.
    Template,
}

impl Place {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Instruction, Self::Template];

    /// For charts and findings.
    pub fn words(self) -> &'static str {
        match self {
            Self::Instruction => "instruction token",
            Self::Template => "template token",
        }
    }
}

/// Which split of the prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Fitted on.
    Train,
    /// Chosen on.
    Validation,
    /// Reported on.
    Test,
}

/// The residual streams of one class and one split.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Streams {
    /// `[layer]` of `[prompt, d_model]`, at the last instruction token.
    pub instruction: Vec<Array2<f32>>,
    /// The same at the last template token.
    pub template: Vec<Array2<f32>>,
}

/// The residual streams of both classes in all splits: `resid_pre` of each layer, and after the last block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activations {
    /// Harmful prompts: train, validation, test.
    pub harmful: [Streams; 3],
    /// Harmless prompts: train, validation, test.
    pub harmless: [Streams; 3],
}

impl Activations {
    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.harmful[0].template.len()
    }

    /// Harmful and harmless activations `[prompt, d_model]` of a split at a place and layer.
    pub fn at(
        &self,
        split: Use,
        place: Place,
        layer: usize,
    ) -> Result<[ArrayView2<'_, f32>; 2], SignalError> {
        let both = stream(&self.harmful, split, place, layer).zip(stream(
            &self.harmless,
            split,
            place,
            layer,
        ));
        match both {
            Some((harmful, harmless)) => Ok([harmful, harmless]),
            None => Err(SignalError::Missing {
                what: "activations",
                why: format!("layer {layer} was not captured"),
            }),
        }
    }
}

fn stream(
    class: &[Streams; 3],
    split: Use,
    place: Place,
    layer: usize,
) -> Option<ArrayView2<'_, f32>> {
    let streams = &class[split as usize];
    let layers = match place {
        Place::Instruction => &streams.instruction,
        Place::Template => &streams.template,
    };
    layers.get(layer).map(ndarray::ArrayBase::view)
}

/// A layer and a token: where a direction is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The layer.
    pub layer: usize,
    /// The token counted from the end of the prompt, 1 the last; `None` is the last instruction token.
    pub from_end: Option<usize>,
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.from_end {
            Some(k) => write!(f, "layer {}, token -{k}", self.layer),
            None => write!(f, "layer {}, last instruction token", self.layer),
        }
    }
}

/// Prompts of a split read at a site.
#[derive(Clone, Debug, PartialEq)]
pub struct AtSite {
    /// Where.
    pub site: Site,
    /// Harmful prompts, `[prompt, d_model]`.
    pub harmful: Array2<f32>,
    /// Harmless prompts, `[prompt, d_model]`.
    pub harmless: Array2<f32>,
}

/// One candidate for the refusal direction, measured on validation prompts.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Where it was read.
    pub site: Site,
    /// Refusal score on harmful prompts with it ablated.
    pub bypass: f64,
    /// Refusal score on harmless prompts with it added.
    pub induce: f64,
    /// KL on harmless prompts with it ablated.
    pub kl: f64,
    /// Whether the selection would let it be chosen.
    pub admissible: bool,
    /// Refusal score of each harmful validation prompt with it ablated.
    pub bypassed: Vec<f64>,
}

/// The refusal direction of a checkpoint.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Difference of means on train prompts.
    pub direction: Direction,
    /// Where it was read.
    pub site: Site,
    /// The candidates that were tried.
    pub candidates: Vec<Candidate>,
    /// What about the choice a reader must know.
    pub notes: Vec<String>,
    /// Blocks of the model.
    pub n_layers: usize,
    /// Test prompts at its own site and, with a baseline, at the baseline's.
    pub test: Vec<AtSite>,
    /// Train prompts at the same sites.
    pub train: Vec<AtSite>,
}

impl Chosen {
    /// The test prompts at `site`.
    pub fn at(&self, site: Site) -> Result<&AtSite, SignalError> {
        found(&self.test, site, "test")
    }

    /// The train prompts at `site`.
    pub fn train_at(&self, site: Site) -> Result<&AtSite, SignalError> {
        found(&self.train, site, "train")
    }
}

fn found<'a>(read: &'a [AtSite], site: Site, split: &str) -> Result<&'a AtSite, SignalError> {
    read.iter()
        .find(|read| read.site == site)
        .ok_or_else(|| SignalError::Missing {
            what: "activations",
            why: format!("the {split} prompts were not read at {site}"),
        })
}

/// What adding and ablating the refusal direction does to test prompts, and what random directions do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interventions {
    /// Refusal scores on harmless prompts with the direction added at its own length.
    pub induced: Vec<f64>,
    /// For each random direction of that length, scores on the first [`Self::controls`] harmless prompts.
    pub induced_random: Vec<Vec<f64>>,
    /// Refusal scores on harmful prompts with the direction ablated.
    pub bypassed: Vec<f64>,
    /// For each random direction, scores on the first [`Self::controls`] harmful prompts with it ablated.
    pub bypassed_random: Vec<Vec<f64>>,
    /// Prompts of each class that random directions were tried on.
    pub controls: usize,
    /// Norm of the added vector over the mean norm of the activations it was added to.
    pub relative_dose: f64,
}

/// What ablating the refusal direction does to answers to harmless test prompts, and what random directions do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SideEffects {
    /// KL of each harmless prompt between the unedited model and the model with the direction ablated, nats.
    pub kl: Vec<f64>,
    /// For each random direction, the same on the first [`Self::controls`] harmless prompts.
    pub kl_random: Vec<Vec<f64>>,
    /// Prompts that random directions were tried on.
    pub controls: usize,
}

/// What the refusal direction does to harmless test prompts, dose by dose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Doses {
    /// Multiples of the direction at its own length, ascending; 0 is the unedited model.
    pub doses: Vec<f64>,
    /// Refusal scores `[dose][prompt]`.
    pub scores: Vec<Vec<f64>>,
}

/// What the baseline's refusal direction, at its own place and length, does to test prompts of another checkpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stale {
    /// Refusal scores on harmless prompts with it added.
    pub induced: Vec<f64>,
    /// Refusal scores on harmful prompts with it ablated.
    pub bypassed: Vec<f64>,
}

/// Whether a checkpoint is sound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Integrity {
    /// Tensors with weights that are not finite, and how many in each.
    pub bad_weights: Vec<(String, usize)>,
    /// Number of tensors.
    pub tensors: usize,
    /// Whether the same pass, run twice, gave the same bits.
    pub repeats: bool,
}

/// What a checkpoint is, for the comparison with another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Hash of the weights.
    pub weights: String,
    /// Hash of the tokenizer.
    pub tokenizer: String,
    /// Hash of the chat template; `None` without one.
    pub template: Option<String>,
    /// Hash of the decoder's config.
    pub config: String,
    /// Number of edits applied by hook in every pass.
    pub edits: usize,
}

/// What only both models together tell.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Divergence on neutral texts.
    pub texts: Part<Vec<TextKl>>,
    /// Differences of weights.
    pub weights: Part<WeightChanges>,
    /// Differences of residual streams on neutral texts.
    pub difference: Part<difference::Difference>,
}

/// Divergence on one neutral text.
#[derive(Clone, Debug, PartialEq)]
pub struct TextKl {
    /// Its id in the suite.
    pub id: String,
    /// KL(baseline ‖ this) at each token, nats.
    pub kl: Vec<f64>,
}

/// How the weights differ from the baseline's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightChanges {
    /// Every matrix, in the order of the decoder.
    pub matrices: Vec<MatrixChange>,
    /// Biases that the baseline does not have.
    pub new_biases: Vec<String>,
    /// Vectors (gains and biases) that differ.
    pub changed_vectors: Vec<String>,
    /// Number of random directions behind the ratios' null.
    pub random: usize,
}

/// How one matrix differs.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixChange {
    /// Role and layer, such as `layers.3.down`.
    pub name: String,
    /// Norm of the change over the norm of the baseline's matrix (Frobenius).
    pub relative: f64,
    /// Share of the change's energy in its first singular value; `None` without a change.
    pub rank1: Option<f64>,
    /// For writers: how much of the output along the refusal direction is left, and the same for random directions.
    pub writer: Option<WriterChange>,
}

/// What is left of a writer's output along a direction, as ratio to the baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct WriterChange {
    /// Along the baseline's refusal direction.
    pub ratio: f64,
    /// Least ratio over the random directions.
    pub least_random: f64,
}

/// The value of a part, or the error a signal reports.
pub fn need<'a, T>(part: &'a Part<T>, what: &'static str) -> Result<&'a T, SignalError> {
    part.as_ref().map_err(|why| SignalError::Missing {
        what,
        why: why.clone(),
    })
}
