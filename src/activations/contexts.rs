//! Documents packed into contexts of exactly so many tokens, and a cursor to go on from.
//!
//! Documents follow each other with the end-of-text token between them, and are cut where a context is full; attention runs
//! across them, as it does where SAELens and dictionary_learning harvest. What is left at the end is no context. Unpacked,
//! each document is a context of its own.
//!
//! Always: the same source gives the same contexts, and a reading that begins at a cursor gives what the whole reading
//! gives after it. Memory is that of one document, or of a part of it where it is long.

use serde::{Deserialize, Serialize};

use super::{RowIter, Rows, StoreError, TextRows, items::Item, source::Items};
use crate::text::Tokenizer;

/// Where a context begins: so many documents (or parts of one) read whole, and so many tokens of the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Documents before.
    pub document: u64,
    /// Tokens of this one before.
    pub offset: u64,
    /// Contexts before.
    pub context: u64,
}

/// A context with the place behind it.
pub type Placed = (Vec<u32>, Cursor);

/// Contexts from a cursor on.
pub type ContextIter<'a> = Box<dyn Iterator<Item = Result<Placed, StoreError>> + Send + 'a>;

/// Contexts that can be gone on with.
pub trait Contexts: Rows + Sync {
    /// Those from a cursor on.
    ///
    /// # Errors
    /// The source cannot be opened.
    fn contexts(&self, from: Cursor) -> Result<ContextIter<'_>, StoreError>;
}

/// Each row is a context.
impl Contexts for Vec<Vec<u32>> {
    fn contexts(&self, from: Cursor) -> Result<ContextIter<'_>, StoreError> {
        let placed = |(at, ids): (usize, &Vec<u32>)| {
            let next = at as u64 + 1;
            let behind = Cursor {
                document: next,
                offset: 0,
                context: next,
            };
            Ok((ids.clone(), behind))
        };
        let all = self.iter().enumerate().skip(from.document as usize);
        Ok(Box::new(all.map(placed)))
    }
}

/// Each text is a context.
impl Contexts for TextRows<'_> {
    fn contexts(&self, from: Cursor) -> Result<ContextIter<'_>, StoreError> {
        let mut at = from.document;
        let placed = move |ids: Result<Vec<u32>, StoreError>| {
            at += 1;
            let behind = Cursor {
                document: at,
                offset: 0,
                context: at,
            };
            Ok((ids?, behind))
        };
        let rows = self.rows_from(from.document)?;
        Ok(Box::new(rows.map(placed)))
    }
}

/// How documents become contexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packing {
    /// Tokens of each context.
    pub length: usize,
    /// The token at the beginning of each context.
    pub bos: Option<u32>,
    /// The token between documents.
    pub separator: Option<u32>,
    /// Most contexts.
    pub limit: Option<u64>,
}

impl Packing {
    /// Contexts of `length` tokens for a tokenizer; `bos` where it should not decide by whether the tokenizer puts that
    /// token before a text of its own accord.
    ///
    /// # Errors
    /// A length below 2; a token that the tokenizer lacks.
    pub fn new(
        length: usize,
        bos: Option<bool>,
        tokenizer: &Tokenizer,
    ) -> Result<Self, StoreError> {
        if length < 2 {
            return Err(StoreError::Setting {
                option: "--pack",
                expected: "at least 2 tokens",
                found: length.to_string(),
            });
        }
        let begins = tokenizer.encode("a", true)?.first().copied();
        let wanted = bos.unwrap_or(begins.is_some() && begins == tokenizer.bos());
        if wanted && tokenizer.bos().is_none() {
            return Err(StoreError::Setting {
                option: "--bos",
                expected: "a tokenizer with a token that begins a text",
                found: "none".into(),
            });
        }
        Ok(Self {
            length,
            bos: tokenizer.bos().filter(|_| wanted),
            separator: separator(tokenizer),
            limit: None,
        })
    }
}

/// What pretraining put between documents: a chat model's end token ends a turn, so the end of a text is looked for first.
fn separator(tokenizer: &Tokenizer) -> Option<u32> {
    let named = ["<|endoftext|>", "<|end_of_text|>"].iter();
    let mut named = named.filter_map(|name| tokenizer.id_of(name));
    let end = named.find(|id| tokenizer.is_special(*id));
    let stop = tokenizer.stop_ids().first().copied();
    end.or_else(|| tokenizer.eos()).or(stop)
}

/// The packed contexts of some texts.
pub struct PackedContexts<'a> {
    texts: TextRows<'a>,
    packing: Packing,
}

impl<'a> PackedContexts<'a> {
    /// Checks that the model has as many positions.
    ///
    /// # Errors
    /// A context that is longer than the model's.
    pub fn new(texts: TextRows<'a>, packing: Packing) -> Result<Self, StoreError> {
        let most = texts.checkpoint().config().max_positions();
        if packing.length > most {
            return Err(StoreError::Setting {
                option: "--pack",
                expected: "at most the model's context",
                found: format!("{} of {most}", packing.length),
            });
        }
        Ok(Self { texts, packing })
    }

    /// What a store's manifest says of it.
    ///
    /// # Errors
    /// The file cannot be hashed.
    pub fn info(&self) -> Result<super::SourceInfo, StoreError> {
        Ok(super::SourceInfo {
            max_len: self.packing.length,
            packing: Some(self.packing),
            ..self.texts.info()?
        })
    }
}

impl Rows for PackedContexts<'_> {
    fn rows(&self) -> Result<RowIter<'_>, StoreError> {
        let all = self.contexts(Cursor::default())?;
        Ok(Box::new(all.map(|placed| Ok(placed?.0))))
    }
}

impl Contexts for PackedContexts<'_> {
    fn contexts(&self, from: Cursor) -> Result<ContextIter<'_>, StoreError> {
        let mut items = self.texts.items()?;
        let mut within = false;
        for _ in 0..from.document {
            if let Some(item) = items.next() {
                within = matches!(item?.1, Item::Part(_));
            }
        }
        let mut reader = Reader {
            packed: self,
            items,
            ids: Vec::new(),
            within,
            at: from,
            failed: false,
        };
        if from.offset > 0 {
            reader.load()?;
        }
        Ok(Box::new(reader))
    }
}

struct Reader<'a> {
    packed: &'a PackedContexts<'a>,
    items: Items<'a>,
    /// The document that is being cut; `at.offset` of its tokens are used.
    ids: Vec<u32>,
    /// The next text goes on with the document before it.
    within: bool,
    at: Cursor,
    failed: bool,
}

impl Reader<'_> {
    /// Takes the next document; false at the end. One without words has no tokens.
    fn load(&mut self) -> Result<bool, StoreError> {
        self.ids.clear();
        let Some(next) = self.items.next() else {
            return Ok(false);
        };
        let (origin, item) = next?;
        let goes_on = matches!(item, Item::Part(_));
        let within = std::mem::replace(&mut self.within, goes_on);
        let blank = matches!(&item, Item::Text(text) if text.trim().is_empty());
        if !blank {
            self.ids = self.packed.texts.ids(&origin, item, false)?;
        }
        let ends = !goes_on && (within || !blank);
        let separator = self.packed.packing.separator.filter(|_| ends);
        if separator.is_some() && self.ids.last().copied() != separator {
            self.ids.extend(separator);
        }
        Ok(true)
    }

    fn read(&mut self) -> Result<Option<Placed>, StoreError> {
        let packing = &self.packed.packing;
        if packing.limit.is_some_and(|most| self.at.context >= most) {
            return Ok(None);
        }
        let length = packing.length;
        let mut context = Vec::with_capacity(length);
        context.extend(packing.bos);
        loop {
            let left = self.ids.get(self.at.offset as usize..).unwrap_or(&[]);
            let taken = left.len().min(length - context.len());
            context.extend_from_slice(&left[..taken]);
            self.at.offset += taken as u64;
            if self.at.offset as usize >= self.ids.len() && !self.ids.is_empty() {
                self.at.document += 1;
                self.at.offset = 0;
                self.ids.clear();
            }
            if context.len() == length {
                self.at.context += 1;
                return Ok(Some((context, self.at)));
            }
            if self.ids.is_empty() {
                if !self.load()? {
                    return Ok(None);
                }
                if self.ids.is_empty() {
                    self.at.document += 1;
                }
            }
        }
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Placed, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.read().transpose();
        self.failed = !matches!(next, Some(Ok(_)));
        next
    }
}
