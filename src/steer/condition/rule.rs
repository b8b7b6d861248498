//! Rules: `if harmful and not medical then +refusal.safetensors@12*1`.
//!
//! A rule is a boolean expression over named conditions (`not` before `and` before `or`, parentheses) and one steering after
//! `then`: `+DIR@LAYER*ALPHA` adds, `-DIR[@LAYERS][*AMOUNT]` ablates, `clamp DIR@LAYERS*NUMBER` and the like is another form.
//! Always: what is not understood is refused with its place in the rule.

use std::str::FromStr;

use crate::steer::{Form, SteerError, Steering};

/// A boolean expression over named conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// A condition fired.
    Name(String),
    /// It does not hold.
    Not(Box<Expression>),
    /// Both hold.
    And(Box<Expression>, Box<Expression>),
    /// One holds, or both.
    Or(Box<Expression>, Box<Expression>),
}

impl Expression {
    /// Whether it holds where `fired(name)` says which conditions fired.
    pub fn holds(&self, fired: &impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Name(name) => fired(name),
            Self::Not(inner) => !inner.holds(fired),
            Self::And(a, b) => a.holds(fired) && b.holds(fired),
            Self::Or(a, b) => a.holds(fired) || b.holds(fired),
        }
    }

    /// The conditions it names, each once, in their order.
    pub fn names(&self) -> Vec<&str> {
        let mut found = Vec::new();
        self.collect(&mut found);
        found
    }

    fn collect<'a>(&'a self, found: &mut Vec<&'a str>) {
        match self {
            Self::Name(name) if !found.contains(&name.as_str()) => found.push(name),
            Self::Name(_) => {}
            Self::Not(inner) => inner.collect(found),
            Self::And(a, b) | Self::Or(a, b) => {
                a.collect(found);
                b.collect(found);
            }
        }
    }
}

impl FromStr for Expression {
    type Err = SteerError;

    fn from_str(text: &str) -> Result<Self, SteerError> {
        let mut reader = Reader {
            whole: text,
            words: words(text),
            at: 0,
            depth: 0,
        };
        let found = reader.or()?;
        match reader.peek() {
            None => Ok(found),
            Some(_) => Err(reader.refuse("`and`, `or` or the end")),
        }
    }
}

/// What is done where an expression holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// As written.
    pub text: String,
    /// When.
    pub when: Expression,
    /// What.
    pub then: Steering,
}

impl FromStr for Rule {
    type Err = SteerError;

    fn from_str(text: &str) -> Result<Self, SteerError> {
        let refuse = |what: String| SteerError::Rule {
            rule: text.to_owned(),
            what,
        };
        let form = "expected `if CONDITIONS then +DIR@LAYER*ALPHA` (or -DIR[@LAYERS][*AMOUNT], or a form's name and DIR@LAYERS*NUMBER)";
        let rest = text
            .trim()
            .strip_prefix("if ")
            .ok_or_else(|| refuse(form.into()))?;
        let (when, then) = rest
            .split_once(" then ")
            .ok_or_else(|| refuse(form.into()))?;
        let then =
            steering(then.trim()).map_err(|error| refuse(format!("after `then`: {error}")))?;
        Ok(Self {
            text: text.trim().to_owned(),
            when: when.parse()?,
            then,
        })
    }
}

fn steering(text: &str) -> Result<Steering, SteerError> {
    if let Some(text) = text.strip_prefix('+') {
        return Steering::addition(text);
    }
    if let Some(text) = text.strip_prefix('-') {
        return Steering::ablation(text);
    }
    let form = text.split_once(' ').and_then(|(name, rest)| {
        let form = Form::ALL.into_iter().find(|form| form.name() == name)?;
        Some((form, rest.trim()))
    });
    match form {
        Some((Form::Subspace, rest)) => Steering::ablation(rest),
        Some((form, rest)) => Steering::form(form, rest),
        None => Err(SteerError::Written {
            expected: "+DIR@LAYER*ALPHA, -DIR[@LAYERS][*AMOUNT], or add, ablate, clamp, cap, floor, one-sided, affine, rotate or rotate-to and DIR@LAYERS*NUMBER",
            example: "if harmful then +refusal.safetensors@12*1",
        }),
    }
}

/// Words and parentheses with where they begin, in characters from 1.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut words: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (i, c) in text.chars().enumerate() {
        match c {
            _ if c.is_whitespace() => open = false,
            '(' | ')' => {
                words.push((i + 1, c.to_string()));
                open = false;
            }
            _ if open => {
                if let Some((_, word)) = words.last_mut() {
                    word.push(c);
                }
            }
            _ => {
                words.push((i + 1, c.to_string()));
                open = true;
            }
        }
    }
    words
}

/// Parentheses and `not`s within each other that are read; more would only exhaust the stack.
const DEEPEST: usize = 64;

struct Reader<'a> {
    whole: &'a str,
    words: Vec<(usize, String)>,
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&str> {
        self.words.get(self.at).map(|(_, word)| word.as_str())
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        self.at += usize::from(found);
        found
    }

    fn refuse(&self, expected: &str) -> SteerError {
        let what = match self.words.get(self.at) {
            Some((at, word)) => format!("expected {expected} at character {at}, found `{word}`"),
            None => format!("expected {expected} at the end"),
        };
        SteerError::Rule {
            rule: self.whole.to_owned(),
            what,
        }
    }

    fn or(&mut self) -> Result<Expression, SteerError> {
        let mut found = self.and()?;
        while self.take("or") {
            found = Expression::Or(Box::new(found), Box::new(self.and()?));
        }
        Ok(found)
    }

    fn and(&mut self) -> Result<Expression, SteerError> {
        let mut found = self.not()?;
        while self.take("and") {
            found = Expression::And(Box::new(found), Box::new(self.not()?));
        }
        Ok(found)
    }

    fn not(&mut self) -> Result<Expression, SteerError> {
        if self.depth >= DEEPEST {
            return Err(self.refuse("less nesting"));
        }
        self.depth += 1;
        let found = if self.take("not") {
            self.not().map(|inner| Expression::Not(Box::new(inner)))
        } else if self.take("(") {
            let inner = self.or()?;
            if self.take(")") {
                Ok(inner)
            } else {
                Err(self.refuse("`)`, `and` or `or`"))
            }
        } else {
            self.name()
        };
        self.depth -= 1;
        found
    }

    fn name(&mut self) -> Result<Expression, SteerError> {
        let word = self.peek().unwrap_or_default().to_owned();
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let keyword = ["and", "or", "not", "if", "then"].contains(&word.as_str());
        if word.is_empty() || keyword || !word.chars().all(plain) {
            return Err(self.refuse("the name of a condition, `not` or `(`"));
        }
        self.at += 1;
        Ok(Expression::Name(word))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn holds(text: &str, fired: &[&str]) -> bool {
        let expression: Expression = text.parse().unwrap();
        expression.holds(&|name| fired.contains(&name))
    }

    #[test]
    fn precedence_is_not_and_or() {
        assert!(holds("a or b and c", &["a"]));
        assert!(!holds("(a or b) and c", &["a"]));
        assert!(holds("not a and b", &["b"]));
        assert!(!holds("not (a or b)", &["b"]));
        assert!(holds("not not a", &["a"]));
        let expression: Expression = "a and not b or a".parse().unwrap();
        assert_eq!(expression.names(), ["a", "b"]);
    }

    #[test]
    fn a_rule_says_when_and_what() {
        let rule: Rule = "if harmful and not medical then +r.safetensors@12*1.5"
            .parse()
            .unwrap();
        assert_eq!(rule.when.names(), ["harmful", "medical"]);
        assert_eq!(
            rule.then,
            Steering::addition("r.safetensors@12*1.5").unwrap()
        );
        let rule: Rule = "if a then -r@3-9".parse().unwrap();
        assert_eq!(rule.then, Steering::ablation("r@3-9").unwrap());
        let rule: Rule = "if a then clamp r@3*0".parse().unwrap();
        assert_eq!(rule.then, Steering::form(Form::Clamp, "r@3*0").unwrap());
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, expected) in [
            ("harmful then +r@1*1", "expected `if CONDITIONS then"),
            ("if harmful +r@1*1", "expected `if CONDITIONS then"),
            (
                "if a and then +r@1*1",
                "the name of a condition, `not` or `(` at the end",
            ),
            (
                "if a b then +r@1*1",
                "`and`, `or` or the end at character 3, found `b`",
            ),
            ("if (a or b then +r@1*1", "`)`, `and` or `or` at the end"),
            ("if a && b then +r@1*1", "at character 3, found `&&`"),
            ("if a then r@1*1", "after `then`: expected +DIR"),
            ("if a then +r@x*1", "after `then`: expected DIR@LAYER*ALPHA"),
        ] {
            let error = text.parse::<Rule>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let deep = format!("{}a", "not ".repeat(100_000));
        assert!(
            deep.parse::<Expression>()
                .unwrap_err()
                .to_string()
                .contains("less nesting")
        );
    }
}
