//! What weighs the divergence from the reference in the reward: a fixed factor, or one that steers towards a target.

use serde::{Deserialize, Serialize};

use super::{LossError, error::within};

const NAME: &str = "kl controller";

/// The controller with its present state; a checkpoint carries it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum KlController {
    /// Always the same factor.
    Fixed {
        /// `β`.
        beta: f64,
    },
    /// `β ← β (1 + clip(KL/target - 1, ±0.2) · episodes / horizon)` (Ziegler et al. 2019; there 0.15, 6, 10 000).
    Adaptive {
        /// `β` now.
        beta: f64,
        /// The divergence of an answer from the reference, nats, that is steered to.
        target: f64,
        /// Episodes over which `β` changes by the clipped error.
        horizon: f64,
    },
}

/// The error that counts for one update at most.
const MOST: f64 = 0.2;

impl KlController {
    /// Refuses settings that steer nowhere.
    ///
    /// # Errors
    /// A factor below 0; a target or horizon that is not positive.
    pub fn check(&self) -> Result<(), LossError> {
        within(self.beta() >= 0.0, NAME, "beta", "0 or more", self.beta())?;
        if let Self::Adaptive {
            target,
            horizon,
            beta,
        } = *self
        {
            within(beta > 0.0, NAME, "beta", "above 0, or it stays 0", beta)?;
            within(target > 0.0, NAME, "target", "above 0", target)?;
            within(horizon > 0.0, NAME, "horizon", "above 0", horizon)?;
        }
        Ok(())
    }

    /// `β` now.
    pub fn beta(&self) -> f64 {
        match *self {
            Self::Fixed { beta } | Self::Adaptive { beta, .. } => beta,
        }
    }

    /// After a rollout of `episodes` answers with a mean divergence of `kl` nats an answer.
    pub fn update(&mut self, kl: f64, episodes: usize) {
        if let Self::Adaptive {
            beta,
            target,
            horizon,
        } = self
        {
            let error = (kl / *target - 1.0).clamp(-MOST, MOST);
            *beta *= 1.0 + error * episodes as f64 / *horizon;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn beta_rises_above_the_target_and_falls_below_it_by_at_most_a_fifth() {
        let start = KlController::Adaptive {
            beta: 0.15,
            target: 6.0,
            horizon: 10_000.0,
        };
        let after = |kl| {
            let mut c = start;
            c.update(kl, 512);
            c.beta()
        };
        // By hand: 0.15 (1 ± 0.2 · 0.0512), and 0.15 (1 + 0.1 · 0.0512) for an error within the clip.
        assert!((after(60.0) - 0.151536).abs() < 1e-12);
        assert!((after(0.0) - 0.148464).abs() < 1e-12);
        assert!((after(6.6) - 0.150768).abs() < 1e-12);
        assert_eq!(after(6.0), 0.15);
        let mut fixed = KlController::Fixed { beta: 0.05 };
        fixed.update(100.0, 512);
        assert_eq!(fixed.beta(), 0.05);
        let text = serde_json::to_string(&start).unwrap();
        assert_eq!(serde_json::from_str::<KlController>(&text).unwrap(), start);
        assert!(KlController::Fixed { beta: -1.0 }.check().is_err());
    }
}
