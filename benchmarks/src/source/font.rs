//! A small monospaced typeface made of strokes, drawn once per size into masks.
//!
//! Strokes stay smooth at every size, where a bitmap font would show its squares.

use super::canvas::{Canvas, Colour, Mask};
use std::collections::BTreeMap;

/// Units from one character to the next; a glyph is 4 wide.
const ADVANCE: f32 = 6.0;
/// Units of a capital; descenders reach 2 below, the stroke sticks out by 1 around.
const CAPITAL: f32 = 8.0;
const STROKE: f32 = 0.62;
const MARGIN: f32 = 1.0;

/// The typeface at one size.
#[derive(Debug)]
pub struct Font {
    unit: f32,
    masks: BTreeMap<char, Mask>,
}

impl Font {
    /// `capital`: height of a capital letter in pixels.
    pub fn new(capital: f32) -> Self {
        Self { unit: capital / CAPITAL, masks: BTreeMap::new() }
    }

    /// Writes `text` with the top of its capitals at `y`, and returns where the next would go.
    pub fn write(&mut self, canvas: &mut Canvas, x: usize, y: usize, text: &str, colour: Colour) -> usize {
        let margin = (self.unit * MARGIN) as usize;
        for (n, c) in text.chars().enumerate() {
            let left = x + (n as f32 * self.unit * ADVANCE) as usize;
            let unit = self.unit;
            let mask = self.masks.entry(c).or_insert_with(|| render(c, unit));
            canvas.blend(left.saturating_sub(margin), y.saturating_sub(margin), mask, colour);
        }
        x + self.width(text)
    }

    pub fn width(&self, text: &str) -> usize {
        (text.chars().count() as f32 * self.unit * ADVANCE) as usize
    }

    /// How many characters fit into `width` pixels.
    pub fn fits(&self, width: usize) -> usize {
        (width as f32 / (self.unit * ADVANCE)) as usize
    }
}

fn render(c: char, unit: f32) -> Mask {
    let segments = segments(strokes(c));
    let width = ((ADVANCE + MARGIN) * unit).ceil() as usize;
    let height = ((CAPITAL + 2.0 + 2.0 * MARGIN) * unit).ceil() as usize;
    Mask::from_distance(width, height, |x, y| {
        let (x, y) = (x / unit - MARGIN, y / unit - MARGIN);
        let nearest = segments.iter().map(|s| distance(*s, x, y)).fold(f32::MAX, f32::min);
        (nearest - STROKE) * unit
    })
}

type Point = (f32, f32);

/// `"00 48|40 08"`: strokes split by `|`, points as two hexadecimal digits, x then y.
fn segments(strokes: &str) -> Vec<(Point, Point)> {
    let mut segments = Vec::new();
    for stroke in strokes.split('|') {
        let points: Vec<Point> = stroke.split(' ').filter_map(point).collect();
        segments.extend(points.windows(2).map(|p| (p[0], p[1])));
    }
    segments
}

fn point(digits: &str) -> Option<Point> {
    let mut digits = digits.chars().filter_map(|c| c.to_digit(16));
    Some((digits.next()? as f32, digits.next()? as f32))
}

/// From a point to a segment, whose ends may coincide: then it is a dot.
fn distance((a, b): (Point, Point), x: f32, y: f32) -> f32 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length2 = dx * dx + dy * dy;
    let t = if length2 > 0.0 { (((x - a.0) * dx + (y - a.1) * dy) / length2).clamp(0.0, 1.0) } else { 0.0 };
    (x - a.0 - t * dx).hypot(y - a.1 - t * dy)
}

fn strokes(c: char) -> &'static str {
    match c {
        '0' | 'O' => "10 30 41 47 38 18 07 01 10",
        '1' => "02 20 28|08 48",
        '2' => "01 10 30 41 43 08 48",
        '3' => "01 10 30 41 43 34 14|34 45 47 38 18 07",
        '4' => "38 30 06 46",
        '5' => "40 00 03 33 44 47 38 18 07",
        '6' => "41 30 10 01 07 18 38 47 45 34 04",
        '7' => "00 40 18",
        '8' => "10 30 41 43 34 14 03 01 10|14 05 07 18 38 47 45 34",
        '9' => "07 18 38 47 41 30 10 01 03 14 44",
        'A' => "08 02 20 42 48|05 45",
        'B' => "00 30 41 43 34 04|34 45 47 38 08 00",
        'C' => "41 30 10 01 07 18 38 47",
        'D' => "00 30 41 47 38 08 00",
        'E' => "40 00 08 48|04 34",
        'F' => "40 00 08|04 34",
        'G' => "41 30 10 01 07 18 38 47 44 24",
        'H' => "00 08|40 48|04 44",
        'I' => "10 30|20 28|18 38",
        'J' => "40 47 38 18 07",
        'K' => "00 08|40 04 48",
        'L' => "00 08 48",
        'M' => "08 00 24 40 48",
        'N' => "08 00 48 40",
        'P' => "08 00 30 41 43 34 04",
        'Q' => "10 30 41 47 38 18 07 01 10|26 48",
        'R' => "08 00 30 41 43 34 04|24 48",
        'S' => "41 30 10 01 03 14 34 45 47 38 18 07",
        'T' => "00 40|20 28",
        'U' => "00 07 18 38 47 40",
        'V' => "00 28 40",
        'W' => "00 18 23 38 40",
        'X' => "00 48|40 08",
        'Y' => "00 24 40|24 28",
        'Z' => "00 40 08 48",
        'a' => "04 13 33 44 48|45 15 06 07 18 38 47",
        'b' => "00 08|04 13 33 44 47 38 18 07",
        'c' => "44 33 13 04 07 18 38 47",
        'd' => "40 48|44 33 13 04 07 18 38 47",
        'e' => "06 46 44 33 13 04 07 18 38 47",
        'f' => "40 30 21 28|03 43",
        'g' => "43 49 3a 1a 09|44 33 13 04 06 17 37 46",
        'h' => "00 08|04 13 33 44 48",
        'i' => "13 23 28|18 38|20 20",
        'j' => "23 33 39 2a 1a|30 30",
        'k' => "00 08|43 06 48",
        'l' => "10 20 27 38",
        'm' => "08 03|04 13 24 28|24 33 44 48",
        'n' => "03 08|04 13 33 44 48",
        'o' => "13 33 44 47 38 18 07 04 13",
        'p' => "03 0a|04 13 33 44 47 38 18 07",
        'q' => "43 4a|44 33 13 04 07 18 38 47",
        'r' => "03 08|05 23 33 44",
        's' => "44 33 13 04 15 35 46 47 38 18 07",
        't' => "10 17 28 38 47|03 33",
        'u' => "03 07 18 38 47|43 48",
        'v' => "03 28 43",
        'w' => "03 18 24 38 43",
        'x' => "03 48|43 08",
        'y' => "03 28|43 1a 0a",
        'z' => "03 43 08 48",
        ':' => "23 23|27 27",
        '.' => "28 28",
        ',' => "28 1a",
        '-' => "05 45",
        '_' => "0a 4a",
        '/' => "40 08",
        '+' => "23 27|05 45",
        '=' => "04 44|06 46",
        '(' => "30 21 27 38",
        ')' => "10 21 27 18",
        ' ' => "",
        _ => "01 10 30 41 43 24 26|28 28",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_of_a_clock_looks_different() {
        let glyphs: Vec<_> = "0123456789:.-".chars().map(|c| render(c, 3.0).coverage).collect();
        for (n, glyph) in glyphs.iter().enumerate() {
            assert!(glyph.contains(&255), "glyph {n} is empty");
            assert!(!glyphs[..n].contains(glyph), "glyph {n} looks like an earlier one");
        }
    }

    #[test]
    fn every_stroke_is_spelled_in_points_of_the_grid() {
        for c in (' '..='~').filter(|c| *c != ' ') {
            assert!(!segments(strokes(c)).is_empty(), "{c}");
            for word in strokes(c).split([' ', '|']) {
                let (x, y) = point(word).unwrap_or_else(|| panic!("{c}: {word}"));
                assert!(x <= 4.0 && y <= 10.0, "{c}: {word}");
            }
        }
    }
}
