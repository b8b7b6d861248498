//! Who trains, who chooses, who is only reported on: a split that nothing straddles.
//!
//! Rows that are nearly the same, or of one group, are one unit. Data without splits is cut by a hash of the unit, so that a
//! row keeps its place when others come or go; data with splits is taken as it is, unless the same text or group stands in two.

use std::collections::{BTreeMap, BTreeSet};

use candlescope_probes::lexical::words;
use serde::Serialize;

use super::{Labelled, ProbingError};
use crate::files::hash::sha256;
use crate::text::suites::Split;

/// Shares of data without splits, in percent, by hash: training, then validation; the rest is for the test.
const TRAIN: u32 = 50;
const VALIDATION: u32 = 20;
/// Rows of either class that each split needs.
const NEEDED: usize = 5;
/// Share of words in common (Jaccard) from which two texts count as nearly the same; both need this many distinct words.
const ALIKE: f64 = 0.8;
const ENOUGH_WORDS: usize = 4;
/// Rows up to which all pairs are compared; beyond, only texts of the same words in the same order are found.
const ALL_PAIRS: usize = 8000;
/// Rows listed in an error.
const LISTED: usize = 5;

/// A split of labelled rows, by index.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Splits {
    /// Rows that probes are fitted on.
    pub train: Vec<usize>,
    /// Rows that layer, point and position are chosen on.
    pub validation: Vec<usize>,
    /// Rows that are only reported on.
    pub test: Vec<usize>,
    /// For each row the unit that it belongs to: rows of one unit are never parted.
    pub units: Vec<usize>,
    /// Whether the data came split.
    pub given: bool,
    /// Pairs of rows of data that came split which are nearly the same and stand in different splits. Kept, and counted here.
    pub near_repeats_across: usize,
    /// Whether near repeats were looked for among all pairs.
    pub all_pairs: bool,
}

impl Splits {
    /// Splits the rows. `seed` chooses among the hashes.
    ///
    /// # Errors
    /// The same text in two splits or under two labels, a group in two splits, a split with too few of a class.
    pub fn of(data: &Labelled, positive: usize, seed: u64) -> Result<Self, ProbingError> {
        let splits = Self::parted(data, seed)?;
        let labels = data.labels(positive);
        let name = &data.classes[positive];
        for side in [true, false] {
            let class = if side {
                name.clone()
            } else {
                format!("not {name}")
            };
            splits.check(&class, &|row| labels[row] == side)?;
        }
        Ok(splits)
    }

    /// Splits the rows for a probe that tells all classes from each other.
    ///
    /// # Errors
    /// Those of [`Self::of`], for every class.
    pub fn of_classes(data: &Labelled, seed: u64) -> Result<Self, ProbingError> {
        let splits = Self::parted(data, seed)?;
        for (class, name) in data.classes.iter().enumerate() {
            splits.check(name, &|row| data.rows[row].label == Some(class))?;
        }
        Ok(splits)
    }

    fn parted(data: &Labelled, seed: u64) -> Result<Self, ProbingError> {
        let given = data.rows.iter().all(|r| r.split.is_some());
        if !given && let Some(row) = data.rows.iter().find(|r| r.split.is_some()) {
            return Err(ProbingError::Line {
                file: data.name.clone(),
                line: 1 + data
                    .rows
                    .iter()
                    .position(|r| r.split.is_none())
                    .unwrap_or(0),
                reason: format!(
                    "row `{}` has a `split` and others have none; give it to all rows or to none",
                    row.id
                ),
            });
        }
        let (units, near) = units(data)?;
        let place = |row: usize| -> Split {
            data.rows[row]
                .split
                .unwrap_or_else(|| by_hash(&unit_key(data, &units, row), seed))
        };
        let places: Vec<Split> = (0..data.rows.len()).map(place).collect();
        let across = |pairs: &[(usize, usize)]| {
            let apart = |&&(a, b): &&(usize, usize)| places[a] != places[b];
            pairs.iter().filter(apart).copied().collect::<Vec<_>>()
        };
        let said = |(a, b): &(usize, usize)| {
            let name = |i: usize| format!("`{}` ({})", data.rows[i].id, places[i].name());
            format!("{} and {}", name(*a), name(*b))
        };
        for (what, pairs) in [("text", &near.same), ("group", &near.group)] {
            let found = across(pairs);
            if !found.is_empty() {
                let mut listed: Vec<String> = found.iter().take(LISTED).map(said).collect();
                if found.len() > LISTED {
                    listed.push(format!("and {} more", found.len() - LISTED));
                }
                return Err(ProbingError::Straddle {
                    what,
                    count: found.len(),
                    listed: listed.join(", "),
                });
            }
        }
        let rows = |split: Split| -> Vec<usize> {
            (0..places.len()).filter(|&i| places[i] == split).collect()
        };
        Ok(Self {
            train: rows(Split::Train),
            validation: rows(Split::Validation),
            test: rows(Split::Test),
            near_repeats_across: across(&near.alike).len(),
            all_pairs: data.rows.len() <= ALL_PAIRS,
            units,
            given,
        })
    }

    /// Refuses a split with too few rows of a class.
    fn check(&self, class: &str, holds: &dyn Fn(usize) -> bool) -> Result<(), ProbingError> {
        for (split, rows) in [
            ("train", &self.train),
            ("validation", &self.validation),
            ("test", &self.test),
        ] {
            let found = rows.iter().filter(|&&row| holds(row)).count();
            if found < NEEDED {
                return Err(ProbingError::SplitTooSmall {
                    split,
                    class: class.to_owned(),
                    found,
                    needed: NEEDED,
                });
            }
        }
        Ok(())
    }
}

/// What a unit is hashed by: the group, or the words of its first row.
fn unit_key(data: &Labelled, units: &[usize], row: usize) -> String {
    let first = &data.rows[units[row]];
    first
        .group
        .clone()
        .unwrap_or_else(|| words(&first.content.words()).join(" "))
}

fn by_hash(key: &str, seed: u64) -> Split {
    let hash = sha256(format!("{seed}\n{key}").as_bytes());
    let percent = u32::from_str_radix(&hash[..8], 16).unwrap_or(0) % 100;
    match percent {
        p if p < TRAIN => Split::Train,
        p if p < TRAIN + VALIDATION => Split::Validation,
        _ => Split::Test,
    }
}

/// Pairs of rows that belong together, and why.
#[derive(Default)]
struct Near {
    same: Vec<(usize, usize)>,
    group: Vec<(usize, usize)>,
    alike: Vec<(usize, usize)>,
}

/// The unit of each row, named by its first row.
fn units(data: &Labelled) -> Result<(Vec<usize>, Near), ProbingError> {
    let texts: Vec<Vec<String>> = data
        .rows
        .iter()
        .map(|r| words(&r.content.words()))
        .collect();
    let mut near = Near::default();
    let mut first: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, row) in data.rows.iter().enumerate() {
        // A text without words (code, signs) is compared as it is.
        let raw = row.content.words();
        let key = match texts[i].as_slice() {
            [] => ("raw".to_owned(), raw),
            words => ("words".to_owned(), words.join(" ")),
        };
        if let Some(&j) = first.get(&key) {
            if data.rows[j].label != row.label {
                return Err(ProbingError::Contradiction {
                    first: data.rows[j].id.clone(),
                    second: row.id.clone(),
                });
            }
            near.same.push((j, i));
        } else {
            first.insert(key, i);
        }
        if let Some(group) = row.group.as_deref() {
            match groups.get(group) {
                Some(&j) => near.group.push((j, i)),
                None => {
                    groups.insert(group, i);
                }
            }
        }
    }
    if data.rows.len() <= ALL_PAIRS {
        near.alike = alike(&texts);
    }
    let mut parent: Vec<usize> = (0..data.rows.len()).collect();
    for &(a, b) in near.same.iter().chain(&near.group).chain(&near.alike) {
        let (a, b) = (root(&mut parent, a), root(&mut parent, b));
        parent[a.max(b)] = a.min(b);
    }
    let units = (0..parent.len()).map(|i| root(&mut parent, i)).collect();
    Ok((units, near))
}

fn root(parent: &mut [usize], mut i: usize) -> usize {
    while parent[i] != i {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    i
}

/// Pairs of texts that have most of their words in common.
fn alike(texts: &[Vec<String>]) -> Vec<(usize, usize)> {
    let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
    let sets: Vec<Vec<u32>> = texts
        .iter()
        .map(|text| {
            let mut set = BTreeSet::new();
            for word in text {
                let next = ids.len() as u32;
                set.insert(*ids.entry(word).or_insert(next));
            }
            set.into_iter().collect()
        })
        .collect();
    let mut pairs = Vec::new();
    for i in 0..sets.len() {
        for j in i + 1..sets.len() {
            let (a, b) = (&sets[i], &sets[j]);
            let (small, large) = (a.len().min(b.len()), a.len().max(b.len()));
            if small < ENOUGH_WORDS || (small as f64) < ALIKE * large as f64 {
                continue;
            }
            let shared = a.iter().filter(|w| b.binary_search(w).is_ok()).count();
            if shared as f64 >= ALIKE * (a.len() + b.len() - shared) as f64 {
                pairs.push((i, j));
            }
        }
    }
    pairs
}
