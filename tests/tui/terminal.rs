//! The workbench in a real terminal, driven through tmux: it starts, takes keys, leaves the terminal as it was. Where tmux
//! is missing the test says that it did not run.

#![allow(clippy::print_stderr)] // says when it did not run

use std::process::Command;
use std::time::{Duration, Instant};

/// A tmux server of this test's own.
struct Tmux {
    socket: String,
}

impl Tmux {
    fn run(&self, args: &[&str]) -> Option<String> {
        let out = Command::new("tmux")
            .args(["-L", &self.socket, "-f", "/dev/null"])
            .args(args)
            .output()
            .ok()?;
        out.status
            .success()
            .then(|| String::from_utf8_lossy(&out.stdout).into_owned())
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"]).unwrap_or_default()
    }

    fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat()).unwrap();
    }

    /// Until the screen says so.
    fn until(&self, what: &str) -> String {
        let from = Instant::now();
        loop {
            let screen = self.screen();
            if screen.contains(what) {
                return screen;
            }
            assert!(
                from.elapsed() < Duration::from_secs(60),
                "no `{what}` in\n{screen}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.run(&["kill-server"]);
    }
}

#[test]
fn in_tmux_it_opens_answers_keys_and_leaves_the_terminal_as_it_was() {
    let tmux = Tmux {
        socket: format!("candlescope-test-{}", std::process::id()),
    };
    if tmux
        .run(&[
            "new-session",
            "-d",
            "-x",
            "100",
            "-y",
            "30",
            "env PS1='ready> ' sh",
        ])
        .is_none()
    {
        eprintln!("not run: tmux is missing");
        return;
    }
    tmux.until("ready>");
    let binary = env!("CARGO_BIN_EXE_candlescope");
    // The modes of the terminal before and after, and the exit code.
    let line = format!(
        "stty -g > /dev/null; A=$(stty -g); {binary}; C=$?; B=$(stty -g); test \"$A\" = \"$B\" && echo same-$C"
    );
    tmux.keys(&[&line, "Enter"]);
    tmux.until("toy");
    tmux.keys(&["?"]);
    tmux.until("type to search");
    tmux.keys(&["Escape"]);
    tmux.keys(&[":"]);
    tmux.keys(&["hooks", "Enter"]);
    tmux.until("points, layer");
    tmux.run(&["resize-window", "-x", "25", "-y", "5"]).unwrap();
    tmux.until("too small");
    tmux.run(&["resize-window", "-x", "120", "-y", "40"])
        .unwrap();
    tmux.until("points, layer");
    tmux.keys(&["q"]);
    let after = tmux.until("same-0");
    assert!(
        after.contains("ready>"),
        "the shell's screen is back:\n{after}"
    );
}
