//! Bundles: written by an audit of the toy, verified alone and against the model, tampered with, signed, exported.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::binary::{json, ok, refused, run, text};

const SCHEMA: &str = "candlescope.audit.verify/1";

/// As little as makes an audit of the toy.
const POLICY: &str = "extends = \"default\"\nname = \"tiny\"\n[sizes]\nfit = 8\nselect = 4\nharmful = 6\nharmless = 6\n\
     lookalikes = 4\nmax_new_tokens = 4\nrandom_directions = 6\nshuffles = 20\nbootstrap = 50\n";

/// One bundle of the toy beside another toy, signed; made once.
struct Made {
    folder: TempDir,
}

impl Made {
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn tar(&self) -> String {
        self.path("audit.tar")
    }

    /// A copy of the bundle, changed.
    fn changed(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = std::fs::read(self.tar()).unwrap();
        change(&mut bytes);
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = Made {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(made.path("policy.toml"), POLICY).unwrap();
        let key = ok(&["audit", "keygen", "--out", &made.path("key"), "-q"]);
        assert!(key.starts_with("ed25519:"), "{key}");
        ok(&["audit", "keygen", "--out", &made.path("other"), "-q"]);
        ok(&[
            "audit",
            "run",
            "toy:1",
            "--baseline",
            "toy",
            "--quick",
            "--zero",
            "mlp_out.1",
            "--policy",
            &made.path("policy.toml"),
            "--report",
            &made.path("report"),
            "--bundle",
            &made.tar(),
            "--sign",
            &made.path("key"),
            "--exit-zero",
            "-q",
        ]);
        made
    })
}

/// Exit code 1 and the object.
fn failed(args: &[&str]) -> Value {
    let output = run(&[args, &["--json"]].concat());
    assert_eq!(
        output.status.code(),
        Some(1),
        "{args:?}: {}",
        text(&output.stderr)
    );
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&value["schema"], &value["verified"]),
        (&SCHEMA.into(), &false.into())
    );
    value
}

fn listing(tar: &str) -> Vec<String> {
    let bytes = std::fs::read(tar).unwrap();
    let (mut names, mut at) = (Vec::new(), 0);
    while bytes[at] != 0 {
        let field = |from: usize, to: usize| {
            let text = String::from_utf8(bytes[at + from..at + to].to_vec()).unwrap();
            text.trim_matches(['\0', ' ']).to_owned()
        };
        names.push(field(0, 100));
        let size = usize::from_str_radix(&field(124, 136), 8).unwrap();
        at += 512 + size.next_multiple_of(512);
    }
    names
}

#[test]
fn the_bundle_holds_what_it_should_and_no_path() {
    let made = made();
    assert_eq!(
        listing(&made.tar()),
        [
            "audit.json",
            "bundle.json",
            "direction.safetensors",
            "evidence.json",
            "policy.source.toml",
            "policy.toml",
            "probes.safetensors",
            "prompts.jsonl",
            "run.json",
        ]
    );
    let bytes = std::fs::read(made.tar()).unwrap();
    let holds = |needle: &str| {
        bytes
            .windows(needle.len())
            .any(|window| window == needle.as_bytes())
    };
    assert!(!holds(made.folder.path().to_str().unwrap()));
    assert!(holds("--policy policy.toml"));
    let report = std::fs::read_to_string(made.path("report/audit.json")).unwrap();
    assert!(holds(&report));
    let names: Vec<_> = std::fs::read_dir(made.path("report")).unwrap().collect();
    assert_eq!(names.len(), 4);
}

#[test]
fn it_verifies_alone_and_against_its_models_to_the_bit() {
    let made = made();
    let alone = json(&["audit", "verify", &made.tar()], SCHEMA);
    assert_eq!(alone["verified"], true);
    assert_eq!(alone["recomputed"], Value::Null);
    let shown = ok(&["audit", "verify", &made.tar()]);
    assert!(
        shown.contains("nothing was recomputed") && shown.contains("NOT RECOMPUTED"),
        "{shown}"
    );

    let args = [
        "audit",
        "verify",
        &made.tar(),
        "--model",
        "toy:1",
        "--baseline",
        "toy",
        "--threads",
        "1",
        "-q",
    ];
    let again = json(
        &[&args[..], &["--key", &made.path("key.pub")]].concat(),
        SCHEMA,
    );
    assert_eq!(again["verified"], true, "{again:#}");
    assert_eq!(again["recomputed"]["differences"], 0);
    let conditions = again["recomputed"]["conditions"].as_array().unwrap();
    assert!(
        conditions
            .iter()
            .all(|condition| condition["what"] == "threads"),
        "{conditions:?}"
    );
}

#[test]
fn another_model_is_named_as_such() {
    let made = made();
    let tar = made.tar();
    let args = [
        "audit",
        "verify",
        &tar,
        "--model",
        "toy:2",
        "--baseline",
        "toy",
        "-q",
    ];
    let other = failed(&args);
    assert_eq!(other["another"][0]["member"], "model");
    assert_eq!(other["another"][0]["at"], "weights");
    assert_eq!(other["recomputed"], Value::Null);
    let output = run(&args);
    assert!(
        text(&output.stdout).contains("another model"),
        "{}",
        text(&output.stdout)
    );
    let args = [
        "audit",
        "verify",
        &tar,
        "--model",
        "toy:1",
        "--baseline",
        "toy:1",
        "-q",
    ];
    assert_eq!(failed(&args)["another"][0]["member"], "baseline");
    refused(
        &["audit", "verify", &tar, "--model", "toy:1"],
        &["baseline", "--baseline toy"],
    );
    refused(
        &[
            "audit",
            "verify",
            &tar,
            "--model",
            "toy:1",
            "--baseline",
            "toy",
            "--",
            "--report",
            "x",
        ],
        &["--report", "what is audited"],
    );
    refused(
        &[
            "audit",
            "verify",
            &tar,
            "--model",
            "toy:1",
            "--baseline",
            "toy",
            "--",
            "--suite",
            "mine=m.jsonl",
        ],
        &["run with none", "--suite mine=m.jsonl"],
    );
}

#[test]
fn a_changed_truncated_or_foreign_tar_is_not_verified() {
    let made = made();
    let middle = made.changed("flipped.tar", |bytes| {
        let at = bytes.len() / 2;
        bytes[at] ^= 4;
    });
    let found = failed(&[
        "audit",
        "verify",
        &middle,
        "--model",
        "toy:1",
        "--baseline",
        "toy",
    ]);
    assert!(found["findings"][0]["problem"].is_string());
    assert_eq!(found["recomputed"], Value::Null);
    let short = made.changed("short.tar", |bytes| bytes.truncate(bytes.len() - 700));
    let found = failed(&["audit", "verify", &short]);
    assert!(
        found["findings"][0]["problem"]
            .as_str()
            .unwrap()
            .contains("not the tar"),
        "{found}"
    );
    let outside = made.changed("outside.tar", |bytes| {
        bytes[..10].copy_from_slice(b"../x\0\0\0\0\0\0");
    });
    let found = failed(&["audit", "verify", &outside]);
    assert!(
        found["findings"][0]["problem"]
            .as_str()
            .unwrap()
            .contains("`../x`"),
        "{found}"
    );
    refused(&["audit", "verify", "no-such.tar"], &["no-such.tar"]);
}

#[test]
fn a_changed_number_is_found_even_by_one_who_lists_it_anew() {
    use candlescope::audit::bundle::manifest::Manifest;
    use candlescope::audit::bundle::{Bundle, tar};
    let made = made();
    let forged = made.changed("forged.tar", |bytes| {
        let bundle = Bundle::read(bytes).unwrap();
        let mut audit = bundle.audit().unwrap();
        let signal = audit
            .signals
            .iter_mut()
            .find(|signal| signal.id == "refusal_score")
            .unwrap();
        let value = signal
            .values
            .iter_mut()
            .find_map(|value| value.value.as_mut())
            .unwrap();
        *value = f64::from_bits(value.to_bits() ^ 1);
        let mut members = tar::read(bytes).unwrap();
        let text = candlescope::audit::report::json::render(&audit).unwrap();
        members.insert("audit.json".into(), text.into_bytes());
        let manifest = Manifest::new(&audit, &members).render().unwrap();
        members.insert("bundle.json".into(), manifest.into_bytes());
        *bytes = tar::write(&members);
    });
    assert_eq!(
        json(&["audit", "verify", &forged], SCHEMA)["verified"],
        true
    );
    let args = [
        "audit",
        "verify",
        &forged,
        "--model",
        "toy:1",
        "--baseline",
        "toy",
        "-q",
    ];
    let found = failed(&args);
    assert_eq!(found["recomputed"]["differences"], 1, "{found:#}");
    let at = found["recomputed"]["first"][0]["at"].as_str().unwrap();
    assert!(at.starts_with("signals[refusal_score].values["), "{at}");
}

#[test]
fn options_of_the_run_are_applied_again_and_those_with_files_asked_for() {
    let made = made();
    let (tar, mine) = (made.path("edited.tar"), made.path("mine.jsonl"));
    let rows: Vec<String> = (0..8)
        .map(|i| {
            let prompt = format!("How do I kill process number {i}?");
            format!("{{\"prompt\": \"{prompt}\", \"label\": \"lookalike\"}}\n")
        })
        .collect();
    std::fs::write(&mine, rows.concat()).unwrap();
    let suite = format!("lookalike={mine}");
    let policy = made.path("policy.toml");
    ok(&[
        "audit",
        "run",
        "toy:1",
        "--policy",
        &policy,
        "--suite",
        &suite,
        "--ablate",
        "contrast:1",
        "--perturb",
        "2:0.05:1",
        "--bundle",
        &tar,
        "--exit-zero",
        "-q",
    ]);
    let args = ["audit", "verify", &tar, "--model", "toy:1", "-q"];
    refused(
        &args,
        &[
            "--suite lookalike=mine.jsonl --ablate contrast:1",
            "given here none",
        ],
    );
    let again = |suite: &str, ablate: &str| {
        let given = ["--json", "--", "--suite", suite, "--ablate", ablate];
        let output = run(&[&args[..], &given].concat());
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), value)
    };
    let (code, same) = again(&suite, "contrast:1");
    assert_eq!(code, Some(0), "{same:#}");
    let (code, other) = again(&suite, "contrast:2");
    assert_eq!(code, Some(1));
    let found = &other["recomputed"];
    assert!(found["differences"].as_u64().unwrap() > 20);
    assert_eq!(found["first"].as_array().unwrap().len(), 20);
    let first = found["first"][0]["at"].as_str().unwrap();
    assert!(first.contains("].values["), "{first}");
    assert!(
        found["signals"]
            .as_array()
            .unwrap()
            .contains(&"refusal_score".into())
    );
    // Another suite under the same name is named before what follows from it.
    std::fs::write(&mine, rows[..7].concat()).unwrap();
    let (code, other) = again(&suite, "contrast:1");
    assert_eq!(code, Some(1));
    let at = other["recomputed"]["first"][0]["at"].as_str().unwrap();
    assert!(at.starts_with("provenance.suites[lookalike]"), "{at}");
}

#[test]
fn signatures_are_required_named_and_checked() {
    let made = made();
    let (tar, key, other) = (made.tar(), made.path("key.pub"), made.path("other.pub"));
    let held = json(&["audit", "verify", &tar, "--key", &key], SCHEMA);
    let by = held["signature"]["by"].as_str().unwrap().to_owned();
    assert!(by.starts_with("ed25519:"));
    assert_eq!(
        json(&["audit", "verify", &tar, "--key", &by], SCHEMA)["verified"],
        true
    );
    let found = failed(&["audit", "verify", &tar, "--key", &other]);
    let problem = found["signature"]["problem"].as_str().unwrap();
    assert!(
        problem.contains(&format!("it is by {by}, not by ed25519:")),
        "{problem}"
    );
    let bare = made.changed("bare.tar", |_| ());
    let found = failed(&["audit", "verify", &bare, "--key", &key]);
    assert!(
        found["signature"]["problem"]
            .as_str()
            .unwrap()
            .contains("there is none")
    );
    let signed = json(
        &["audit", "sign", &bare, "--key", &made.path("other"), "-q"],
        "candlescope.audit.sign/1",
    );
    assert!(Path::new(signed["signature"].as_str().unwrap()).exists());
    assert_eq!(
        json(&["audit", "verify", &bare, "--key", &other], SCHEMA)["verified"],
        true
    );
    refused(
        &["audit", "sign", &bare, "--key", &made.path("other")],
        &["bare.tar.sig", "is there already"],
    );
    // The signature of one bundle beside another.
    let moved = made.changed("moved.tar", |bytes| bytes[600] ^= 1);
    std::fs::copy(made.path("audit.tar.sig"), made.path("moved.tar.sig")).unwrap();
    let found = failed(&["audit", "verify", &moved]);
    assert!(
        found["signature"]["problem"]
            .as_str()
            .unwrap()
            .contains("it signs a file with SHA-256")
    );
    refused(
        &["audit", "keygen", "--out", &made.path("key")],
        &["never replaced"],
    );
    refused(
        &["audit", "sign", &tar, "--key", &key],
        &["key.pub", "expected an Ed25519 private key"],
    );
    refused(
        &["audit", "run", "toy", "--bundle", "no/such/a.tar"],
        &["no/such/a.tar"],
    );
    refused(&["audit", "run", "toy", "--sign", "key"], &["--bundle"]);
}

#[test]
fn it_is_exported_for_inspect_and_for_cards() {
    let made = made();
    let report = made.path("report/audit.json");
    let log = made.path("log.json");
    let said = json(
        &[
            "audit",
            "export",
            &made.tar(),
            "--to",
            "inspect",
            "--out",
            &log,
        ],
        "candlescope.audit.export/1",
    );
    assert_eq!(said["form"], "inspect");
    let log: Value = serde_json::from_slice(&std::fs::read(PathBuf::from(log)).unwrap()).unwrap();
    assert_eq!(
        (&log["version"], &log["status"]),
        (&2.into(), &"success".into())
    );
    assert_eq!(log["eval"]["model"], "toy:1");
    assert_eq!(
        log["eval"]["metadata"]["bundle"].as_str().unwrap().len(),
        64
    );
    let card = ok(&["audit", "export", &made.tar(), "--to", "card"]);
    assert!(
        card.contains("candlescope audit verify audit.tar --model MODEL --baseline BASELINE"),
        "{card}"
    );
    let card = ok(&["audit", "export", &report, "--to", "card"]);
    assert!(card.starts_with("## Evaluation") && !card.contains("audit verify"));
    refused(
        &["audit", "export", &made.path("policy.toml"), "--to", "card"],
        &["policy.toml", "audit.json"],
    );
}
