//! `audit keygen` and `audit sign`: the keys that vouch for bundles.

use std::path::PathBuf;

use serde::Serialize;

use super::bundle::signed;
use crate::{
    audit::bundle::{
        Bundle, BundleError,
        read::load_bundle,
        sign::{self, SecretKey},
    },
    cli::{failure::Usage, output::Out},
};

/// Make a key to sign bundles with
///
/// KEY is the private half, readable by you alone; KEY.pub is the public half, to be given away. Both are PEM, as OpenSSL
/// writes it.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  candlescope audit keygen --out release")]
pub struct KeygenArgs {
    /// Where the private key goes; a file that is there is never replaced
    #[arg(long, value_name = "KEY")]
    out: PathBuf,
}

/// Sign a bundle
///
/// The signature goes into BUNDLE.sig; a bundle that is broken is not signed.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  candlescope audit sign audit.tar --key release")]
pub struct SignArgs {
    /// A bundle that `audit run --bundle` wrote
    bundle: PathBuf,
    /// The private key
    #[arg(long, value_name = "KEY")]
    key: PathBuf,
}

#[derive(Serialize)]
struct Made {
    private: String,
    public: String,
    key: String,
}

pub fn keygen(args: &KeygenArgs, out: &Out) -> anyhow::Result<()> {
    let key = SecretKey::generate()?;
    let public = key.write_new(&args.out)?;
    let made = Made {
        private: args.out.display().to_string(),
        public: public.display().to_string(),
        key: key.public().to_string(),
    };
    if out.json {
        return out.json("candlescope.audit.keygen/1", &made);
    }
    out.line(&made.key)?;
    out.note(&format!(
        "{}: keep it; {}: give it away",
        made.private, made.public
    ));
    Ok(())
}

#[derive(Serialize)]
struct SignedAs {
    bundle: String,
    signature: String,
    key: String,
}

pub fn sign(args: &SignArgs, out: &Out) -> anyhow::Result<()> {
    let key = SecretKey::load(&args.key)?;
    let bytes = load_bundle(&args.bundle)?;
    let bundle = Bundle::read(&bytes)?;
    if let Some(finding) = bundle.findings().into_iter().next() {
        return Err(Usage::new(
            format!(
                "the bundle is broken: {}: {}",
                finding.member, finding.problem
            ),
            "`candlescope audit verify` lists everything that does not hold",
        )
        .into());
    }
    let place = sign::place(&args.bundle);
    if place.exists() {
        return Err(BundleError::Exists {
            file: place,
            what: "a signature",
        }
        .into());
    }
    let place = signed(&args.bundle, &bytes, &key, out)?;
    let made = SignedAs {
        bundle: bundle.id(),
        signature: place.display().to_string(),
        key: key.public().to_string(),
    };
    if out.json {
        return out.json("candlescope.audit.sign/1", &made);
    }
    Ok(())
}
