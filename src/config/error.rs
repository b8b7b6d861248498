//! What a config can be refused for, by file and key.

use crate::files::FileError;

/// Errors of the config room.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A family that no mapping exists for.
    #[error("{file}: model_type `{found}` is not served; served are {served}")]
    UnknownFamily {
        /// The config's path.
        file: String,
        /// What it says.
        found: String,
        /// The list of families.
        served: String,
    },
    /// A config value that is missing, malformed or not served exactly.
    #[error("{file}: `{key}`: expected {expected}, found {found}")]
    Key {
        /// The config's path.
        file: String,
        /// The key.
        key: String,
        /// What would be served.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Config keys this program does not know and so cannot promise to honour.
    #[error(
        "{file}: unknown config key(s) {keys}; a key that changes the forward pass must not be ignored. If you have \
         checked that they do not, name them with --accept-config-key"
    )]
    UnknownKeys {
        /// The config's path.
        file: String,
        /// The keys.
        keys: String,
    },
    /// A tensor that says how a GGUF file scales its positions.
    #[error(transparent)]
    File(#[from] FileError),
}
