//! A tokenizer rebuilt from GGUF metadata, with the ids its Hugging Face twin gives.
//!
//! Two kinds exist: `gpt2` (byte-level BPE; `tokenizer.ggml.pre` names the splitting rule) and `llama`
//! (SentencePiece scores, from which the merges are reconstructed). What is not known exactly is refused.

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{Prepend, Replace, Sequence as NormalizerSequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, NormalizerWrapper};

use super::error::TextError;
use super::pre_tokenizers::pre_tokenization;
use super::tokenizer::{Roles, Tokenizer};

/// Read access to the metadata of a GGUF file, as far as a tokenizer needs it. `None` means missing or of another type.
pub trait GgufMetadata {
    /// A string.
    fn str(&self, key: &str) -> Option<&str>;
    /// An unsigned integer of any width.
    fn u64(&self, key: &str) -> Option<u64>;
    /// A boolean.
    fn bool(&self, key: &str) -> Option<bool>;
    /// An array of strings.
    fn strings(&self, key: &str) -> Option<&[String]>;
    /// An array of integers, widened.
    fn ints(&self, key: &str) -> Option<&[i64]>;
    /// An array of floats.
    fn floats(&self, key: &str) -> Option<&[f32]>;
}

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";

/// `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Tokenizer {
    /// Rebuilds the tokenizer of a GGUF file.
    ///
    /// # Errors
    /// [`TextError::UnknownKind`] and [`TextError::UnknownPreTokenizer`] for what is not known exactly,
    /// [`TextError::Metadata`] for missing or inconsistent keys.
    pub fn from_gguf(gguf: &impl GgufMetadata) -> Result<Self, TextError> {
        let kind = gguf
            .str("tokenizer.ggml.model")
            .ok_or_else(|| missing("tokenizer.ggml.model", "a string"))?;
        let mut tokens = read_tokens(gguf)?;
        if kind == "llama" {
            respell_spaces(&mut tokens);
        }
        let (mut inner, add_bos) = match kind {
            "gpt2" => byte_level_bpe(gguf, &tokens)?,
            "llama" => sentence_piece(gguf, &tokens)?,
            other => {
                return Err(TextError::UnknownKind {
                    kind: other.to_owned(),
                });
            }
        };
        let added = tokens.iter().filter_map(|t| match t.kind {
            Kind::Control | Kind::Unknown => Some(AddedToken::from(t.text.clone(), true)),
            Kind::UserDefined => Some(AddedToken::from(t.text.clone(), false).normalized(false)),
            _ => None,
        });
        inner
            .add_tokens(added)
            .map_err(|e| TextError::library("adding special tokens", e))?;
        let roles = roles(gguf, &tokens, add_bos);
        around(&mut inner, &tokens, &roles);
        Self::new(
            inner,
            roles,
            tokens
                .iter()
                .rposition(|t| !t.is_filler())
                .map_or(0, |last| last + 1),
        )
    }
}

/// One row of the vocabulary; its index is its id.
struct Row {
    text: String,
    kind: Kind,
}

impl Row {
    /// Rows that only pad the embedding to a round size.
    fn is_filler(&self) -> bool {
        self.kind == Kind::Unused && self.text.starts_with("[PAD")
    }
}

fn missing(key: &'static str, expected: &str) -> TextError {
    TextError::Metadata {
        key,
        expected: expected.to_owned(),
        found: "nothing, or another type".to_owned(),
    }
}

fn read_tokens(gguf: &impl GgufMetadata) -> Result<Vec<Row>, TextError> {
    let texts = gguf
        .strings(TOKENS)
        .ok_or_else(|| missing(TOKENS, "an array of strings"))?;
    let types = gguf.ints(TYPES).unwrap_or_default();
    if u32::try_from(texts.len()).is_err() || !(types.is_empty() || types.len() == texts.len()) {
        return Err(TextError::Metadata {
            key: TYPES,
            expected: format!("{} entries, one for each token", texts.len()),
            found: types.len().to_string(),
        });
    }
    let kind = |id: usize| match types.get(id) {
        None | Some(1) => Ok(Kind::Normal),
        Some(2) => Ok(Kind::Unknown),
        Some(3) => Ok(Kind::Control),
        Some(4) => Ok(Kind::UserDefined),
        Some(5) => Ok(Kind::Unused),
        Some(6) => Ok(Kind::Byte),
        Some(other) => Err(TextError::Metadata {
            key: TYPES,
            expected: "1 to 6".to_owned(),
            found: other.to_string(),
        }),
    };
    let row = |(id, text): (usize, &String)| {
        // llama.cpp gives empty tokens this name too; an empty spelling would match everywhere.
        let text = if text.is_empty() {
            format!("[EMPTY_{id}]")
        } else {
            text.clone()
        };
        Ok(Row {
            text,
            kind: kind(id)?,
        })
    };
    texts.iter().enumerate().map(row).collect()
}

fn vocabulary(tokens: &[Row]) -> Result<Vocab, TextError> {
    let mut vocab = Vocab::with_capacity(tokens.len());
    for (id, row) in tokens
        .iter()
        .enumerate()
        .filter(|(_, row)| !row.is_filler())
    {
        if let Some(first) = vocab.insert(row.text.clone(), id as u32) {
            return Err(TextError::Metadata {
                key: TOKENS,
                expected: "every token once".to_owned(),
                found: format!("`{}` as {first} and as {id}", row.text),
            });
        }
    }
    Ok(vocab)
}

/// Byte-level BPE; also whether a beginning token is added when the file does not say.
fn byte_level_bpe(
    gguf: &impl GgufMetadata,
    tokens: &[Row],
) -> Result<(tokenizers::Tokenizer, bool), TextError> {
    let name = gguf
        .str("tokenizer.ggml.pre")
        .ok_or_else(|| missing("tokenizer.ggml.pre", "the name of a splitting rule"))?;
    let rule = pre_tokenization(name)?;
    let vocab = vocabulary(tokens)?;
    let merges = read_merges(gguf, &vocab)?;
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(rule.ignore_merges)
        .build()
        .map_err(|e| TextError::library("building the merge table", e))?;
    let mut inner = tokenizers::Tokenizer::new(model);
    inner
        .with_normalizer(rule.normalizer)
        .map_err(|e| TextError::library("setting the normaliser", e))?;
    inner.with_pre_tokenizer(Some(rule.pre_tokenizer));
    inner.with_decoder(Some(ByteLevel::new(false, true, true)));
    Ok((inner, rule.add_bos))
}

fn read_merges(gguf: &impl GgufMetadata, vocab: &Vocab) -> Result<Merges, TextError> {
    let lines = gguf
        .strings(MERGES)
        .ok_or_else(|| missing(MERGES, "an array of strings"))?;
    let mut joined = String::new();
    lines
        .iter()
        .map(|line| {
            let wrong = || TextError::Metadata {
                key: MERGES,
                expected: "two tokens whose concatenation is a token".to_owned(),
                found: format!("`{line}`"),
            };
            // A token may itself begin with a space, hence the search from the second character.
            let first = line.chars().next().ok_or_else(wrong)?.len_utf8();
            let at = first + line[first..].find(' ').ok_or_else(wrong)?;
            let (left, right) = (&line[..at], &line[at + 1..]);
            // The library would panic, or say less, if these were missing.
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            if !vocab.contains_key(joined.as_str()) {
                return Err(wrong());
            }
            Ok((left.to_owned(), right.to_owned()))
        })
        .collect()
}

/// Some writers store runs of whitespace with U+0020, where SentencePiece merges work on U+2581.
fn respell_spaces(tokens: &mut [Row]) {
    for row in tokens {
        if matches!(row.kind, Kind::Normal | Kind::UserDefined) && row.text.contains(' ') {
            row.text = row.text.replace(' ', "▁");
        }
    }
}

/// SentencePiece BPE from scores; also whether a beginning token is added when the file does not say.
fn sentence_piece(
    gguf: &impl GgufMetadata,
    tokens: &[Row],
) -> Result<(tokenizers::Tokenizer, bool), TextError> {
    let scores = gguf
        .floats(SCORES)
        .filter(|s| s.len() == tokens.len())
        .ok_or_else(|| {
            missing(
                SCORES,
                &format!("{} floats, one for each token", tokens.len()),
            )
        })?;
    let vocab = vocabulary(tokens)?;
    let merges = merges_from_scores(tokens, scores, &vocab);
    let unk = unknown_id(gguf, tokens).and_then(|id| tokens.get(id as usize));
    let mut builder = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .fuse_unk(true)
        .byte_fallback(true);
    if let Some(unk) = unk {
        builder = builder.unk_token(unk.text.clone());
    }
    let model = builder
        .build()
        .map_err(|e| TextError::library("building the merge table", e))?;

    let prefix_space = gguf.bool("tokenizer.ggml.add_space_prefix").unwrap_or(true);
    let failed = |e| TextError::library("building the normaliser", e);
    let spaces = NormalizerWrapper::from(Replace::new(" ", "▁").map_err(failed)?);
    let normalizer = if prefix_space {
        NormalizerSequence::new(vec![Prepend::new("▁".to_owned()).into(), spaces]).into()
    } else {
        spaces
    };
    let mut decoders = vec![
        Replace::new("▁", " ").map_err(failed)?.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    if prefix_space {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_normalizer(Some(normalizer)).map_err(failed)?;
    inner.with_decoder(Some(DecoderSequence::new(decoders)));
    Ok((inner, true))
}

/// The merges behind SentencePiece scores: every way to cut a token into two tokens, user-defined tokens first and
/// longest first, then by descending score; ties by the left, then the right id.
fn merges_from_scores(tokens: &[Row], scores: &[f32], vocab: &Vocab) -> Merges {
    /// Sorts as the doc comment says: `before` counts user-defined tokens by length.
    struct Candidate<'a> {
        before: std::cmp::Reverse<usize>,
        score: f32,
        ids: (u32, u32),
        parts: (&'a str, &'a str),
    }
    let mut candidates = Vec::new();
    for (row, &score) in tokens.iter().zip(scores) {
        let before = match row.kind {
            Kind::Normal => 0,
            Kind::UserDefined => row.text.chars().count(),
            _ => continue,
        };
        for (at, _) in row.text.char_indices().skip(1) {
            let parts = row.text.split_at(at);
            if let (Some(&left), Some(&right)) = (vocab.get(parts.0), vocab.get(parts.1)) {
                candidates.push(Candidate {
                    before: std::cmp::Reverse(before),
                    score,
                    ids: (left, right),
                    parts,
                });
            }
        }
    }
    candidates.sort_by(|a, b| {
        let score = if a.before.0 == 0 {
            b.score.total_cmp(&a.score)
        } else {
            std::cmp::Ordering::Equal
        };
        a.before.cmp(&b.before).then(score).then(a.ids.cmp(&b.ids))
    });
    candidates
        .into_iter()
        .map(|c| (c.parts.0.to_owned(), c.parts.1.to_owned()))
        .collect()
}

fn id(gguf: &impl GgufMetadata, key: &str, tokens: &[Row]) -> Option<u32> {
    gguf.u64(key)
        .filter(|id| *id < tokens.len() as u64)
        .map(|id| id as u32)
}

fn unknown_id(gguf: &impl GgufMetadata, tokens: &[Row]) -> Option<u32> {
    let by_type = || {
        tokens
            .iter()
            .position(|t| t.kind == Kind::Unknown)
            .map(|id| id as u32)
    };
    id(gguf, "tokenizer.ggml.unknown_token_id", tokens).or_else(by_type)
}

/// Spellings of control tokens that end a turn, which GGUF files name by text only (llama.cpp has the same list).
const TURN_ENDS: [&str; 7] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
];

fn roles(gguf: &impl GgufMetadata, tokens: &[Row], add_bos: bool) -> Roles {
    let named = [
        "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.eot_token_id",
        "tokenizer.ggml.eom_token_id",
    ];
    let by_text = tokens
        .iter()
        .enumerate()
        .filter(|(_, t)| t.kind == Kind::Control && TURN_ENDS.contains(&t.text.as_str()))
        .map(|(id, _)| id as u32);
    Roles {
        bos: id(gguf, "tokenizer.ggml.bos_token_id", tokens),
        eos: id(gguf, "tokenizer.ggml.eos_token_id", tokens),
        pad: id(gguf, "tokenizer.ggml.padding_token_id", tokens),
        unk: unknown_id(gguf, tokens),
        stop: named
            .into_iter()
            .filter_map(|key| id(gguf, key, tokens))
            .chain(by_text)
            .collect(),
        add_bos: Some(gguf.bool("tokenizer.ggml.add_bos_token").unwrap_or(add_bos)),
        add_eos: Some(gguf.bool("tokenizer.ggml.add_eos_token").unwrap_or(false)),
    }
}

/// Puts the beginning and end tokens into the pipeline too, so that a saved `tokenizer.json` has them.
fn around(inner: &mut tokenizers::Tokenizer, tokens: &[Row], roles: &Roles) {
    let used = |wish: Option<bool>, id: Option<u32>| {
        let id = id.filter(|_| wish == Some(true))?;
        Some((tokens.get(id as usize)?.text.clone(), id))
    };
    let (bos, eos) = (
        used(roles.add_bos, roles.bos),
        used(roles.add_eos, roles.eos),
    );
    let spell = |token: &Option<(String, u32)>, kind: &str| {
        token
            .iter()
            .map(|(t, _)| format!("{t}:{kind}"))
            .collect::<Vec<_>>()
    };
    let single = [spell(&bos, "0"), vec!["$A:0".to_owned()], spell(&eos, "0")].concat();
    let pair = [
        single.clone(),
        spell(&bos, "1"),
        vec!["$B:1".to_owned()],
        spell(&eos, "1"),
    ]
    .concat();
    let mut builder = TemplateProcessing::builder();
    let built = builder
        .try_single(single)
        .and_then(|b| b.try_pair(pair))
        .map(|b| {
            b.special_tokens(bos.into_iter().chain(eos).collect::<Vec<_>>())
                .build()
        });
    // A token whose spelling the template language cannot carry is still added by `Tokenizer::encode`.
    if let Ok(Ok(template)) = built {
        inner.with_post_processor(Some(template));
    }
}

impl GgufMetadata for crate::files::gguf::Gguf {
    fn str(&self, key: &str) -> Option<&str> {
        self.str(key)
    }

    fn u64(&self, key: &str) -> Option<u64> {
        self.u64(key)
    }

    fn bool(&self, key: &str) -> Option<bool> {
        self.bool(key)
    }

    fn strings(&self, key: &str) -> Option<&[String]> {
        self.strings(key)
    }

    fn ints(&self, key: &str) -> Option<&[i64]> {
        self.ints(key)
    }

    fn floats(&self, key: &str) -> Option<&[f32]> {
        self.floats(key)
    }
}
