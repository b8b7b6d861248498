//! Codes and scripts: a text written so that its words no longer look like themselves.
//!
//! Always: encoding never fails and loses nothing but what its code cannot hold, which is said beside it; decoding gives
//! `None` for what is not in the code, never a guess.

/// A way to write a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// RFC 4648 with padding, over the UTF-8 bytes.
    Base64,
    /// ASCII letters moved by thirteen.
    Rot13,
    /// Six letters written as digits; capitals become small.
    Leet,
    /// Last character first.
    Reversed,
    /// The UTF-8 bytes as pairs of small digits with spaces between.
    Hex,
    /// International Morse (ITU-R M.1677-1), words apart by a stroke; case is lost, what has no sign stays as it is.
    Morse,
    /// A space between any two characters.
    Spaced,
    /// ASCII as full-width forms.
    FullWidth,
    /// Latin letters as Cyrillic ones that look the same.
    LookAlike,
}

impl Code {
    /// Every code, in the order of declaration.
    pub const ALL: [Self; 9] = [
        Self::Base64,
        Self::Rot13,
        Self::Leet,
        Self::Reversed,
        Self::Hex,
        Self::Morse,
        Self::Spaced,
        Self::FullWidth,
        Self::LookAlike,
    ];

    /// Stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Rot13 => "rot13",
            Self::Leet => "leet",
            Self::Reversed => "reversed",
            Self::Hex => "hex",
            Self::Morse => "morse",
            Self::Spaced => "spaced",
            Self::FullWidth => "full_width",
            Self::LookAlike => "look_alike",
        }
    }

    /// What a request calls it; `None` for a script that is read without being told.
    pub fn spoken(self) -> Option<&'static str> {
        match self {
            Self::Base64 => Some("Base64"),
            Self::Rot13 => Some("ROT13"),
            Self::Leet => Some("leetspeak, with digits for letters"),
            Self::Reversed => Some("reverse, from the last letter to the first"),
            Self::Hex => Some("hexadecimal"),
            Self::Morse => Some("Morse code"),
            Self::Spaced => Some("single letters with spaces between them"),
            Self::FullWidth | Self::LookAlike => None,
        }
    }

    /// `text` in this code.
    pub fn encode(self, text: &str) -> String {
        match self {
            Self::Base64 => base64(text.as_bytes()),
            Self::Rot13 => text.chars().map(rot13).collect(),
            Self::Leet => text.chars().map(leet).collect(),
            Self::Reversed => text.chars().rev().collect(),
            Self::Hex => {
                let bytes: Vec<String> = text.bytes().map(|b| format!("{b:02x}")).collect();
                bytes.join(" ")
            }
            Self::Morse => morse(text),
            Self::Spaced => {
                let letters: Vec<String> = text.chars().map(String::from).collect();
                letters.join(" ")
            }
            Self::FullWidth => text.chars().map(full_width).collect(),
            Self::LookAlike => text.chars().map(look_alike).collect(),
        }
    }

    /// What `text` says in this code; `None` where it is not in the code, or the code cannot be undone. Morse comes back in
    /// small letters.
    pub fn decode(self, text: &str) -> Option<String> {
        match self {
            Self::Base64 => String::from_utf8(unbase64(text.trim())?).ok(),
            Self::Rot13 => Some(text.chars().map(rot13).collect()),
            Self::Leet => None,
            Self::Reversed => Some(text.chars().rev().collect()),
            Self::Hex => {
                let bytes: Option<Vec<u8>> = text.split_whitespace().map(byte).collect();
                String::from_utf8(bytes?).ok()
            }
            Self::Morse => unmorse(text),
            Self::Spaced => {
                let letters: Vec<char> = text.chars().collect();
                let spaces = letters.iter().skip(1).step_by(2).all(|&c| c == ' ');
                let whole = letters.is_empty() || letters.len() % 2 == 1;
                (spaces && whole).then(|| letters.iter().step_by(2).collect())
            }
            Self::FullWidth => Some(text.chars().map(half_width).collect()),
            Self::LookAlike => Some(text.chars().map(latin).collect()),
        }
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .fold(0u32, |bits, &byte| (bits << 8) | u32::from(byte))
            << (8 * (3 - three.len()));
        for place in 0..4 {
            out.push(if place <= three.len() {
                char::from(DIGITS[((bits >> (18 - 6 * place)) & 63) as usize])
            } else {
                '='
            });
        }
    }
    out
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if text.is_empty() || !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for four in digits.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for digit in four {
            let value = DIGITS.iter().position(|known| known == digit)?;
            bits = (bits << 6) | value as u32;
        }
        bits <<= 6 * (4 - four.len());
        let whole = [bits >> 16, bits >> 8, bits].map(|b| (b & 255) as u8);
        out.extend(&whole[..four.len() - 1]);
    }
    Some(out)
}

fn byte(pair: &str) -> Option<u8> {
    (pair.len() == 2)
        .then(|| u8::from_str_radix(pair, 16).ok())
        .flatten()
}

fn rot13(c: char) -> char {
    let turned = |first: u8| char::from((c as u8 - first + 13) % 26 + first);
    match c {
        'a'..='z' => turned(b'a'),
        'A'..='Z' => turned(b'A'),
        other => other,
    }
}

fn leet(c: char) -> char {
    match c.to_ascii_lowercase() {
        'a' => '4',
        'e' => '3',
        'i' => '1',
        'o' => '0',
        's' => '5',
        't' => '7',
        other => other,
    }
}

fn full_width(c: char) -> char {
    match c {
        ' ' => '\u{3000}',
        '!'..='~' => char::from_u32(u32::from(c) - 0x21 + 0xff01).unwrap_or(c),
        other => other,
    }
}

fn half_width(c: char) -> char {
    match c {
        '\u{3000}' => ' ',
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xff01 + 0x21).unwrap_or(c),
        other => other,
    }
}

/// Latin letters and the Cyrillic ones that look the same.
const ALIKE: [(char, char); 21] = [
    ('a', 'а'),
    ('c', 'с'),
    ('e', 'е'),
    ('i', 'і'),
    ('j', 'ј'),
    ('o', 'о'),
    ('p', 'р'),
    ('s', 'ѕ'),
    ('x', 'х'),
    ('y', 'у'),
    ('A', 'А'),
    ('B', 'В'),
    ('C', 'С'),
    ('E', 'Е'),
    ('H', 'Н'),
    ('K', 'К'),
    ('M', 'М'),
    ('O', 'О'),
    ('P', 'Р'),
    ('T', 'Т'),
    ('X', 'Х'),
];

fn look_alike(c: char) -> char {
    let found = ALIKE.iter().find(|(latin, _)| *latin == c);
    found.map_or(c, |(_, cyrillic)| *cyrillic)
}

fn latin(c: char) -> char {
    let found = ALIKE.iter().find(|(_, cyrillic)| *cyrillic == c);
    found.map_or(c, |(latin, _)| *latin)
}

/// ITU-R M.1677-1, letters, figures and the signs that prompts hold.
const SIGNS: [(char, &str); 50] = [
    ('a', ".-"),
    ('b', "-..."),
    ('c', "-.-."),
    ('d', "-.."),
    ('e', "."),
    ('f', "..-."),
    ('g', "--."),
    ('h', "...."),
    ('i', ".."),
    ('j', ".---"),
    ('k', "-.-"),
    ('l', ".-.."),
    ('m', "--"),
    ('n', "-."),
    ('o', "---"),
    ('p', ".--."),
    ('q', "--.-"),
    ('r', ".-."),
    ('s', "..."),
    ('t', "-"),
    ('u', "..-"),
    ('v', "...-"),
    ('w', ".--"),
    ('x', "-..-"),
    ('y', "-.--"),
    ('z', "--.."),
    ('0', "-----"),
    ('1', ".----"),
    ('2', "..---"),
    ('3', "...--"),
    ('4', "....-"),
    ('5', "....."),
    ('6', "-...."),
    ('7', "--..."),
    ('8', "---.."),
    ('9', "----."),
    ('.', ".-.-.-"),
    (',', "--..--"),
    (':', "---..."),
    ('?', "..--.."),
    ('\'', ".----."),
    ('-', "-....-"),
    ('/', "-..-."),
    ('(', "-.--."),
    (')', "-.--.-"),
    ('"', ".-..-."),
    ('=', "-...-"),
    ('+', ".-.-."),
    ('@', ".--.-."),
    ('_', "..--.-"),
];

fn morse(text: &str) -> String {
    let sign = |c: char| {
        let small = c.to_ascii_lowercase();
        let found = SIGNS.iter().find(|(known, _)| *known == small);
        found.map_or_else(|| c.to_string(), |(_, sign)| (*sign).to_owned())
    };
    let word = |word: &str| word.chars().map(sign).collect::<Vec<_>>().join(" ");
    let words: Vec<String> = text.split_whitespace().map(word).collect();
    words.join(" / ")
}

fn unmorse(text: &str) -> Option<String> {
    let letter = |sign: &str| {
        let found = SIGNS.iter().find(|(_, known)| *known == sign)?;
        Some(found.0)
    };
    let word = |word: &str| {
        word.split_whitespace()
            .map(letter)
            .collect::<Option<String>>()
    };
    let words: Option<Vec<String>> = text.trim().split(" / ").map(word).collect();
    words.map(|words| words.join(" "))
}
