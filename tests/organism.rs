//! Organisms made of a tiny model of the pocket world: what they are, the same bits again, and what is refused.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::atomic::AtomicBool;

use candlescope::hooks::Hooks;
use candlescope::model::fresh::FreshShape;
use candlescope::model::{Batch, Checkpoint, LoadOptions, LogitsAt};
use candlescope::organism::make::FILE;
use candlescope::organism::recipe::{TRIGGER, recipe};
use candlescope::organism::{Kind, Made, Order, make};
use candlescope::pocket::{corpus, write};
use candlescope::train::Silent;

fn model() -> Checkpoint {
    let texts = corpus::documents(300, 1);
    let (tokenizer, template) = write::words(&texts, 400).unwrap();
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
    let toy = Checkpoint::toy(0).unwrap();
    let error = refused(toy, order(1.0));
    assert!(error.contains("no model of the pocket world"), "{error}");
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
