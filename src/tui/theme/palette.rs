//! Colours as numbers: what the terminal's palettes hold, which is nearest, and how well one is read on another.
//!
//! Always: palette colours are xterm's defaults, since what a terminal's owner made of the first 16 cannot be asked.
//! Used by the parent for styles, by `scale` for values, by `export` for files.

use ratatui::style::Color;

/// xterm's default 16.
const ANSI: [(u8, u8, u8); 16] = [
    (0, 0, 0),
    (205, 0, 0),
    (0, 205, 0),
    (205, 205, 0),
    (0, 0, 238),
    (205, 0, 205),
    (0, 205, 205),
    (229, 229, 229),
    (127, 127, 127),
    (255, 0, 0),
    (0, 255, 0),
    (255, 255, 0),
    (92, 92, 255),
    (255, 0, 255),
    (0, 255, 255),
    (255, 255, 255),
];
/// The steps of each channel in the 6x6x6 cube from 16 on.
const CUBE: [u8; 6] = [0, 95, 135, 175, 215, 255];

/// The red, green and blue of a colour, none for the terminal's own ([`Color::Reset`]).
pub fn rgb(colour: Color) -> Option<(u8, u8, u8)> {
    Some(match colour {
        Color::Reset => return None,
        Color::Rgb(r, g, b) => (r, g, b),
        Color::Indexed(i) => indexed(i),
        Color::Black => ANSI[0],
        Color::Red => ANSI[1],
        Color::Green => ANSI[2],
        Color::Yellow => ANSI[3],
        Color::Blue => ANSI[4],
        Color::Magenta => ANSI[5],
        Color::Cyan => ANSI[6],
        Color::Gray => ANSI[7],
        Color::DarkGray => ANSI[8],
        Color::LightRed => ANSI[9],
        Color::LightGreen => ANSI[10],
        Color::LightYellow => ANSI[11],
        Color::LightBlue => ANSI[12],
        Color::LightMagenta => ANSI[13],
        Color::LightCyan => ANSI[14],
        Color::White => ANSI[15],
    })
}

fn indexed(i: u8) -> (u8, u8, u8) {
    match i {
        0..=15 => ANSI[usize::from(i)],
        16..=231 => {
            let i = usize::from(i) - 16;
            (CUBE[i / 36], CUBE[i / 6 % 6], CUBE[i % 6])
        }
        232.. => {
            let grey = 8 + 10 * (i - 232);
            (grey, grey, grey)
        }
    }
}

/// The nearest of xterm's 240 fixed colours; the first 16 are the owner's and are left alone.
pub fn nearest_256(colour: (u8, u8, u8)) -> Color {
    let nearest = (16..=255u8).min_by_key(|i| distance(indexed(*i), colour));
    Color::Indexed(nearest.unwrap_or(16))
}

/// Distance as the eye weighs the channels, roughly: the "redmean" approximation in whole numbers.
fn distance(a: (u8, u8, u8), b: (u8, u8, u8)) -> i64 {
    let square = |x: u8, y: u8| (i64::from(x) - i64::from(y)).pow(2);
    let red = i64::midpoint(i64::from(a.0), i64::from(b.0));
    (512 + red) * square(a.0, b.0) + 1024 * square(a.1, b.1) + (767 - red) * square(a.2, b.2)
}

/// Relative luminance in `0..=1`. Source: WCAG 2.2.
pub fn luminance((r, g, b): (u8, u8, u8)) -> f64 {
    let linear = |channel: u8| {
        let c = f64::from(channel) / 255.0;
        if c <= 0.04045 {
            c / 12.92
        } else {
            ((c + 0.055) / 1.055).powf(2.4)
        }
    };
    0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
}

/// Contrast of two colours, 1 to 21. Source: WCAG 2.2.
pub fn contrast(a: (u8, u8, u8), b: (u8, u8, u8)) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn contrast_as_wcag_gives_it() {
        // The extremes by definition; #767676 on white is the known grey just above 4.5.
        assert!((contrast((0, 0, 0), (255, 255, 255)) - 21.0).abs() < 1e-9);
        let grey = contrast((0x76, 0x76, 0x76), (255, 255, 255));
        assert!((grey - 4.54).abs() < 0.005, "{grey}");
    }

    #[test]
    fn a_palette_colour_is_nearest_to_itself() {
        for i in 16..=255 {
            let found = nearest_256(indexed(i));
            assert_eq!(rgb(found).unwrap(), indexed(i));
        }
        assert_eq!(nearest_256((254, 3, 2)), Color::Indexed(196));
        assert_eq!(nearest_256((129, 128, 127)), Color::Indexed(244));
    }
}
