//! Every method through the binary, killed (SIGKILL) again and again at random moments: the end has the bits of a run that
//! nothing happened to.
//!
//! `CANDLESCOPE_KILLS=20` sets how many kills each run takes; two where it is not set.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};

use crate::rows::{same_end, write_pairs, write_rows};

const STEPS: u64 = 24;

struct Run {
    dir: tempfile::TempDir,
    /// The command, as `train` and `sft`.
    words: [&'static str; 2],
    method: &'static str,
}

impl Run {
    fn new(method: &'static str, data: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("train.jsonl");
        match data {
            "pairs" => write_pairs(&file, 22),
            "rows" => write_rows(&file, 22),
            text => std::fs::write(&file, text).unwrap(),
        }
        let model = if more.contains("new =") {
            ""
        } else {
            "name = 'toy'\n"
        };
        let config = format!(
            "[model]\n{model}{more}\n[data]\ntrain = ['train.jsonl']\nmax_length = 64\ndate = '2026-01-31'\n\
             [schedule]\nsteps = {STEPS}\n[output]\ncheckpoint_every = 2\nkeep_last = 2\n"
        );
        std::fs::write(dir.path().join("run.toml"), config).unwrap();
        Self {
            dir,
            words: ["train", method],
            method,
        }
    }

    fn root(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// In the folder of the config when it begins; in any other when it goes on.
    fn command(&self, root: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_candlescope"));
        command
            .args(self.words)
            .args(["--threads", "1", "--out", root.to_str().unwrap()])
            .env("CANDLESCOPE_OFFLINE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if root.join("run.toml").exists() {
            command.arg("--resume").current_dir("/");
        } else {
            command
                .args(["-c", "run.toml"])
                .current_dir(self.dir.path());
        }
        command
    }

    fn to_the_end(&self, root: &Path) {
        let output = self.command(root).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}: {said}", self.method);
    }

    /// Kills it at a random moment of what is left; whether it was still running.
    fn killed_after(&self, root: &Path, pause: Duration) -> bool {
        let mut child = self.command(root).spawn().unwrap();
        std::thread::sleep(pause);
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            ended.is_none_or(|status| status.success()),
            "{}: {said}",
            self.method
        );
        ended.is_none()
    }
}

fn killed_is_uninterrupted(method: &'static str, data: &str, more: &str) {
    uninterrupted(&Run::new(method, data, more));
}

fn uninterrupted(run: &Run) {
    let method = run.method;
    let (whole, killed) = (run.root("whole"), run.root("killed"));
    let begun = Instant::now();
    run.to_the_end(&whole);
    let longest = begun.elapsed();
    let kills: usize = std::env::var("CANDLESCOPE_KILLS").map_or(2, |n| n.parse().unwrap());
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let (mut landed, mut tries) = (0, 0);
    while landed < kills {
        tries += 1;
        assert!(
            tries < 20 * kills + 20,
            "{method}: only {landed} kills landed"
        );
        if run.killed_after(&killed, longest.mul_f64(rng.random_range(0.02..0.7))) {
            landed += 1;
        } else {
            // Finished before the kill: once more from the beginning.
            same_end(&whole, &killed, STEPS);
            std::fs::remove_dir_all(&killed).unwrap();
        }
    }
    run.to_the_end(&killed);
    same_end(&whole, &killed, STEPS);
}

const OPTIM: &str = "[optim]\nlr = 1e-3\nbatch_size = 2\nweight_decay = 0.01\n";

#[test]
fn sft() {
    killed_is_uninterrupted("sft", "rows", OPTIM);
}

#[test]
fn sft_of_an_adapter_with_dropout() {
    let more = format!("{OPTIM}[lora]\nrank = 4\ndropout = 0.1\n");
    killed_is_uninterrupted("sft", "rows", &more);
}

#[test]
fn rm() {
    killed_is_uninterrupted("rm", "pairs", OPTIM);
}

#[test]
fn dpo() {
    killed_is_uninterrupted("dpo", "pairs", OPTIM);
}

#[test]
fn dpo_of_an_adapter_against_another_checkpoint() {
    let more = format!("{OPTIM}[lora]\nrank = 4\n[method.dpo]\nreference = 'toy:1'\n");
    killed_is_uninterrupted("dpo", "pairs", &more);
}

#[test]
fn kto() {
    killed_is_uninterrupted("kto", "pairs", OPTIM);
}

const PROMPTS: &str = "{\"prompt\": \"The cat sat on the\"}\n{\"prompt\": \"Why\"}\n{\"prompt\": \"Where is the house\"}\n";
const REWARD: &str =
    "rules = [{ kind = 'tokens', texts = ['cat', 'dog'], weight = 4.0 }, { kind = 'stops' }]\n";

fn drawn(method: &str) -> String {
    format!(
        "{OPTIM}[method.{method}]\nepochs = 2\n[method.{method}.rollout]\nresponse_length = 6\ntemperature = 1.0\n\
         [method.{method}.kl]\nkind = 'adaptive'\nbeta = 0.05\ntarget = 2.0\nhorizon = 100.0\n\
         [method.{method}.reward]\n{REWARD}"
    )
}

#[test]
fn ppo() {
    killed_is_uninterrupted("ppo", PROMPTS, &drawn("ppo"));
}

#[test]
fn rloo() {
    killed_is_uninterrupted("rloo", PROMPTS, &drawn("rloo"));
}

#[test]
fn lm() {
    let new = "new = { family = 'llama', d_model = 32, n_layers = 2, n_heads = 2, n_ctx = 64, vocab = 300 }\n";
    let texts = (0..20)
        .map(|i| {
            format!(
                "{{\"text\": \"The cat number {i} sat on the mat and looked at the dog of the house.\"}}\n"
            )
        })
        .collect::<Vec<_>>()
        .concat();
    killed_is_uninterrupted("lm", &texts, &format!("{new}{OPTIM}"));
}

/// An autoencoder of each kind of state, a transcoder and a crosscoder, from one harvest.
const DICTIONARIES: &str = "
[model]
name = 'toy'
[data]
path = 'texts.txt'
context = 16
drop = 'first'
mixing = { rows = 96, keep = 0.5, batch = 2 }
[schedule]
rows = 768
batch = 32
held_out = 16
[dictionary.top]
reads = ['resid_post.1']
d_sae = 96
dead = { after = 64, resample_every = 200 }
architecture = { kind = 'top-k', k = 4, anneal_steps = 9 }
[dictionary.nested]
reads = ['resid_post.1']
d_sae = 64
architecture = { kind = 'matryoshka', k = 3, levels = { widths = [16] } }
[dictionary.over]
reads = ['mlp_in.1']
writes = ['mlp_out.1']
skip = true
d_sae = 48
architecture = { kind = 'jump-relu', l0 = 0.1, warmup = 5 }
[dictionary.across]
reads = ['resid_post.0', 'resid_post.1']
d_sae = 48
architecture = { kind = 'gated', l1 = 0.5 }
[output]
checkpoint_every = 2
eval_every = 5
keep_last = 2
";

#[test]
fn dictionaries() {
    uninterrupted(&to_train(DICTIONARIES));
}

/// The last steps of the first, through the model.
#[test]
fn dictionaries_end_to_end() {
    let (first, _) = DICTIONARIES.split_once("[dictionary.nested]").unwrap();
    let rest = "[end_to_end]\ntokens = 384\nbatch = 32\n[output]\ncheckpoint_every = 2\n";
    let config = format!("{first}{rest}").replace("rows = 768", "rows = 384");
    uninterrupted(&to_train(&config));
}

fn to_train(config: &str) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let line = "The cat sat on the mat and looked at the dog of the red house by the river\n";
    std::fs::write(dir.path().join("texts.txt"), line.repeat(90)).unwrap();
    std::fs::write(dir.path().join("run.toml"), config).unwrap();
    Run {
        dir,
        words: ["sae", "train"],
        method: "dictionaries",
    }
}
