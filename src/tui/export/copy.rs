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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
