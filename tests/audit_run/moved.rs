//! A vector that stands on a model: its first tokens show it, and answers become more or less probable.

use std::sync::Arc;

use candlescope::hooks::{Edit, EditOp, HookPoint, Point};

use super::{Setup, prompts, tiny};

#[test]
fn a_vector_that_stands_on_the_model_is_read_off_and_moves_the_margin() {
    let (mut cp, other, mut setup) = (tiny(), tiny(), Setup::new());
    setup.inputs.pairs = Some(prompts::preferences());
    let at = HookPoint::new(Point::ResidPre, 0);
    let vector = Arc::new((0..cp.config().d_model).map(|i| (i % 3) as f32).collect());
    cp.decoder
        .set_standing_edits(vec![Edit::new(at, EditOp::Add { vector, alpha: 2.0 })]);
    let audit = setup.run(&cp, Some(&other)).audit;
    let value = |id: &str, name: &str| audit.signal(id).unwrap().value(name).unwrap().clone();
    assert!(
        value("activation_difference", "relative_norm")
            .value
            .unwrap()
            > 0.1
    );
    // One vector for all texts: what they have in common is nearly everything.
    assert!(
        value("activation_difference", "common_share")
            .value
            .unwrap()
            > 0.5
    );
    let (chosen, rejected) = (
        value("implicit_margin", "chosen_drift").value.unwrap(),
        value("implicit_margin", "rejected_drift").value.unwrap(),
    );
    assert!(chosen != 0.0 && rejected != 0.0);
    let margin = value("implicit_margin", "margin").value.unwrap();
    assert!((margin - (chosen - rejected)).abs() < 1e-9);
    let items = &audit.signal("implicit_margin").unwrap().items;
    assert_eq!(items.len(), 12);
    assert_eq!(items[0].id, "line 1");
}
