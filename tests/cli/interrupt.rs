//! Ctrl-C: running work stops at its next safe place, says so, ends with 130, and leaves nothing half-written.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::binary::{command, llama, ok, text};
use crate::looking::{contents, manifest};

/// Longer than any machine takes to the first sign of work.
const PATIENCE: Duration = Duration::from_secs(120);

fn start(args: &[&str]) -> Child {
    command(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn interrupt(child: &Child) {
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: kill touches no memory; the child has not been waited for, so the id is still its own.
    let sent = unsafe { libc::kill(pid, libc::SIGINT) };
    assert_eq!(sent, 0);
}

/// Waits until the file is there; the child must still be running then.
fn wait_for(path: &Path, child: &mut Child) {
    let begun = Instant::now();
    while !path.exists() {
        let ended = child.try_wait().unwrap();
        assert!(
            ended.is_none(),
            "it ended before {} was there",
            path.display()
        );
        assert!(begun.elapsed() < PATIENCE, "{} never came", path.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_interrupted_capture_keeps_whole_shards_and_goes_on_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let texts = dir.path().join("rows.txt");
    let rows: Vec<String> = (0..160)
        .map(|i| format!("row {i} {}", "some words of it ".repeat(12)))
        .collect();
    std::fs::write(&texts, rows.join("\n")).unwrap();
    let (model, broken, whole) = (llama(), dir.path().join("broken"), dir.path().join("whole"));
    let args = |out: &Path| -> Vec<String> {
        let words = [
            "capture",
            &model,
            "--points",
            "resid_post.*",
            "--shard-mb",
            "1",
            "--resume",
        ];
        let files = [
            "--file",
            texts.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ];
        words
            .iter()
            .chain(&files)
            .map(|s| (*s).to_owned())
            .collect()
    };
    let words = args(&broken);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();

    let mut child = start(&words);
    wait_for(&broken.join("acts-00000.safetensors"), &mut child);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert_eq!(text(&output.stdout), "");
    assert!(
        stderr
            .contains("of 160 rows are stored; the same command with --resume goes on from there"),
        "{stderr}"
    );
    assert!(stderr.ends_with("\ninterrupted\n"), "{stderr}");

    // What is there is what the manifest lists, and each of it whole.
    let begun = manifest(&broken);
    assert_eq!(begun["complete"], false);
    let mut listed: Vec<&str> = begun["shards"]
        .as_array()
        .unwrap()
        .iter()
        .map(|shard| shard["file"].as_str().unwrap())
        .collect();
    assert!(!listed.is_empty());
    listed.push("manifest.json");
    let kept = contents(&broken);
    assert_eq!(kept.keys().collect::<Vec<_>>(), listed);

    let finished = args(&whole);
    ok(&finished.iter().map(String::as_str).collect::<Vec<_>>());
    ok(&words);
    let (resumed, at_once) = (contents(&broken), contents(&whole));
    assert!(resumed == at_once, "the resumed store differs");
    assert!(
        kept.iter()
            .all(|(name, bytes)| name == "manifest.json" || resumed[name] == *bytes)
    );
}

/// Killed, nothing can be tidied up; what is there is gone on with all the same, packed contexts and their marks as well.
#[test]
fn a_killed_capture_of_packed_contexts_goes_on_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let texts = dir.path().join("texts.txt");
    let words: Vec<String> = (0..900)
        .map(|i| format!("in there {i} the other thing"))
        .collect();
    std::fs::write(&texts, words.join("\n<|endoftext|>\n")).unwrap();
    let (model, broken, whole) = (llama(), dir.path().join("broken"), dir.path().join("whole"));
    let args = |out: &Path| -> Vec<String> {
        let words = "--points resid_post.* --pack 64 --drop first,special,norm:1.2 --store-dtype int8 --batch 4 --shard-mb 1 --resume";
        let files = [
            "--docs",
            texts.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ];
        let all = ["capture", &model]
            .into_iter()
            .chain(words.split(' '))
            .chain(files);
        all.map(str::to_owned).collect()
    };
    let words = args(&broken);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut child = start(&words);
    wait_for(&broken.join("acts-00000.safetensors"), &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(manifest(&broken)["complete"], false);

    let finished = args(&whole);
    ok(&finished.iter().map(String::as_str).collect::<Vec<_>>());
    ok(&words);
    let (resumed, at_once) = (contents(&broken), contents(&whole));
    assert!(at_once.len() > 3, "{:?}", at_once.keys());
    assert!(resumed == at_once, "the resumed store differs");
}

#[test]
fn an_interrupted_audit_reports_what_it_has_and_is_no_pass() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let model = llama();
    let mut child = start(&[
        "audit",
        "run",
        &model,
        "--quick",
        "--report",
        report.to_str().unwrap(),
    ]);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains('%') {
        assert!(
            stderr.read_line(&mut said).unwrap() > 0,
            "no progress: {said}"
        );
    }
    interrupt(&child);
    stderr.read_to_string(&mut said).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.ends_with("\ninterrupted\n"), "{said}");
    assert!(!said.contains("error"), "{said}");

    let files = contents(&report);
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["audit.json", "junit.xml", "report.html", "report.md"]
    );
    let audit: Value = serde_json::from_slice(&files["audit.json"]).unwrap();
    let verdict = audit["verdict"].as_str().unwrap();
    assert!(
        ["UNDERPOWERED", "REVIEW", "BLOCK"].contains(&verdict),
        "{verdict}"
    );
    assert!(text(&output.stdout).contains("interrupted"));
    assert!(text(&files["report.html"]).trim_end().ends_with("</html>"));
}
