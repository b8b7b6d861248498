//! A command as a source of rewards: a JSON object a line in, a number a line out, in the same order.
//!
//! Always: the command is started at the first answer and lives as long as the run; what it does wrong (it ends, is silent,
//! prints something else) is an error that quotes it, and leaves the run where it was. It is in a process group of its own,
//! so that Ctrl-C is heard by the run alone.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Answer, Scorer, TrainError};

/// `[method.NAME.reward.command]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The program and its arguments.
    pub run: Vec<String>,
    /// The folder it runs in: the one where the run was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Seconds that it may take for an answer.
    #[serde(default = "Ask::patience")]
    pub timeout: f64,
}

impl Ask {
    fn patience() -> f64 {
        30.0
    }

    /// Refuses a command that is none.
    ///
    /// # Errors
    /// Naming the field, which begins with `section`.
    pub fn check(&self, section: &str) -> Result<(), TrainError> {
        if self.run.first().is_none_or(String::is_empty) {
            let expected = "a program with its arguments, as [\"python3\", \"score.py\"]";
            return Err(TrainError::config(
                format!("{section}.run"),
                expected,
                "none",
            ));
        }
        if !(self.timeout > 0.0 && self.timeout <= 86_400.0) {
            let field = format!("{section}.timeout");
            return Err(TrainError::config(
                field,
                "seconds, above 0 and up to a day",
                self.timeout,
            ));
        }
        Ok(())
    }
}

/// No line that is a number is longer.
const LONGEST: u64 = 4096;
/// Lines of the command's error output that are quoted.
const QUOTED: usize = 3;
/// How long a command that has closed its output may take to end, so that its status can be told.
const GRACE: Duration = Duration::from_millis(500);

/// The command and its pipes.
pub struct Piped {
    ask: Ask,
    running: Option<Running>,
}

struct Running {
    child: Child,
    lines: Sender<String>,
    replies: Receiver<String>,
    complaints: Arc<Mutex<VecDeque<String>>>,
}

impl Piped {
    /// Not started yet.
    pub fn new(ask: Ask) -> Self {
        Self { ask, running: None }
    }

    fn wrong(&self, why: String) -> TrainError {
        TrainError::Reward {
            origin: format!("command `{}`", self.ask.run.join(" ")),
            why,
        }
    }

    fn running(&mut self) -> Result<&mut Running, TrainError> {
        if self.running.is_none() {
            let started = Running::start(&self.ask);
            let running = started.map_err(|e| self.wrong(format!("it cannot be started: {e}")))?;
            self.running = Some(running);
        }
        self.running
            .as_mut()
            .ok_or_else(|| TrainError::config("reward.command", "a running command", "none"))
    }

    fn ask(&mut self, answers: &[Answer]) -> Result<Vec<f64>, TrainError> {
        let patience = Duration::from_secs_f64(self.ask.timeout);
        if let Ok(line) = self.running()?.replies.try_recv() {
            let line = line.trim_end();
            return Err(self.wrong(format!("it prints more than a line an answer: {line:?}")));
        }
        let running = self.running()?;
        for answer in answers {
            let line = json!({
                "prompt": answer.prompt_text,
                "completion": answer.text,
                "tokens": answer.ids.len(),
                "ended": answer.ended,
            });
            // A writer that is gone shows below: there are no replies either.
            let _ = running.lines.send(format!("{line}\n"));
        }
        let mut scores = Vec::with_capacity(answers.len());
        while scores.len() < answers.len() {
            let reply = running.replies.recv_timeout(patience);
            match reply.map(|line| (number(&line), line)) {
                Ok((Some(score), _)) => scores.push(score),
                Ok((None, line)) => {
                    let (done, all) = (scores.len(), answers.len());
                    return Err(self.wrong(format!(
                        "expected a number a line, found {:?} after {done} of {all} scores",
                        line.trim_end()
                    )));
                }
                Err(error) => {
                    let why = running.why(error, (scores.len(), answers.len()), patience);
                    return Err(self.wrong(why));
                }
            }
        }
        Ok(scores)
    }
}

/// A score; only a finite one is one.
fn number(line: &str) -> Option<f64> {
    let number: f64 = serde_json::from_str(line.trim()).ok()?;
    number.is_finite().then_some(number)
}

impl Scorer for Piped {
    fn scores(&mut self, answers: &[Answer]) -> Result<Vec<f64>, TrainError> {
        let scores = self.ask(answers);
        if scores.is_err() {
            // What it still prints belongs to answers that are no longer asked about.
            self.running = None;
        }
        scores
    }
}

impl Running {
    fn start(ask: &Ask) -> std::io::Result<Self> {
        let (program, arguments) = ask
            .run
            .split_first()
            .ok_or_else(|| std::io::Error::other("no program"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(ask.dir.as_deref().unwrap_or(Path::new(".")))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let ends = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = ends else {
            return Err(std::io::Error::other("no pipes"));
        };
        let (lines, written) = channel();
        std::thread::spawn(move || write(input, &written));
        let (read, replies) = channel();
        std::thread::spawn(move || replied(output, &read));
        let complaints = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&complaints);
        std::thread::spawn(move || complained(errors, &kept));
        Ok(Self {
            child,
            lines,
            replies,
            complaints,
        })
    }

    /// Why there is no reply.
    fn why(
        &mut self,
        error: RecvTimeoutError,
        (done, all): (usize, usize),
        patience: Duration,
    ) -> String {
        let after = format!("after {done} of {all} scores");
        let why = match error {
            RecvTimeoutError::Timeout => format!(
                "it was silent for {} s {after}; it has to flush its output after each line",
                patience.as_secs_f64()
            ),
            RecvTimeoutError::Disconnected => match self.status() {
                Some(status) => format!("it ended ({status}) {after}"),
                None => format!("it closed its output {after}"),
            },
        };
        let quoted: Vec<String> = match self.complaints.lock() {
            Ok(lines) => lines.iter().cloned().collect(),
            Err(_) => Vec::new(),
        };
        if quoted.is_empty() {
            return why;
        }
        format!("{why}; it said: {}", quoted.join(" | "))
    }

    fn status(&mut self) -> Option<std::process::ExitStatus> {
        let begun = Instant::now();
        while begun.elapsed() < GRACE {
            if let Ok(Some(status)) = self.child.try_wait() {
                // Its last words may still be on the way.
                std::thread::sleep(Duration::from_millis(20));
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(mut input: ChildStdin, lines: &Receiver<String>) {
    for line in lines {
        if input
            .write_all(line.as_bytes())
            .and_then(|()| input.flush())
            .is_err()
        {
            return;
        }
    }
}

fn replied(output: ChildStdout, replies: &Sender<String>) {
    let mut output = BufReader::new(output);
    while let Some(line) = line(&mut output) {
        if replies.send(line).is_err() {
            return;
        }
    }
}

fn complained(errors: ChildStderr, kept: &Mutex<VecDeque<String>>) {
    let mut errors = BufReader::new(errors);
    while let Some(line) = line(&mut errors) {
        let Ok(mut kept) = kept.lock() else {
            return;
        };
        if kept.len() == QUOTED {
            kept.pop_front();
        }
        let short: String = line.trim_end().chars().take(200).collect();
        kept.push_back(short);
    }
}

/// The next line, or as much of it as a line may have; `None` at the end.
fn line(from: &mut impl BufRead) -> Option<String> {
    let mut bytes = Vec::new();
    let read = from.take(LONGEST).read_until(b'\n', &mut bytes).ok()?;
    (read > 0).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn scored(script: &str, timeout: f64) -> Result<Vec<f64>, String> {
        let mut piped = Piped::new(Ask {
            run: vec!["sh".into(), "-c".into(), script.into()],
            timeout,
        });
        let answers: Vec<Answer> = [1usize, 3, 2]
            .into_iter()
            .map(|n| Answer::new(&[9], &vec![5; n], &[]))
            .collect();
        let first = piped.scores(&answers).map_err(|e| e.to_string());
        let again = piped.scores(&answers).map_err(|e| e.to_string());
        assert_eq!(first.is_ok(), again.is_ok(), "{again:?}");
        first
    }

    #[test]
    fn a_command_is_asked_about_each_answer_in_order() {
        // The number of tokens, picked out of the line.
        let script =
            r#"while read -r line; do echo "$line" | sed 's/.*"tokens":\([0-9]*\).*/\1.5/'; done"#;
        assert_eq!(scored(script, 20.0).unwrap(), [1.5, 3.5, 2.5]);
    }

    #[test]
    fn a_command_that_fails_is_quoted() {
        for (script, timeout, expected) in [
            (
                "read -r x; echo 1; echo out of luck >&2; exit 3",
                20.0,
                "exit status: 3) after 1 of 3 scores; it said: out of luck",
            ),
            ("sleep 30", 0.2, "silent for 0.2 s after 0 of 3 scores"),
            (
                "while read -r x; do echo maybe; done",
                20.0,
                "expected a number a line, found \"maybe\"",
            ),
            (
                "while read -r x; do echo NaN; done",
                20.0,
                "expected a number a line",
            ),
            (
                "while read -r x; do echo '[1]'; done",
                20.0,
                "expected a number a line",
            ),
        ] {
            let said = scored(script, timeout).unwrap_err();
            assert!(said.contains(expected), "{said}");
        }
        let none = Ask {
            run: vec!["/no/such/program".into()],
            timeout: 1.0,
        };
        let said = Piped::new(none).scores(&[Answer::new(&[1], &[1], &[])]);
        let said = said.unwrap_err().to_string();
        assert!(said.contains("cannot be started"), "{said}");
    }
}
