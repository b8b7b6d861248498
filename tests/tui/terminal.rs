//! The workbench in a real terminal, driven through tmux: it starts, takes keys, leaves the terminal as it was. Where tmux
//! is missing the test says that it did not run.

#![allow(clippy::print_stderr)] // says when it did not run

use std::process::Command;
use std::time::{Duration, Instant};

/// A tmux server of this test's own.
pub(super) struct Tmux {
    socket: String,
}

impl Tmux {
    /// A shell in 100 columns and 30 lines; none without tmux.
    pub(super) fn start(name: &str) -> Option<Self> {
        let tmux = Self {
            socket: format!("candlescope-test-{name}-{}", std::process::id()),
        };
        let shell = "env PS1='ready> ' sh";
        tmux.run(&["new-session", "-d", "-x", "100", "-y", "30", shell])?;
        tmux.until("ready>");
        Some(tmux)
    }

    /// Runs a command and says `same-CODE` after it if the modes of the terminal are as before.
    pub(super) fn between_modes(&self, command: &str) {
        let line = format!(
            "A=$(stty -g); {command}; C=$?; B=$(stty -g); test \"$A\" = \"$B\" && echo same-$C"
        );
        self.keys(&[&line, "Enter"]);
    }

    /// Whether there is the alternate screen, a cursor, and somebody who takes the mouse.
    pub(super) fn modes(&self) -> String {
        let asked = "#{alternate_on} #{cursor_flag} #{mouse_any_flag}";
        let modes = self.run(&["display-message", "-p", asked]);
        modes.unwrap_or_default().trim().to_owned()
    }

    /// `y` reaches tmux's own clipboard, where it takes one.
    fn copies(&self, begins: &str) {
        self.run(&["set-option", "-s", "set-clipboard", "on"]);
        self.keys(&["y"]);
        self.until("copied: ");
        let from = Instant::now();
        loop {
            let buffer = self.run(&["show-buffer"]).unwrap_or_default();
            if buffer.starts_with(begins) {
                return;
            }
            assert!(
                from.elapsed() < Duration::from_secs(60),
                "copied `{buffer}`"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(super) fn run(&self, args: &[&str]) -> Option<String> {
        let out = Command::new("tmux")
            .args(["-L", &self.socket, "-f", "/dev/null"])
            .args(args)
            .output()
            .ok()?;
        out.status
            .success()
            .then(|| String::from_utf8_lossy(&out.stdout).into_owned())
    }

    pub(super) fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"]).unwrap_or_default()
    }

    pub(super) fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat()).unwrap();
    }

    /// Until the screen says so.
    pub(super) fn until(&self, what: &str) -> String {
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
    let Some(tmux) = Tmux::start("frame") else {
        eprintln!("not run: tmux is missing");
        return;
    };
    let binary = env!("CARGO_BIN_EXE_candlescope");
    tmux.between_modes(binary);
    tmux.until("pocket");
    tmux.keys(&["?"]);
    tmux.until("type to search");
    tmux.keys(&["Escape"]);
    tmux.keys(&[":"]);
    tmux.keys(&["hooks", "Enter"]);
    tmux.until("points, layer");
    tmux.copies("candlescope hooks pocket --point ");
    tmux.run(&["resize-window", "-x", "25", "-y", "5"]).unwrap();
    tmux.until("too small");
    tmux.run(&["resize-window", "-x", "120", "-y", "40"])
        .unwrap();
    tmux.until("points, layer");
    tmux.keys(&["q"]);
    let after = tmux.until("same-0");
    assert_eq!(
        tmux.modes(),
        "0 1 0",
        "no alternate screen, a cursor, no mouse"
    );
    assert!(
        after.contains("ready>"),
        "the shell's screen is back:\n{after}"
    );
}
