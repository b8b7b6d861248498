//! How far latents are turned: a way, and steps of a size that fits the latent.
//!
//! Always: a dose says the edit that the library makes, so that what is shown is what is done.

use std::collections::BTreeMap;

use crate::features::scope::Trace;
use crate::features::{Change, LatentEdit};

/// What a latent's steps mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Way {
    /// So many steps more than it is.
    #[default]
    Add,
    /// Held at so many steps.
    Hold,
    /// Its own value, a quarter more with each step.
    Scale,
}

/// A latent's dose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Dose {
    pub way: Way,
    pub steps: i32,
    /// A step of [`Way::Add`] and [`Way::Hold`].
    pub unit: f32,
}

/// Doses by latent; one that does nothing is not among them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Doses(BTreeMap<usize, Dose>);

impl Dose {
    fn change(self) -> Change {
        let steps = self.steps as f32;
        match self.way {
            Way::Add => Change::Add(steps * self.unit),
            Way::Hold => Change::Set(steps * self.unit),
            Way::Scale => Change::Scale(1.0 + 0.25 * steps),
        }
    }

    fn idle(self) -> bool {
        self.steps == 0 && self.way != Way::Hold
    }
}

/// About a quarter of what the latent reaches, as 1, 2 or 5 times a power of ten; 1 where it never fired.
pub(super) fn unit(trace: &Trace, latent: usize) -> f32 {
    let quarter = f64::from(trace.peak(latent)) / 4.0;
    if !quarter.is_finite() || quarter <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(quarter.log10().floor());
    let nice = match quarter / power {
        x if x < 1.5 => 1.0,
        x if x < 3.5 => 2.0,
        x if x < 7.5 => 5.0,
        _ => 10.0,
    };
    (nice * power) as f32
}

impl Doses {
    pub(super) fn of(&self, latent: usize) -> Option<Dose> {
        self.0.get(&latent).copied()
    }

    /// Turns a latent by so many steps.
    pub(super) fn step(&mut self, latent: usize, by: i32, way: Way, unit: f32) {
        let fresh = Dose {
            way,
            // Held where it is at its highest.
            steps: if way == Way::Hold { 4 } else { 0 },
            unit,
        };
        let mut dose = self.of(latent).unwrap_or(fresh);
        dose.steps = dose.steps.saturating_add(by).clamp(-400, 400);
        self.set(latent, dose);
    }

    /// Gives a latent this dose.
    pub(super) fn set(&mut self, latent: usize, dose: Dose) {
        if dose.idle() {
            self.0.remove(&latent);
        } else {
            self.0.insert(latent, dose);
        }
    }

    /// Leaves a latent as it is; whether it was turned.
    pub(super) fn reset(&mut self, latent: usize) -> bool {
        self.0.remove(&latent).is_some()
    }

    /// The edits, by rising latent.
    pub(super) fn edits(&self) -> Vec<LatentEdit> {
        let edit = |(&latent, dose): (&usize, &Dose)| LatentEdit {
            latent,
            change: dose.change(),
        };
        self.0.iter().map(edit).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An edit in words: `4211 +4`, `4211 held at 2`, `4211 silent`, `4211 × 1.5`.
pub(super) fn words(edit: &LatentEdit) -> String {
    let latent = edit.latent;
    match edit.change {
        Change::Set(0.0) => format!("{latent} silent"),
        Change::Set(to) => format!("{latent} held at {to}"),
        Change::Scale(factor) => format!("{latent} x {factor}"),
        Change::Add(amount) => format!("{latent} {amount:+}"),
        Change::Clamp(low, high) => format!("{latent} within {low} and {high}"),
    }
}
