//! What is shown of a generation: tokens, streams of them with and without edits, branches.
//!
//! Always: plain data; what is being replaced stays in `old` and is shown as such until new tokens take its place.

use crate::hooks::Edit;

/// The side under the interventions.
pub const EDITED: usize = 0;
/// The side without.
pub const PLAIN: usize = 1;
/// Most branches of a side, the first answer included.
pub const BRANCHES: usize = 9;

/// A token that might have come.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// Its id.
    pub id: u32,
    /// Its text, hostile.
    pub text: String,
    /// Nats.
    pub log_prob: f32,
}

/// A token that came.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Its text, hostile.
    pub text: String,
    /// Nats, of the model's distribution before temperature and top-p.
    pub log_prob: f32,
    /// The most likely tokens at this place, the best first.
    pub top: Vec<Alternative>,
    /// Chosen by the user.
    pub forced: bool,
}

/// Why an answer is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The model ended it.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
}

/// One answer.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    /// Its tokens so far.
    pub tokens: Vec<Token>,
    /// What was there before a change.
    pub old: Vec<Token>,
    /// Set when it is over.
    pub end: Option<End>,
    /// A token that the user wants next.
    pub push: Option<u32>,
    /// Cut back by the user: a change of the drawing holds from here on.
    pub rewound: bool,
}

impl Stream {
    /// Begins anew.
    pub fn restart(&mut self) {
        if !self.tokens.is_empty() {
            self.old = std::mem::take(&mut self.tokens);
        }
        self.end = None;
        self.push = None;
        self.rewound = false;
    }

    /// Goes back to before its `at`-th token.
    pub fn rewind(&mut self, at: usize) {
        if at < self.tokens.len() {
            self.old.clone_from(&self.tokens);
            self.tokens.truncate(at);
        }
        self.end = None;
        self.push = None;
        self.rewound = true;
    }

    /// Its tokens, and after them those that are being replaced.
    pub fn all(&self) -> impl Iterator<Item = &Token> {
        self.tokens
            .iter()
            .chain(self.old.iter().skip(self.tokens.len()))
    }

    /// Takes a token of the model's.
    pub fn put(&mut self, index: usize, token: Token) {
        self.tokens.truncate(index);
        self.tokens.push(token);
        if self.push.take().is_none() {
            self.rewound = false;
        }
    }

    /// Takes the end.
    pub fn finish(&mut self, end: End) {
        self.end = Some(end);
        self.old.clear();
    }

    /// Whether it is to go on.
    pub fn open(&self) -> bool {
        self.end.is_none()
    }
}

/// The answers of one side.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// The first answer and what branched off; empty while there is nothing to generate.
    pub branches: Vec<Stream>,
    /// The one that is shown.
    pub current: usize,
}

impl Side {
    /// Begins anew with one answer.
    pub fn restart(&mut self) {
        let mut first = if self.branches.is_empty() {
            Stream::default()
        } else {
            self.branches
                .swap_remove(self.current.min(self.branches.len() - 1))
        };
        first.restart();
        self.branches = vec![first];
        self.current = 0;
    }

    /// The answer that is shown.
    pub fn shown(&self) -> Option<&Stream> {
        self.branches.get(self.current)
    }

    /// The answer that is shown.
    pub fn shown_mut(&mut self) -> Option<&mut Stream> {
        self.branches.get_mut(self.current)
    }

    /// The next branch, or the one before.
    pub fn turn(&mut self, forward: bool) {
        let n = self.branches.len().max(1);
        self.current = (self.current + if forward { 1 } else { n - 1 }) % n;
    }
}

/// The first place where two answers differ: another token, or one of them is over and the other goes on.
pub fn divergence(a: &Stream, b: &Stream) -> Option<usize> {
    let both = a.tokens.len().min(b.tokens.len());
    let differs = (0..both).find(|&i| a.tokens[i].id != b.tokens[i].id);
    let over = |x: &Stream| x.tokens.len() == both && x.end == Some(End::Stop);
    let longer = a.tokens.len().max(b.tokens.len()) > both;
    differs.or_else(|| (longer && (over(a) || over(b))).then_some(both))
}

/// An answer that is to be made or gone on with.
#[derive(Debug, Clone)]
pub struct Task {
    /// Whose side.
    pub side: usize,
    /// Which branch.
    pub branch: usize,
    /// The interventions of the side.
    pub edits: Vec<Edit>,
    /// What is kept of the answer, and after it what the user wants next.
    pub tokens: Vec<u32>,
    /// How many of these are shown already.
    pub known: usize,
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A token that is as likely as its neighbour in the list.
    pub fn token(id: u32, text: &str) -> Token {
        let alternative = |id: u32, log_prob: f32| Alternative {
            id,
            text: format!(" t{id}"),
            log_prob,
        };
        Token {
            id,
            text: text.into(),
            log_prob: -0.7,
            top: vec![alternative(id, -0.7), alternative(id + 1, -1.6)],
            forced: false,
        }
    }

    fn stream(ids: &[u32], end: Option<End>) -> Stream {
        Stream {
            tokens: ids.iter().map(|&id| token(id, "x")).collect(),
            end,
            ..Stream::default()
        }
    }

    #[test]
    fn answers_diverge_where_a_token_or_the_end_differs() {
        let long = stream(&[1, 2, 3], None);
        assert_eq!(divergence(&long, &stream(&[1, 5], None)), Some(1));
        assert_eq!(divergence(&long, &stream(&[1, 2], None)), None);
        assert_eq!(
            divergence(&long, &stream(&[1, 2], Some(End::Stop))),
            Some(2)
        );
        assert_eq!(divergence(&long, &stream(&[1, 2], Some(End::Length))), None);
        assert_eq!(divergence(&long, &long), None);
    }

    #[test]
    fn what_is_replaced_stays_until_it_is() {
        let mut side = Side::default();
        side.restart();
        side.branches[0].put(0, token(1, "a"));
        side.branches[0].put(1, token(2, "b"));
        side.restart();
        let shown = side.shown_mut().unwrap();
        assert_eq!((shown.tokens.len(), shown.old.len()), (0, 2));
        shown.restart();
        assert_eq!(shown.old.len(), 2, "a second change before the first token");
        shown.put(0, token(3, "c"));
        shown.finish(End::Stop);
        assert!(shown.old.is_empty() && !shown.open());
        shown.rewind(0);
        assert!(shown.open() && shown.rewound && shown.tokens.is_empty());
    }
}
