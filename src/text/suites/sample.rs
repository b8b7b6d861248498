//! Drawing fewer rows that keep the proportions of labels and topics.
//!
//! What always holds: the result depends on seed, ids and strata only, and keeps the order of the rows given.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{Label, PromptRow};

/// At most `n` rows, each (label, topic) in proportion.
pub(super) fn stratified(rows: &[PromptRow], n: usize, seed: u64) -> Vec<PromptRow> {
    let keys: Vec<((Label, Option<&str>), &str)> = rows
        .iter()
        .map(|row| ((row.label, row.topic.as_deref()), row.id.as_str()))
        .collect();
    rows.iter()
        .zip(chosen(&keys, n, seed))
        .filter(|(_, keep)| *keep)
        .map(|(row, _)| row.clone())
        .collect()
}

/// Which of (stratum, id) to keep so that at most `n` are, allotted to the strata by largest remainder, ranked within a
/// stratum by hash.
pub(in crate::text) fn chosen<K: Ord + Copy>(rows: &[(K, &str)], n: usize, seed: u64) -> Vec<bool> {
    if n >= rows.len() {
        return vec![true; rows.len()];
    }
    let mut strata: BTreeMap<K, Vec<usize>> = BTreeMap::new();
    for (index, (stratum, _)) in rows.iter().enumerate() {
        strata.entry(*stratum).or_default().push(index);
    }
    let sizes: Vec<usize> = strata.values().map(Vec::len).collect();
    let mut chosen = vec![false; rows.len()];
    for (mut members, quota) in strata.into_values().zip(quotas(&sizes, n)) {
        members.sort_by_key(|&index| rank(seed, rows[index].1));
        for &index in &members[..quota] {
            chosen[index] = true;
        }
    }
    chosen
}

/// Largest-remainder apportionment of `n` seats, never more than a group has (`n` is below the sum of sizes).
fn quotas(sizes: &[usize], n: usize) -> Vec<usize> {
    let total: usize = sizes.iter().sum();
    let mut seats: Vec<usize> = sizes.iter().map(|size| size * n / total).collect();
    let mut by_remainder: Vec<usize> = (0..sizes.len()).collect();
    by_remainder.sort_by_key(|&group| std::cmp::Reverse((sizes[group] * n % total, sizes[group])));
    let left = n - seats.iter().sum::<usize>();
    // A group with a remainder has a share below its size, so one more seat always fits.
    for &group in by_remainder.iter().take(left) {
        seats[group] += 1;
    }
    seats
}

fn rank(seed: u64, id: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    hasher.update(id.as_bytes());
    hasher.finalize().into()
}
