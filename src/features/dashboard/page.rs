//! Latents as one HTML page: a list to search on the left, a latent on the right. No script, font or image from elsewhere.
//!
//! Always: everything foreign is in one block of JSON, in which no `<` stands, and reaches the page as text, never as
//! markup; the one script that may run is named by its hash in the page's policy, so that nothing else could. Tokens go
//! through [`visible`].

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::growing::Bins;
use super::record::{Dashboard, Example, LatentRecord};
use super::writes::TokenValue;
use crate::text::visible::visible;

const CSS: &str = include_str!("../../../assets/dashboard/dashboard.css");
const SCRIPT: &str = include_str!("../../../assets/dashboard/dashboard.js");
const BODY: &str = include_str!("../../../assets/dashboard/body.html");

/// The page.
pub fn page(dashboard: &Dashboard) -> String {
    let data = data(dashboard).to_string().replace('<', "\\u003c");
    let hash = base64(&Sha256::digest(SCRIPT.as_bytes()));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'\"/>\
         <meta name=\"color-scheme\" content=\"light dark\"/><title>Latents · candlescope</title><style>{CSS}</style></head>\n\
         <body>{BODY}<script type=\"application/json\" id=\"data\">{data}</script>\n<script>{SCRIPT}</script></body></html>\n"
    )
}

/// Tokens are told once and then by number.
#[derive(Default)]
struct Words {
    numbers: BTreeMap<String, usize>,
    all: Vec<String>,
}

impl Words {
    fn number(&mut self, token: &str) -> usize {
        if let Some(number) = self.numbers.get(token) {
            return *number;
        }
        self.numbers.insert(token.to_owned(), self.all.len());
        self.all.push(visible(token));
        self.all.len() - 1
    }
}

fn data(dashboard: &Dashboard) -> Value {
    let mut words = Words::default();
    let latents: Vec<Value> = dashboard
        .latents
        .iter()
        .map(|l| latent(l, &mut words))
        .collect();
    let place = &dashboard.place;
    json!({
        "model": visible(&place.model),
        "dictionary": visible(&place.dictionary),
        "d_sae": place.d_sae,
        "reads": place.reads.to_string(),
        "writes": place.writes.to_string(),
        "contexts": place.contexts,
        "rows": place.tally.kept,
        "left_out": place.tally.left_out(),
        "policy": visible(&place.policy),
        "cofiring_over": place.cofiring_over,
        "words": words.all,
        "latents": latents,
    })
}

fn latent(latent: &LatentRecord, words: &mut Words) -> Value {
    let mut shown = |examples: &[Example]| -> Vec<Value> {
        examples.iter().map(|e| example(e, words)).collect()
    };
    let top = shown(&latent.top);
    let quantiles: Vec<Value> = latent
        .quantiles
        .iter()
        .map(|g| json!([short(g.low), short(g.high), shown(&g.examples)]))
        .collect();
    let logits = latent.logits.as_ref().map(|logits| {
        let mut side = |tokens: &[TokenValue]| -> Vec<Value> {
            let one = |t: &TokenValue| json!([words.number(&t.token), short(t.value)]);
            tokens.iter().map(one).collect()
        };
        let (positive, negative) = (side(&logits.positive), side(&logits.negative));
        json!([positive, negative, bins(&logits.histogram)])
    });
    json!({
        "index": latent.index,
        "fired": latent.fired,
        "density": latent.density,
        "mean": latent.mean.map(|m| short(m as f32)),
        "max": short(latent.max),
        "norm": short(latent.decoder_norm),
        "label": latent.label.as_ref().map(|l| visible(&l.to_string())),
        "lift": latent.label.as_ref().map(|l| short(l.lift as f32)),
        "histogram": bins(&latent.histogram),
        "top": top,
        "sampled": latent.sampled,
        "quantiles": quantiles,
        "logits": logits,
        "near": latent.neighbours.iter().map(|n| json!([n.index, short(n.cosine)])).collect::<Vec<_>>(),
        "with": latent.cofiring.iter().map(|c| json!([c.index, short(c.phi as f32), short(c.jaccard as f32), c.rows])).collect::<Vec<_>>(),
    })
}

/// Context, position, which token, the words, the values.
fn example(example: &Example, words: &mut Words) -> Value {
    let tokens: Vec<usize> = example.tokens.iter().map(|t| words.number(t)).collect();
    let values: Vec<f64> = example.values.iter().map(|v| short(*v)).collect();
    json!([
        example.context,
        example.position,
        example.at,
        tokens,
        values
    ])
}

fn bins(bins: &Bins) -> Value {
    let edges: Vec<f64> = bins.edges.iter().map(|e| short(*e as f32)).collect();
    json!([edges, bins.counts])
}

/// Four digits.
fn short(value: f32) -> f64 {
    let value = f64::from(value);
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10_f64.powi(3 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let three = [0, 1, 2].map(|i| u32::from(chunk.get(i).copied().unwrap_or(0)));
        let word = (three[0] << 16) | (three[1] << 8) | three[2];
        for i in 0..4 {
            let digit = DIGITS[((word >> (18 - 6 * i)) & 63) as usize];
            out.push(if i <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::record::{Place, QuantileGroup};
    use super::super::{CofiringOver, Label, LogitEffects, Neighbour, Trait};
    use super::*;
    use crate::activations::Tally;

    const BAD: &str = "</script><script>alert(1)</script>";

    fn made() -> Dashboard {
        let example = Example {
            context: 3,
            position: 4,
            value: 1.23456,
            at: 1,
            tokens: vec![BAD.into(), " the\u{202e}".into()],
            values: vec![0.0, 1.23456],
        };
        let token = TokenValue {
            id: 7,
            token: BAD.into(),
            value: 0.5,
        };
        let latent = LatentRecord {
            index: 12,
            fired: 2,
            density: 0.25,
            mean: Some(1.0),
            max: 1.23456,
            decoder_norm: 1.0,
            label: Some(Label {
                by: Trait::Token,
                value: BAD.into(),
                precision: 0.5,
                recall: 1.0,
                lift: 4.0,
                firings: 5,
                exact: true,
            }),
            histogram: Bins::default(),
            top: vec![example.clone()],
            sampled: 1,
            quantiles: vec![QuantileGroup {
                low: 1.0,
                high: 1.5,
                share: 1.0,
                examples: vec![example],
            }],
            logits: Some(LogitEffects {
                positive: vec![token],
                negative: Vec::new(),
                histogram: Bins::default(),
            }),
            neighbours: vec![Neighbour {
                index: 5,
                cosine: 0.5,
            }],
            cofiring: Vec::new(),
        };
        let place = Place {
            model: format!("model {BAD}"),
            dictionary: "sae".into(),
            d_sae: 16,
            reads: "resid_post.1".parse().unwrap(),
            writes: "resid_post.1".parse().unwrap(),
            contexts: 4,
            tally: Tally::default(),
            policy: "nothing".into(),
            cofiring_over: CofiringOver::All,
        };
        Dashboard {
            place,
            latents: vec![latent],
        }
    }

    #[test]
    fn nothing_comes_from_elsewhere_and_tokens_stay_text() {
        let page = page(&made());
        for outside in [
            "http:", "https:", "//cdn", "src=", "url(", "@import", "<link", "fetch(",
        ] {
            assert!(!page.contains(outside), "{outside}");
        }
        // The block of data and the page's own script.
        assert_eq!(page.matches("<script").count(), 2);
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(!page.contains("<script>alert"));
        assert!(page.contains("\\u003c/script>\\u003cscript>alert(1)"));
        assert!(page.contains("⟨U+202E⟩") && !page.contains('\u{202e}'));
        assert!(!SCRIPT.contains("innerHTML") && !SCRIPT.contains("document.write"));
    }

    #[test]
    fn the_data_can_be_read_back() {
        let page = page(&made());
        let begin = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
        let end = begin + page[begin..].find("</script>").unwrap();
        let data: Value = serde_json::from_str(&page[begin..end]).unwrap();
        assert_eq!(data["words"][0], BAD);
        assert_eq!(
            data["latents"][0]["top"][0],
            json!([3, 4, 1, [0, 1], [0.0, 1.235]])
        );
        assert_eq!(data["latents"][0]["logits"][0], json!([[0, 0.5]]));
        let json = serde_json::to_string(&made()).unwrap();
        assert_eq!(serde_json::from_str::<Dashboard>(&json).unwrap(), made());
    }

    /// The vectors of RFC 4648, section 10; digits by hand.
    #[test]
    fn base64_and_four_digits() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in vectors {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b.abs(), "{a} {b}");
        near(short(123_456.0), 123_500.0);
        near(short(-0.000_123_456), -0.000_123_5);
        assert_eq!(short(0.0), 0.0);
    }
}
