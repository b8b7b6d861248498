//! `sae`: a dictionary is shown and measured on the toy, and what does not fit is refused.

use std::path::Path;

use serde_json::Value;

use crate::binary::{json, ok, refused};
use crate::sae_latents;

/// Two latents a channel: rebuilds everything.
fn written(folder: &Path, d: usize) -> String {
    sae_latents::written(sae_latents::parts(d), folder)
}

#[test]
fn a_dictionary_is_shown_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let sae = written(&folder.path().join("sae"), 64);
    let info = json(&["sae", "info", &sae], "candlescope.sae.info/1");
    assert_eq!(
        (&info["d_sae"], &info["activation"]),
        (&128.into(), &"relu".into())
    );
    assert_eq!(info["about"]["reads"][0], "resid_post.1");
    let shown = ok(&["sae", "info", &sae]);
    for part in [
        "saelens",
        "resid_post.1",
        "64 (2.0x)",
        "1.0000 (1.0000 to 1.0000)",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let text = folder.path().join("text.txt");
    std::fs::write(
        &text,
        "the red house by the river and the blue city at night\n".repeat(30),
    )
    .unwrap();
    let eval = [
        "sae",
        "eval",
        "toy",
        &sae,
        "--documents",
        text.to_str().unwrap(),
        "--tokens",
        "200",
        "--drop",
        "first",
    ];
    let report = json(&eval, "candlescope.sae.eval/1");
    assert_eq!(
        (&report["reads"], &report["writes"]),
        (&"resid_post.1".into(), &"resid_post.1".into())
    );
    assert_eq!(report["quality"]["fvu"]["pooled"], 0.0);
    assert_eq!(report["recovered"]["kl_spliced"], 0.0);
    assert_eq!(report["tally"]["first"], report["contexts"]);
    assert_eq!(report["source"]["packing"]["length"], 16);
    let shown = ok(&eval);
    for part in [
        "FVU, pooled",
        "SAELens 6",
        "dictionary_learning",
        "sparsify",
        "CE recovered",
        "the first 1 of each context",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let more = [
        "--no-downstream",
        "--probe-suites",
        "harmful,harmless",
        "--letters",
        "6",
    ];
    let more = [&eval[..], &more].concat();
    let report = json(&more, "candlescope.sae.eval/1");
    assert!(report["recovered"].is_null());
    let probed = &report["sparse_probing"];
    assert_eq!(
        (&probed["positive"], &probed["latents"][2]["k"]),
        (&"harmful".into(), &5.into())
    );
    let letters = |list: &str| report["absorption"][list].as_array().unwrap().len();
    assert!(letters("letters") + letters("left_out") > 5);
}

#[test]
fn two_checkpoints_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let sae = written(&folder.path().join("sae"), 64);
    let text = folder.path().join("text.txt");
    std::fs::write(
        &text,
        "the red house by the river and the blue city\n".repeat(30),
    )
    .unwrap();
    let text = text.to_str().unwrap();
    let compare = [
        "sae",
        "compare",
        "toy",
        "toy:1",
        &sae,
        "--documents",
        text,
        "--tokens",
        "200",
    ];
    let report = json(&compare, "candlescope.sae.compare/1");
    assert_eq!(report["models"][1], "toy:1");
    assert!(report["crosscoder"].is_null());
    assert!(report["frozen"]["alive"].as_u64().unwrap() > 0);
    assert!(!report["examples"].as_array().unwrap().is_empty());
    let shown = ok(&compare);
    for part in ["latents alive on either", "adjusted p", "toy:1", "⟦"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    refused(&["sae", "compare", "toy", "toy:1", &sae], &["--documents"]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let narrow = written(&folder.path().join("narrow"), 32);
    let harmful = |sae: &str, more: &[&str], words: &[&str]| {
        let args = ["sae", "eval", "toy", sae, "--suite", "harmful"];
        refused(&[&args[..], more].concat(), words);
    };
    harmful(&narrow, &[], &["it reads 32 values", "resid_post.1 has 64"]);
    let fits = written(&folder.path().join("fits"), 64);
    harmful(&fits, &["--reads", "resid_post.7"], &["layers 0 to 3"]);
    harmful(&fits, &["--drop", "first:4000"], &["no token is kept"]);
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    refused(&["sae", "info", empty.to_str().unwrap()], &["empty"]);
    refused(&["sae", "eval", "toy", &fits], &["--documents"]);
}

/// What the model says differently falls while it pulls.
#[test]
fn the_last_steps_go_through_the_model() {
    let config = format!(
        "{}[end_to_end]\ntokens = 960\nbatch = 48\nlr = 1e-2\nweight = 5\n",
        CONFIG.replace("rows = 320", "rows = 96")
    );
    let (folder, args) = to_train(&config);
    let trained = json(&words(&args), "candlescope.sae-train/1");
    assert_eq!(trained["steps"], 3 + 20);
    let log = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    let rows = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let kl: Vec<f64> = rows.filter_map(|row| row["kl"].as_f64()).collect();
    assert_eq!(kl.len(), 20);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    assert!(mean(&kl[15..]) < 0.9 * mean(&kl[..5]), "{kl:?}");
    let refusals = [
        ("weight = 5", "weight = -1", "end_to_end.weight"),
        ("tokens = 960", "tokens = 9", "end_to_end.tokens"),
        (
            "reads = ['resid_post.1']",
            "reads = ['resid_post.1']\nskip = true",
            "dictionary.k4",
        ),
    ];
    for (from, to, field) in refusals {
        let (_folder, args) = to_train(&config.replace(from, to));
        refused(&words(&args), &[field]);
    }
}

const CONFIG: &str = "
[model]
name = 'toy'
[data]
path = 'texts.txt'
context = 16
[schedule]
rows = 320
batch = 32
held_out = 32
[dictionary.k4]
reads = ['resid_post.1']
d_sae = 96
architecture = { kind = 'top-k', k = 4 }
";

/// A folder with texts and a config, and the arguments that train on it.
fn to_train(config: &str) -> (tempfile::TempDir, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let texts = folder.path().join("texts.txt");
    std::fs::write(
        &texts,
        "the red house by the river and the blue city\n".repeat(80),
    )
    .unwrap();
    let config = config.replace("'texts.txt'", &format!("'{}'", texts.display()));
    let file = folder.path().join("run.toml");
    std::fs::write(&file, config).unwrap();
    let path = |p: &Path| p.to_str().unwrap().to_owned();
    let out = folder.path().join("run");
    let args = ["sae", "train", "-c"].map(String::from).to_vec();
    let args = [args, vec![path(&file), "--out".into(), path(&out)]].concat();
    (folder, args)
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn a_dictionary_is_trained_shown_and_measured() {
    let (folder, args) = to_train(CONFIG);
    let trained = json(&words(&args), "candlescope.sae-train/1");
    assert_eq!(
        (&trained["steps"], &trained["rows"]),
        (&10.into(), &320.into())
    );
    let one = &trained["dictionaries"][0];
    assert_eq!(one["eval_l0"], 4.0);
    assert!(one["eval_fvu"].as_f64().unwrap() < 1.0);
    let at = one["folder"].as_str().unwrap();
    let info = json(&["sae", "info", at], "candlescope.sae.info/1");
    assert_eq!(
        (&info["d_sae"], &info["activation"]),
        (&96.into(), &"topk".into())
    );
    assert_eq!(info["about"]["reads"][0], "resid_post.1");
    let texts = folder.path().join("texts.txt");
    let eval = [
        "sae",
        "eval",
        "toy",
        at,
        "--documents",
        texts.to_str().unwrap(),
        "--tokens",
        "64",
    ];
    let report = json(&eval, "candlescope.sae.eval/1");
    assert_eq!(report["quality"]["l0"], 4.0);
    // A run is there now, and is not trained over.
    refused(&words(&args), &["holds a run"]);
    let again = [&words(&args)[..2], &["--resume"], &words(&args)[4..]].concat();
    assert!(ok(&again).contains("k4"));
}

#[test]
fn a_store_trains_too() {
    let (folder, args) =
        to_train(&CONFIG.replace("path = 'texts.txt'\ncontext = 16", "store = 'acts'"));
    let texts = folder.path().join("texts.txt");
    let acts = folder.path().join("acts");
    let (texts, acts) = (texts.to_str().unwrap(), acts.to_str().unwrap());
    ok(&[
        "capture",
        "toy",
        "--points",
        "resid_post.1",
        "--docs",
        texts,
        "--pack",
        "16",
        "--out",
        acts,
    ]);
    let set = format!("data.store='{acts}'");
    let args = [words(&args), vec!["--set", &set]].concat();
    assert_eq!(json(&args, "candlescope.sae-train/1")["steps"], 10);
}

#[test]
fn configs_that_cannot_be_trained_are_refused_by_name() {
    for (from, to, said) in [
        (
            "k = 4",
            "k = 400",
            "k: 400 is outside above 0, at most d_sae",
        ),
        ("k = 4", "k = 4, kay = 5", "kay"),
        ("d_sae = 96", "d_sae = 96\nwidht = 4", "widht"),
        ("resid_post.1", "resid_post.99", "dictionary.k4.reads"),
        ("resid_post.1", "resid_pots.1", "dictionary.k4.reads"),
        ("rows = 320", "rows = 3", "schedule.rows"),
        (
            "context = 16",
            "context = 16\nsuite = 'harmful'",
            "one of path, suite, store and stores",
        ),
        ("context = 16", "context = 100000", "the model's context"),
        (
            "'texts.txt'",
            "'texts.txt'\ncolumn = 'text'",
            "plain texts have no columns",
        ),
        (
            "[dictionary.k4]",
            "[dictionary.'../k4']",
            "a name of letters",
        ),
    ] {
        let config = CONFIG.replace(from, to);
        assert_ne!(config, CONFIG);
        let (_folder, args) = to_train(&config);
        refused(&words(&args), &[said]);
    }
    let (folder, args) = to_train(CONFIG);
    ok(&words(&args));
    let set = [
        words(&args),
        vec!["--resume", "--set", "dictionary.k4.lr=1e-2"],
    ]
    .concat();
    refused(&set, &["dictionary.k4.lr"]);
    drop(folder);
}

#[test]
fn texts_come_from_another_column_too() {
    let folder = tempfile::tempdir().unwrap();
    let sae = written(&folder.path().join("sae"), 64);
    let file = folder.path().join("rows.jsonl");
    let row = "{\"prompt\": \"the red house by the river\", \"text\": \"no\"}\n";
    std::fs::write(&file, row.repeat(40)).unwrap();
    let rows = file.to_str().unwrap();
    let eval = |more: &[&str]| {
        let mut words = vec!["sae", "eval", "toy", &sae];
        words.extend(more);
        words.extend(["--tokens", "100", "--drop", "first", "--no-downstream"]);
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let of = |more: &[&str]| {
        let words = eval(more);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        json(&words, "candlescope.sae.eval/1")["tokens"]
            .as_u64()
            .unwrap()
    };
    let [long, short] = ["prompt", "text"].map(|name| of(&["--jsonl", rows, "--column", name]));
    assert!(long >= 100 && short < long, "{long} {short}");
    let words = eval(&["--documents", rows, "--column", "text"]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    refused(&words, &["--jsonl"]);
}

#[test]
fn architectures_compete_on_planted_features() {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows");
    let bench = [
        "sae",
        "bench",
        "--architectures",
        "topk,relu",
        "--d",
        "8",
        "--features",
        "6",
        "--trees",
        "2,1,1",
        "--k",
        "1",
        "--steps",
        "40",
        "--batch",
        "64",
        "--rows",
        "640",
        "--held",
        "256",
        "--repeats",
        "2",
        "--l1",
        "0.1",
    ];
    let report = json(&bench, "candlescope.sae.bench/1");
    assert_eq!(report["runs"].as_array().unwrap().len(), 4);
    assert_eq!(report["numbers"][0], "l0");
    let first = &report["standings"][0];
    assert_eq!(first["architecture"], "topk");
    assert!(first["summary"][0]["mean"].as_f64().unwrap() <= 1.0);
    assert_eq!(report["standings"][1]["coefficient"], 0.1);
    let mut writing = bench.to_vec();
    let path = rows.to_str().unwrap();
    writing.extend(["--write", path]);
    let shown = ok(&writing);
    for part in ["topk", "mcc", "absorption", "coefficient 0.1000, given"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(rows.join("seed-1/strengths.npy").exists() && rows.join("plan.json").exists());
    refused(&["sae", "bench", "--rows", "10"], &["do not fill a batch"]);
    refused(&["sae", "bench", "--rates", "0.3"], &["expected 2 numbers"]);
    refused(
        &[
            "sae",
            "bench",
            "--latents",
            "4",
            "--k",
            "5",
            "--rows",
            "512",
        ],
        &["at most d_sae"],
    );
}
