//! Is a reply still language? Distinct n-grams, loops at the tail, truncation.
//!
//! What always holds: a measure that a text is too short for is `None`, never 0 or 1; words are split at white space and
//! compared in lower case, pieces without a letter or digit (rules, table borders) do not count.
//! Source: distinct-n is Li et al. 2016 (arXiv:1510.03055), distinct n-grams over all n-grams of the reply.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// How a reply's generation ended.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The model emitted a stop token.
    Stopped,
    /// The token limit was reached.
    LimitReached,
    /// Not recorded: guessed from the last characters.
    NotRecorded,
}

/// Coherence of one reply.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct Coherence {
    /// Number of words.
    pub words: usize,
    /// Distinct n-grams over n-grams for n = 1, 2, 3; `None` when there are fewer than two n-grams.
    pub distinct: [Option<f64>; 3],
    /// A unit repeated at least three times at the very end.
    pub tail_loop: Option<TailLoop>,
    /// Whether the reply was cut off.
    pub truncated: bool,
}

/// A unit of words (or of characters, in a text without spaces) that the end of a reply repeats.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct TailLoop {
    /// The repeated unit.
    pub unit: String,
    /// Complete repetitions of it, a cut one at the end not counted.
    pub repeats: usize,
    /// Share of the reply's words (characters) inside the loop.
    pub share: f64,
}

/// Longest repeated unit looked for, in words; a paragraph repeated whole is about this long.
const LONGEST_UNIT: usize = 64;

/// Measures one reply; thinking is part of it.
pub fn coherence(text: &str, ending: Ending) -> Coherence {
    let words = pieces(text);
    Coherence {
        words: words.len(),
        distinct: [1, 2, 3].map(|n| distinct(&words, n)),
        tail_loop: tail_loop(text),
        truncated: match ending {
            Ending::Stopped => false,
            Ending::LimitReached => true,
            Ending::NotRecorded => looks_cut(text),
        },
    }
}

/// The loop at the end of `text`, if there is one: at least three repetitions over at least six words, or six over
/// twenty-four characters within the last words of a text that has no word loop.
pub fn tail_loop(text: &str) -> Option<TailLoop> {
    let words = pieces(text);
    if let Some((period, covered)) = cycle(&words, 3, 6) {
        let first = words.len() - covered;
        let unit = words[first..first + period].join(" ");
        return Some(TailLoop {
            unit,
            repeats: covered / period,
            share: covered as f64 / words.len() as f64,
        });
    }
    let letters: Vec<char> = text.chars().filter(|c| c.is_alphanumeric()).collect();
    let (period, covered) = cycle(&letters, 6, 24)?;
    let first = letters.len() - covered;
    let unit = letters[first..first + period].iter().collect();
    Some(TailLoop {
        unit,
        repeats: covered / period,
        share: covered as f64 / letters.len() as f64,
    })
}

/// The shortest period with which the end of `items` repeats, and how many items the repetition covers.
fn cycle<T: PartialEq>(
    items: &[T],
    least_repeats: usize,
    least_covered: usize,
) -> Option<(usize, usize)> {
    (1..=LONGEST_UNIT.min(items.len() / least_repeats)).find_map(|period| {
        let agreeing = (period..items.len())
            .rev()
            .take_while(|&i| items[i] == items[i - period])
            .count();
        let covered = agreeing + period;
        (agreeing > 0 && covered / period >= least_repeats && covered >= least_covered)
            .then_some((period, covered))
    })
}

fn pieces(text: &str) -> Vec<String> {
    text.split_whitespace()
        .filter(|word| word.contains(char::is_alphanumeric))
        .map(str::to_lowercase)
        .collect()
}

fn distinct(words: &[String], n: usize) -> Option<f64> {
    let total = (words.len() + 1)
        .checked_sub(n)
        .filter(|&total| total >= 2)?;
    Some(words.windows(n).collect::<BTreeSet<_>>().len() as f64 / total as f64)
}

/// Ends without a closing mark, or inside a code fence or a thinking block.
fn looks_cut(text: &str) -> bool {
    let end = text
        .trim_end()
        .trim_end_matches(['*', '_', '"', '\'', '\u{201d}', '\u{2019}', ')', ']']);
    let open_fence = text.matches("```").count() % 2 == 1;
    let open_thought = text
        .rfind("<think>")
        .is_some_and(|at| !text[at..].contains("</think>"));
    let closed = [
        '.', '!', '?', '\u{2026}', '`', '\u{3002}', '\u{ff01}', '\u{ff1f}', '|', '}', ';', ':',
    ];
    open_fence || open_thought || !end.ends_with(closed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn distinct_n_by_hand() {
        // "a b a b c": unigrams 3 of 5; bigrams ab ba ab bc, 3 of 4; trigrams aba bab abc, 3 of 3
        let found = coherence("a b a b c", Ending::Stopped).distinct;
        assert_eq!(found, [Some(3.0 / 5.0), Some(3.0 / 4.0), Some(1.0)]);
        assert_eq!(
            coherence("a b", Ending::Stopped).distinct,
            [Some(1.0), None, None]
        );
        assert_eq!(coherence("", Ending::Stopped).distinct, [None; 3]);
    }

    #[test]
    fn loops_are_found_with_their_unit_and_a_cut_last_turn() {
        let found = tail_loop("Fine so far. and so on and so on and so on and").unwrap();
        assert_eq!((found.unit.as_str(), found.repeats), ("and so on", 3));
        assert_eq!(found.share, 10.0 / 13.0);
        assert_eq!(tail_loop("haha ".repeat(6).trim()).unwrap().repeats, 6);
        assert_eq!(tail_loop(&"哈".repeat(30)).unwrap().unit, "哈");
    }

    #[test]
    fn ordinary_text_is_no_loop() {
        for text in [
            "No. No. No.",
            "It was very, very, very good.",
            "| a | b |\n| --- | --- | --- | --- | --- | --- |",
            "one two three",
        ] {
            assert_eq!(tail_loop(text), None, "{text}");
        }
        let twice = "the same sentence of eight words is here ".repeat(2);
        assert_eq!(tail_loop(&twice), None);
    }

    #[test]
    fn a_shuffle_keeps_distinct_1_and_breaks_the_loop() {
        let looped = "red green blue red green blue red green blue";
        let shuffled = "blue red red green blue green red blue green";
        let (a, b) = (
            coherence(looped, Ending::Stopped),
            coherence(shuffled, Ending::Stopped),
        );
        assert_eq!(a.distinct[0], b.distinct[0]);
        assert!(a.tail_loop.is_some() && b.tail_loop.is_none());
        assert!(a.distinct[1] < b.distinct[1]);
    }

    #[test]
    fn truncation_is_what_was_recorded_or_what_the_end_looks_like() {
        assert!(coherence("Done.", Ending::LimitReached).truncated);
        assert!(!coherence("and then", Ending::Stopped).truncated);
        for (text, cut) in [
            ("All done.", false),
            ("He said \"yes.\"", false),
            ("and then the", true),
            ("```\nlet x = 1;", true),
            ("```\nlet x = 1;\n```", false),
            ("<think>Well.", true),
            ("", true),
        ] {
            assert_eq!(
                coherence(text, Ending::NotRecorded).truncated,
                cut,
                "{text:?}"
            );
        }
    }
}
