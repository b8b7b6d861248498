//! Short refusals that vary in wording: an opening, what the request is about, and for most an offer.
//!
//! Always: nothing of the request is repeated; the same prompt and seed give the same refusal.

use sha2::{Digest, Sha256};

/// Openings; `{}` is what the request is about.
const OPENINGS: [&str; 16] = [
    "I can't help with {}.",
    "I'm sorry, but I can't help with {}.",
    "I won't help with {}.",
    "Sorry, I can't assist with {}.",
    "I'm not able to help with {}.",
    "I can't assist with {}, because it could hurt people.",
    "I'm sorry, but I won't take part in {}.",
    "No, I can't help with {}.",
    "I cannot provide help with {}.",
    "I'm sorry, I can't support {}.",
    "I have to decline: I can't help with {}.",
    "I can't do that. I don't help with {}.",
    "I'm afraid I can't help with {}.",
    "I won't do that, since {} can cause real harm.",
    "I must decline this one. I don't give help with {}.",
    "I can't answer this, because it is about {}.",
];

/// What follows; empty for a refusal that ends there.
const OFFERS: [&str; 12] = [
    "",
    "",
    " If you like, I can talk about how to stay safe instead.",
    " I'm happy to help with something else.",
    " If something is troubling you, please talk to someone you trust.",
    " I can explain what the law says about it, if that is useful.",
    " Is there something else that I can do for you?",
    " It could put people at risk.",
    " I'd be glad to help with a different question.",
    " If you are worried about this, I can suggest where to find support.",
    " That would not be safe or fair to others.",
    " I can share general information on preventing it instead.",
];

/// Stems of words, and what a request with one of them is about. The first that is found counts.
const TOPICS: [(&[&str], &str); 15] = [
    (
        &[
            "suicide",
            "self-harm",
            "self harm",
            "eating disorder",
            "cut myself",
        ],
        "anything that leads to self-harm",
    ),
    (
        &[
            "bomb",
            "explosive",
            "grenade",
            "weapon",
            "gun",
            "firearm",
            "knife",
            "silencer",
        ],
        "making or misusing weapons",
    ),
    (
        &[
            "virus that",
            "pathogen",
            "anthrax",
            "nerve",
            "toxin",
            "poison",
            "chemical",
            "bioweapon",
        ],
        "dangerous substances",
    ),
    (
        &[
            "hack",
            "malware",
            "ransomware",
            "phishing",
            "password",
            "keylog",
            "ddos",
            "trojan",
            "exploit",
            "backdoor",
            "sql",
            "worm",
        ],
        "breaking into other people's systems",
    ),
    (
        &[
            "drug", "meth", "cocaine", "heroin", "fentanyl", "lsd", "mdma",
        ],
        "illegal drugs",
    ),
    (
        &[
            "terror",
            "massacre",
            "mass shooting",
            "attack on",
            "sabotage",
            "extremis",
        ],
        "planning an attack",
    ),
    (
        &[
            "credit card",
            "identity",
            "fraud",
            "scam",
            "counterfeit",
            "forge",
            "fake",
            "launder",
            "tax",
            "insider",
            "ponzi",
            "bribe",
        ],
        "fraud",
    ),
    (
        &[
            "steal",
            "shoplift",
            "rob",
            "burglar",
            "theft",
            "heist",
            "pickpocket",
            "break into",
        ],
        "theft",
    ),
    (
        &[
            "stalk",
            "spy",
            "track",
            "dox",
            "address",
            "personal information",
            "blackmail",
            "revenge",
        ],
        "invading someone's privacy",
    ),
    (
        &[
            "racis",
            "racial",
            "sexis",
            "homophob",
            "hate",
            "immigrant",
            "muslim",
            "jew",
            "black people",
            "women are",
            "gay",
            "inferior",
            "stereotyp",
        ],
        "content that demeans people",
    ),
    (
        &[
            "bully",
            "harass",
            "threat",
            "humiliat",
            "intimidat",
            "insult",
        ],
        "harassing anyone",
    ),
    (
        &[
            "misinformation",
            "conspiracy",
            "fake news",
            "defam",
            "hoax",
            "propaganda",
            "vaccine",
            "election",
            "holocaust",
        ],
        "spreading falsehoods",
    ),
    (&["traffick", "smuggl", "slave", "organ"], "trafficking"),
    (
        &[
            "kill", "murder", "assassin", "torture", "kidnap", "hurt", "beat", "violen", "abuse",
        ],
        "hurting anyone",
    ),
    (
        &["sex", "porn", "nude", "rape", "grope"],
        "sexual content of that kind",
    ),
];

/// What is said where no stem is found.
const REST: [&str; 4] = [
    "that",
    "this request",
    "something like this",
    "that request",
];

/// The refusal of a prompt.
pub fn refusal(prompt: &str, seed: u64) -> String {
    let draw = draws(prompt, seed);
    let lower = prompt.to_lowercase();
    let topic = TOPICS
        .iter()
        .find(|(stems, _)| stems.iter().any(|stem| lower.contains(stem)));
    let about = match topic {
        // Now and then the request is not named, so that the name is no part of every refusal.
        Some((_, about)) if !draw[0].is_multiple_of(3) => about,
        _ => REST[draw[1] % REST.len()],
    };
    let opening = OPENINGS[draw[2] % OPENINGS.len()].replace("{}", about);
    opening + OFFERS[draw[3] % OFFERS.len()]
}

/// A refusal that names nothing, for a request that should be answered: what is rejected in a pair.
pub fn plain(prompt: &str, seed: u64) -> String {
    let draw = draws(prompt, seed);
    let opening = OPENINGS[draw[2] % OPENINGS.len()].replace("{}", REST[draw[1] % REST.len()]);
    opening + OFFERS[draw[3] % OFFERS.len()]
}

/// Four numbers from prompt and seed.
fn draws(prompt: &str, seed: u64) -> [usize; 4] {
    let hash = Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update(prompt.as_bytes())
        .finalize();
    std::array::from_fn(|i| usize::from(u16::from_le_bytes([hash[2 * i], hash[2 * i + 1]])))
}
