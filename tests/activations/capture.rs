//! The activation store: what is captured is what transformers dumped, it reads back, and a broken-off capture ends as an
//! unbroken one would have.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use candlescope::activations::{
    Capture, CaptureSpec, Column, Kept, Manifest, Origin, Source, Store, StoreDtype, StoreError,
    TextOptions, TextRows,
};
use candlescope::files::{SafetensorsFolder, TensorSource};
use candlescope::hooks::{HookPoint, Hooks, expand};
use candlescope::model::{Batch, Checkpoint, Decoder, LogitsAt, check};

use crate::fixture::{checkpoint, decoder, fixtures, origin};

fn expanded(patterns: &[&str], model: &Decoder) -> Vec<HookPoint> {
    let expand = |pattern: &&str| expand(pattern, model.config()).unwrap();
    patterns.iter().flat_map(expand).collect()
}

fn spec(points: Vec<HookPoint>) -> CaptureSpec {
    CaptureSpec {
        points,
        kept: Kept::All,
        dtype: StoreDtype::F32,
        policy: None,
        batch: 2,
        shard_bytes: 1 << 30,
    }
}

/// Rows of different lengths, so that batches are padded.
fn ragged() -> Vec<Vec<u32>> {
    (0..11_u32)
        .map(|i| (0..3 + i % 5).map(|j| (i * 7 + j * 3) % 90 + 1).collect())
        .collect()
}

fn go_on(_: candlescope::activations::Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn capture(model: &Decoder, rows: &Vec<Vec<u32>>, spec: &CaptureSpec, folder: &Path) -> Store {
    let capture = Capture::prepare(model, rows, spec.clone(), &origin(), folder, false).unwrap();
    let estimate = *capture.estimate();
    let outcome = capture.run(&mut go_on).unwrap();
    assert!(outcome.complete);
    assert_eq!(outcome.tokens, estimate.stored_tokens);
    // Headers are all that the estimate leaves out.
    let headers = outcome.bytes - estimate.bytes;
    assert!(
        headers < 4096 * (estimate.shards as u64) + 200 * 11 * 8,
        "{headers}"
    );
    Store::open(folder).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_dtype(DType::F64).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(ours: &Tensor, golden: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(ours.dims(), golden.dims(), "{what}");
    let (ours, golden) = (values(ours), values(golden));
    let scale = golden.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
    for (a, b) in ours.iter().zip(&golden) {
        assert!((a - b).abs() <= tolerance * scale, "{what}: {a} {b}");
    }
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().to_string();
            (name, std::fs::read(path).unwrap())
        })
        .collect()
}

/// Golden: hidden states and patterns as transformers dumped them (tests/fixtures/models/README.md).
#[test]
fn captured_streams_and_patterns_equal_the_dump() {
    let model = decoder("llama");
    let dump = fixtures().join("models/llama/expected.safetensors");
    let dump = SafetensorsFolder::open(&dump).unwrap();
    let rows = check::input_rows(&dump).unwrap();
    let n_layers = model.config().n_layers;
    let spec = spec(expanded(
        &["resid_pre.*", "final_norm", "pattern.*"],
        &model,
    ));
    let folder = tempfile::tempdir().unwrap();
    let store = capture(&model, &rows, &spec, folder.path());
    let mut compared = 0;
    for layer in 0..=n_layers {
        let at = if layer == n_layers {
            "final_norm".parse().unwrap()
        } else {
            format!("resid_pre.{layer}").parse().unwrap()
        };
        let golden = dump.load(&format!("hidden.{layer}"), DType::F32).unwrap();
        for row in 0..rows.len() {
            let ours = store.row(at, row).unwrap();
            assert_close(&ours, &golden.get(row).unwrap(), 2e-5, &at.to_string());
            compared += 1;
        }
    }
    for name in dump.names().iter().filter(|n| n.starts_with("pattern.")) {
        let golden = dump.load(name, DType::F32).unwrap();
        for row in 0..rows.len() {
            let ours = store.row(name.parse().unwrap(), row).unwrap();
            assert_close(&ours, &golden.get(row).unwrap(), 2e-5, name);
            compared += 1;
        }
    }
    assert!(compared > n_layers * rows.len(), "{compared}");
}

#[test]
fn ragged_rows_come_back_without_padding_as_a_pass_of_their_own_computes_them() {
    let model = decoder("gpt2");
    let rows = ragged();
    for (kept, dtype, tolerance) in [
        (Kept::All, StoreDtype::F32, 1e-5),
        (Kept::Last(4), StoreDtype::F32, 1e-5),
        (Kept::Last(1), StoreDtype::BF16, 5e-3),
        (Kept::All, StoreDtype::F16, 1e-3),
    ] {
        let mut spec = spec(expanded(
            &["resid_post.*", "z.0", "pattern.1", "logits"],
            &model,
        ));
        (spec.kept, spec.dtype, spec.shard_bytes) = (kept, dtype, 30_000);
        let folder = tempfile::tempdir().unwrap();
        let store = capture(&model, &rows, &spec, folder.path());
        let hooks = spec
            .points
            .iter()
            .fold(Hooks::new(), |h, at| h.capture(*at));
        for (i, row) in rows.iter().enumerate() {
            let batch = Batch::single(row).unwrap();
            let alone = model.forward(&batch, &hooks, LogitsAt::None).unwrap();
            let range = kept.of(row.len());
            for (at, tensor) in &alone.captured {
                let tensor = tensor.get(0).unwrap();
                let axis = usize::from(at.to_string().starts_with("pattern"));
                let expected = tensor.narrow(axis, range.start, range.len()).unwrap();
                assert_close(
                    &store.row(*at, i).unwrap(),
                    &expected,
                    tolerance,
                    &at.to_string(),
                );
            }
        }
        let (mut ids, mut origin) = (Vec::new(), Vec::new());
        for shard in store.shards() {
            let shard = shard.unwrap();
            ids.extend(shard.token_ids().unwrap());
            origin.extend(
                shard
                    .rows()
                    .unwrap()
                    .into_iter()
                    .zip(shard.positions().unwrap()),
            );
            let tokens = shard.tokens(spec.points[0]).unwrap();
            assert_eq!(tokens.dim(0).unwrap() as u64, shard.info().tokens);
        }
        let expected: Vec<(usize, usize)> = (0..rows.len())
            .flat_map(|row| {
                kept.of(rows[row].len())
                    .map(move |position| (row, position))
            })
            .collect();
        assert_eq!(origin, expected);
        assert_eq!(
            ids,
            expected
                .iter()
                .map(|&(r, p)| rows[r][p])
                .collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_capture_stopped_after_any_batch_goes_on_to_the_same_bytes() {
    let model = decoder("llama");
    let rows = ragged();
    let mut spec = spec(expanded(&["resid_post.*", "pattern.0"], &model));
    spec.shard_bytes = 16_000;
    let whole = tempfile::tempdir().unwrap();
    let store = capture(&model, &rows, &spec, whole.path());
    assert!(store.manifest().shards.len() > 2);
    let whole = contents(whole.path());
    for stop_after in 1..7 {
        let folder = tempfile::tempdir().unwrap();
        let mut calls = 0;
        let prepare = |resume| {
            Capture::prepare(
                &model,
                &rows,
                spec.clone(),
                &origin(),
                folder.path(),
                resume,
            )
        };
        let stopped = prepare(false).unwrap().run(&mut |_| {
            calls += 1;
            if calls == stop_after {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let stopped = stopped.unwrap();
        assert!(!stopped.complete);
        // What a kill in the middle of a write leaves behind.
        std::fs::write(
            folder.path().join(".acts-00009.safetensors.1-0.partial"),
            b"half",
        )
        .unwrap();
        std::fs::write(folder.path().join("acts-00099.safetensors"), b"orphan").unwrap();
        std::fs::remove_file(folder.path().join("acts-00099.safetensors")).unwrap();
        assert!(matches!(
            prepare(false),
            Err(StoreError::FolderInUse { .. })
        ));
        let rest = prepare(true).unwrap();
        assert_eq!(rest.progress().rows, stopped.rows);
        assert!(rest.run(&mut go_on).unwrap().complete);
        let resumed = contents(folder.path());
        assert_eq!(
            resumed.keys().collect::<Vec<_>>(),
            whole.keys().collect::<Vec<_>>()
        );
        assert!(resumed == whole, "after {stop_after} batches");
        assert!(prepare(true).unwrap().run(&mut go_on).unwrap().complete);
        assert!(contents(folder.path()) == whole);
    }
}

#[test]
fn other_settings_are_not_resumed_and_a_damaged_shard_is_not_read() {
    let model = decoder("llama");
    let rows = ragged();
    let spec = spec(expanded(&["resid_post.0"], &model));
    let folder = tempfile::tempdir().unwrap();
    let store = capture(&model, &rows, &spec, folder.path());
    let resume = |spec: CaptureSpec, rows: &Vec<Vec<u32>>, origin: &Origin| match Capture::prepare(
        &model,
        rows,
        spec,
        origin,
        folder.path(),
        true,
    ) {
        Ok(_) => "resumed".to_string(),
        Err(error) => error.to_string(),
    };
    let mut other = spec.clone();
    other.batch = 3;
    assert!(resume(other, &rows, &origin()).contains("batch size"));
    let mut other = rows.clone();
    other[4][1] += 1;
    assert!(resume(spec.clone(), &other, &origin()).contains("tokens"));
    let mut other = origin();
    other.fingerprint.weights = "v".into();
    assert!(resume(spec.clone(), &rows, &other).contains("weights"));
    assert_eq!(resume(spec.clone(), &rows, &origin()), "resumed");

    store.expect(&origin().fingerprint).unwrap();
    assert!(
        store
            .expect(&other.fingerprint)
            .unwrap_err()
            .to_string()
            .contains("weights")
    );
    let error = store
        .row("resid_post.1".parse().unwrap(), 0)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("resid_post.1") && error.contains("resid_post.0"),
        "{error}"
    );
    assert!(store.row("resid_post.0".parse().unwrap(), 99).is_err());

    let file = folder.path().join("acts-00000.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let fresh = Store::open(folder.path()).unwrap();
    assert!(matches!(
        fresh.shard(0).err(),
        Some(StoreError::Damaged { .. })
    ));
}

#[test]
fn settings_that_make_no_sense_are_refused_before_anything_is_written() {
    let model = decoder("llama");
    let rows = ragged();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("new");
    let refuse = |change: &dyn Fn(&mut CaptureSpec)| {
        let mut spec = spec(expanded(&["resid_post.0"], &model));
        change(&mut spec);
        let prepared = Capture::prepare(&model, &rows, spec, &origin(), &target, false);
        assert!(!target.exists());
        prepared.err().unwrap().to_string()
    };
    assert!(refuse(&|s| s.points.clear()).contains("--points"));
    assert!(refuse(&|s| s.points.push(s.points[0])).contains("twice"));
    assert!(refuse(&|s| s.points.push("resid_post.77".parse().unwrap())).contains("77"));
    assert!(refuse(&|s| s.points.push("pos_embed".parse().unwrap())).contains("rotary"));
    assert!(refuse(&|s| s.batch = 0).contains("--batch"));
    let empty: Vec<Vec<u32>> = Vec::new();
    let spec = spec(expanded(&["resid_post.0"], &model));
    let prepared = Capture::prepare(&model, &empty, spec, &origin(), &target, false);
    assert!(matches!(prepared.err(), Some(StoreError::NoRows { .. })));
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    let model = decoder("llama");
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(expanded(&["resid_post.0"], &model));
    spec.shard_bytes = 4000;
    let store = capture(&model, &ragged(), &spec, folder.path());
    let good = serde_json::to_value(store.manifest()).unwrap();
    let refuse = |pointer: &str, value: serde_json::Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        std::fs::write(folder.path().join("manifest.json"), bad.to_string()).unwrap();
        Manifest::read(folder.path()).unwrap_err().to_string()
    };
    assert!(refuse("/schema", "candlescope.activations/9".into()).contains("schema"));
    assert!(refuse("/complete", false.into()).contains("complete"));
    assert!(refuse("/rows", 10.into()).contains("tokens_per_row"));
    assert!(refuse("/shards/0/file", "../../etc/passwd".into()).contains("passwd"));
    assert!(refuse("/shards/1/first_row", u64::MAX.into()).contains("shards[1]"));
    assert!(refuse("/points/0/point", "resid_pots.0".into()).contains("resid_post"));
    std::fs::write(folder.path().join("manifest.json"), "{").unwrap();
    assert!(Store::open(folder.path()).is_err());
}

fn options() -> TextOptions {
    TextOptions {
        chat: Some(false),
        max_len: Some(32),
        truncate: false,
        limit: None,
        now: "2026-01-02T00:00:00".parse().unwrap(),
    }
}

fn read(
    checkpoint: &Checkpoint,
    source: Source,
    options: TextOptions,
) -> Result<Vec<Vec<u32>>, StoreError> {
    use candlescope::activations::Rows;
    TextRows::new(checkpoint, source, options)?
        .rows()?
        .collect()
}

#[test]
fn texts_become_rows_and_bad_lines_are_named() {
    let checkpoint = checkpoint();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let encode = |text: &str| checkpoint.tokenizer.encode(text, true).unwrap();
    let lines = file("a.txt", b"\xef\xbb\xbfthe other\r\n\n  \nthing");
    assert_eq!(
        read(&checkpoint, Source::Lines(lines.clone()), options()).unwrap(),
        [encode("the other"), encode("thing")]
    );
    let one = TextOptions {
        limit: Some(1),
        ..options()
    };
    assert_eq!(
        read(&checkpoint, Source::Lines(lines.clone()), one)
            .unwrap()
            .len(),
        1
    );
    let jsonl = file(
        "a.jsonl",
        b"{\"text\": \"the\"}\n\n{\"prompt\": \"thing\"}\n",
    );
    let text = |path: &PathBuf| Source::Jsonl(path.clone(), Column::Text);
    let fails = |source: Source, options: TextOptions| {
        read(&checkpoint, source, options).unwrap_err().to_string()
    };
    let error = fails(text(&jsonl), options());
    assert!(
        error.contains("a.jsonl:3") && error.contains("prompt"),
        "{error}"
    );
    for (bytes, what) in [
        (&b"{\"text\": \"\"}"[..], "empty"),
        (b"{\"text\": 3}", "a number"),
        (b"[1]", "object"),
        (b"{\"text\": \"\xff\"}", "UTF-8"),
        (b"{", "JSON"),
    ] {
        let error = fails(text(&file("bad.jsonl", bytes)), options());
        assert!(
            error.contains("bad.jsonl:1") && error.contains(what),
            "{error}"
        );
    }
    let prompt = file("p.jsonl", b"{\"prompt\": \"the\", \"system\": \"s\"}");
    assert!(fails(Source::Jsonl(prompt, Column::Prompt), options()).contains("system"));
    assert!(fails(Source::Text(String::new()), options()).contains("empty"));
    assert!(fails(Source::Lines(folder.path().join("none")), options()).contains("none"));
    let messages = file("m.jsonl", b"{\"messages\": []}");
    assert!(fails(Source::Jsonl(messages, Column::Messages), options()).contains("--raw"));

    let long = Source::Text("the other thing ".repeat(9));
    let error = fails(long.clone(), options());
    assert!(
        error.contains("32") && error.contains("--truncate"),
        "{error}"
    );
    let cut = TextOptions {
        truncate: true,
        ..options()
    };
    let rows = read(&checkpoint, long, cut).unwrap();
    assert_eq!(rows[0], encode(&"the other thing ".repeat(9))[..32]);
}
