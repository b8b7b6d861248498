//! Runs through the binary: killed at any moment, interrupted, out of disk, on one thread or two.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};

use crate::rows::{USUAL, config_text, files, same_end};

/// Longer than any machine takes to the first sign of work.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_candlescope"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("CANDLESCOPE_OFFLINE", "1")
        .env("COLUMNS", "120");
    command
}

pub fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

pub fn ok(args: &[&str]) -> String {
    let output = command(args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output));
    text(&output)
}

struct Place {
    dir: tempfile::TempDir,
    config: PathBuf,
}

impl Place {
    fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("run.toml");
        std::fs::write(&config, config_text(dir.path(), more)).unwrap();
        Self { dir, config }
    }

    fn root(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn begin<'a>(&'a self, root: &'a Path) -> Vec<&'a str> {
        let (config, root) = (self.config.to_str().unwrap(), root.to_str().unwrap());
        vec!["train", "sft", "-c", config, "--out", root]
    }
}

fn resume(root: &Path) -> Vec<&str> {
    vec!["train", "sft", "--resume", "--out", root.to_str().unwrap()]
}

fn signal(child: &Child, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: kill touches no memory; the child has not been waited for, so the id is still its own.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

/// Waits until it is there, or the child has ended.
fn wait_for(path: &Path, child: &mut Child) {
    let begun = Instant::now();
    while !path.exists() && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "{} never came", path.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn killed_at_any_moment_it_goes_on_to_the_same_bits() {
    let more = "[optim]\nlr = 1e-3\nbatch_size = 2\n[schedule]\nsteps = 40\n\
        [output]\ncheckpoint_every = 2\neval_every = 5\nkeep_last = 2\n";
    let place = Place::new(more);
    let (whole, killed) = (place.root("whole"), place.root("killed"));
    let begun = Instant::now();
    ok(&place.begin(&whole));
    let longest = begun.elapsed();
    let kills: usize = std::env::var("CANDLESCOPE_KILLS").map_or(5, |n| n.parse().unwrap());
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(20);
    let mut landed = 0;
    let mut tries = 0;
    while landed < kills {
        tries += 1;
        assert!(tries < 20 * kills + 20, "only {landed} kills landed");
        let args = if killed.join("run.toml").exists() {
            resume(&killed)
        } else {
            place.begin(&killed)
        };
        let mut child = command(&args).spawn().unwrap();
        // Within what is left of the run, so that most land before its end.
        std::thread::sleep(longest.mul_f64(rng.random_range(0.05..0.6)));
        if let Some(status) = child.try_wait().unwrap() {
            let output = child.wait_with_output().unwrap();
            assert_eq!(status.code(), Some(0), "{}", text(&output));
            // Finished before the kill: once more from the beginning.
            same_end(&whole, &killed, 40);
            std::fs::remove_dir_all(&killed).unwrap();
            continue;
        }
        signal(&child, libc::SIGKILL);
        child.wait().unwrap();
        landed += 1;
    }
    if killed.join("run.toml").exists() {
        ok(&resume(&killed));
    } else {
        ok(&place.begin(&killed));
    }
    same_end(&whole, &killed, 40);
    let shown = ok(&["runs", "list", place.dir.path().to_str().unwrap()]);
    assert_eq!(shown.matches("finished").count(), 2, "{shown}");
}

#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let place = Place::new(&USUAL.replace("steps = 11", "steps = 400"));
    let root = place.root("run");
    let mut child = command(&place.begin(&root)).spawn().unwrap();
    wait_for(&root.join("checkpoints/step-3"), &mut child);
    signal(&child, libc::SIGINT);
    let output = child.wait_with_output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(
        said.contains("go on with: candlescope train sft --resume --out"),
        "{said}"
    );
    let shown = ok(&["runs", "show", root.to_str().unwrap()]);
    assert!(
        shown.contains("interrupted") && shown.contains("of 400"),
        "{shown}"
    );
    let tail = ok(&["runs", "tail", root.to_str().unwrap(), "-n", "1", "--json"]);
    assert!(tail.contains("\"reason\":\"interrupted\""), "{tail}");
}

#[test]
fn one_thread_and_two_give_the_same_bits() {
    let place = Place::new(USUAL);
    let (one, two) = (place.root("one"), place.root("two"));
    ok(&[place.begin(&one), vec!["--threads", "1"]].concat());
    ok(&[place.begin(&two), vec!["--threads", "2"]].concat());
    same_end(&one, &two, 11);
}

#[test]
fn a_full_disk_loses_nothing() {
    let place = Place::new(USUAL);
    let (whole, full) = (place.root("whole"), place.root("full"));
    ok(&place.begin(&whole));
    let mut child = command(&place.begin(&full)).spawn().unwrap();
    wait_for(&full.join("checkpoints/step-3"), &mut child);
    signal(&child, libc::SIGKILL);
    child.wait().unwrap();
    let there = |root: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(root.join("checkpoints")).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    };
    let before = there(&full);
    let last = full.join("checkpoints").join(before.last().unwrap());
    let kept = files(&last);
    let mut limited = command(&resume(&full));
    // SAFETY: both calls are async-signal-safe and touch nothing of the parent. No file may grow beyond 100 kB, and the
    // signal that would end the process is ignored, so that writes fail as they do on a full disk.
    unsafe {
        limited.pre_exec(|| {
            let most = libc::rlimit {
                rlim_cur: 100_000,
                rlim_max: 100_000,
            };
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const most);
            Ok(())
        });
    }
    let output = limited.output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("error:") && said.contains("File too large"),
        "{said}"
    );
    assert_eq!(there(&full), before);
    assert_eq!(files(&last), kept);
    ok(&resume(&full));
    same_end(&whole, &full, 11);
}

#[test]
fn a_dry_run_says_what_would_be_and_writes_nothing() {
    let place = Place::new(USUAL);
    let root = place.root("run");
    let said = ok(&[
        place.begin(&root),
        vec!["--dry-run", "--set", "optim.lr=3e-4"],
    ]
    .concat());
    for expected in [
        "lr = 0.0003",
        "[output]",
        "trained",
        "end trained",
        "100.0% of the rows",
        "11 (6 an epoch, 4 rows each)",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(!root.exists());
    let output = command(&[place.begin(&root), vec!["--set", "optim.momentum=0.9"]].concat());
    let output = { output }.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output).contains("unknown field `momentum`"),
        "{}",
        text(&output)
    );
}
