//! Text as it is generated: one token in, the complete characters so far out.
//!
//! A character never appears in parts. The emitted strings joined together are what [`Tokenizer::decode`] gives
//! for the same ids.

use super::tokenizer::{Pieces, Tokenizer};

/// Decodes token by token.
pub struct Streamer<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    /// Bytes that are not yet a whole character.
    pending: Vec<u8>,
    /// The next text is the first one, whose leading space some vocabularies drop.
    at_start: bool,
    /// All ids so far and the length already emitted, kept only where pieces cannot be decoded one by one.
    ids: Vec<u32>,
    emitted: usize,
}

impl<'a> Streamer<'a> {
    /// A stream at its beginning; `skip_special` leaves out control tokens.
    pub fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> Self {
        Self {
            tokenizer,
            skip_special,
            pending: Vec::new(),
            at_start: true,
            ids: Vec::new(),
            emitted: 0,
        }
    }

    /// Takes the next token; gives the text that became complete, if any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        if self.tokenizer.pieces() == Pieces::Joined {
            return self.push_joined(id);
        }
        if self.skip_special && self.tokenizer.is_special(id) {
            return None;
        }
        self.pending.extend(self.tokenizer.token_bytes(id)?);
        let text = take_complete(&mut self.pending);
        self.emit(text)
    }

    /// Gives what is left when generation ends in the middle of a character.
    pub fn finish(mut self) -> Option<String> {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.emit(rest)
    }

    fn emit(&mut self, mut text: String) -> Option<String> {
        if text.is_empty() {
            return None;
        }
        if std::mem::replace(&mut self.at_start, false)
            && self.tokenizer.pieces()
                == (Pieces::Sentence {
                    drops_first_space: true,
                })
            && text.starts_with(' ')
        {
            text.remove(0);
        }
        (!text.is_empty()).then_some(text)
    }

    /// Word-piece vocabularies put spaces between pieces, so the text so far is decoded as a whole.
    fn push_joined(&mut self, id: u32) -> Option<String> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids, self.skip_special).ok()?;
        let new = text
            .get(self.emitted..)
            .filter(|new| !new.is_empty())?
            .to_owned();
        self.emitted = text.len();
        Some(new)
    }
}

/// Takes the complete characters from the front; bytes that can never become a character turn into U+FFFD.
fn take_complete(pending: &mut Vec<u8>) -> String {
    let mut text = String::new();
    loop {
        match std::str::from_utf8(pending) {
            Ok(valid) => {
                text.push_str(valid);
                pending.clear();
                return text;
            }
            Err(error) => {
                let valid = error.valid_up_to();
                text.push_str(&String::from_utf8_lossy(&pending[..valid]));
                let Some(bad) = error.error_len() else {
                    pending.drain(..valid);
                    return text;
                };
                text.push(char::REPLACEMENT_CHARACTER);
                pending.drain(..valid + bad);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn characters_wait_until_they_are_whole() {
        let mut pending = vec![0xE6, 0x9D];
        assert_eq!(take_complete(&mut pending), "");
        pending.push(0xB1);
        assert_eq!(take_complete(&mut pending), "東");
        assert!(pending.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn pieces_joined_are_the_lossy_whole(bytes: Vec<u8>, cut in 1usize..5) {
            let mut pending = Vec::new();
            let mut text = String::new();
            for part in bytes.chunks(cut) {
                pending.extend_from_slice(part);
                text.push_str(&take_complete(&mut pending));
            }
            text.push_str(&String::from_utf8_lossy(&pending));
            proptest::prop_assert_eq!(text, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
