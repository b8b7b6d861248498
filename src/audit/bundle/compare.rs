//! Two JSON values side by side, number by number and bit by bit, with the place of every difference in words.
//!
//! Always: numbers are equal only if they are the same integer or the same bits of an f64; what only one side has is a
//! difference; places name entries of lists by their `id` or `name` where they have one.

use serde_json::{Number, Value};

/// One place where two sides differ.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The member it lies in.
    pub member: String,
    /// Where in it, such as `signals[refusal_rate].values[harmful_refusal].value`.
    pub at: String,
    /// What the bundle says there.
    pub bundle: String,
    /// What was found here.
    pub here: String,
}

/// Said for what one side does not have.
const NOTHING: &str = "nothing";

/// The longest value that is quoted whole, in characters.
const SHOWN: usize = 80;

/// How much of a long text is quoted before the place where two of them part, in characters.
const BEFORE: usize = 20;

/// Every place where the sides differ, in the order of `bundle`.
pub fn differences(member: &str, bundle: &Value, here: &Value) -> Vec<Difference> {
    let mut found = Found {
        member,
        differences: Vec::new(),
    };
    found.walk("", Some(bundle), Some(here));
    found.differences
}

struct Found<'a> {
    member: &'a str,
    differences: Vec<Difference>,
}

impl Found<'_> {
    fn walk(&mut self, at: &str, bundle: Option<&Value>, here: Option<&Value>) {
        match (bundle, here) {
            (Some(Value::Object(left)), Some(Value::Object(right))) => {
                let added = right.keys().filter(|key| !left.contains_key(*key));
                for key in left.keys().chain(added) {
                    let place = if at.is_empty() {
                        key.clone()
                    } else {
                        format!("{at}.{key}")
                    };
                    self.walk(&place, left.get(key), right.get(key));
                }
            }
            (Some(Value::Array(left)), Some(Value::Array(right))) => {
                for i in 0..left.len().max(right.len()) {
                    let (left, right) = (left.get(i), right.get(i));
                    let name = left.or(right).and_then(named);
                    let name = name.unwrap_or_else(|| i.to_string());
                    self.walk(&format!("{at}[{name}]"), left, right);
                }
            }
            (Some(Value::Number(left)), Some(Value::Number(right))) if same(left, right) => {}
            (left, right) => {
                let number = matches!(
                    (left, right),
                    (Some(Value::Number(_)), Some(Value::Number(_)))
                );
                if number || left != right {
                    let [bundle, here] = shown(left, right);
                    self.differences.push(Difference {
                        member: self.member.to_owned(),
                        at: at.to_owned(),
                        bundle,
                        here,
                    });
                }
            }
        }
    }
}

/// What an entry of a list is called.
fn named(value: &Value) -> Option<String> {
    let name = ["id", "name", "value"]
        .iter()
        .find_map(|key| value.get(key)?.as_str());
    name.map(str::to_owned)
}

fn same(left: &Number, right: &Number) -> bool {
    match (left.is_f64(), right.is_f64()) {
        (true, true) => left.as_f64().map(f64::to_bits) == right.as_f64().map(f64::to_bits),
        (false, false) => left == right,
        _ => false,
    }
}

/// Both values in words; of long ones, from a little before the place where they part.
fn shown(bundle: Option<&Value>, here: Option<&Value>) -> [String; 2] {
    let text = |value: Option<&Value>| -> Vec<char> {
        value
            .map_or_else(|| NOTHING.to_owned(), ToString::to_string)
            .chars()
            .collect()
    };
    let both = [text(bundle), text(here)];
    let same = both[0]
        .iter()
        .zip(&both[1])
        .take_while(|(a, b)| a == b)
        .count();
    let longest = both.iter().map(Vec::len).max().unwrap_or_default();
    let start = if longest > SHOWN {
        same.saturating_sub(BEFORE)
    } else {
        0
    };
    both.map(|text| {
        let piece: String = text.iter().skip(start).take(SHOWN).collect();
        let before = if start > 0 { "[…] " } else { "" };
        let after = if text.len() > start + SHOWN {
            " […]"
        } else {
            ""
        };
        format!("{before}{piece}{after}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn places(bundle: &Value, here: &Value) -> Vec<String> {
        let found = differences("audit.json", bundle, here);
        found.into_iter().map(|difference| difference.at).collect()
    }

    #[test]
    fn one_bit_of_a_number_is_a_difference_with_its_place() {
        let audit = |x: f64| {
            json!({"signals": [
                {"id": "other", "values": []},
                {"id": "refusal_score", "values": [{"name": "harmful_score", "value": x, "n": 8}]},
            ]})
        };
        let x = 0.1;
        let next = f64::from_bits(f64::to_bits(x) + 1);
        assert_eq!(places(&audit(x), &audit(x)), [""; 0]);
        assert_eq!(
            places(&audit(x), &audit(next)),
            ["signals[refusal_score].values[harmful_score].value"]
        );
        assert_eq!(places(&audit(0.0), &audit(-0.0)).len(), 1);
        assert_eq!(places(&json!(1), &json!(1.0)), [""]);
    }

    #[test]
    fn what_one_side_lacks_is_a_difference() {
        let found = differences(
            "evidence.json",
            &json!({"a": [1, 2]}),
            &json!({"a": [1], "b": null}),
        );
        let said: Vec<_> = found
            .iter()
            .map(|d| (d.at.as_str(), d.bundle.as_str(), d.here.as_str()))
            .collect();
        assert_eq!(said, [("a[1]", "2", NOTHING), ("b", NOTHING, "null")]);
        assert_eq!(found[0].member, "evidence.json");
    }

    #[test]
    fn long_values_are_cut_to_where_they_part() {
        let text = |end: &str| json!(format!("{}{end}{}", "é".repeat(200), "x".repeat(100)));
        let found = differences("m", &text("this"), &text("that"));
        assert!(
            found[0]
                .bundle
                .starts_with(&format!("[…] {}is", "é".repeat(18) + "th"))
        );
        assert!(
            found[0]
                .here
                .starts_with(&format!("[…] {}at", "é".repeat(18) + "th"))
        );
        assert!(found[0].bundle.chars().count() < 100);
    }
}
