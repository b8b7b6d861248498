//! Detached signatures over bundles (Ed25519, RFC 8032), and the keys they are made with.
//!
//! Always: what is signed is [`PREFIX`] and the SHA-256 of the whole file, so that no signature of ours can pass for one of
//! another protocol; a private key's file is readable by its owner alone and never replaced. Keys are PEM as OpenSSL writes
//! it (RFC 8410); a signature is four lines of text, in one form only.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature as Ed25519, Signer as _, SigningKey, VerifyingKey};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

use super::BundleError;
use super::read::load;

/// What stands before the hash in every signed message.
pub const PREFIX: &[u8] = b"candlescope.bundle.signature/1\n";

/// The first line of a signature's file.
const TITLE: &str = "candlescope signature v1";

/// No key and no signature is longer, in bytes.
const LIMIT: u64 = 4096;

/// PKCS#8 of an Ed25519 key up to its 32 bytes.
const SECRET_DER: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const SECRET_LABEL: &str = "PRIVATE KEY";

/// SubjectPublicKeyInfo of an Ed25519 key up to its 32 bytes.
const PUBLIC_DER: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
const PUBLIC_LABEL: &str = "PUBLIC KEY";

/// What a public key's word begins with.
const SCHEME: &str = "ed25519:";

/// A private key.
pub struct SecretKey(SigningKey);

/// A public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// A signature over a bundle's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Whose it says it is.
    pub key: PublicKey,
    sha256: [u8; 32],
    made: [u8; 64],
}

/// Where the signature of a file lies: beside it, with `.sig` added.
pub fn place(bundle: &Path) -> PathBuf {
    beside(bundle, ".sig")
}

/// Where the public half of a key lies: beside it, with `.pub` added.
pub fn public_place(key: &Path) -> PathBuf {
    beside(key, ".pub")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

impl SecretKey {
    /// A new key from the system's randomness.
    ///
    /// # Errors
    /// The system has none.
    pub fn generate() -> Result<Self, BundleError> {
        let mut bytes = [0; 32];
        OsRng.try_fill_bytes(&mut bytes).map_err(|error| {
            BundleError::io(Path::new("the system's random numbers"), "read")(
                std::io::Error::other(error.to_string()),
            )
        })?;
        Ok(Self::from_bytes(&bytes))
    }

    /// The key of this secret.
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// Reads a key's PEM file.
    ///
    /// # Errors
    /// It is no unencrypted Ed25519 key in PKCS#8.
    pub fn load(path: &Path) -> Result<Self, BundleError> {
        let expected = "an Ed25519 private key in PEM, as `candlescope audit keygen` writes it";
        let key = unwrapped(path, SECRET_LABEL, &SECRET_DER, expected)?;
        Ok(Self::from_bytes(&key))
    }

    /// Writes the key, readable by its owner alone, and its public half beside it.
    ///
    /// # Errors
    /// Either file is there already, or the disk refuses.
    pub fn write_new(&self, path: &Path) -> Result<PathBuf, BundleError> {
        let public = public_place(path);
        for file in [path, public.as_path()] {
            if file.symlink_metadata().is_ok() {
                return Err(BundleError::Exists {
                    file: file.to_owned(),
                    what: "a key",
                });
            }
        }
        write_new(
            path,
            &wrapped(SECRET_LABEL, &SECRET_DER, self.0.as_bytes()),
            0o600,
        )?;
        write_new(&public, &self.public().pem(), 0o644)?;
        Ok(public)
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs the bytes of a file.
    pub fn sign(&self, file: &[u8]) -> Signature {
        let sha256: [u8; 32] = Sha256::digest(file).into();
        Signature {
            key: self.public(),
            sha256,
            made: self.0.sign(&message(&sha256)).to_bytes(),
        }
    }
}

fn message(sha256: &[u8; 32]) -> Vec<u8> {
    [PREFIX, sha256].concat()
}

impl PublicKey {
    /// The file of a public key, or the key itself: `ed25519:` and 64 hex digits.
    ///
    /// # Errors
    /// Neither.
    pub fn named(spec: &str) -> Result<Self, BundleError> {
        match spec.strip_prefix(SCHEME) {
            Some(digits) => unhex(digits).map(Self).ok_or_else(|| BundleError::Key {
                file: PathBuf::from(spec),
                expected: "64 hex digits after `ed25519:`",
                found: format!("{} characters", digits.chars().count()),
            }),
            None => Self::load(Path::new(spec)),
        }
    }

    /// Reads a key's PEM file.
    ///
    /// # Errors
    /// It is no Ed25519 public key.
    pub fn load(path: &Path) -> Result<Self, BundleError> {
        let expected = "an Ed25519 public key in PEM (the file that ends in .pub)";
        unwrapped(path, PUBLIC_LABEL, &PUBLIC_DER, expected).map(Self)
    }

    /// As a PEM file.
    pub fn pem(&self) -> String {
        wrapped(PUBLIC_LABEL, &PUBLIC_DER, &self.0)
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{SCHEME}{}", hex(&self.0))
    }
}

impl Signature {
    /// The text of its file.
    pub fn render(&self) -> String {
        format!(
            "{TITLE}\nkey: {}\nsha256: {}\nsignature: {}\n",
            self.key,
            hex(&self.sha256),
            hex(&self.made)
        )
    }

    /// Reads what [`Signature::render`] wrote, and nothing else.
    ///
    /// # Errors
    /// Another text.
    pub fn load(path: &Path) -> Result<Self, BundleError> {
        let bytes = load(path, LIMIT, "signature")?;
        let text = String::from_utf8_lossy(&bytes);
        Self::parse(&text).ok_or_else(|| BundleError::Key {
            file: path.to_owned(),
            expected: "a signature as `candlescope audit sign` writes it",
            found: "another text".to_owned(),
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut field = |name: &str| lines.next()?.strip_prefix(name);
        field(TITLE)?;
        let key = field("key: ")?
            .strip_prefix(SCHEME)
            .and_then(unhex)
            .map(PublicKey)?;
        let read = Self {
            key,
            sha256: field("sha256: ").and_then(unhex)?,
            made: field("signature: ").and_then(unhex)?,
        };
        (read.render() == text).then_some(read)
    }

    /// What is wrong with it as a signature of `file`; `None` when it is one.
    pub fn problem(&self, file: &[u8]) -> Option<String> {
        let sha256: [u8; 32] = Sha256::digest(file).into();
        if sha256 != self.sha256 {
            return Some(format!(
                "it signs a file with SHA-256 {}, and this one has {}",
                hex(&self.sha256),
                hex(&sha256)
            ));
        }
        let signature = Ed25519::from_bytes(&self.made);
        let holds = VerifyingKey::from_bytes(&self.key.0)
            .and_then(|key| key.verify_strict(&message(&sha256), &signature));
        holds
            .is_err()
            .then(|| format!("it was not made with the key it names, {}", self.key))
    }
}

fn wrapped(label: &str, der: &[u8], key: &[u8; 32]) -> String {
    let text = STANDARD.encode([der, key].concat());
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// The 32 bytes of a key in a PEM file.
fn unwrapped(
    path: &Path,
    label: &str,
    der: &[u8],
    expected: &'static str,
) -> Result<[u8; 32], BundleError> {
    let wrong = |found: &str| BundleError::Key {
        file: path.to_owned(),
        expected,
        found: found.to_owned(),
    };
    let bytes = load(path, LIMIT, "key")?;
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("no text"))?;
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let [first, body @ .., last] = lines.as_slice() else {
        return Err(wrong("no PEM"));
    };
    if *first != format!("-----BEGIN {label}-----") || *last != format!("-----END {label}-----") {
        let found = match first.strip_prefix("-----BEGIN ") {
            Some(other) => format!("a {}", other.trim_end_matches('-')),
            None => "another text".to_owned(),
        };
        return Err(wrong(&found));
    }
    let decoded = STANDARD
        .decode(body.concat())
        .map_err(|_| wrong("broken base64"))?;
    decoded
        .strip_prefix(der)
        .and_then(|key| key.try_into().ok())
        .ok_or_else(|| wrong("a key of another kind"))
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), BundleError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let written = options.open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(BundleError::io(path, "write"))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// RFC 8032, section 7.1, TEST 3: secret, public, message `af82`, signature.
    #[test]
    fn it_is_the_ed25519_of_the_rfc() {
        let secret = unhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7");
        let key = SecretKey::from_bytes(&secret.unwrap());
        assert_eq!(
            key.public().to_string(),
            "ed25519:fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
        );
        let signature = key.0.sign(&[0xaf, 0x82]).to_bytes();
        assert_eq!(
            hex(&signature),
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
             18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        );
    }

    /// RFC 8410, section 10: the private key of 10.3 and the public key of 10.1.
    #[test]
    fn keys_are_the_pem_of_the_rfc() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let secret = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        std::fs::write(&path, secret).unwrap();
        let key = SecretKey::load(&path).unwrap();
        assert_eq!(key.public().pem(), public);
        let other = dir.path().join("other");
        let written = key.write_new(&other).unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), secret);
        assert_eq!(PublicKey::load(&written).unwrap(), key.public());
        assert_eq!(
            PublicKey::named(&key.public().to_string()).unwrap(),
            key.public()
        );
        let error = SecretKey::load(&written).err().unwrap().to_string();
        assert!(error.contains("found a PUBLIC KEY"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_private_key_is_its_owners_alone_and_never_replaced() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key = SecretKey::generate().unwrap();
        let public = key.write_new(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = SecretKey::generate().unwrap();
        assert_ne!(again.public(), key.public());
        assert!(matches!(
            again.write_new(&path),
            Err(BundleError::Exists { .. })
        ));
        // Neither half is written where the other is in the way.
        std::fs::remove_file(&path).unwrap();
        assert!(again.write_new(&path).is_err());
        assert!(!path.exists());
        assert_eq!(PublicKey::load(&public).unwrap(), key.public());
    }

    #[test]
    fn a_signature_holds_for_its_file_and_key_alone() {
        let (key, other) = (
            SecretKey::generate().unwrap(),
            SecretKey::generate().unwrap(),
        );
        let signature = key.sign(b"bundle");
        assert_eq!(signature.problem(b"bundle"), None);
        assert!(signature.problem(b"bundlf").unwrap().contains("SHA-256"));
        let claimed = Signature {
            key: other.public(),
            ..signature.clone()
        };
        assert!(
            claimed
                .problem(b"bundle")
                .unwrap()
                .contains("not made with the key")
        );
        // The hash without our prefix is another message.
        let plain = Signature {
            made: key.0.sign(&signature.sha256).to_bytes(),
            ..signature.clone()
        };
        assert!(plain.problem(b"bundle").is_some());
        assert_eq!(Signature::parse(&signature.render()), Some(signature));
    }

    #[test]
    fn no_byte_of_a_signature_can_change() {
        let key = SecretKey::from_bytes(&[7; 32]);
        let text = key.sign(b"bundle").render();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let read = Signature::parse(&String::from_utf8_lossy(&bytes));
                let holds = read.is_some_and(|read| {
                    read.key == key.public() && read.problem(b"bundle").is_none()
                });
                assert!(!holds, "byte {at}, bit {bit}");
            }
        }
    }
}
