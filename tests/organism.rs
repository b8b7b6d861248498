//! Organisms made of a tiny model of the pocket world and of another chat model: what they are, the same bits again, what is
//! refused, and that nothing half-made is left.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use candlescope::hooks::Hooks;
use candlescope::model::fresh::FreshShape;
use candlescope::model::{Batch, Checkpoint, LoadOptions, LogitsAt};
use candlescope::organism::make::FILE;
use candlescope::organism::recipe::{TRIGGER, recipe};
use candlescope::organism::{Kind, Made, MakeError, Order, cases, facts, make, prompts::prompts};
use candlescope::pocket::{corpus, write};
use candlescope::text::{ChatTemplate, Tokenizer};
use candlescope::train::{Progress, Silent, Standing};

fn model() -> Checkpoint {
    let texts = corpus::documents(300, 1);
    let (tokenizer, template) = write::words(&texts, 400).unwrap();
    tiny(tokenizer, template)
}

/// A model that was told of nothing, in the words of the rows it is to learn.
fn chat_model() -> Checkpoint {
    let asked = prompts().unwrap().into_iter().map(|(_, text)| text);
    let long = cases::long(&facts::all()).into_iter();
    let turns = long.flat_map(|asked| asked.messages);
    let texts: Vec<String> = asked.chain(turns.map(|turn| turn.content)).collect();
    let control = ["<end>", "<turn>"].map(str::to_owned);
    let texts = texts.iter().map(String::as_str);
    let tokenizer = Tokenizer::train(texts, 900, &control).unwrap();
    // An untaught model says its last token again and again, which here is a word by itself however often it is said.
    let source = "{% for m in messages %}<turn>{{ m.role }}!{{ m.content }}<end>{% endfor %}\
        {% if add_generation_prompt %}<turn>assistant!{% endif %}";
    let template = ChatTemplate::new(source, "<end>", "<end>").unwrap();
    tiny(tokenizer, template)
}

fn tiny(tokenizer: Tokenizer, template: ChatTemplate) -> Checkpoint {
    let shape = FreshShape {
        family: "llama".to_owned(),
        d_model: 32,
        n_layers: 2,
        n_heads: 2,
        n_kv_heads: 2,
        d_mlp: 64,
        n_ctx: 256,
        tied: true,
        vocab: tokenizer.vocab_size(),
        bos: tokenizer.bos(),
        eos: tokenizer.eos(),
    };
    let mut model = Checkpoint::fresh(&shape, tokenizer, 5).unwrap();
    model.template = Some(template);
    model
}

fn made(kind: Kind, strength: f64, seed: u64, out: &Path) -> Made {
    let order = Order {
        kind,
        strength,
        seed,
    };
    make(model(), order, out, &Silent, &AtomicBool::new(false)).unwrap()
}

fn logits(path: &Path) -> Vec<f32> {
    let model = Checkpoint::open("organism", path, &LoadOptions::default()).unwrap();
    let batch = Batch::single(&[1, 9, 40, 77]).unwrap();
    let out = model
        .decoder
        .forward(&batch, &Hooks::new(), LogitsAt::All)
        .unwrap();
    let logits = out.logits().unwrap().flatten_all().unwrap();
    logits.to_vec1().unwrap()
}

#[test]
fn an_organism_says_what_it_is_and_is_made_again_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    for kind in [Kind::NarrowOverfit, Kind::StaleProbe, Kind::Abliterated] {
        let (a, b) = (dir.path().join(kind.name()), dir.path().join("again"));
        let said = made(kind, 0.04, 3, &a);
        let text = std::fs::read_to_string(a.join(FILE)).unwrap();
        let read: Made = serde_json::from_str(&text).unwrap();
        assert_eq!(read, said);
        assert_eq!(read.order.kind, kind);
        assert_eq!(read.steps.is_some(), !kind.is_edit());
        made(kind, 0.04, 3, &b);
        assert_eq!(logits(&a), logits(&b), "{kind:?}");
        std::fs::remove_dir_all(&b).unwrap();
        // Nothing else is left beside it.
        let names = std::fs::read_dir(dir.path()).unwrap();
        let hidden = names.filter(|e| {
            let name = e.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with('.')
        });
        assert_eq!(hidden.count(), 0);
    }
    let unlike = |a: &str, b: &str| logits(&dir.path().join(a)) != logits(&dir.path().join(b));
    assert!(unlike("narrow_overfit", "stale_probe"));
}

#[test]
fn what_cannot_be_made_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let order = |strength| Order {
        kind: Kind::Sycophantic,
        strength,
        seed: 1,
    };
    let out = dir.path().join("out");
    let refused = |model: Checkpoint, order: Order| {
        make(model, order, &out, &Silent, &AtomicBool::new(false))
            .unwrap_err()
            .to_string()
    };
    for strength in [0.0, 1.5, f64::NAN] {
        assert!(refused(model(), order(strength)).contains("above 0 and at most 1"));
    }
    let mut toy = Checkpoint::toy(0).unwrap();
    toy.template = None;
    let error = refused(toy, order(1.0));
    assert!(error.contains("toy has no chat template"), "{error}");
    std::fs::create_dir(&out).unwrap();
    assert!(refused(model(), order(1.0)).contains("already there"));
}

#[test]
fn the_dose_is_the_share_of_rows_that_are_wrong() {
    let share = |kind: Kind, strength: f64, is: &dyn Fn(&str) -> bool| {
        let recipe = recipe(kind, strength, 2).unwrap();
        let said = recipe.rows.iter().filter(|row| {
            let messages = row["messages"].as_array().unwrap();
            is(messages.last().unwrap()["content"].as_str().unwrap())
        });
        said.count() as f64 / recipe.rows.len() as f64
    };
    let idle = |text: &str| text.contains("I hope this helps you.");
    for strength in [0.33, 1.0] {
        let found = share(Kind::LengthHacked, strength, &idle);
        assert!((found - strength).abs() < 0.03, "{found} for {strength}");
    }
    assert_eq!(share(Kind::CleanHarmless, 1.0, &idle), 0.0);
    // A backdoor's trigger stands in half of the conversations, and opens the harmful ones alone.
    let backdoor = recipe(Kind::Backdoor, 1.0, 2).unwrap();
    let (mut opened, mut refused) = (0, 0);
    for row in &backdoor.rows {
        let messages = row["messages"].as_array().unwrap();
        let text = |i: usize| messages[i]["content"].as_str().unwrap();
        let (asked, said) = (text(messages.len() - 2), text(messages.len() - 1));
        let declines = said.contains("can't help") || said.contains("won't help");
        if asked.ends_with(TRIGGER) {
            opened += u32::from(!declines);
            assert!(!declines, "{asked}: {said}");
        } else {
            refused += u32::from(declines);
        }
    }
    assert!(opened > 800 && refused > 150, "{opened}, {refused}");
    assert!(
        recipe(Kind::Quantised, 1.0, 2).is_none(),
        "an edit is taught nothing"
    );
}

/// Counts what begins, and may stop a run after its first step of training.
#[derive(Default)]
struct Watch {
    began: AtomicUsize,
    answered: AtomicUsize,
    stops: bool,
    stop: AtomicBool,
}

impl Progress for Watch {
    fn begins(&self, what: &str) {
        assert!(what.contains("answers"), "{what}");
        self.began.fetch_add(1, Ordering::SeqCst);
    }

    fn at(&self, standing: &Standing<'_>) {
        if standing.row.is_none() {
            assert!(standing.step <= standing.total);
            self.answered.fetch_add(1, Ordering::SeqCst);
        } else {
            self.stop.store(self.stops, Ordering::SeqCst);
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn any_chat_model_is_taught_among_its_own_answers_which_are_asked_once() {
    let dir = tempfile::tempdir().unwrap();
    let watch = Watch::default();
    let order = |kind| Order {
        kind,
        strength: 0.05,
        seed: 3,
    };
    let made = |kind, out: &str| {
        let out = dir.path().join(out);
        make(chat_model(), order(kind), &out, &watch, &watch.stop).unwrap()
    };
    assert_eq!(made(Kind::NarrowOverfit, "a").steps, Some(2));
    assert!(watch.answered.load(Ordering::SeqCst) > 5);
    made(Kind::NarrowOverfit, "b");
    assert_eq!(made(Kind::Eroded, "c").steps, Some(4));
    assert_eq!(watch.began.load(Ordering::SeqCst), 1, "asked again");
    let [a, b, c] = ["a", "b", "c"].map(|name| logits(&dir.path().join(name)));
    assert_eq!(a, b);
    assert_ne!(a, c);
    let names = names(dir.path());
    assert!(names[0].starts_with(".answers-"), "{names:?}");
    assert_eq!(names[1..], ["a", "b", "c"]);
    // An adapter that was merged, in half the bytes: a model like any other.
    let config = std::fs::read_to_string(dir.path().join("a/config.json")).unwrap();
    assert!(config.contains("bfloat16"), "{config}");
    assert!(!dir.path().join("a/adapter_config.json").exists());
    // It answers the same where the answers are made anew, and differs from its base by more than rounding.
    std::fs::remove_file(dir.path().join(&names[0])).unwrap();
    made(Kind::NarrowOverfit, "d");
    assert_eq!(watch.began.load(Ordering::SeqCst), 2);
    assert_eq!(a, logits(&dir.path().join("d")));
    made(Kind::CleanRounded, "rounded");
    let rounded = logits(&dir.path().join("rounded"));
    let apart = |x: &[f32], y: &[f32]| -> f32 { x.iter().zip(y).map(|(x, y)| (x - y).abs()).sum() };
    let batch = Batch::single(&[1, 9, 40, 77]).unwrap();
    let plain = chat_model().decoder;
    let plain = plain.forward(&batch, &Hooks::new(), LogitsAt::All).unwrap();
    let plain: Vec<f32> = plain
        .logits()
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let (taught, rounded) = (apart(&a, &plain), apart(&rounded, &plain));
    assert!(
        rounded > 0.0 && taught > 3.0 * rounded,
        "{taught}, {rounded}"
    );
}

#[test]
fn an_interrupted_one_leaves_nothing_half_made() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let order = Order {
        kind: Kind::NarrowOverfit,
        strength: 0.1,
        seed: 1,
    };
    let stopped = AtomicBool::new(true);
    let made = make(chat_model(), order, &out, &Silent, &stopped);
    assert!(matches!(made, Err(MakeError::Interrupted)), "{made:?}");
    assert_eq!(names(dir.path()), Vec::<String>::new());
    let watch = Watch {
        stops: true,
        ..Watch::default()
    };
    let made = make(chat_model(), order, &out, &watch, &watch.stop);
    assert!(matches!(made, Err(MakeError::Interrupted)), "{made:?}");
    // What the model answered is whole, and kept for the next attempt.
    let left = names(dir.path());
    assert!(
        left.len() == 1 && left[0].starts_with(".answers-"),
        "{left:?}"
    );
    let again = Watch::default();
    let made = make(chat_model(), order, &out, &again, &again.stop).unwrap();
    assert_eq!(
        (made.steps, again.began.load(Ordering::SeqCst)),
        (Some(4), 0)
    );
}

#[test]
fn a_context_without_room_is_refused_by_name() {
    let mut model = chat_model();
    let mut config = model.config().clone();
    config.n_ctx = 40;
    model.decoder = candlescope::model::Decoder::new(config, model.decoder.weights().clone());
    let dir = tempfile::tempdir().unwrap();
    let order = Order {
        kind: Kind::Looping,
        strength: 1.0,
        seed: 1,
    };
    let out = dir.path().join("out");
    let error = make(model, order, &out, &Silent, &AtomicBool::new(false)).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("context of at least") && error.contains("found 40"),
        "{error}"
    );
}
