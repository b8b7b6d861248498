//! What a sample of this size could have seen: minimum detectable differences and sample sizes.
//! Printed beside every "no change". Two-sided tests; normal approximations, so a guide below about 20 items.

use serde::{Deserialize, Serialize};

use super::paired::alpha_in_range;
use super::special::{bisect, normal_quantile, t_quantile};
use crate::error::{ProbeError, at_least, open_unit};

/// The test a power statement is about.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Power {
    /// Two-sided significance level.
    pub alpha: f64,
    /// Wanted probability of seeing the difference.
    pub power: f64,
}

impl Default for Power {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            power: 0.8,
        }
    }
}

impl Power {
    fn checked(self) -> Result<(f64, f64), ProbeError> {
        alpha_in_range(self.alpha)?;
        open_unit("power", self.power)?;
        Ok((
            normal_quantile(1.0 - 0.5 * self.alpha),
            normal_quantile(self.power),
        ))
    }
}

/// A power statement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Detectable {
    /// Number of items or pairs.
    pub n: usize,
    /// The smallest true difference that is seen with the wanted power; `None` if no difference possible here is.
    pub difference: Option<f64>,
    /// The test it is about.
    pub test: Power,
}

/// Pairs needed to see a net change δ of a yes/no outcome when a share p_d of the pairs flips (McNemar; Connor 1987):
/// n = (z_{1−α/2}·√p_d + z_power·√(p_d − δ²))² / δ². Needs 0 < |δ| ≤ p_d ≤ 1.
pub fn pairs_needed(flip_share: f64, delta: f64, test: Power) -> Result<f64, ProbeError> {
    let (z_alpha, z_power) = test.checked()?;
    let delta = delta.abs();
    if !(flip_share > 0.0 && flip_share <= 1.0) {
        return Err(ProbeError::Range {
            what: "share of flips",
            value: flip_share,
            allowed: "(0, 1]",
        });
    }
    if !(delta > 0.0 && delta <= flip_share) {
        return Err(ProbeError::Range {
            what: "net change",
            value: delta,
            allowed: "(0, share of flips]",
        });
    }
    Ok(connor(flip_share, delta, z_alpha, z_power))
}

fn connor(flips: f64, delta: f64, z_alpha: f64, z_power: f64) -> f64 {
    ((z_alpha * flips.sqrt() + z_power * (flips - delta * delta).max(0.0).sqrt()) / delta).powi(2)
}

/// The inverse of [`pairs_needed`]: the smallest net change that n pairs show when a share `flip_share` of them flips.
pub fn detectable_flips(n: usize, flip_share: f64, test: Power) -> Result<Detectable, ProbeError> {
    at_least("pairs", 1, n)?;
    let (z_alpha, z_power) = test.checked()?;
    // The largest change there can be is every flip going one way.
    let reachable = pairs_needed(flip_share, flip_share, test)? <= n as f64;
    let difference = reachable.then(|| {
        bisect(0.0, flip_share, |delta| {
            n as f64 - connor(flip_share, delta.max(1e-300), z_alpha, z_power)
        })
    });
    Ok(Detectable {
        n,
        difference,
        test,
    })
}

/// The smallest mean difference that n pairs show: (t_{1−α/2} + t_power)·sd/√n with n − 1 degrees of freedom, sd that of the differences.
pub fn detectable_mean(n: usize, sd: f64, test: Power) -> Result<Detectable, ProbeError> {
    at_least("pairs", 2, n)?;
    test.checked()?;
    if !(sd >= 0.0 && sd.is_finite()) {
        return Err(ProbeError::Range {
            what: "standard deviation",
            value: sd,
            allowed: "[0, ∞)",
        });
    }
    let df = (n - 1) as f64;
    let reach = t_quantile(1.0 - 0.5 * test.alpha, df) + t_quantile(test.power, df);
    Ok(Detectable {
        n,
        difference: Some(reach * sd / (n as f64).sqrt()),
        test,
    })
}

/// The smallest rise of one rate above a fixed `rate` that n items show: n = ((z_{1−α/2}√(p₀q₀) + z_power√(p₁q₁))/(p₁ − p₀))².
/// `None` if even a rise to 1 would not be seen. For a fall, ask about the rate 1 − p.
pub fn detectable_rise(n: usize, rate: f64, test: Power) -> Result<Detectable, ProbeError> {
    at_least("items", 1, n)?;
    let (z_alpha, z_power) = test.checked()?;
    if !(0.0..1.0).contains(&rate) {
        return Err(ProbeError::Range {
            what: "rate",
            value: rate,
            allowed: "[0, 1)",
        });
    }
    let seen = |rise: f64| {
        let after = rate + rise;
        let spread = z_alpha * (rate * (1.0 - rate)).sqrt()
            + z_power * (after * (1.0 - after)).max(0.0).sqrt();
        (n as f64).sqrt() * rise - spread
    };
    let most = 1.0 - rate;
    let difference = (seen(most) >= 0.0).then(|| bisect(0.0, most, seen));
    Ok(Detectable {
        n,
        difference,
        test,
    })
}
