//! Labelled text through a model into probes: what is read, who trains and who tests, what a sweep finds, what is refused.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use candlescope::hooks::{HookPoint, Hooks, Point};
use candlescope::model::{Batch, Checkpoint, LogitsAt};
use candlescope::probing::file::{About, Calibrated, ProbeFile, load, save};
use candlescope::probing::transfer::carry;
use candlescope::probing::{
    Fitting, HarvestOptions, Labelled, Parts, Place, Plan, Position, ProbingError, Splits, Sweep,
    SweepOptions, encode, harvest, sweep,
};
use candlescope_probes::Score;
use ndarray::Axis;

fn toy() -> Checkpoint {
    Checkpoint::toy(0).unwrap()
}

fn write(folder: &Path, lines: &str) -> PathBuf {
    let file = folder.join("rows.jsonl");
    std::fs::write(&file, lines).unwrap();
    file
}

fn read(lines: &str) -> Result<Labelled, ProbingError> {
    let folder = tempfile::tempdir().unwrap();
    Labelled::from_jsonl(&write(folder.path(), lines))
}

fn refusal(lines: &str) -> String {
    read(lines).unwrap_err().to_string()
}

const FILLER: [&str; 12] = [
    "red", "blue", "green", "black", "house", "river", "mountain", "city", "night", "paper",
    "story", "father",
];

/// `n` prompts about filler words, the class told by a word in front of the last one; topics and words are balanced.
fn rows(n: usize) -> String {
    let mut lines = String::new();
    for i in 0..n {
        let (a, b, c) = (
            FILLER[i % 12],
            FILLER[(i / 12) % 12],
            FILLER[(i * 7 + 3) % 12],
        );
        let (label, word) = if i * 5 % 9 < 4 {
            (true, "fire")
        } else {
            (false, "sea")
        };
        let _ = writeln!(
            lines,
            "{{\"text\": \"{a} {b} {c} item{i} {word}\", \"label\": {label}, \"topic\": \"{c}\"}}"
        );
    }
    lines
}

fn swept(model: &Checkpoint, data: &Labelled, options: &SweepOptions) -> Sweep {
    let positive = data.positive(None).unwrap();
    let splits = Splits::of(data, positive, 0).unwrap();
    let positions = [Position::FromEnd(1), Position::FromEnd(3), Position::Mean];
    let plan = Plan::new(&["embed", "resid_post.*"], &positions, model.config()).unwrap();
    let encoded = encode(model, &data.rows).unwrap();
    let read = harvest(&model.decoder, &encoded, &plan, &HarvestOptions::default()).unwrap();
    sweep(data, positive, &splits, &encoded, &read, options).unwrap()
}

#[test]
fn rows_of_three_forms_are_read_and_what_is_wrong_is_named_by_line() {
    let data = read(
        "{\"text\": \"a\", \"label\": \"x\"}\n\n{\"prompt\": \"b\", \"system\": \"s\", \"label\": \"y\", \"group\": 3}\n\
         {\"id\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"c\"}], \"label\": \"x\", \"split\": \"test\"}\n",
    )
    .unwrap();
    assert_eq!(data.classes, ["x", "y"]);
    assert_eq!(data.rows[1].group.as_deref(), Some("3"));
    assert_eq!(
        (data.rows[1].id.as_str(), data.rows[2].id.as_str()),
        ("line 3", "m")
    );
    assert_eq!(data.labels(0), [true, false, true]);

    let one = "{\"text\": \"a\", \"label\": 1}\n";
    for (line, expected) in [
        ("{\"text\": \"a\"}", ":2: no `label`"),
        ("{\"text\": \"a\", \"label\": true}", "labels of two kinds"),
        (
            "{\"text\": \"a\", \"prompt\": \"b\", \"label\": 0}",
            "exactly one of",
        ),
        ("{\"text\": \" \", \"label\": 0}", "blank"),
        (
            "{\"text\": \"a\", \"label\": 0, \"splt\": \"test\"}",
            "unknown field `splt`",
        ),
        ("{\"text\": \"a\", \"label\": []}", "`label`: expected"),
        (
            "{\"text\": \"a\", \"label\": 0, \"id\": \"line 1\"}",
            "was given on line 1",
        ),
        ("[1", ":2:"),
    ] {
        let found = refusal(&format!("{one}{line}\n"));
        assert!(found.contains(expected), "{line}: {found}");
    }
    assert!(refusal(&one.repeat(3)).contains("one class only"));
    assert!(refusal("\n").contains("no rows"));
}

#[test]
fn the_positive_class_is_named_usual_or_last() {
    let of = |a: &str, b: &str| {
        read(&format!(
            "{{\"text\": \"a\", \"label\": {a}}}\n{{\"text\": \"b\", \"label\": {b}}}\n"
        ))
        .unwrap()
    };
    let name = |data: &Labelled, named| data.positive(named).map(|p| data.classes[p].clone());
    assert_eq!(name(&of("true", "false"), None).unwrap(), "true");
    assert_eq!(
        name(&of("\"harmful\"", "\"safe\""), None).unwrap(),
        "harmful"
    );
    assert_eq!(name(&of("\"cats\"", "\"dogs\""), None).unwrap(), "dogs");
    assert_eq!(name(&of("0", "1"), Some("0")).unwrap(), "0");
    assert!(name(&of("0", "1"), Some("2")).is_err());
}

#[test]
fn what_is_nearly_the_same_never_straddles_splits() {
    let mut lines = rows(120);
    // Each row again in other letters and with other signs, and once with one more word.
    for (i, line) in rows(120).lines().enumerate() {
        let shout = line.replace("item", "ITEM").replace(" item", ", item");
        lines += &shout.replacen("\"text\": \"", "\"text\": \"...", 1);
        let _ = writeln!(lines);
        if i % 10 == 0 {
            lines += &line.replacen(" item", " please item", 1);
            let _ = writeln!(lines);
        }
    }
    let data = read(&lines).unwrap();
    let splits = Splits::of(&data, 1, 0).unwrap();
    let place = |i: usize| {
        [&splits.train, &splits.validation, &splits.test]
            .iter()
            .position(|s| s.contains(&i))
    };
    for i in 0..120 {
        let again = data.rows.iter().enumerate().skip(120);
        let tag = format!("item{i} ");
        for (j, row) in again.filter(|(_, r)| r.content.words().to_lowercase().contains(&tag)) {
            assert_eq!(place(i), place(j), "{i} and {j}: {}", row.content.words());
        }
    }
    assert_eq!(
        splits.train.len() + splits.validation.len() + splits.test.len(),
        data.rows.len()
    );
    // A row keeps its place when others go.
    let fewer = read(&rows(100)).unwrap();
    let there = Splits::of(&fewer, 1, 0).unwrap();
    assert!(there.train.iter().all(|i| splits.train.contains(i)));
}

#[test]
fn straddling_contradicting_and_small_data_are_refused() {
    let split = |lines: &str| {
        Splits::of(&read(lines).unwrap(), 1, 0)
            .unwrap_err()
            .to_string()
    };
    let row = |text: &str, label: bool, split: &str| {
        format!("{{\"text\": \"{text}\", \"label\": {label}, \"split\": \"{split}\"}}\n")
    };
    let straddling =
        row("one two", true, "train") + &row("One, two!", true, "test") + &row("b", false, "test");
    let found = split(&straddling);
    assert!(
        found.contains("`line 1` (train) and `line 2` (test)"),
        "{found}"
    );
    let contradicting = row("one two", true, "train") + &row("One two", false, "train");
    assert!(split(&contradicting).contains("different labels"));
    let mixed = row("one", true, "train") + "{\"text\": \"two\", \"label\": false}\n";
    assert!(split(&mixed).contains("all rows or to none"));
    let small = row("one", true, "train") + &row("two", false, "test");
    let found = split(&small);
    assert!(
        found.contains("train split: 1 items of class `true`, at least 5"),
        "{found}"
    );
    let grouped = "{\"text\": \"one\", \"label\": true, \"split\": \"train\", \"group\": \"g\"}\n\
                   {\"text\": \"two\", \"label\": false, \"split\": \"test\", \"group\": \"g\"}\n";
    assert!(split(grouped).contains("the same group"));
}

#[test]
fn built_in_suites_are_split_as_they_say() {
    let data = Labelled::suites(&["harmful", "harmless"]).unwrap();
    let positive = data.positive(None).unwrap();
    assert_eq!(data.classes[positive], "harmful");
    let splits = Splits::of(&data, positive, 0).unwrap();
    assert!(splits.given);
    assert_eq!(
        (
            splits.train.len(),
            splits.validation.len(),
            splits.test.len()
        ),
        (256, 128, 256)
    );
    assert!(
        Labelled::suites(&["harmful"])
            .unwrap_err()
            .to_string()
            .contains("one class only")
    );
    assert!(Labelled::suites(&["harmful", "nothing"]).is_err());
}

#[test]
fn a_harvest_is_what_single_passes_give() {
    let model = toy();
    let data = read(
        "{\"prompt\": \"the cat sat\", \"label\": 0}\n{\"prompt\": \"red blue green red\", \"label\": 1}\n\
         {\"text\": \"a dog\", \"label\": 1}\n{\"messages\": [{\"role\": \"user\", \"content\": \"Paris\"}], \"label\": 0}\n",
    )
    .unwrap();
    let encoded = encode(&model, &data.rows).unwrap();
    // The content of a chat prompt is the prompt: its tokens decode to it.
    let content = |i: usize| {
        let range = encoded[i].range(Position::Content).unwrap();
        model
            .tokenizer
            .decode(&encoded[i].ids[range], false)
            .unwrap()
    };
    assert_eq!(
        (content(0).as_str(), content(1).as_str()),
        ("the cat sat", "red blue green red")
    );
    assert_eq!(
        (content(2).as_str(), content(3).as_str()),
        ("a dog", "Paris")
    );
    let positions = [
        Position::FromEnd(1),
        Position::FromEnd(2),
        Position::InstructionEnd,
        Position::Mean,
        Position::Content,
    ];
    let points = ["resid_post.*", "z.1", "mlp_act.0", "attn_out.2"];
    for chosen in [&positions[..], &positions[..3]] {
        let plan = Plan::new(&points, chosen, model.config()).unwrap();
        let options = HarvestOptions {
            batch: 3,
            ..HarvestOptions::default()
        };
        let found = harvest(&model.decoder, &encoded, &plan, &options).unwrap();
        for (place, x) in found.places.iter().zip(&found.data) {
            for (i, row) in encoded.iter().enumerate() {
                let hooks = Hooks::new().capture(place.point);
                let batch = Batch::single(&row.ids).unwrap();
                let out = model
                    .decoder
                    .forward(&batch, &hooks, LogitsAt::None)
                    .unwrap();
                let all = out.captured[&place.point]
                    .squeeze(0)
                    .unwrap()
                    .flatten_from(1)
                    .unwrap();
                let all = all.to_vec2::<f32>().unwrap();
                let range = row.range(place.position).unwrap();
                for (k, &value) in x.row(i).iter().enumerate() {
                    let sum: f64 = all[range.clone()].iter().map(|t| f64::from(t[k])).sum();
                    let mean = sum / range.len() as f64;
                    assert!(
                        (f64::from(value) - mean).abs() < 1e-5,
                        "{place}: {value} {mean}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let model = toy();
    let plan = |points: &[&str]| Plan::new(points, &[Position::FromEnd(1)], model.config());
    assert!(
        plan(&["pattern.0"])
            .unwrap_err()
            .to_string()
            .contains("pattern.0")
    );
    assert!(plan(&["resid_post.9"]).is_err());
    assert!(plan(&[]).is_err());
    assert!("-0".parse::<Position>().is_err() && "first".parse::<Position>().is_err());
    assert_eq!("-3".parse::<Position>().unwrap().to_string(), "-3");
    let data = read("{\"text\": \"a\", \"label\": 0}\n{\"text\": \"b\", \"label\": 1}\n").unwrap();
    let encoded = encode(&model, &data.rows).unwrap();
    let far = Plan::new(&["resid_post.0"], &[Position::FromEnd(40)], model.config()).unwrap();
    let run = |plan: &Plan, memory: u64| {
        let options = HarvestOptions {
            memory,
            ..HarvestOptions::default()
        };
        harvest(&model.decoder, &encoded, plan, &options)
            .unwrap_err()
            .to_string()
    };
    assert!(run(&far, 1 << 30).contains("no 40-th token from the end"));
    assert!(run(&plan(&["resid_post.*"]).unwrap(), 100).contains("raise --memory-gb"));
}

#[test]
fn a_sweep_finds_the_planted_word_where_it_is_and_not_where_it_is_not() {
    let model = toy();
    let data = read(&rows(240)).unwrap();
    let options = SweepOptions {
        shuffles: 8,
        controls: 3,
        ..SweepOptions::default()
    };
    let found = swept(&model, &data, &options);
    let at = |point: HookPoint, position| {
        let place = Place { point, position };
        found.cells.iter().find(|c| c.place == place).unwrap()
    };
    let embed = HookPoint::new(Point::Embed, 0);
    // The class is the last word: there, and in the mean, from the embedding on; two tokens before it there is nothing.
    assert_eq!(at(embed, Position::FromEnd(1)).test.auroc.value, 1.0);
    assert_eq!(
        at(embed, Position::FromEnd(1))
            .test
            .recall_at_fpr
            .recall
            .rate,
        1.0
    );
    let before = &at(embed, Position::FromEnd(3)).test.auroc;
    assert!(before.interval.low < 0.5, "{before:?}");
    let baseline = |name: &str| {
        found
            .baselines
            .iter()
            .find(|b| b.name == name)
            .unwrap()
            .auroc
            .value
    };
    assert_eq!(baseline("bag of words"), 1.0);
    assert_eq!(found.cells[found.chosen].validation.value, 1.0);
    assert!(found.choice_null.as_ref().unwrap().p_upper <= 0.34);
    assert_eq!(found.control_types, "topic");
    assert!(found.cells[0].control.unwrap() > 0.0);
    assert_eq!(found.n.iter().sum::<usize>(), 240);
    // The same again, to the bit.
    assert_eq!(swept(&model, &data, &options), found);
}

#[test]
fn a_test_row_changes_no_choice() {
    let model = toy();
    let data = read(&rows(240)).unwrap();
    let options = SweepOptions {
        shuffles: 0,
        controls: 0,
        ..SweepOptions::default()
    };
    let found = swept(&model, &data, &options);
    // Test labels upside down: the same probes, the same choice, AUROCs mirrored.
    let splits = Splits::of(&data, 1, 0).unwrap();
    let mut turned = data.clone();
    for &i in &splits.test {
        turned.rows[i].label = turned.rows[i].label.map(|l| 1 - l);
    }
    let other = swept(&model, &turned, &options);
    assert_eq!(other.chosen, found.chosen);
    for (a, b) in found.cells.iter().zip(&other.cells) {
        assert_eq!(
            (&a.probe, a.threshold, a.validation),
            (&b.probe, b.threshold, b.validation)
        );
        assert!((a.test.auroc.value + b.test.auroc.value - 1.0).abs() < 1e-12);
    }
}

fn kept(model: &Checkpoint) -> ProbeFile {
    let data = read(&rows(240)).unwrap();
    let options = SweepOptions {
        shuffles: 0,
        controls: 0,
        ..SweepOptions::default()
    };
    let mut found = swept(model, &data, &options);
    let cell = found.cells.swap_remove(found.chosen);
    let probe = cell.probe.unwrap();
    ProbeFile {
        about: About {
            model: model.name.clone(),
            fingerprint: model.fingerprint().unwrap().clone(),
            place: cell.place,
            fitting: Fitting::default(),
            c: probe.c,
            bias: probe.bias,
            calibrated: Calibrated {
                platt: cell.platt,
                isotonic: None,
            },
            threshold: cell.threshold,
            data: data.name.clone(),
            data_hash: data.hash.clone(),
            n: found.n,
            positive: found.positive.clone(),
            classes: data.classes.clone(),
            test: cell.test,
            pairs: None,
        },
        probe,
    }
}

#[test]
fn what_is_saved_is_loaded_and_fits_only_where_it_was_made() {
    let model = toy();
    let probe = kept(&model);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.safetensors");
    save(&file, &probe).unwrap();
    let back = load(&file).unwrap();
    assert_eq!(back.about, probe.about);
    let x = ndarray::Array2::<f32>::from_shape_fn((5, probe.probe.weights.len()), |(i, j)| {
        ((i * 31 + j * 7) % 13) as f32 * 0.1
    });
    let (before, after) = (
        probe.probe.scores(x.view()).unwrap(),
        back.probe.scores(x.view()).unwrap(),
    );
    for (a, b) in before.iter().zip(after) {
        assert!((a - b).abs() < 1e-4 * a.abs().max(1.0), "{a} {b}");
    }
    back.fits(&file, &model, false).unwrap();
    let other = Checkpoint::toy(7).unwrap();
    let refused = back.fits(&file, &other, false).unwrap_err().to_string();
    assert!(refused.contains("weights"), "{refused}");
    back.fits(&file, &other, true).unwrap();
    let mut narrow = back.clone();
    narrow.probe.weights.pop();
    let refused = narrow.fits(&file, &model, true).unwrap_err().to_string();
    assert!(refused.contains("numbers"), "{refused}");
    std::fs::write(&file, b"not a probe").unwrap();
    assert!(load(&file).is_err());
}

#[test]
fn realigning_recovers_a_stream_that_only_moved_and_stretched() {
    let model = toy();
    let data = read(&rows(240)).unwrap();
    let labels = data.labels(1);
    let splits = Splits::of(&data, 1, 0).unwrap();
    let fitting = Fitting {
        c: Some(1.0),
        ..Fitting::default()
    };
    let parts = Parts::of(&splits, &labels, &fitting).unwrap();
    let plan = Plan::new(&["resid_post.1"], &[Position::Mean], model.config()).unwrap();
    let encoded = encode(&model, &data.rows).unwrap();
    let x = harvest(&model.decoder, &encoded, &plan, &HarvestOptions::default())
        .unwrap()
        .data
        .remove(0);
    let train = x.select(Axis(0), &parts.train);
    let y: Vec<bool> = parts.train.iter().map(|&i| labels[i]).collect();
    let old = candlescope_probes::linear::fit(
        fitting.kind,
        train.view(),
        &y,
        candlescope_probes::linear::ChooseC::Fixed(1.0),
    )
    .unwrap();
    let same = carry(&old, x.view(), &labels, &parts, &fitting).unwrap();
    assert_eq!(same.frozen.value, same.refitted.value);
    assert_eq!((same.gap.difference, same.gap.p_value), (0.0, 1.0));
    // Each feature stretched by another factor, all moved: re-aligned without labels it is what it was.
    let stretched =
        ndarray::Array2::from_shape_fn(x.raw_dim(), |(i, j)| x[[i, j]] * (1.0 + j as f32) + 3.0);
    let moved = carry(&old, stretched.view(), &labels, &parts, &fitting).unwrap();
    assert!(
        (moved.realigned.value - same.frozen.value).abs() < 1e-3,
        "{moved:?}"
    );
    assert!(moved.gap.difference.abs() < 1e-3);
    let wide = ndarray::Array2::<f32>::zeros((240, 3));
    assert!(carry(&old, wide.view(), &labels, &parts, &fitting).is_err());
}
