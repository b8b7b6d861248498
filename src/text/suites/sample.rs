//! Drawing a smaller suite that keeps the proportions of labels and topics.
//!
//! What always holds: the result depends on seed, ids, labels and topics only, and keeps the order of the rows given.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{Label, PromptRow};

/// At most `n` rows, allotted to the (label, topic) groups by largest remainder, ranked within a group by hash.
pub(super) fn stratified(rows: &[PromptRow], n: usize, seed: u64) -> Vec<PromptRow> {
    if n >= rows.len() {
        return rows.to_vec();
    }
    let mut groups: BTreeMap<(Label, Option<&str>), Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        groups
            .entry((row.label, row.topic.as_deref()))
            .or_default()
            .push(index);
    }
    let sizes: Vec<usize> = groups.values().map(Vec::len).collect();
    let mut chosen = vec![false; rows.len()];
    for (mut members, quota) in groups.into_values().zip(quotas(&sizes, n)) {
        members.sort_by_key(|&index| rank(seed, &rows[index].id));
        for &index in &members[..quota] {
            chosen[index] = true;
        }
    }
    rows.iter()
        .zip(chosen)
        .filter(|(_, keep)| *keep)
        .map(|(row, _)| row.clone())
        .collect()
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
