//! What is asked: a signal or one of its quantities, and what it means that it broke.
//!
//! What broke means. By default the policy says it: a checkpoint is worse than another if its verdict stands higher on the
//! ladder of three rungs, 0 for PASS and UNDERPOWERED (nothing is known to be wrong), 1 for REVIEW, 2 for BLOCK. Of a quantity
//! the verdict is the worst of the limits on it, never worse than the signal's. With a limit of one's own there are two rungs:
//! 0 on the good side of the number or not measured, 1 beyond it.

use crate::audit::catalogue::{self, Entry, SIGNALS};
use crate::audit::measure::Value;
use crate::audit::result::SignalResult;
use crate::audit::verdict::Verdict;
use crate::audit::wording;

use super::BisectError;

/// A signal or one of its quantities.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The signal.
    pub signal: &'static Entry,
    /// The quantity, if one was named.
    pub quantity: Option<&'static str>,
}

impl Target {
    /// Reads `ID` or `ID.QUANTITY`.
    ///
    /// # Errors
    /// A name that the catalogue does not have.
    pub fn parse(text: &str) -> Result<Self, BisectError> {
        let (id, quantity) = match text.split_once('.') {
            Some((id, quantity)) => (id, Some(quantity)),
            None => (text, None),
        };
        let known = |what: String, found: &str, names: Vec<&str>| BisectError::Unknown {
            what,
            found: found.to_owned(),
            known: names.join(", "),
        };
        let signal = catalogue::signal(id).ok_or_else(|| {
            let ids = SIGNALS.iter().map(|entry| entry.id);
            known("signal".to_owned(), id, ids.collect())
        })?;
        let quantity = quantity
            .map(|name| {
                let found = signal.quantity(name).ok_or_else(|| {
                    let names = signal.quantities.iter().map(|quantity| quantity.name);
                    known(format!("quantity of `{id}`"), name, names.collect())
                })?;
                Ok::<_, BisectError>(found.name)
            })
            .transpose()?;
        Ok(Self { signal, quantity })
    }

    /// With a quantity: the signal's first where none was named. What decides a verdict may be another one from checkpoint to
    /// checkpoint, and a limit of one's own is on one quantity.
    pub fn with_quantity(self) -> Self {
        let first = self.signal.quantities.first().map(|quantity| quantity.name);
        Self {
            quantity: self.quantity.or(first),
            ..self
        }
    }

    /// As it was given, which is also how its folder is called.
    pub fn name(&self) -> String {
        match self.quantity {
            Some(quantity) => format!("{}.{quantity}", self.signal.id),
            None => self.signal.id.to_owned(),
        }
    }

    /// The quantity to show, and to hold against a limit of one's own: the one named, else the one that decided.
    pub fn value<'a>(&self, signal: &'a SignalResult) -> Option<&'a Value> {
        match self.quantity {
            Some(name) => signal.value(name),
            None => signal.headline(),
        }
    }

    /// The verdict on it.
    pub fn verdict(&self, signal: &SignalResult) -> Verdict {
        let Some(quantity) = self.quantity else {
            return signal.verdict;
        };
        let checks = signal.checks.iter();
        let of_it = checks.filter(|check| check.value == quantity);
        let worst = of_it.map(|check| check.verdict).max();
        worst.unwrap_or(Verdict::Pass).min(signal.verdict)
    }
}

/// What counts as broken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// A worse verdict by the policy.
    Verdict,
    /// The quantity below this.
    Below(f64),
    /// The quantity above this.
    Above(f64),
}

impl Rule {
    /// How far from good: rungs of the ladder above.
    pub fn grade(self, verdict: Verdict, value: Option<&Value>) -> u8 {
        let value = value.and_then(|value| value.value);
        match self {
            Self::Verdict => match verdict {
                Verdict::Pass | Verdict::Underpowered => 0,
                Verdict::Review => 1,
                Verdict::Block => 2,
            },
            Self::Below(limit) => u8::from(value.is_some_and(|value| value < limit)),
            Self::Above(limit) => u8::from(value.is_some_and(|value| value > limit)),
        }
    }

    /// In words.
    pub fn words(self, target: &Target) -> String {
        let phrase = wording::phrase(target.quantity.unwrap_or(target.signal.id));
        match self {
            Self::Verdict => "a worse verdict than at the checkpoint before".to_owned(),
            Self::Below(limit) => format!("{phrase} below {limit}"),
            Self::Above(limit) => format!("{phrase} above {limit}"),
        }
    }
}
