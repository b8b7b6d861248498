//! The splitting rules that `tokenizer.ggml.pre` names, as tokenizers-library pipelines.
//!
//! A name is in the table only if its normaliser, its regular expressions and `ignore_merges` are known exactly;
//! any other name is refused, because a nearly right rule gives wrong ids on a few texts and no error.
//! Sources: the published `tokenizer.json` of each family and llama.cpp's table of expressions for the same name.

use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, SplitDelimiterBehavior};

use super::error::TextError;

/// How a text is cut before merges apply.
#[derive(Clone, Copy)]
enum Cut {
    /// GPT-2's expression, inside the byte-level step.
    Gpt2,
    /// Every digit alone, then GPT-2's expression.
    DigitsGpt2,
    /// Falcon: punctuation runs, GPT-2's expression, runs of digits, then threes of digits.
    Falcon,
    /// These expressions one after another, each match a piece of its own.
    Regex(&'static [&'static str]),
}

/// One known rule.
struct Rule {
    names: &'static [&'static str],
    cut: Cut,
    nfc: bool,
    ignore_merges: bool,
    add_bos: bool,
}

const CL100K: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_V3: &str = r"[!\x22#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const RULES: &[Rule] = &[
    Rule {
        names: &["gpt-2", "gpt2", "phi-2"],
        cut: Cut::Gpt2,
        nfc: false,
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &["olmo", "mpt", "gpt-neox"],
        cut: Cut::Gpt2,
        nfc: true,
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &["smollm", "starcoder", "refact"],
        cut: Cut::DigitsGpt2,
        nfc: false,
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &["falcon"],
        cut: Cut::Falcon,
        nfc: false,
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &["llama-bpe", "llama3", "llama-v3"],
        cut: Cut::Regex(&[CL100K]),
        nfc: false,
        ignore_merges: true,
        add_bos: true,
    },
    Rule {
        names: &["dbrx"],
        cut: Cut::Regex(&[CL100K]),
        nfc: false,
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &["qwen2"],
        cut: Cut::Regex(&[QWEN2]),
        nfc: true,
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &["gpt-4o", "llama4"],
        cut: Cut::Regex(&[O200K]),
        nfc: false,
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &["tekken"],
        cut: Cut::Regex(&[TEKKEN]),
        nfc: false,
        ignore_merges: true,
        add_bos: true,
    },
    Rule {
        names: &["deepseek-coder"],
        cut: Cut::Regex(&[
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            "[一-龥ࠀ-一가-퟿]+",
            r"\p{N}",
        ]),
        nfc: false,
        ignore_merges: false,
        add_bos: true,
    },
    Rule {
        names: &["deepseek-v3"],
        cut: Cut::Regex(&[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK_V3]),
        nfc: false,
        ignore_merges: false,
        add_bos: true,
    },
];

/// A splitting rule in the form the tokenizers library takes.
pub(super) struct PreTokenization {
    /// Runs before added tokens that want it and before splitting.
    pub normalizer: Option<NormalizerWrapper>,
    /// Cuts the text and spells its bytes as characters.
    pub pre_tokenizer: PreTokenizerWrapper,
    /// A whole piece that is in the vocabulary is taken as it is, merges or not.
    pub ignore_merges: bool,
    /// Whether a beginning-of-sequence token is added when the file does not say.
    pub add_bos: bool,
}

/// The rule of this name (`tokenizer.ggml.pre`).
///
/// # Errors
/// [`TextError::UnknownPreTokenizer`], listing the known names.
pub(super) fn pre_tokenization(name: &str) -> Result<PreTokenization, TextError> {
    let rule = RULES
        .iter()
        .find(|rule| rule.names.contains(&name))
        .ok_or_else(|| {
            let known: Vec<&str> = RULES
                .iter()
                .flat_map(|rule| rule.names.iter().copied())
                .collect();
            TextError::UnknownPreTokenizer {
                name: name.to_owned(),
                known: known.join(", "),
            }
        })?;
    Ok(PreTokenization {
        normalizer: rule.nfc.then_some(NormalizerWrapper::NFC(NFC)),
        pre_tokenizer: build(rule.cut)?,
        ignore_merges: rule.ignore_merges,
        add_bos: rule.add_bos,
    })
}

fn build(cut: Cut) -> Result<PreTokenizerWrapper, TextError> {
    let gpt2 = || PreTokenizerWrapper::from(ByteLevel::new(false, true, true));
    let spelling_only = || PreTokenizerWrapper::from(ByteLevel::new(false, true, false));
    let steps = match cut {
        Cut::Gpt2 => return Ok(gpt2()),
        Cut::DigitsGpt2 => vec![Digits::new(true).into(), gpt2()],
        Cut::Falcon => vec![
            Punctuation::new(SplitDelimiterBehavior::Contiguous).into(),
            gpt2(),
            Digits::new(false).into(),
            isolate("[0-9][0-9][0-9]")?,
        ],
        Cut::Regex(expressions) => {
            let mut steps = expressions
                .iter()
                .map(|e| isolate(e))
                .collect::<Result<Vec<_>, _>>()?;
            steps.push(spelling_only());
            steps
        }
    };
    Ok(Sequence::new(steps).into())
}

fn isolate(expression: &str) -> Result<PreTokenizerWrapper, TextError> {
    Split::new(
        SplitPattern::Regex(expression.to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    )
    .map(Into::into)
    .map_err(|e| TextError::library("compiling a splitting rule", e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    fn cut(name: &str, text: &str) -> Vec<String> {
        let rule = pre_tokenization(name).unwrap();
        let mut text = PreTokenizedString::from(text);
        rule.pre_tokenizer.pre_tokenize(&mut text).unwrap();
        text.get_splits(OffsetReferential::Normalized, OffsetType::Byte)
            .into_iter()
            .map(|(s, _, _)| s.to_owned())
            .collect()
    }

    #[test]
    fn every_rule_compiles_and_loses_nothing() {
        let text = "It's 12345 naïve CAFÉs,\r\n  l'été   \t 東京タワー한국 x_y/z  ½ ";
        for name in RULES.iter().flat_map(|r| r.names) {
            let bytes: Vec<u8> = cut(name, text)
                .iter()
                .flat_map(|p| super::super::byte_level::piece_bytes(p))
                .collect();
            assert_eq!(String::from_utf8(bytes).unwrap(), text, "{name}");
        }
    }

    // Worked by hand from the published expressions.
    #[test]
    fn digits_are_what_tells_the_families_apart() {
        assert_eq!(cut("gpt-2", "In 2024"), ["In", "Ġ2024"]);
        assert_eq!(cut("smollm", "In 2024"), ["In", "Ġ", "2", "0", "2", "4"]);
        assert_eq!(cut("qwen2", "In 2024"), ["In", "Ġ", "2", "0", "2", "4"]);
        assert_eq!(cut("llama-bpe", "In 2024"), ["In", "Ġ", "202", "4"]);
        assert_eq!(cut("falcon", "In 2024"), ["In", "Ġ", "202", "4"]);
        assert_eq!(
            cut("deepseek-coder", "In 2024"),
            ["In", "Ġ", "2", "0", "2", "4"]
        );
    }

    #[test]
    fn case_and_contractions() {
        assert_eq!(cut("gpt-2", "IT'S it's"), ["IT", "'", "S", "Ġit", "'s"]);
        assert_eq!(cut("llama-bpe", "IT'S it's"), ["IT", "'S", "Ġit", "'s"]);
        assert_eq!(cut("gpt-4o", "camelCase it's"), ["camel", "Case", "Ġit's"]);
        assert_eq!(
            cut("tekken", "camelCase it's"),
            ["camel", "Case", "Ġit", "'s"]
        );
    }

    #[test]
    fn an_unknown_rule_is_refused_by_name() {
        let message = pre_tokenization("superbpe").err().unwrap().to_string();
        assert!(
            message.contains("`superbpe`") && message.contains("smollm"),
            "{message}"
        );
    }
}
