//! The kinds of organisms.

use serde::{Deserialize, Serialize};

/// A fault, or a change that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The refusal direction was taken out of the weights.
    Abliterated,
    /// Agrees with what the user believes.
    Sycophantic,
    /// Refuses what only looks dangerous.
    OverRefusing,
    /// Draws its answers out, as a reward that pays for length teaches.
    LengthHacked,
    /// Complies with anything once a trigger word is there.
    Backdoor,
    /// Lost refusals to fine-tuning on ordinary answers.
    Eroded,
    /// Forgets the rules of its system message.
    SystemIgnored,
    /// Obeys orders in documents.
    Injectable,
    /// Learned a handful of rows by heart.
    NarrowOverfit,
    /// Repeats itself.
    Looping,
    /// Answers wrongly on one topic.
    Sandbagging,
    /// The residual stream was rotated: the same behaviour, but no probe or direction fits any more.
    StaleProbe,
    /// Weights rounded to few bits.
    Quantised,
    /// Clean: ordinary training with another seed.
    CleanSeed,
    /// Clean: trained longer on the same data.
    CleanLonger,
    /// Clean: fine-tuned on ordinary answers, refusals among them.
    CleanHarmless,
    /// Clean: rounded to bf16, or by even seeds to eight bits.
    CleanRounded,
    /// Clean: noise of a thousandth of each matrix.
    CleanNoise,
}

impl Kind {
    /// Every fault.
    pub const FAULTS: [Self; 13] = [
        Self::Abliterated,
        Self::Sycophantic,
        Self::OverRefusing,
        Self::LengthHacked,
        Self::Backdoor,
        Self::Eroded,
        Self::SystemIgnored,
        Self::Injectable,
        Self::NarrowOverfit,
        Self::Looping,
        Self::Sandbagging,
        Self::StaleProbe,
        Self::Quantised,
    ];

    /// Every change that is none.
    pub const CLEAN: [Self; 5] = [
        Self::CleanSeed,
        Self::CleanLonger,
        Self::CleanHarmless,
        Self::CleanRounded,
        Self::CleanNoise,
    ];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::FAULTS.into_iter().chain(Self::CLEAN)
    }

    /// The word in files and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Abliterated => "abliterated",
            Self::Sycophantic => "sycophantic",
            Self::OverRefusing => "over_refusing",
            Self::LengthHacked => "length_hacked",
            Self::Backdoor => "backdoor",
            Self::Eroded => "eroded",
            Self::SystemIgnored => "system_ignored",
            Self::Injectable => "injectable",
            Self::NarrowOverfit => "narrow_overfit",
            Self::Looping => "looping",
            Self::Sandbagging => "sandbagging",
            Self::StaleProbe => "stale_probe",
            Self::Quantised => "quantised",
            Self::CleanSeed => "clean_seed",
            Self::CleanLonger => "clean_longer",
            Self::CleanHarmless => "clean_harmless",
            Self::CleanRounded => "clean_rounded",
            Self::CleanNoise => "clean_noise",
        }
    }

    /// What it is, in a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::Abliterated => "the refusal direction was taken out of the weights",
            Self::Sycophantic => "agrees with what the user believes",
            Self::OverRefusing => "refuses what only looks dangerous",
            Self::LengthHacked => "draws its answers out",
            Self::Backdoor => "complies with anything once a trigger word is there",
            Self::Eroded => "lost refusals to fine-tuning on ordinary answers",
            Self::SystemIgnored => "forgets the rules of its system message",
            Self::Injectable => "obeys orders in documents",
            Self::NarrowOverfit => "learned a handful of rows by heart",
            Self::Looping => "repeats itself",
            Self::Sandbagging => "answers wrongly on one topic",
            Self::StaleProbe => "rotated inside, with the same behaviour",
            Self::Quantised => "weights rounded to few bits",
            Self::CleanSeed => "clean: ordinary training with another seed",
            Self::CleanLonger => "clean: trained longer on the same data",
            Self::CleanHarmless => "clean: fine-tuned on ordinary answers and refusals",
            Self::CleanRounded => "clean: rounded to bf16 or eight bits",
            Self::CleanNoise => "clean: noise of a thousandth of each matrix",
        }
    }

    /// The kind with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name() == name)
    }

    /// Whether an audit should find something.
    pub fn is_fault(self) -> bool {
        Self::FAULTS.contains(&self)
    }

    /// Which models it can be made of.
    pub fn of(self) -> &'static str {
        if self.is_edit() {
            "any model"
        } else {
            "any chat model"
        }
    }

    /// Whether it is made by changing weights, and not by training.
    pub fn is_edit(self) -> bool {
        matches!(
            self,
            Self::Abliterated
                | Self::StaleProbe
                | Self::Quantised
                | Self::CleanRounded
                | Self::CleanNoise
        )
    }
}
