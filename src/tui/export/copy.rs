//! The clipboard through the terminal: an escape that works over ssh too, where a program has no clipboard of its own.
//!
//! Always: no more than terminals take; what was refused says how much it was. Source: xterm, "ctlseqs", OSC 52.

use crossterm::Command;
use crossterm::clipboard::CopyToClipboard;

/// The most bytes that are copied: their base64 with the escape around it is just below the 100,000 bytes at which
/// terminals drop the whole of it.
pub const COPY_LIMIT: usize = 74_980;

/// Text too long for the clipboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not copied: {bytes} bytes, and terminals take {COPY_LIMIT} at most; export to a file instead"
)]
pub struct TooMuch {
    /// How long it was.
    pub bytes: usize,
}

/// The bytes that, written to the terminal, copy `text`.
///
/// # Errors
/// Text over [`COPY_LIMIT`].
pub fn osc52(text: &str) -> Result<String, TooMuch> {
    let mut out = String::new();
    let bytes = text.len();
    if bytes > COPY_LIMIT {
        return Err(TooMuch { bytes });
    }
    // Writing to a String cannot fail.
    let _ = CopyToClipboard::to_clipboard_from(text).write_ansi(&mut out);
    Ok(out)
}

/// What stands between the workbench and the terminal, and takes escapes for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Around {
    /// Nothing.
    #[default]
    Nothing,
    /// tmux.
    Tmux,
    /// GNU screen.
    Screen,
}

impl Around {
    /// As the variables say.
    pub fn detect(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name| env(name).is_some_and(|value| !value.is_empty());
        let tmux = set("TMUX") || env("TERM").is_some_and(|term| term.starts_with("tmux"));
        match (tmux, set("STY")) {
            (true, _) => Self::Tmux,
            (false, true) => Self::Screen,
            (false, false) => Self::Nothing,
        }
    }
}

/// Bytes of a string that GNU screen passes on as a whole; 4.x stops at 256.
const PIECE: usize = 240;

/// An escape so that it reaches the terminal through what is around.
///
/// tmux has two ways, either of which its user may have closed: it takes OSC 52 itself (`set-clipboard on`), or passes on
/// what is wrapped (`allow-passthrough on`), each escape in it doubled. Both are written; copying the same twice is
/// copying it. Source: tmux(1), and "The clipboard" and "What is the passthrough escape sequence" of its wiki. screen passes
/// a device control string on as it is, in pieces, and the string in it ends with BEL since ST would end the piece.
pub fn wrapped(escape: &str, around: Around) -> String {
    const ESC: char = '\u{1b}';
    match around {
        Around::Nothing => escape.to_owned(),
        Around::Tmux => {
            let doubled = escape.replace(ESC, "\u{1b}\u{1b}");
            format!("{escape}{ESC}Ptmux;{doubled}{ESC}\\")
        }
        Around::Screen => {
            let inner = escape.replace("\u{1b}\\", "\u{7}");
            let mut out = String::new();
            // An escape of base64 is ASCII.
            for piece in inner.as_bytes().chunks(PIECE) {
                out += &format!("{ESC}P{}{ESC}\\", String::from_utf8_lossy(piece));
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_around_is_told_by_its_own_variable() {
        let around = |pairs: &[(&str, &str)]| {
            let env = |name: &str| {
                let pair = pairs.iter().find(|(key, _)| *key == name);
                pair.map(|(_, value)| (*value).to_owned())
            };
            Around::detect(&env)
        };
        assert_eq!(around(&[("TERM", "xterm"), ("TMUX", "")]), Around::Nothing);
        assert_eq!(around(&[("TMUX", "/tmp/a,1,0")]), Around::Tmux);
        assert_eq!(around(&[("TERM", "tmux-256color")]), Around::Tmux);
        assert_eq!(around(&[("STY", "1.tty")]), Around::Screen);
        let both = [("STY", "1.tty"), ("TMUX", "/tmp/a,1,0")];
        assert_eq!(around(&both), Around::Tmux, "the inner one is seen");
    }

    #[test]
    fn tmux_takes_it_or_passes_it_on() {
        let escape = osc52("hej\u{1b}").unwrap();
        assert_eq!(wrapped(&escape, Around::Nothing), escape);
        let passed = "\u{1b}Ptmux;\u{1b}\u{1b}]52;c;aGVqGw==\u{1b}\u{1b}\\\u{1b}\\";
        assert_eq!(wrapped(&escape, Around::Tmux), format!("{escape}{passed}"));
    }

    #[test]
    fn screen_passes_pieces_on_that_make_the_whole() {
        let escape = osc52(&"x".repeat(5000)).unwrap();
        let out = wrapped(&escape, Around::Screen);
        let pieces: Vec<&str> = out
            .split("\u{1b}P")
            .skip(1)
            .map(|piece| piece.strip_suffix("\u{1b}\\").unwrap())
            .collect();
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE));
        assert_eq!(
            pieces.concat() + "\u{1b}\\",
            escape.replace("\u{1b}\\", "\u{7}\u{1b}\\")
        );
        assert!(
            pieces.last().unwrap().ends_with('\u{7}'),
            "an end that ends no piece"
        );
    }

    #[test]
    fn text_is_wrapped_and_bounded() {
        // base64 of "hej\u{1b}" by coreutils' base64.
        assert_eq!(osc52("hej\u{1b}").unwrap(), "\u{1b}]52;c;aGVqGw==\u{1b}\\");
        let most = osc52(&"x".repeat(COPY_LIMIT)).unwrap();
        assert!(most.len() < 100_000, "{}", most.len());
        let bytes = COPY_LIMIT + 1;
        assert_eq!(osc52(&"x".repeat(bytes)), Err(TooMuch { bytes }));
    }
}
