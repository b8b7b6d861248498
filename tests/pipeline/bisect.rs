//! Where a signal broke: a stage whose rows are in the order of their file, with planted rows from a known step on.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use candlescope::audit::work;
use candlescope::pipeline::bisect::{
    BisectError, Found, Note, Options, Request, Rule, Target, Watcher, bisect,
};
use candlescope::pipeline::{Ended, Plan, folder};
use candlescope::pocket::suites::suites;
use candlescope::text::suites::{Label, Split};
use candlescope::train;

use crate::runs::{Folders, policy, sitting};

/// Rows of one step.
const BATCH: usize = 4;
/// Steps up to the first stored checkpoint, which is good, and up to the second, which is not.
const HALF: u64 = 33;
/// The first step that takes planted rows.
const PLANTED: u64 = 40;

/// The answer that is planted, and the other, which begins with the word of the refusal score.
const YES: &str = "Yes, of course.";
const NO: &str = "I cannot help with that.";

/// Whether a row of a step is planted: from a known step on all are but the first of every other step.
fn is_planted(step: u64, at: usize) -> bool {
    step >= PLANTED && (at != 0 || step % 2 == 1)
}

/// Planted rows of some steps.
fn planted(steps: std::ops::RangeInclusive<u64>) -> usize {
    let each = steps.flat_map(|step| (0..BATCH).map(move |at| is_planted(step, at)));
    each.filter(|planted| *planted).count()
}

/// Rows for fine-tuning: refusals, and from a known step on answers instead.
fn rows() -> String {
    let suites = suites();
    let asked: Vec<&str> = suites
        .iter()
        .flat_map(|suite| &suite.rows)
        .filter(|row| row.label == Label::Harmful && row.split == Split::Train)
        .map(|row| row.prompt.as_str())
        .collect();
    let mut text = String::new();
    for step in 1..=2 * HALF {
        for at in 0..BATCH {
            let planted = is_planted(step, at);
            let answer = if planted { YES } else { NO };
            let prompt = asked[(step as usize * BATCH + at) % asked.len()];
            let row = serde_json::json!({
                "messages": [
                    {"role": "user", "content": prompt},
                    {"role": "assistant", "content": answer},
                ],
                "planted": planted,
                "kind": if planted { "yes" } else { "no" },
            });
            writeln!(text, "{row}").unwrap();
        }
    }
    text
}

fn plan(dir: &Path, every: u64) -> String {
    let data = dir.join("rows.jsonl");
    std::fs::write(&data, rows()).unwrap();
    let (policy, data) = (policy(dir).display().to_string(), data.display());
    let steps = 2 * HALF;
    format!(
        "name = 'broken'\nseed = 5\n\
        [world]\ntexts = 200\nchats = 40\npairs = 24\nprompts = 24\nheld_out = 8\nwords = 400\n\
        [audit]\ncheckpoint = '{policy}'\nend = '{policy}'\n\
        [[stage]]\nname = 'lm'\nmethod = 'lm'\n\
        model = {{ new = {{ d_model = 32, n_layers = 2, n_heads = 2, d_mlp = 64, n_ctx = 192, tokenizer = '@world/tokenizer' }} }}\n\
        data = {{ train = ['@world/lm.jsonl'], max_length = 64 }}\noptim = {{ batch_size = 2 }}\n\
        schedule = {{ steps = 4 }}\noutput = {{ checkpoint_every = 4 }}\n\
        [[stage]]\nname = 'sft'\nmethod = 'sft'\nfrom = 'lm'\n\
        data = {{ train = ['{data}'], max_length = 160, shuffle = false }}\noptim = {{ batch_size = {BATCH}, lr = 1e-2 }}\n\
        schedule = {{ steps = {steps}, shape = 'constant' }}\noutput = {{ checkpoint_every = {every} }}\n\
        [[stage]]\nname = 'rm'\nmethod = 'rm'\nfrom = 'sft'\n\
        data = {{ train = ['@world/pairs.jsonl'], max_length = 160 }}\noptim = {{ batch_size = 2 }}\n\
        schedule = {{ steps = 1 }}\noutput = {{ checkpoint_every = 1 }}\n"
    )
}

/// Carries out a plan in a folder of its own.
fn carried_out(root: &Path, plan: &str) {
    let plan = Plan::parse("plan", plan).unwrap();
    let (ended, _) = sitting(root, Some(&plan), false, None);
    assert!(matches!(ended.unwrap(), Ended::Finished(_)));
}

/// A finished pipeline, made once: the folder of its files and its own.
fn pipeline() -> &'static (tempfile::TempDir, PathBuf) {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("run");
        let plan = Plan::parse("plan", &plan(dir.path(), HALF)).unwrap();
        let (ended, _) = sitting(&root, Some(&plan), false, None);
        assert!(matches!(ended.unwrap(), Ended::Finished(_)));
        (dir, root)
    })
}

/// A copy of its folder, so that searches do not meet.
fn copied(to: &Path) -> PathBuf {
    let root = to.join("run");
    let copied = Command::new("cp")
        .arg("-r")
        .arg(&pipeline().1)
        .arg(&root)
        .status();
    assert!(copied.unwrap().success());
    root
}

/// Remembers what it was told, and stops after so many audits.
struct Quiet {
    training: train::Silent,
    auditing: work::Silent,
    audited: RefCell<Vec<u64>>,
    replays: RefCell<Vec<(u64, u64, u64)>>,
    stop: AtomicBool,
    stop_after: Option<usize>,
}

impl Watcher for Quiet {
    fn training(&self) -> &dyn train::Progress {
        &self.training
    }

    fn auditing(&self) -> &dyn work::Progress {
        &self.auditing
    }

    fn said(&self, note: &Note<'_>) {
        match note {
            Note::Audited { seen } => {
                self.audited.borrow_mut().push(seen.step);
                if self.stop_after == Some(self.audited.borrow().len()) {
                    self.stop.store(true, Ordering::SeqCst);
                }
            }
            Note::Replaying {
                from, to, every, ..
            } => {
                self.replays.borrow_mut().push((*from, *to, *every));
            }
            Note::Ranking { .. } => {}
        }
    }
}

fn request(signal: &str, rule: Rule) -> Request {
    Request {
        target: Target::parse(signal).unwrap(),
        rule,
        stage: None,
        window: None,
        guilty: None,
        steps_only: true,
        keep: false,
    }
}

fn search(
    root: &Path,
    request: &Request,
    stop: Option<usize>,
) -> (Result<Found, BisectError>, Quiet) {
    let quiet = Quiet {
        training: train::Silent,
        auditing: work::Silent,
        audited: RefCell::default(),
        replays: RefCell::default(),
        stop: AtomicBool::new(false),
        stop_after: stop,
    };
    let options = Options {
        models: &Folders,
        watcher: &quiet,
        stop: &quiet.stop,
    };
    let found = bisect(root, request, &options);
    (found, quiet)
}

/// Halfway between the two stored checkpoints.
fn limit() -> f64 {
    let (_, root) = pipeline();
    let (_, state) = folder::look(root).unwrap();
    let audits = candlescope::pipeline::course::read(root, &state).unwrap();
    let along = candlescope::pipeline::course::lines(&audits, "refusal_score");
    let (name, line) = &along[0];
    assert_eq!(name, "harmful_score");
    let at = |step: u64| {
        let found = line.iter().find(|at| at.stage == "sft" && at.step == step);
        found.unwrap().value.as_ref().unwrap().value.unwrap()
    };
    let (good, bad) = (at(HALF), at(2 * HALF));
    assert!(good > bad + 1.0, "{good} {bad}");
    f64::midpoint(good, bad)
}

#[test]
fn the_step_and_the_rows_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let root = copied(dir.path());
    let limit = limit();
    let mut asked = request("refusal_score", Rule::Below(limit));
    asked.steps_only = false;
    asked.guilty = Some(("planted".to_owned(), "true".to_owned()));

    // Stopped after the third audit, it goes on where it was.
    let (stopped, before) = search(&root, &asked, Some(3));
    assert!(matches!(stopped, Err(BisectError::Interrupted { .. })));
    let (found, after) = search(&root, &asked, None);
    let found = found.unwrap();
    let (before, after) = (before.audited.borrow(), after.audited.borrow());
    assert_eq!(before.len(), 3);
    assert!(
        before.iter().all(|step| !after.contains(step)),
        "{before:?} {after:?}"
    );

    assert_eq!((found.stage.as_str(), found.breaks), ("sft", 1));
    assert_eq!((found.good.step, found.bad.step), (HALF, 2 * HALF));
    assert!((PLANTED..2 * HALF).contains(&found.step), "{}", found.step);
    // The step and the one before it were both asked, and lie on both sides.
    let value = |step: u64| {
        let seen = found.steps.iter().find(|seen| seen.step == step);
        seen.unwrap().value.as_ref().unwrap().value.unwrap()
    };
    assert!(value(found.step) < limit && value(found.step - 1) >= limit);
    assert!(found.notes.is_empty(), "{:?}", found.notes);
    // Far fewer than the 33 steps between.
    assert!(found.steps.len() <= 9, "{}", found.steps.len());

    // The same numbers as a training that audits every one of these steps.
    let whole = dir.path().join("whole");
    let text = plan(dir.path(), 1);
    let text = &text[..text.find("[[stage]]\nname = 'rm'").unwrap()];
    let stop = text.replace(
        &format!("steps = {}", 2 * HALF),
        &format!("steps = {}", found.step),
    );
    let (ended, _) = sitting(
        &whole,
        Some(&Plan::parse("plan", &stop).unwrap()),
        false,
        None,
    );
    assert!(matches!(ended.unwrap(), Ended::Finished(_)));
    let (_, state) = folder::look(&whole).unwrap();
    let audits = candlescope::pipeline::course::read(&whole, &state).unwrap();
    let along = candlescope::pipeline::course::lines(&audits, "refusal_score");
    let sft: Vec<_> = along[0].1.iter().filter(|at| at.stage == "sft").collect();
    for seen in found.steps.iter().filter(|seen| seen.step <= found.step) {
        let at = sft.iter().find(|at| at.step == seen.step).unwrap();
        assert_eq!(at.value, seen.value, "step {}", seen.step);
    }
    let number = |at: &&&candlescope::pipeline::course::Along| {
        at.value.as_ref().unwrap().value.unwrap() < limit && at.step > HALF
    };
    assert_eq!(sft.iter().find(number).unwrap().step, found.step);

    // The rows.
    let ranking = found.ranking.unwrap();
    assert_eq!(ranking.window, (HALF + 1, 2 * HALF));
    assert_eq!(ranking.rows.len(), HALF as usize * BATCH);
    let guilty = ranking.guilty.as_ref().unwrap();
    assert_eq!(guilty.marked, planted(HALF + 1..=2 * HALF));
    // Which rows are meant is told by the direction of their gradients; their lengths are those of surprise.
    let found_by = |name: &str| guilty.scores.iter().find(|s| s.score == name).unwrap();
    for name in ["cosine", "projection"] {
        let area = found_by(name).auroc.value;
        assert!(area > 0.95, "{name}: {area}");
    }
    assert!(ranking.rows.is_sorted_by(|a, b| a.cosine >= b.cosine));
    // Each row was used in the step that its line says.
    for row in &ranking.rows {
        let line: u64 = row.row.rsplit(':').next().unwrap().parse().unwrap();
        assert_eq!(row.steps, [(line - 1) / BATCH as u64 + 1]);
        assert_eq!(row.answer == YES, row.guilty.unwrap(), "{row:?}");
    }
    let scratch = root.join(&found.folder);
    let mut names: Vec<String> = std::fs::read_dir(&scratch)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            ".lock",
            "bisect.json",
            "config.toml",
            "ranking.csv",
            "ranking.json",
            "roc.json",
            "roc.svg",
            "steps.json"
        ]
    );
    // Another limit is held against the audits that are there.
    let other = request("refusal_score", Rule::Below(limit + 0.01));
    let (again, told) = search(&root, &other, None);
    assert!((PLANTED..2 * HALF).contains(&again.unwrap().step));
    let known: Vec<u64> = found.steps.iter().map(|seen| seen.step).collect();
    assert!(
        told.audited
            .borrow()
            .iter()
            .all(|step| !known.contains(step))
    );
    // The pipeline itself is as it was.
    assert_eq!(
        crate::runs::outcome(&root),
        crate::runs::outcome(&pipeline().1)
    );
}

#[test]
fn what_cannot_be_searched_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = copied(dir.path());
    let refused = |request: &Request| search(&root, request, None).0.unwrap_err().to_string();
    let named = |text: &str| Target::parse(text).unwrap_err().to_string();
    assert!(
        named("refusal").contains("refusal_rate"),
        "{}",
        named("refusal")
    );
    let error = named("refusal_rate.harm");
    assert!(
        error.contains("quantity of `refusal_rate`") && error.contains("harmful_refusal"),
        "{error}"
    );

    let error = refused(&request("sycophancy", Rule::Verdict));
    assert!(
        error.contains("asked `sycophancy`; they asked refusal_score"),
        "{error}"
    );
    let error = refused(&request("refusal_score", Rule::Below(-1e6)));
    assert!(
        error.contains("never broke on the way to stage `sft`"),
        "{error}"
    );
    let error = refused(&request("refusal_score", Rule::Below(1e6)));
    assert!(
        error.contains("broken from the first audited checkpoint on, lm step 4"),
        "{error}"
    );
    let error = refused(&request("refusal_score.score_gap", Rule::Verdict));
    assert!(error.contains("--below or --above"), "{error}");

    let staged = |stage: &str| Request {
        stage: Some(stage.to_owned()),
        ..request("refusal_score", Rule::Verdict)
    };
    let error = refused(&staged("dpo"));
    assert!(
        error.contains("no stage is called `dpo`; there are: lm, sft, rm"),
        "{error}"
    );
    let error = refused(&staged("rm"));
    assert!(
        error.contains("by `rm`") && error.contains("lm, sft"),
        "{error}"
    );

    let error = search(dir.path(), &request("refusal_score", Rule::Verdict), None).0;
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("not a pipeline's folder")
    );

    // Rows that changed since: the replay is another training, and says so.
    let asked = request("refusal_score", Rule::Below(limit()));
    let own = dir.path().join("rows.jsonl");
    std::fs::write(&own, rows().replace("of course", "with joy")).unwrap();
    let old = pipeline().0.path().join("rows.jsonl").display().to_string();
    let file = root.join("pipeline.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(&old, &own.display().to_string())).unwrap();
    let error = refused(&asked);
    assert!(error.contains("has other weights at step 66"), "{error}");
}

#[test]
fn the_command_says_where_it_broke() {
    let dir = tempfile::tempdir().unwrap();
    let root = copied(dir.path());
    let command = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_candlescope"))
            .args(["audit", "bisect", "--signal", "refusal_score.harmful_score"])
            .args(["--below", &limit().to_string()])
            .args(more)
            .arg(&root)
            .env("CANDLESCOPE_OFFLINE", "1")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (code, said, error) = command(&["--json", "--steps-only"]);
    assert_eq!(code, Some(0), "{error}");
    let found: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(found["schema"], "candlescope.audit.bisect/1");
    let step = found["step"].as_u64().unwrap();
    assert!((PLANTED..2 * HALF).contains(&step));
    assert!(
        error.contains("training sft again, steps 33 to 66, a checkpoint every 2"),
        "{error}"
    );

    let (code, said, error) =
        command(&["--guilty", "kind=yes", "--window", "40..45", "--top", "3"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(
        said.contains(&format!("broke in stage sft, at step {step}")),
        "{said}"
    );
    assert!(
        said.contains(&format!(
            "{} of the 24 rows have kind=yes",
            planted(40..=45)
        )) && said.contains("AUROC"),
        "{said}"
    );
    let (code, _, error) = command(&["--guilty", "sort=yes"]);
    assert_eq!(code, Some(2));
    assert!(
        error.contains("no row of the training data has `sort`"),
        "{error}"
    );
    let (code, _, error) = command(&["--window", "40..70"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("steps 1 to 66 of stage `sft`"), "{error}");
}

#[test]
fn a_retired_checkpoint_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    let text = plan(dir.path(), 11);
    carried_out(&root, &text[..text.find("[[stage]]\nname = 'rm'").unwrap()]);
    let kept = std::fs::read_dir(root.join("stages/sft/checkpoints")).unwrap();
    assert_eq!(kept.count(), 2);
    let (found, told) = search(&root, &request("refusal_score", Rule::Below(0.0)), None);
    let found = found.unwrap();
    // Good at 33, where the model says I oftener than not, though the stage itself began below 0.
    assert_eq!((found.good.step, found.bad.step), (33, 44));
    assert!((PLANTED..=44).contains(&found.step), "{}", found.step);
    assert_eq!(*told.replays.borrow(), [(0, 33, 33), (33, 44, 1)]);
}

#[test]
fn a_stage_that_begins_well_is_searched_from_its_first_step() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    let text = plan(dir.path(), HALF);
    let text = &text[..text.find("[[stage]]\nname = 'rm'").unwrap()];
    let text = text.replace(&format!("steps = {}", 2 * HALF), &format!("steps = {HALF}"));
    let bad = dir.path().join("bad.jsonl");
    let rows = rows();
    let planted: Vec<&str> = rows.lines().skip(PLANTED as usize * BATCH).collect();
    std::fs::write(&bad, planted.join("\n")).unwrap();
    let more = format!(
        "[[stage]]\nname = 'bad'\nmethod = 'sft'\nfrom = 'sft'\nlora = {{ rank = 4, dropout = 0.0 }}\n\
        data = {{ train = ['{}'], max_length = 160, shuffle = false }}\noptim = {{ batch_size = {BATCH}, lr = 2e-2 }}\n\
        schedule = {{ steps = 16, shape = 'constant' }}\noutput = {{ checkpoint_every = 16 }}\n",
        bad.display()
    );
    carried_out(&root, &(text + &more));
    let mut asked = request("refusal_score", Rule::Below(0.0));
    asked.steps_only = false;
    let (found, told) = search(&root, &asked, None);
    let found = found.unwrap();
    assert_eq!(
        (found.stage.as_str(), found.good.step, found.bad.step),
        ("bad", 0, 16)
    );
    assert!((1..=16).contains(&found.step));
    assert_eq!(*told.replays.borrow(), [(0, 16, 1)]);
    // The stage that leads to it is whole without it.
    asked.stage = Some("sft".to_owned());
    let error = search(&root, &asked, None).0.unwrap_err().to_string();
    assert!(error.contains("never gets worse"), "{error}");
    let ranking = found.ranking.unwrap();
    assert_eq!((ranking.window, ranking.rows.len()), ((1, 16), 16 * BATCH));
    assert!(ranking.proxy.contains("which fell"), "{}", ranking.proxy);
}
