//! The values that the heat map shows: which number of a cell, in which unit, over which range of colours.
//!
//! Always: every mode says its unit and where its scale ends, and a rank is coloured by its logarithm, since from 1 to 2 is
//! as far as from 1000 to 2000, the first brightest.

use crate::tui::theme::Scale;

use super::reading::Place;

/// Which number of a cell is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Probability of the likeliest token.
    #[default]
    Top,
    /// Entropy of the next token.
    Entropy,
    /// KL of the model's output from this layer's.
    Kl,
    /// Rank of the target.
    Rank,
    /// Length of the stream.
    Norm,
    /// The stream's part along a direction.
    Projection,
    /// A probe's score.
    Probe,
}

impl Mode {
    /// All of them, in the order in which a key goes through them.
    pub const ALL: [Self; 7] = [
        Self::Top,
        Self::Entropy,
        Self::Kl,
        Self::Rank,
        Self::Norm,
        Self::Projection,
        Self::Probe,
    ];

    /// Its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Top => "prob",
            Self::Entropy => "entropy",
            Self::Kl => "kl",
            Self::Rank => "rank",
            Self::Norm => "norm",
            Self::Projection => "projection",
            Self::Probe => "probe",
        }
    }

    /// The mode of this name.
    ///
    /// # Errors
    /// A name that none has, with those there are.
    pub fn named(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mode| mode.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no mode `{name}`; there are {names}")
        })
    }

    /// The one after it.
    pub fn next(self) -> Self {
        let at = Self::ALL.iter().position(|mode| *mode == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }

    /// What the number is; its unit is [`Self::unit`].
    pub fn words(self) -> &'static str {
        match self {
            Self::Top => "its probability",
            Self::Entropy => "entropy",
            Self::Kl => "KL(final || layer)",
            Self::Rank => "rank of the final token",
            Self::Norm => "norm of the stream",
            Self::Projection => "projection on the direction",
            Self::Probe => "score of the probe",
        }
    }

    /// Its number in a cell; NaN where it was not computed.
    pub fn value(self, place: &Place) -> f32 {
        let cell = &place.cell;
        (match self {
            Self::Top => cell.top.first().map_or(f64::NAN, |top| top.probability),
            Self::Entropy => cell.entropy,
            Self::Kl => cell.kl,
            Self::Rank => cell.target_rank as f64,
            Self::Norm => cell.norm,
            Self::Projection | Self::Probe => place.along.unwrap_or(f64::NAN),
        }) as f32
    }

    /// The number by which a cell is coloured.
    pub fn shade(self, value: f32) -> f32 {
        match self {
            Self::Rank => -value.log10(),
            _ => value,
        }
    }

    /// Amounts, or a number with a sign.
    pub fn scale(self) -> Scale {
        match self {
            Self::Projection | Self::Probe => Scale::Diverging,
            _ => Scale::Sequential,
        }
    }

    /// The unit that stands after a number on its own.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Entropy | Self::Kl => " nats",
            Self::Top | Self::Rank | Self::Norm | Self::Projection | Self::Probe => "",
        }
    }

    /// The number as short as it can be told.
    pub fn digits(self, value: f32) -> String {
        match self {
            _ if value.is_nan() => String::new(),
            Self::Top => format!("{:.1}%", value * 100.0),
            Self::Rank => format!("{value:.0}"),
            Self::Norm if value.abs() >= 100.0 => format!("{value:.0}"),
            Self::Projection | Self::Probe => format!("{value:+.2}"),
            _ => format!("{value:.2}"),
        }
    }

    /// A difference of two such numbers.
    pub fn difference(self, value: f32) -> String {
        match self {
            _ if value.is_nan() => String::new(),
            Self::Top => format!("{:+.1}", value * 100.0),
            Self::Rank => format!("{value:+.0}"),
            _ => format!("{value:+.2}"),
        }
    }

    /// The ends of everything the number can be, where it has ends; `vocab` is the count of tokens.
    fn whole(self, vocab: usize) -> Option<(f32, f32)> {
        let vocab = vocab.max(2) as f32;
        match self {
            Self::Top => Some((0.0, 1.0)),
            Self::Entropy => Some((0.0, vocab.ln())),
            Self::Rank => Some((-vocab.log10(), 0.0)),
            Self::Kl | Self::Norm | Self::Projection | Self::Probe => None,
        }
    }
}

/// Which values the ends of the colours stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ends {
    /// All that the number can be, or from 0 to the largest where it has no end.
    #[default]
    Whole,
    /// The smallest and the largest that are shown.
    Shown,
    /// The 5th and the 95th percentile of what is shown: an outlier does not darken the rest.
    Middle,
}

impl Ends {
    /// The one after it.
    pub fn next(self) -> Self {
        match self {
            Self::Whole => Self::Shown,
            Self::Shown => Self::Middle,
            Self::Middle => Self::Whole,
        }
    }

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole range",
            Self::Shown => "smallest to largest",
            Self::Middle => "5th to 95th percentile",
        }
    }

    /// The ends for these shades.
    pub fn of(self, mode: Mode, vocab: usize, shades: &[f32]) -> (f32, f32) {
        let mut sorted: Vec<f32> = shades.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f32::total_cmp);
        let at = |share: f32| {
            let last = sorted.len().saturating_sub(1) as f32;
            sorted.get((share * last).round() as usize).copied()
        };
        let (lowest, highest) = (at(0.0).unwrap_or(0.0), at(1.0).unwrap_or(1.0));
        match self {
            Self::Whole => mode.whole(vocab).unwrap_or((lowest.min(0.0), highest)),
            Self::Shown => (lowest, highest),
            Self::Middle => (at(0.05).unwrap_or(lowest), at(0.95).unwrap_or(highest)),
        }
    }
}
