//! Making replies comparable: thinking removed, quotes and apostrophes folded, markdown stripped, contractions expanded.
//!
//! What always holds: all words are lower case without punctuation, negated contractions are two words (`can't`,
//! `can’t` and `cannot` all give `can not`), and text quoted inside a reply is not taken for the model's own voice.

/// Words of the opening that detectors look at.
pub const OPENING_WORDS: usize = 60;

/// What a reply begins with, prepared once for all detectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The first sentences in words: two with more than three words each, and the short greetings before and between them.
    pub sentences: Vec<Vec<String>>,
    /// The first [`OPENING_WORDS`] words.
    pub words: Vec<String>,
    /// Whether the reply opens like a document: list item, code fence, heading, bold title or a line ending in a colon.
    pub laid_out: bool,
}

impl Opening {
    /// Prepares `reply` (already without thinking).
    pub fn new(reply: &str) -> Self {
        let plain = mask_quotes(&unwrap_quotes(&strip_markdown(&fold(reply))));
        let mut sentences = Vec::new();
        let mut budget = OPENING_WORDS;
        let mut full = 0;
        for sentence in split_sentences(&plain) {
            let mut found = words(sentence);
            found.truncate(budget);
            budget -= found.len();
            full += usize::from(found.len() > 3);
            if !found.is_empty() {
                sentences.push(found);
            }
            if full == 2 || budget == 0 {
                break;
            }
        }
        let mut all = words(&plain);
        all.truncate(OPENING_WORDS);
        Self {
            sentences,
            words: all,
            laid_out: laid_out(reply),
        }
    }
}

/// The reply without `<think>…</think>` and `<thinking>…</thinking>`.
///
/// A template may have opened the block in the prompt, so everything before the last closing tag goes too. A block that
/// never ends leaves nothing: the answer was not reached.
pub fn strip_thinking(text: &str) -> &str {
    let mut rest = text;
    for close in ["</think>", "</thinking>"] {
        if let Some(at) = rest.rfind(close) {
            rest = &rest[at + close.len()..];
        }
    }
    for open in ["<think>", "<thinking>"] {
        if let Some(at) = rest.find(open) {
            rest = &rest[..at];
        }
    }
    rest.trim()
}

/// Typographic quotes and apostrophes to ASCII; zero-width characters out.
pub fn fold(text: &str) -> String {
    text.chars()
        .filter_map(|character| match character {
            '\u{2018}' | '\u{2019}' | '\u{02bc}' | '\u{ff07}' | '\u{00b4}' | '\u{2032}' => {
                Some('\'')
            }
            '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{00ab}' | '\u{00bb}' => Some('"'),
            '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' => None,
            '\u{00a0}' | '\u{202f}' => Some(' '),
            other => Some(other),
        })
        .collect()
}

/// Emphasis, code marks, heading marks and quote bars out.
pub fn strip_markdown(text: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            let line = line.trim_start().trim_start_matches(['>', '#', ' ']);
            line.chars()
                .filter(|c| !matches!(c, '*' | '_' | '`' | '~'))
                .collect()
        })
        .collect();
    lines.join("\n")
}

/// Lower-case words with contractions expanded.
pub fn words(text: &str) -> Vec<String> {
    let folded = fold(text).to_lowercase();
    let mut out = Vec::new();
    for raw in folded.split(|c: char| !(c.is_alphanumeric() || c == '\'')) {
        let word = raw.trim_matches('\'');
        if word.is_empty() {
            continue;
        }
        let (stem, tail) = expand(word);
        out.push(stem.to_string());
        out.extend(tail.map(str::to_string));
    }
    out
}

fn expand(word: &str) -> (&str, Option<&'static str>) {
    match word {
        "cannot" | "can't" | "cant" => return ("can", Some("not")),
        "won't" => return ("will", Some("not")),
        "shan't" => return ("shall", Some("not")),
        "let's" => return ("let", Some("us")),
        "it's" | "that's" | "there's" | "here's" | "what's" => {
            return (&word[..word.len() - 2], Some("is"));
        }
        _ => {}
    }
    for (ending, full) in [
        ("n't", "not"),
        ("'m", "am"),
        ("'ll", "will"),
        ("'d", "would"),
        ("'ve", "have"),
        ("'re", "are"),
    ] {
        if let Some(stem) = word.strip_suffix(ending) {
            return (stem, Some(full));
        }
    }
    (word, None)
}

/// A reply wrapped as a whole in quotes is the model's own voice.
fn unwrap_quotes(text: &str) -> String {
    let trimmed = text.trim();
    match trimmed
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(inner) if !inner.contains('"') => inner.to_string(),
        _ => trimmed.to_string(),
    }
}

/// Replaces what stands between a pair of quotes on one line by nothing; an unpaired quote stays.
fn mask_quotes(text: &str) -> String {
    let mask = |line: &str| {
        let parts: Vec<&str> = line.split('"').collect();
        let paired = parts.len() - usize::from(parts.len().is_multiple_of(2));
        let kept = parts
            .iter()
            .enumerate()
            .filter(|(index, _)| *index >= paired || index.is_multiple_of(2));
        kept.map(|(_, part)| *part).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(mask).collect::<Vec<_>>().join("\n")
}

/// Splits at full stops, also inside numbers and abbreviations: for finding a refusal, shorter pieces do no harm.
fn split_sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\n', '!', '?', ':', ';', '.'])
}

fn laid_out(reply: &str) -> bool {
    let first = reply.trim_start().lines().next().unwrap_or("").trim_end();
    let numbered = first.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_numbered = numbered.len() < first.len() && numbered.starts_with(['.', ')']);
    let is_titled = first.starts_with("**") && first.ends_with("**");
    is_numbered
        || is_titled
        || first.ends_with(':')
        || ["- ", "* ", "```", "#", "|"]
            .iter()
            .any(|mark| first.starts_with(mark))
}
