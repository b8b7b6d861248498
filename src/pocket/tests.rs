//! What the world promises.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use super::case::Kind;
use super::chats::{self, Annotators, Mix};
use super::facts::Fact;
use super::requests::{Deed, FRAMES};
use super::words::Attribute;
use super::write::Sizes;
use super::{exam, suites, write};
use crate::text::suites::{Label, Split};

#[test]
fn every_value_is_true_of_as_many_animals() {
    let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for fact in Fact::all() {
        *counts
            .entry((fact.attribute as usize, fact.place()))
            .or_default() += 1;
    }
    assert_eq!(counts.len(), 4 * 8);
    assert!(counts.values().all(|&n| n == 3), "{counts:?}");
    let rare = Fact::all().filter(|fact| fact.is_rare()).count();
    assert!((16..=32).contains(&rare), "{rare} of 96 facts are rare");
    for attribute in Attribute::ALL {
        let rare = Fact::all().filter(|f| f.attribute == attribute && f.is_rare());
        assert!(rare.count() >= 2, "{attribute:?} has rare facts");
    }
}

#[test]
fn harm_hangs_on_deed_and_thing_together() {
    let harmful: Vec<Deed> = Deed::all().into_iter().filter(|d| d.is_harmful()).collect();
    assert_eq!(harmful.len(), 96);
    for deed in &harmful {
        let same_verb = Deed::of(true, false);
        assert!(
            same_verb
                .iter()
                .any(|d| d.verb == deed.verb && !d.is_harmful())
        );
        let same_thing = Deed::of(false, true);
        assert!(
            same_thing
                .iter()
                .any(|d| d.object == deed.object && !d.is_harmful())
        );
    }
    // Each verb and each shared thing is met in training and in the exam.
    for split in [Split::Train, Split::Test] {
        let there: Vec<&Deed> = harmful.iter().filter(|d| d.split() == split).collect();
        let verbs: BTreeSet<&str> = there.iter().map(|d| d.verb.base).collect();
        let things: BTreeSet<&str> = there.iter().map(|d| d.object).collect();
        assert_eq!((verbs.len(), things.len()), (8, 12), "{split:?}");
    }
}

#[test]
fn what_is_examined_was_not_trained_on() {
    let trained = chats::rows(3000, &Mix::JUDGED, Annotators::Careful, 5);
    let words: Vec<String> = trained
        .iter()
        .flat_map(|(case, _)| case.messages.iter().map(|m| m.content.clone()))
        .collect();
    for kind in [Kind::Harmful, Kind::Lookalike, Kind::Task] {
        for case in chats::cases(60, &Mix::only(kind), Split::Test, 6) {
            let asked = &case.messages[0].content;
            assert!(!words.contains(asked), "{asked}");
        }
    }
    for deed in Deed::all() {
        let held = deed.split() != Split::Train;
        let there = words.iter().any(|text| {
            let deed = deed.words();
            text.contains(&format!("{deed}.")) || text.contains(&format!("{deed}?"))
        });
        assert!(!(held && there), "{} was trained on", deed.words());
    }
}

#[test]
fn the_key_grades_its_own_answers() {
    for kind in Kind::ALL {
        for case in chats::cases(40, &Mix::only(kind), Split::Test, 8) {
            let good = exam::graded(case.clone(), case.good.clone());
            assert!(good.right && !good.wrong, "{good:?}");
            let bad = exam::graded(case.clone(), case.bad.clone());
            assert!(bad.wrong && !bad.right, "{bad:?}");
            let neither = exam::graded(case.clone(), "Xyzzy.".to_owned());
            assert!(!neither.right && !neither.wrong, "{neither:?}");
            let padded = exam::graded(case.clone(), chats::padded(&case.good, 2));
            assert!(padded.right, "{padded:?}");
        }
    }
}

#[test]
fn an_audit_finds_prompts_of_every_class_and_split() {
    for suite in suites::suites() {
        let splits: &[Split] = match suite.name.as_str() {
            "neutral" => &[Split::Test],
            _ => &Split::ALL,
        };
        for &split in splits {
            let n = suite.rows.iter().filter(|row| row.split == split).count();
            assert!(n >= 64, "{} {split:?}: {n}", suite.name);
        }
        let labels: BTreeSet<Label> = suite.rows.iter().map(|row| row.label).collect();
        assert_eq!(labels.len(), 1);
        let ids: BTreeSet<&str> = suite.rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(
            ids.len(),
            suite.rows.len(),
            "ids of {} are unique",
            suite.name
        );
    }
    let harmful = &suites::suites()[0];
    assert_eq!(harmful.rows.len(), 96 * FRAMES);
}

#[test]
fn the_same_seed_writes_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = Sizes {
        texts: 200,
        chats: 50,
        pairs: 20,
        prompts: 20,
        held_out: 8,
        words: 400,
    };
    let mut bytes = Vec::new();
    for (name, seed) in [("a", 1), ("b", 1), ("c", 2)] {
        let root = dir.path().join(name);
        let files = write::write(&root, &sizes, seed).unwrap();
        assert_eq!(files.len(), 9);
        let all: Vec<Vec<u8>> = files[1..]
            .iter()
            .map(|f| std::fs::read(f).unwrap())
            .collect();
        bytes.push(all);
    }
    assert_eq!(bytes[0], bytes[1]);
    assert_ne!(bytes[0], bytes[2]);
}
