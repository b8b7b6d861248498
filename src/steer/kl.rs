//! The divergence between two next-token distributions.

/// log Σ exp of logits, in f64; -inf entries have no mass.
pub(super) fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    let max = f64::from(max);
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    max + sum.ln()
}

/// KL(p ‖ q) in nats from raw logits `[vocab]`, exact where p has no mass, infinite where only q has none.
///
/// Arditi et al. add 1e-6 inside the logs instead, which moves values below about 1e-4 only.
///
/// # Panics
/// Debug builds panic on logits of different lengths.
pub fn kl(p_logits: &[f32], q_logits: &[f32]) -> f64 {
    debug_assert_eq!(p_logits.len(), q_logits.len());
    let (p_total, q_total) = (log_sum_exp(p_logits), log_sum_exp(q_logits));
    let sum: f64 = p_logits
        .iter()
        .zip(q_logits)
        .filter(|(p, _)| **p > f32::NEG_INFINITY)
        .map(|(&p, &q)| {
            let p = f64::from(p) - p_total;
            p.exp() * (p - (f64::from(q) - q_total))
        })
        .sum();
    // Rounding may leave -1e-17 for equal distributions.
    sum.max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn by_hand() {
        // p = (3/4, 1/4), q = (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2)
        let expected = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        let found = kl(&[3f32.ln(), 0.0], &[7.0, 7.0]);
        assert!((found - expected).abs() < 1e-7, "{found} {expected}");
    }

    #[test]
    fn tokens_without_mass() {
        let inf = f32::NEG_INFINITY;
        assert_eq!(kl(&[1.0, inf, 1.0], &[1.0, inf, 1.0]), 0.0);
        assert!((kl(&[0.0, inf], &[0.0, 0.0]) - 2f64.ln()).abs() < 1e-12);
        assert_eq!(kl(&[0.0, 0.0], &[0.0, inf]), f64::INFINITY);
    }

    proptest! {
        #[test]
        fn it_is_a_divergence(
            pairs in prop::collection::vec((-30f32..30.0, -30f32..30.0), 2..40),
            shift in -50f32..50.0,
        ) {
            let (p, q): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let value = kl(&p, &q);
            prop_assert!(value >= 0.0);
            prop_assert_eq!(kl(&p, &p), 0.0);
            // Logits are defined up to a constant; f32 rounds the shifted ones.
            let shifted: Vec<f32> = q.iter().map(|x| x + shift).collect();
            prop_assert!((kl(&p, &shifted) - value).abs() < 1e-4);
            // Pinsker: KL >= 2 TV².
            let tv: f64 = p.iter().zip(&q)
                .map(|(&a, &b)| ((f64::from(a) - log_sum_exp(&p)).exp() - (f64::from(b) - log_sum_exp(&q)).exp()).abs())
                .sum::<f64>() / 2.0;
            prop_assert!(value + 1e-12 >= 2.0 * tv * tv);
        }
    }
}
