//! `sae features`, `show`, `dashboard`, `import` and `export`: on the toy, with a dictionary made by hand.

use std::path::Path;

use candlescope_sae::{About, Activation, Dictionary, Parts, Scaling, format};
use ndarray::{Array1, Array2, Axis, concatenate};

use crate::binary::{json, ok, refused};

/// Two latents a channel, for what is above 0 and below.
pub fn parts(d: usize) -> Parts {
    let one = Array2::<f32>::eye(d);
    let both = concatenate![Axis(0), one, -&one];
    Parts {
        encoder: both.clone(),
        decoder: both,
        encoder_bias: Array1::zeros(2 * d),
        decoder_bias: Array1::zeros(d),
        centred: false,
        activation: Activation::Relu,
        skip: None,
        scaling: Scaling::None,
        about: About {
            model: Some("toy".into()),
            reads: vec!["resid_post.1".into()],
            context: Some(16),
            ..About::default()
        },
    }
}

pub fn written(parts: Parts, folder: &Path) -> String {
    format::write_saelens(&Dictionary::new(parts).unwrap(), folder, None).unwrap();
    folder.to_str().unwrap().to_owned()
}

fn text(folder: &Path) -> String {
    let path = folder.join("text.txt");
    let line = "the red house by the river and the blue city at night <script>alert(1)</script>\n";
    std::fs::write(&path, line.repeat(30)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn on<'a>(command: &'a str, sae: &'a str, text: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let words = ["sae", command, "toy", sae];
    let (latent, more) = match more.split_first() {
        Some((first, rest)) if !first.starts_with('-') => (Some(*first), rest),
        _ => (None, more),
    };
    let text = ["--documents", text, "--tokens", "400", "--drop", "first"];
    [&words[..], latent.as_slice(), &text, more].concat()
}

#[test]
fn latents_are_listed_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let sae = written(parts(64), &folder.path().join("sae"));
    let text = text(folder.path());
    let report = json(
        &on("features", &sae, &text, &["--count", "0"]),
        "candlescope.sae.features/1",
    );
    let latents = report["latents"].as_array().unwrap();
    assert_eq!(report["found"], latents.len());
    assert_eq!(
        (&report["d_sae"], &report["alive"]),
        (&128.into(), &latents.len().into())
    );
    let density = |i: usize| latents[i]["density"].as_f64().unwrap();
    assert!((1..latents.len()).all(|i| density(i - 1) >= density(i)));
    let rare = [
        "--max-density",
        "0.3",
        "--sort",
        "latent",
        "--labelled",
        "--count",
        "0",
    ];
    let few = json(
        &on("features", &sae, &text, &rare),
        "candlescope.sae.features/1",
    );
    let few = few["latents"].as_array().unwrap();
    assert!(!few.is_empty() && few.len() < latents.len());
    for row in few {
        assert!(row["density"].as_f64().unwrap() <= 0.3);
        let [precision, recall] =
            ["precision", "recall"].map(|k| row["label"][k].as_f64().unwrap());
        assert!((0.0..=1.0).contains(&precision) && (0.0..=1.0).contains(&recall));
        assert!(row["label"]["lift"].as_f64().unwrap() >= 2.0);
    }
    let shown = ok(&on("features", &sae, &text, &["--count", "3"]));
    assert!(
        shown.contains("top token") && shown.contains("3 are shown"),
        "{shown}"
    );
    let first: Vec<&str> = shown.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(first[1], latents[0]["fired"].to_string(), "{shown}");

    let index = few[0]["index"].to_string();
    let latent = json(
        &on("show", &sae, &text, &[&index]),
        "candlescope.sae.latent/1",
    );
    assert_eq!(latent["index"].to_string(), index);
    assert_eq!(
        (&latent["fired"], &latent["label"]),
        (&few[0]["fired"], &few[0]["label"])
    );
    assert_eq!(latent["logits"]["positive"].as_array().unwrap().len(), 10);
    assert_eq!(
        (&latent["reads"], &latent["cofiring_over"]),
        (&"resid_post.1".into(), &"all".into())
    );
    // The opposite channel's latent writes the opposite.
    let near = latent["neighbours"].as_array().unwrap();
    assert_eq!(near.len(), 10);
    let page = ok(&on("show", &sae, &text, &[&index]));
    for part in [
        "latent ",
        "top examples",
        "[[",
        "logits it moves directly",
        "fires with (phi)",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let coloured = ok(&on("show", &sae, &text, &[&index, "--color", "always"]));
    assert!(
        coloured.contains("\u{1b}[38;5;16;48;5;") && !coloured.contains("[["),
        "{coloured}"
    );
}

#[test]
fn the_page_is_whole_and_safe() {
    let folder = tempfile::tempdir().unwrap();
    let sae = written(parts(64), &folder.path().join("sae"));
    let text = text(folder.path());
    let [html, data] = ["page.html", "page.json"].map(|name| folder.path().join(name));
    let [html, data] = [&html, &data].map(|path| path.to_str().unwrap());
    let files = ["--out", html, "--json-out", data];
    let report = json(
        &on(
            "dashboard",
            &sae,
            &text,
            &[&files[..], &["--latents", "9,1,9,5"]].concat(),
        ),
        "candlescope.sae.dashboard.files/1",
    );
    assert_eq!(report["latents"], serde_json::json!([1, 5, 9]));
    let page = std::fs::read_to_string(html).unwrap();
    for outside in ["http:", "https:", "src=", "url(", "@import", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<script").count(), 2);
    let record: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(data).unwrap()).unwrap();
    assert_eq!(record["schema"], "candlescope.sae.dashboard/1");
    assert_eq!(record["latents"][2]["index"], 9);
    let again = ok(&on(
        "dashboard",
        &sae,
        &text,
        &[&files[..], &["--count", "7"]].concat(),
    ));
    assert!(again.contains("7 latents on"), "{again}");
    let first = std::fs::read(html).unwrap();
    ok(&on(
        "dashboard",
        &sae,
        &text,
        &[&files[..], &["--count", "7", "--batch", "4"]].concat(),
    ));
    assert_eq!(std::fs::read(html).unwrap(), first);
}

#[test]
fn dictionaries_are_brought_in_and_given_out() {
    let folder = tempfile::tempdir().unwrap();
    let sae = written(parts(32), &folder.path().join("sae"));
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    let done = json(
        &["sae", "import", &sae, "--out", out],
        "candlescope.sae.import/1",
    );
    assert_eq!(
        (&done["format"], &done["identical"]),
        (&"saelens".into(), &true.into())
    );
    assert_eq!(done["folded"], serde_json::json!([]));
    assert_eq!(
        format::read(Path::new(out)).unwrap().0,
        format::read(Path::new(&sae)).unwrap().0
    );
    // What is there stays.
    refused(
        &["sae", "export", &sae, "--out", out],
        &["something is there already"],
    );
    let other = folder.path().join("other");
    let other = other.to_str().unwrap();
    let shown = ok(&["sae", "export", &sae, "--out", other]);
    assert!(
        shown.contains("the same numbers") && shown.contains("cfg.json"),
        "{shown}"
    );
    refused(
        &[
            "sae", "import", &sae, "--out", "nowhere", "--format", "pickle",
        ],
        &["pickle", "gemma-scope-2"],
    );
    refused(
        &[
            "sae", "import", &sae, "--out", "nowhere", "--format", "sparsify",
        ],
        &["sae.safetensors"],
    );
    assert!(!Path::new("nowhere").exists());
}

#[test]
fn what_cannot_be_shown_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let sae = written(parts(64), &folder.path().join("sae"));
    let text = text(folder.path());
    refused(&on("show", &sae, &text, &["128"]), &["latent", "0 to 127"]);
    refused(
        &on(
            "dashboard",
            &sae,
            &text,
            &["--out", "no/such/folder/page.html"],
        ),
        &["--out"],
    );
    refused(
        &on(
            "dashboard",
            &sae,
            &text,
            &["--out", "page.html", "--latents", "3,500"],
        ),
        &["500", "0 to 127"],
    );
    assert!(!Path::new("page.html").exists());
}

#[test]
fn latents_are_turned_while_a_model_answers() {
    let folder = tempfile::tempdir().unwrap();
    let sae = written(parts(64), &folder.path().join("sae"));
    let answer = |more: &[&str]| {
        let words = [
            "run",
            "toy",
            "the red house",
            "--raw",
            "--max-new",
            "6",
            "-q",
        ];
        ok(&[&words, more].concat())
    };
    let plain = answer(&[]);
    // A factor of 1 changes nothing, to the bit; far more of a latent changes the answer.
    assert_eq!(answer(&["--latents", &format!("{sae}@3*1")]), plain);
    assert_ne!(answer(&["--latents", &format!("{sae}@3+400,5+400")]), plain);
    for (edits, words) in [
        ("@128=0", &["128", "0 to 127"][..]),
        ("@3", &["LATENT=VALUE"]),
        ("", &["--latents", "DICTIONARY@EDIT"]),
    ] {
        let spec = format!("{sae}{edits}");
        let line = ["run", "toy", "the", "--raw", "--latents", &spec];
        refused(&line, words);
    }
}

#[test]
fn a_label_of_the_users_own_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let sae = written(parts(64), &folder.path().join("sae"));
    let text = text(folder.path());
    let (dictionary, _) = format::read(Path::new(&sae)).unwrap();
    let labels = candlescope::features::Labels::beside(Path::new(&sae), &dictionary).unwrap();
    labels.with(3, "above nought").unwrap();
    let shown = ok(&on("show", &sae, &text, &["3"]));
    assert!(shown.contains("yours    above nought"), "{shown}");
    let report = json(&on("show", &sae, &text, &["3"]), "candlescope.sae.latent/1");
    assert_eq!(report["yours"], "above nought");
    assert!(!ok(&on("show", &sae, &text, &["4"])).contains("yours"));
}
