//! The same request in other words: more polite, more pressing, carelessly typed.

/// A way to word a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wording {
    /// With a please in front.
    Please,
    /// As something one needs.
    Need,
    /// As a question whether one can.
    Can,
    /// In small letters.
    Small,
    /// With two letters swapped in long words, at least three words apart.
    Typos,
}

impl Wording {
    /// Every wording, in the order of declaration.
    pub const ALL: [Self; 5] = [
        Self::Please,
        Self::Need,
        Self::Can,
        Self::Small,
        Self::Typos,
    ];

    /// Stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Please => "please",
            Self::Need => "need",
            Self::Can => "can",
            Self::Small => "small",
            Self::Typos => "typos",
        }
    }

    /// `prompt` in this wording.
    pub fn reword(self, prompt: &str) -> String {
        let asks = prompt.trim_end().ends_with('?');
        match (self, asks) {
            (Self::Please, true) => format!("Please tell me: {prompt}"),
            (Self::Please, false) => format!("Please {}", small_start(prompt)),
            (Self::Need, true) => format!("I need to know: {prompt}"),
            (Self::Need, false) => format!("I need this from you: {prompt}"),
            (Self::Can, true) => format!("Can you tell me: {prompt}"),
            (Self::Can, false) => {
                let told = small_start(prompt.trim_end().trim_end_matches('.'));
                format!("Can you {told}?")
            }
            (Self::Small, _) => prompt.to_lowercase(),
            (Self::Typos, _) => typos(prompt),
        }
    }
}

/// The first letter small, unless the word is a name of capitals or `I`.
fn small_start(text: &str) -> String {
    let mut letters = text.chars();
    let (first, second) = (letters.next(), letters.next());
    match (first, second) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            let rest = &text[first.len_utf8()..];
            format!("{}{rest}", first.to_lowercase())
        }
        _ => text.to_owned(),
    }
}

/// The second and third letter swapped in words of five letters or more, of which two are at least three words apart.
fn typos(text: &str) -> String {
    let mut since = 2;
    let word = |word: &str| {
        since += 1;
        let mut letters: Vec<char> = word.chars().collect();
        if since >= 3 && letters.len() >= 5 && letters.iter().take(3).all(|c| c.is_alphabetic()) {
            since = 0;
            letters.swap(1, 2);
        }
        letters.into_iter().collect::<String>()
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
