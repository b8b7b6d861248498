//! Learned directions, and searching for a weight edit on the toy: it goes on as if it had not been stopped, cuts nothing short that could have counted,
//! measures what plain passes measure, and what it finds is what is baked.
// What was measured is printed for whoever runs with --nocapture.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod command;
mod learned;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::DType;
use candlescope::hooks::{Hooks, Vector};
use candlescope::model::{Batch, Checkpoint, LogitsAt};
use candlescope::steer::grid_file::Key;
use candlescope::steer::search::{
    Bench, Journal, Judged, Prompts, Sampler, SearchError, Series, Settings, Sizes, Space, Trial,
    best_of, dominates, search, tested,
};
use candlescope::steer::{
    Completion, EncodedPrompt, Options, RefusalTokens, SteerError, completions, encode_all, kl,
    random_directions, refusal_scores, refusal_tokens,
};
use candlescope::text::suites::{PromptRow, Suite};

/// The first rows of a suite, encoded.
fn prompts(cp: &Checkpoint, suite: &str, n: usize) -> Vec<EncodedPrompt> {
    let rows = Suite::builtin(suite).unwrap().rows;
    encode_all(cp, &rows.iter().take(n).collect::<Vec<&PromptRow>>()).unwrap()
}

struct Material {
    cp: Checkpoint,
    tokens: RefusalTokens,
    harmful: Vec<EncodedPrompt>,
    harmless: Vec<EncodedPrompt>,
    lookalike: Vec<EncodedPrompt>,
    space: Space,
    floor: Option<f64>,
}

impl Material {
    fn new() -> Self {
        let cp = Checkpoint::toy(0).unwrap();
        let drawn = random_directions(4, cp.config().d_model, 5).unwrap();
        // Two series of two layers each, the second by hand of other lengths.
        let long = |v: &Vector| -> Vector { v.iter().map(|x| 3.0 * x).collect::<Vec<_>>().into() };
        let series = |name: &str, a: &Vector, b: &Vector| Series {
            name: name.into(),
            directions: vec![(1, a.clone()), (3, b.clone())],
        };
        let all = vec![
            series("a", &drawn[0], &drawn[1]),
            series("b", &long(&drawn[2]), &drawn[3]),
        ];
        Self {
            tokens: refusal_tokens(&cp).unwrap(),
            harmful: prompts(&cp, "harmful", 8),
            harmless: prompts(&cp, "harmless", 7),
            lookalike: prompts(&cp, "lookalike", 2),
            space: Space::new(all, cp.config()).unwrap(),
            floor: Some(-18.0),
            cp,
        }
    }

    fn bench<'a>(&'a self, cancel: Option<&'a AtomicBool>) -> Bench<'a> {
        let prompts = Prompts {
            harmful: &self.harmful,
            harmful_words: &[],
            harmless: &self.harmless,
            lookalike: &self.lookalike,
        };
        let options = Options {
            batch: 3,
            progress: None,
            cancel,
        };
        let sizes = Sizes {
            continuation: 4,
            max_new: 3,
            answers: 2,
        };
        Bench::new(
            &self.cp,
            &self.tokens,
            prompts,
            (sizes, self.floor),
            &judge,
            options,
        )
        .unwrap()
    }
}

/// Whatever can be told of an answer without a detector.
fn judge(_: Option<&str>, answer: &Completion) -> Judged {
    Judged {
        refused: answer.ids.len() == 3,
        loops: answer.ids.windows(2).any(|pair| pair[0] == pair[1]),
    }
}

fn key() -> Key {
    Key {
        schema: "s".into(),
        weights: "w".into(),
        tokenizer: "t".into(),
        template: String::new(),
        prompts: "p".into(),
        settings: serde_json::json!(1),
    }
}

fn settings(trials: usize) -> Settings {
    Settings {
        trials,
        sampler: Sampler {
            startup: 6,
            draws: 16,
            seed: 2,
        },
    }
}

/// All trials of a search that nobody stopped.
fn uninterrupted(material: &Material, folder: &std::path::Path, trials: usize) -> Vec<Trial> {
    let mut journal = Journal::open(folder, &key()).unwrap();
    let bench = material.bench(None);
    search(
        &bench,
        &material.space,
        &settings(trials),
        &mut journal,
        &mut |_| {},
    )
    .unwrap();
    journal.trials().to_vec()
}

#[test]
fn a_search_that_was_stopped_goes_on_as_if_it_had_not_been() {
    let material = Material::new();
    let folder = tempfile::tempdir().unwrap();
    let expected = uninterrupted(&material, &folder.path().join("whole"), 16);
    assert_eq!(expected.len(), 16);
    // The sampler is in use, and proposals are not all alike.
    assert!(expected[10..].windows(2).all(|t| t[0].point != t[1].point));

    let stopped = folder.path().join("stopped");
    for most in [3, 9, 16] {
        let mut journal = Journal::open(&stopped, &key()).unwrap();
        let cancel = AtomicBool::new(false);
        let bench = material.bench(Some(&cancel));
        let seen = Cell::new(journal.trials().len());
        let found = search(
            &bench,
            &material.space,
            &settings(16),
            &mut journal,
            &mut |_| {
                seen.set(seen.get() + 1);
                cancel.store(seen.get() == most, Ordering::Relaxed);
            },
        );
        if most < 16 {
            let why = found.unwrap_err();
            assert!(matches!(why, SearchError::Steer(SteerError::Interrupted)));
            // A kill in the middle of a line.
            let path = stopped.join("trials.jsonl");
            let mut text = std::fs::read_to_string(&path).unwrap();
            text.push_str("{\"kind\":\"trial\",\"num");
            std::fs::write(&path, text).unwrap();
        } else {
            found.unwrap();
        }
    }
    let read = |name: &str| std::fs::read(folder.path().join(name).join("trials.jsonl")).unwrap();
    assert_eq!(read("stopped"), read("whole"));
    let other = Key {
        settings: serde_json::json!(2),
        ..key()
    };
    let error = Journal::open(&stopped, &other).unwrap_err().to_string();
    assert!(error.contains("other settings"), "{error}");
}

#[test]
fn nothing_is_cut_short_that_could_have_come_onto_the_front() {
    // With nothing to remove, divergence decides alone; else both.
    let mut material = Material::new();
    let (mut cut, mut bounds) = (0, 0);
    for floor in [Some(18.0), None] {
        material.floor = floor;
        let folder = tempfile::tempdir().unwrap();
        let trials = uninterrupted(&material, folder.path(), 16);
        let bench = material.bench(None);
        let values = |trial: &Trial| trial.measured.values(bench.floor(), bench.counts());
        for (at, trial) in trials.iter().enumerate() {
            let cp = bench.checkpoint();
            let edit = material.space.edit(&trial.point, cp.config()).unwrap();
            let edits = edit.hooks(&cp.decoder).unwrap().unwrap();
            let (measured, extras) = bench.whole(&Hooks::new().edits(edits)).unwrap();
            if trial.whole() {
                // In one go or in parts: the same bits.
                assert_eq!(measured, trial.measured);
                assert_eq!(Some(extras), trial.extras);
                continue;
            }
            cut += 1;
            let whole = measured.values(bench.floor(), bench.counts());
            let least = values(trial);
            assert!(least[0] <= whole[0] && least[1] <= whole[1]);
            bounds += usize::from(least != whole);
            let mut before = trials[..at].iter().filter(|t| t.whole());
            assert!(before.any(|t| dominates(values(t), whole)));
        }
    }
    assert!(cut > 1 && bounds > 1, "{cut} {bounds}");
}

#[test]
fn divergence_is_that_of_plain_passes_over_the_unedited_answer() {
    let material = Material::new();
    let bench = material.bench(None);
    let cp = &material.cp;
    let edit = material
        .space
        .edit(&material.space.uniform(), cp.config())
        .unwrap();
    let edits = edit.hooks(&cp.decoder).unwrap().unwrap();
    let hooks = Hooks::new().edits(edits);
    let (measured, extras) = bench.whole(&hooks).unwrap();
    let none = Hooks::new();
    let (plain, _) = bench.whole(&none).unwrap();
    assert!(plain.kl.iter().all(|kl| *kl < 1e-9), "{:?}", plain.kl);
    let said = completions(cp, &material.harmless, 4, &none, &Options::default()).unwrap();
    for ((prompt, answer), found) in material.harmless.iter().zip(&said).zip(&measured.kl) {
        let ids = [&prompt.ids[..], &answer.ids[..]].concat();
        let logits = |hooks: &Hooks| -> Vec<Vec<f32>> {
            let batch = Batch::single(&ids).unwrap();
            let out = cp.decoder.forward(&batch, hooks, LogitsAt::All).unwrap();
            let all = out.logits().unwrap().to_dtype(DType::F32).unwrap();
            all.to_vec3::<f32>().unwrap().remove(0)
        };
        let (base, edited) = (logits(&none), logits(&hooks));
        let places = prompt.ids.len() - 1..ids.len() - 1;
        let each: Vec<f64> = places.map(|at| kl(&base[at], &edited[at])).collect();
        assert_eq!(each.len(), answer.ids.len());
        let expected = each.iter().sum::<f64>() / each.len() as f64;
        assert!(
            (found - expected).abs() < 1e-4 * expected.max(1e-3),
            "{found} {expected}"
        );
        assert!(expected > 1e-6, "the edit does nothing");
    }
    let answers = extras.answers.unwrap();
    assert_eq!((answers.harmful, answers.harmless), (2, 2));
    assert_eq!(extras.lookalike.len(), 2);
}

#[test]
fn weights_baked_with_the_amounts_found_do_what_was_searched() {
    let material = Material::new();
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path(), &key()).unwrap();
    let bench = material.bench(None);
    let how = settings(10);
    search(&bench, &material.space, &how, &mut journal, &mut |_| {}).unwrap();
    let best = best_of(&bench, &journal);
    assert!(!best.is_empty());
    let seen = Cell::new(0);
    let mut count = || seen.set(seen.get() + 1);
    tested(&best, &bench, &material.space, &mut journal, &mut count).unwrap();
    assert_eq!(seen.get(), best.len());
    for &number in &best {
        let trial = journal.trials()[number].clone();
        // Tested here on the prompts of the search itself: the same numbers.
        assert_eq!(journal.test(number).unwrap().0, &trial.measured);
        let cp = &material.cp;
        let edit = material.space.edit(&trial.point, cp.config()).unwrap();
        let baked = edit.apply(&cp.decoder).unwrap();
        let none = Hooks::new();
        let options = Options::default();
        let found =
            refusal_scores(&baked, &material.harmful, &none, &material.tokens, &options).unwrap();
        let plain = bench.unedited().0;
        for ((a, b), c) in found.iter().zip(&trial.measured.scores).zip(&plain.scores) {
            assert!((a - b).abs() < 1e-3, "{a} {b}, unedited {c}");
        }
        assert_ne!(trial.measured.scores, plain.scores);
    }
}
