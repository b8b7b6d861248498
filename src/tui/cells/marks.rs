//! Numbers as one line of characters: a bar, a sparkline.
//!
//! Always: exactly as wide as asked for, ASCII where the theme says so, and NaN is blank, never a zero.

use super::super::theme::Theme;

const LEFT_EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// A bar of `width` columns, full at `max`, in eighths of a column. A value above zero always shows something.
pub fn bar(value: f32, max: f32, width: usize, theme: Theme) -> String {
    let part = if max > 0.0 { value / max } else { 0.0 };
    let part = if part.is_nan() {
        0.0
    } else {
        part.clamp(0.0, 1.0)
    };
    let steps = if theme.ascii { 1 } else { 8 };
    let mut filled = (f64::from(part) * (width * steps) as f64).round() as usize;
    if part > 0.0 && width > 0 {
        filled = filled.max(1);
    }
    let (whole, rest) = (filled / steps, filled % steps);
    let mut out = theme.pick("█", "#").repeat(whole);
    let mut used = whole;
    if rest > 0 {
        out.push_str(LEFT_EIGHTHS[rest]);
        used += 1;
    }
    out + &" ".repeat(width - used)
}

/// The course of `values` in `width` columns, lowest to highest of those that are finite; more values than columns are
/// shown by the means of their shares, fewer stand at the left. A course without change stands at half height.
pub fn sparkline(values: &[f32], width: usize, theme: Theme) -> String {
    let shown = shares(values, width);
    let finite = || shown.iter().copied().filter(|v| v.is_finite());
    let lo = finite().fold(f32::INFINITY, f32::min);
    let hi = finite().fold(f32::NEG_INFINITY, f32::max);
    let mut out = String::new();
    for value in &shown {
        let height = match value {
            v if v.is_nan() => f32::NAN,
            // The lowest is a mark, not a blank: blank is what is not there.
            v if hi > lo => 0.125 + 0.875 * ((v - lo) / (hi - lo)).clamp(0.0, 1.0),
            _ => 0.5,
        };
        out.push_str(theme.ramp(height));
    }
    out + &" ".repeat(width - shown.len())
}

/// At most `width` values: each the mean of the numbers in its share, NaN for a share without any.
fn shares(values: &[f32], width: usize) -> Vec<f32> {
    if values.len() <= width {
        return values.to_vec();
    }
    let cut = |i: usize| (i as u128 * values.len() as u128 / width.max(1) as u128) as usize;
    let mean = |i: usize| {
        let share = &values[cut(i)..cut(i + 1)];
        let numbers = share.iter().filter(|v| !v.is_nan());
        let (sum, n) = numbers.fold((0.0f64, 0u32), |(sum, n), v| (sum + f64::from(*v), n + 1));
        (sum / f64::from(n)) as f32 // 0 of 0 is NaN
    };
    (0..width).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::width as columns;
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_value() {
        let theme = Theme::dark();
        assert_eq!(bar(0.5, 1.0, 4, theme), "██  ");
        assert_eq!(bar(0.3, 1.0, 4, theme), "█▎  ");
        assert_eq!(bar(1e-9, 1.0, 4, theme), "▏   ");
        assert_eq!(bar(9.0, 1.0, 3, theme), "███");
        assert_eq!(bar(f32::NAN, 1.0, 2, theme), "  ");
        assert_eq!(bar(1.0, 0.0, 2, theme), "  ");
        let ascii = Theme {
            ascii: true,
            ..theme
        };
        assert_eq!(bar(0.5, 1.0, 4, ascii), "##  ");
    }

    #[test]
    fn a_sparkline_spans_its_values() {
        let theme = Theme::dark();
        assert_eq!(sparkline(&[0.0, 1.0, 2.0, 3.0], 5, theme), "▁▃▆█ ");
        assert_eq!(sparkline(&[0.0, 0.0, 4.0, 4.0], 2, theme), "▁█");
        assert_eq!(sparkline(&[1.0, f32::NAN, 1.0], 3, theme), "▄ ▄");
        assert_eq!(sparkline(&[1.0, 2.0], 0, theme), "");
    }

    proptest! {
        #[test]
        fn both_are_as_wide_as_asked_for(
            values in prop::collection::vec(any::<f32>(), 0..50), max in any::<f32>(), width in 0usize..40, ascii in any::<bool>(),
        ) {
            let theme = Theme { ascii, ..Theme::dark() };
            let line = sparkline(&values, width, theme);
            prop_assert_eq!(columns(&line), width);
            prop_assert!(!ascii || line.is_ascii());
            for value in values {
                prop_assert_eq!(columns(&bar(value, max, width, theme)), width);
            }
        }
    }
}
