//! Every command once, and what each refuses: damaged files, wrong points, options that contradict each other.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use crate::binary::{command, fixture, json, llama, ok, refused, run, text};

/// A Hugging Face folder with tokenizer and template, to be damaged.
fn folder() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let model = parent.path().join("model");
    ok(&["model", "convert", &llama(), model.to_str().unwrap(), "-q"]);
    (parent, model)
}

fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, change(text)).unwrap();
}

/// Rewrites the header of a safetensors file; its data stays where it is.
fn edit_header(path: &Path, change: impl FnOnce(&mut Value)) {
    let bytes = std::fs::read(path).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
    change(&mut header);
    let header = header.to_string();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend(&bytes[8 + n..]);
    std::fs::write(path, out).unwrap();
}

#[test]
fn help_ends_with_an_example_and_goes_to_stdout() {
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["hooks", "--help"],
        &["model", "check", "--help"],
        &["audit", "run", "--help"],
        &["doctor", "--help"],
    ] {
        let help = ok(args);
        let last = help.trim_end().lines().last().unwrap();
        assert!(last.trim().starts_with("candlescope "), "{args:?}: {last}");
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    for args in [
        &["rnu"][..],
        &["run"],
        &["model", "info"],
        &["hooks", "x", "--no-such-flag"],
        &[],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains("Usage"), "{args:?}");
    }
    refused(
        &["doctor", "--offline", "--threads", "0"],
        &["--threads", "found 0"],
    );
}

#[test]
fn tables_have_a_json_form_with_a_schema() {
    let points = json(&["hooks", &llama()], "candlescope.hooks/1");
    assert_eq!(points["points"].as_array().unwrap().len(), 25);
    assert_eq!(points["points"][2]["shape"], "[batch, pos, d_model=48]");
    let info = json(&["model", "info", &llama()], "candlescope.model.info/1");
    assert_eq!(info["config"]["family"], "llama");
    assert_eq!(info["words"]["Ok"]["chat_template"], true);
    json(&["model", "list"], "candlescope.model.list/1");
    json(&["audit", "signals"], "candlescope.audit.signals/1");
    json(&["audit", "policy"], "candlescope.audit.policy/1");
    let page = json(
        &["audit", "explain", "over_refusal"],
        "candlescope.audit.explain/1",
    );
    assert!(page["page"].as_str().unwrap().len() > 200);
    let doctor = json(&["doctor", "--offline"], "candlescope.doctor/1");
    assert_eq!(doctor["network"], serde_json::json!([]));
}

#[test]
fn a_model_is_held_against_another_implementation() {
    let (model, dump) = (
        fixture("models/gemma3"),
        fixture("models/gemma3/expected.safetensors"),
    );
    let args = ["model", "check", &model, "--against", &dump];
    let checked = json(&args, "candlescope.model.check/1");
    assert_eq!(checked["ok"], true);
    let strict = run(&[&args[..], &["--tolerance", "1e-12"]].concat());
    assert_eq!(strict.status.code(), Some(1));
    assert!(text(&strict.stdout).contains("FAILED"));
    let alone = json(&["model", "check", &llama()], "candlescope.model.check/1");
    assert_eq!(alone["ok"], true);
    let other = fixture("models/qwen2/expected.safetensors");
    refused(
        &[
            "model",
            "check",
            &fixture("gguf/types/model.gguf"),
            "--against",
            &other,
        ],
        &["types"],
    );
}

#[test]
fn an_answer_is_streamed_or_an_object_and_edits_change_it() {
    let plain = json(
        &["run", &llama(), "Hello there", "--max-new", "4"],
        "candlescope.run/1",
    );
    assert_eq!(plain["answer"]["ids"].as_array().unwrap().len(), 4);
    let args = [
        "run",
        &llama(),
        "Hello there",
        "--max-new",
        "4",
        "--compare",
        "--zero",
        "attn_out.*",
    ];
    let both = json(&args, "candlescope.run/1");
    assert_eq!(both["unedited"]["ids"], plain["answer"]["ids"]);
    assert_eq!(both["edits"].as_array().unwrap().len(), 3);
    let output = run(&["run", &llama(), "Hello", "--max-new", "3", "--raw"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("3 new tokens"));
    assert_eq!(
        text(&run(&["run", &llama(), "Hello", "--max-new", "3", "-q"]).stderr),
        ""
    );
}

#[test]
fn points_edits_and_options_that_cannot_be_are_refused_by_name() {
    let model = llama();
    let asked = |extra: &[&'static str]| -> Vec<String> {
        let base = ["run", &model, "Hello", "--max-new", "2"].map(str::to_owned);
        base.into_iter()
            .chain(extra.iter().map(|s| (*s).to_owned()))
            .collect()
    };
    for (extra, words) in [
        (
            &["--zero", "resid_pots.1"][..],
            &["resid_pots", "did you mean `resid_post`"][..],
        ),
        (&["--zero", "mlp_out.9"], &["mlp_out.9", "layers 0 to 2"]),
        (&["--knockout", "1:2"], &["LAYER.HEAD:QUERY>KEY"]),
        (&["--knockout", "1:-1>500"], &["500"]),
        (
            &["--ablate", "no-such.safetensors"],
            &["no-such.safetensors"],
        ),
        (&["--add", "no-such.safetensors"], &["DIR@LAYER*ALPHA"]),
        (&["--temperature", "-1"], &["temperature"]),
        (&["--top-k", "5"], &["temperature", "greedy"]),
        (&["--edit", "no-such.json"], &["no-such.json"]),
    ] {
        let args = asked(extra);
        refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), words);
    }
    refused(&["hooks", &model, "--point", "pos_embed.3"], &["pos_embed"]);
    refused(
        &["audit", "explain", "over_refusl"],
        &["over_refusl", "did you mean", "over_refusal"],
    );
    refused(
        &["audit", "run", &model, "--perturb", "4"],
        &["RANK:SCALE:SEED"],
    );
    refused(
        &["audit", "run", &model, "--suite", "mine"],
        &["NAME=FILE.jsonl"],
    );
    refused(
        &["audit", "run", &model, "--trials", "mine"],
        &["NAME=FILE.jsonl", "knowledge, sycophancy, hint"],
    );
    refused(&["audit", "show", &model], &["model.gguf"]);
}

#[test]
fn a_direction_of_another_width_or_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("d.safetensors");
    let mut direction = candlescope::steer::file::DirectionFile {
        vector: vec![1.0; 7],
        ..Default::default()
    };
    let save = |d: &_| candlescope::steer::file::save(&file, d).unwrap();
    let model = llama();
    let args = [
        "run",
        &model,
        "Hello",
        "--max-new",
        "2",
        "--ablate",
        file.to_str().unwrap(),
    ];
    save(&direction);
    refused(&args, &["d.safetensors", "expected 48", "found 7"]);
    direction.vector = (0..48).map(|i| i as f32 - 20.0).collect();
    save(&direction);
    ok(&args);
    direction.fingerprint = Some(candlescope::model::Fingerprint {
        weights: "0".repeat(64),
        tokenizer: String::new(),
        template: String::new(),
        config: String::new(),
        dtype: String::new(),
    });
    save(&direction);
    refused(
        &args,
        &[
            "another forward pass",
            "weights",
            "--accept-foreign-direction",
        ],
    );
    ok(&[&args[..], &["--accept-foreign-direction"]].concat());
}

#[test]
fn a_model_that_is_not_there_says_what_is() {
    refused(
        &["run", "smolm2-135m-instuct", "Hi"],
        &["did you mean smollm2-135m-instruct?"],
    );
    refused(
        &["run", "smollm2-135m-instruct", "Hi"],
        &["CANDLESCOPE_OFFLINE"],
    );
    refused(
        &["model", "fetch", "smollm2-135m-instruct"],
        &["CANDLESCOPE_OFFLINE"],
    );
    refused(
        &["model", "info", "./no/such/model.gguf"],
        &["no/such/model.gguf"],
    );
}

#[test]
fn damaged_folders_name_the_file_and_the_field() {
    let (_parent, model) = folder();
    let (path, weights) = (model.to_str().unwrap(), model.join("model.safetensors"));
    let args = ["run", path, "Hello", "--max-new", "2"];
    ok(&args);
    let sound = std::fs::read(&weights).unwrap();
    let restore = || std::fs::write(&weights, &sound).unwrap();

    std::fs::write(&weights, &sound[..sound.len() / 2]).unwrap();
    refused(&args, &["model.safetensors", "hint: "]);
    let mut huge = sound.clone();
    huge[..8].copy_from_slice(&(1u64 << 60).to_le_bytes());
    std::fs::write(&weights, &huge).unwrap();
    refused(&args, &["model.safetensors", "header"]);
    restore();

    let rename = |from: &'static str, to: &'static str| {
        move |header: &mut Value| {
            let map = header.as_object_mut().unwrap();
            let entry = map.remove(from).unwrap();
            map.insert(to.to_owned(), entry);
        }
    };
    edit_header(
        &weights,
        rename(
            "model.layers.1.mlp.up_proj.weight",
            "model.layers.1.mlp.pu_proj.weight",
        ),
    );
    refused(&args, &["model.layers.1.mlp.up_proj.weight", "missing"]);
    restore();
    edit(&model.join("config.json"), |t| {
        t.replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2")
    });
    refused(&args, &["no place for", "model.layers.2."]);
    edit(&model.join("config.json"), |t| {
        t.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3")
    });
    edit(&model.join("config.json"), |t| {
        t.replace("\"intermediate_size\": 96", "\"intermediate_size\": 95")
    });
    refused(&args, &["mlp", "expected shape [95, 48]", "found [96, 48]"]);
    edit(&model.join("config.json"), |t| {
        t.replace("\"intermediate_size\": 95", "\"intermediate_size\": 96")
    });
    edit(&model.join("config.json"), |t| {
        t.replacen('{', "{\n  \"secret_sauce\": 1,", 1)
    });
    refused(&args, &["secret_sauce", "--accept-config-key"]);
    ok(&[&args[..], &["--accept-config-key", "secret_sauce"]].concat());
    edit(&model.join("config.json"), |t| {
        t.replace("\"llama\"", "\"mamba\"")
    });
    refused(&args, &["config.json", "mamba", "qwen2"]);
}

#[test]
fn nan_weights_are_reported_and_never_answered_from() {
    let (_parent, model) = folder();
    let weights = model.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let at = bytes.len() - 64;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&weights, bytes).unwrap();
    let path = model.to_str().unwrap();
    let output = run(&["model", "check", path]);
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert!(
        stdout.contains("NaN") && stdout.contains("weight: 1"),
        "{stdout}"
    );
    // The tensor that lies last in the file is on the way to every logit.
    refused(
        &["run", path, "Hello", "--max-new", "2"],
        &["NaN", "model check"],
    );
}

#[test]
fn tokenizer_and_template_must_fit() {
    let (_parent, model) = folder();
    let path = model.to_str().unwrap();
    let args = ["run", path, "Hello", "--max-new", "2"];
    std::fs::write(
        model.join("chat_template.jinja"),
        "{{ raise_exception('roles must alternate') }}",
    )
    .unwrap();
    refused(&args, &["roles must alternate"]);
    std::fs::write(model.join("chat_template.jinja"), "{% if %}").unwrap();
    refused(&args, &["template"]);
    std::fs::remove_file(model.join("chat_template.jinja")).unwrap();
    ok(&args);
    let words = model.join("tokenizer.json");
    let sound = std::fs::read_to_string(&words).unwrap();
    let mut json: Value = serde_json::from_str(&sound).unwrap();
    json["model"]["vocab"]["beyond"] = 4000.into();
    std::fs::write(&words, json.to_string()).unwrap();
    refused(&args, &["tokenizer", "4000", "160"]);
    std::fs::write(&words, &sound[..sound.len() / 3]).unwrap();
    refused(&args, &["tokenizer.json"]);
    std::fs::remove_file(&words).unwrap();
    refused(&args, &["tokenizer.json"]);
}

#[test]
fn prompts_too_long_or_empty_are_refused() {
    let model = llama();
    refused(&["run", &model, ""], &["empty"]);
    refused(&["run", &model, "  \n"], &["empty"]);
    refused(&["run", &model], &["empty"]);
    let long = "abc ".repeat(400);
    refused(&["run", &model, &long], &["do not fit", "256"]);
    refused(
        &["run", &model, "Hi", "--max-new", "4000"],
        &["do not fit", "256"],
    );
    refused(
        &["run", &model, "--messages", "no-such.json"],
        &["no-such.json"],
    );
}

#[test]
fn outputs_that_cannot_be_written_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let taken = dir.path().join("taken");
    std::fs::write(&taken, "mine").unwrap();
    let (model, inside) = (llama(), taken.join("x"));
    refused(
        &["model", "convert", &model, taken.to_str().unwrap()],
        &["taken", "already"],
    );
    refused(
        &["model", "convert", &model, inside.to_str().unwrap()],
        &["taken/x"],
    );
    refused(
        &["audit", "run", &model, "--report", inside.to_str().unwrap()],
        &["taken/x"],
    );
    assert_eq!(std::fs::read_to_string(&taken).unwrap(), "mine");
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 1);
}

#[test]
fn suites_and_trials_are_checked_before_the_audit() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.jsonl");
    let (model, suite) = (llama(), format!("harmful={}", file.display()));
    let args = ["audit", "run", &model, "--suite", &suite];
    std::fs::write(&file, "").unwrap();
    refused(&args, &["s.jsonl"]);
    std::fs::write(&file, "{\"label\": \"harmful\"}\n").unwrap();
    refused(&args, &["s.jsonl", "prompt"]);
    let trials = format!("hint={}", file.display());
    refused(
        &["audit", "run", &model, "--trials", &trials],
        &["s.jsonl:1", "label", "protocol"],
    );
    refused(
        &["audit", "run", &model, "--policy", "no-such.toml"],
        &["no-such.toml"],
    );
}

#[test]
fn a_reader_that_closes_the_pipe_ends_the_printing_only() {
    let mut child = command(&["audit", "policy"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
}

#[cfg(unix)]
#[test]
fn a_prompt_comes_through_a_pipe() {
    use std::io::Write;
    let mut child = command(&["run", &llama(), "--max-new", "2", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"Hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["prompt"]["prompt"], "Hello");
}
