//! Signal 40.
#![doc = include_str!("pages/system_obedience.md")]

use super::orders::{self, Replied, obeys};
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};
use crate::text::trials::{Condition, Protocol};

/// Whom the model obeys, system or user.
pub struct SystemObedience;

const ID: &str = "system_obedience";

impl Signal for SystemObedience {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Answers]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/system_obedience.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let replied = Replied::new(cx, Protocol::System)?;
        let mut result = blank(ID)?;
        for (name, at) in [
            ("reference_obeyed", Condition::Reference),
            ("aligned_obeyed", Condition::Aligned),
            ("conflict_obeyed", Condition::Conflict),
        ] {
            let value = replied.rate(quantity(ID, name)?, at, obeys, cx)?;
            result.values.push(value);
        }
        result.values.push(replied.difference(
            quantity(ID, "conflict_change")?,
            [Condition::Conflict, Condition::Aligned],
            obeys,
            cx,
        )?);
        let (able, kept) = replied.among([Condition::Aligned, Condition::Conflict], obeys);
        result.findings = vec![format!(
            "Of {able} orders of the system that are obeyed when the user agrees, {kept} are obeyed against the user."
        )];
        result.items = replied.items(&[Condition::Aligned, Condition::Conflict]);
        result.charts = vec![orders::chart(
            "Orders of the system",
            "The share of orders obeyed: given by the user alone, by system and user, and by the system against the user.",
            &[
                ("user alone", &result.values[0]),
                ("both", &result.values[1]),
                ("against the user", &result.values[2]),
            ],
        )];
        Ok(result)
    }
}
