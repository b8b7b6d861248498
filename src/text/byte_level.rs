//! GPT-2's reversible spelling of bytes as printable characters.
//!
//! Each of the 256 bytes has one character, so a piece of a byte-level vocabulary is always a sequence of bytes.
//! Source: `bytes_to_unicode` in the GPT-2 release; printable bytes stand for themselves, the 68 others
//! follow in order from U+0100.

/// The byte that a character of a byte-level piece stands for; `None` for characters outside the spelling.
fn byte_of(c: char) -> Option<u8> {
    match c as u32 {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => Some(code as u8),
        code @ 0x100..=0x143 => Some(match code - 0x100 {
            n @ 0..=32 => n as u8,
            n @ 33..=66 => (n - 33 + 127) as u8,
            _ => 173,
        }),
        _ => None,
    }
}

/// The bytes of a byte-level piece. A piece with a foreign character (an added token) is taken literally,
/// as the byte-level decoder of the tokenizers library does.
pub(super) fn piece_bytes(piece: &str) -> Vec<u8> {
    piece
        .chars()
        .map(byte_of)
        .collect::<Option<Vec<u8>>>()
        .unwrap_or_else(|| piece.as_bytes().to_vec())
}

/// The spelling of some bytes; the inverse of [`piece_bytes`].
pub(super) fn piece(bytes: &[u8]) -> String {
    let spell = |&byte: &u8| {
        let code = match byte {
            0..=32 => 0x100 + u32::from(byte),
            127..=160 => 0x121 + u32::from(byte - 127),
            173 => 0x143,
            printable => u32::from(printable),
        };
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    };
    bytes.iter().map(spell).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn every_byte_has_exactly_one_character() {
        let mut seen = [false; 256];
        for c in ByteLevel::alphabet() {
            seen[byte_of(c).unwrap() as usize] = true;
        }
        assert!(seen.iter().all(|s| *s));
        let all: Vec<u8> = (0..=u8::MAX).collect();
        assert_eq!(piece_bytes(&piece(&all)), all);
    }

    #[test]
    fn published_spellings() {
        // From the GPT-2 vocabulary: Ġ is the space, Ċ the newline, "Ã©" is é.
        assert_eq!(piece_bytes("Ġthe"), b" the");
        assert_eq!(piece_bytes("Ċ"), b"\n");
        assert_eq!(piece_bytes("Ã©"), "é".as_bytes());
        assert_eq!(piece_bytes("\u{143}"), [0xAD]);
        assert_eq!(piece_bytes("a b"), b"a b");
    }
}
