//! Adjusted p-values for many tests at once: Holm within a family (any error counts), Benjamini-Hochberg across
//! families (the share of false alarms counts). Compare the adjusted value with α itself.

use crate::error::ProbeError;

/// Holm's step-down adjustment (1979): p̃₍ᵢ₎ = max over j ≤ i of min(1, (m − j + 1)·p₍ⱼ₎). Controls the family-wise error under any dependence.
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>, ProbeError> {
    let order = ascending(p_values)?;
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (place, &test) in order.iter().enumerate() {
        largest = largest
            .max((p_values.len() - place) as f64 * p_values[test])
            .min(1.0);
        adjusted[test] = largest;
    }
    Ok(adjusted)
}

/// Benjamini and Hochberg's step-up adjustment (1995): p̃₍ᵢ₎ = min over j ≥ i of min(1, m·p₍ⱼ₎/j). Controls the false
/// discovery rate for independent or positively dependent tests.
pub fn benjamini_hochberg(p_values: &[f64]) -> Result<Vec<f64>, ProbeError> {
    let order = ascending(p_values)?;
    let mut adjusted = vec![0.0; p_values.len()];
    let mut smallest: f64 = 1.0;
    for (place, &test) in order.iter().enumerate().rev() {
        smallest = smallest.min(p_values.len() as f64 * p_values[test] / (place + 1) as f64);
        adjusted[test] = smallest;
    }
    Ok(adjusted)
}

fn ascending(p_values: &[f64]) -> Result<Vec<usize>, ProbeError> {
    if let Some(&value) = p_values.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        return Err(ProbeError::Range {
            what: "p-value",
            value,
            allowed: "[0, 1]",
        });
    }
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    Ok(order)
}
