//! The binary, killed (SIGKILL) at random moments of the whole pipeline: the same models and verdicts in the end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};

use crate::dictionaries::SAE;
use crate::runs::{outcome, plan};

fn command(dir: &Path, root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_candlescope"));
    command
        .args(["pipeline", "run", "--threads", "1", "--out"])
        .arg(root)
        .current_dir(dir)
        .env("CANDLESCOPE_OFFLINE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if root.join("pipeline.toml").exists() {
        command.arg("--resume");
    } else {
        command.arg("plan.toml");
    }
    command
}

#[test]
fn kills_in_any_stage_change_no_bit() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("plan.toml"), plan(dir, "go_on") + SAE).unwrap();
    let (whole, killed) = (dir.join("whole"), dir.join("killed"));
    let begun = Instant::now();
    let end = |root: &Path| {
        let output = command(dir, root).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
    };
    end(&whole);
    let longest = begun.elapsed();
    let kills: u32 = std::env::var("CANDLESCOPE_KILLS").map_or(4, |n| n.parse().unwrap());
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    for _ in 0..kills {
        let mut child = command(dir, &killed).spawn().unwrap();
        std::thread::sleep(
            longest
                .mul_f64(rng.random_range(0.1..0.5))
                .max(Duration::from_millis(20)),
        );
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(ended.is_none_or(|status| status.success()), "{said}");
    }
    end(&killed);
    assert_eq!(outcome(&whole), outcome(&killed));
}
