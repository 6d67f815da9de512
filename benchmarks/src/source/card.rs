//! The test card: title, clock, frame counter, colour bars, a ball that rolls, a panel that flashes.
//!
//! What stands still is drawn once; each picture redraws only what moves, so the encoder skips the rest.

use super::{
    canvas::{Canvas, Colour, Mask, Rect},
    clock,
    font::Font,
};
use std::time::SystemTime;

/// The layout below is in these units, scaled to the picture.
const LAYOUT_WIDTH: f32 = 1280.0;
const LAYOUT_HEIGHT: f32 = 720.0;

const BALL_RADIUS: f32 = 34.0;
/// The ball rolls to the far side and back in this time.
const BALL_PERIOD_S: f64 = 6.0;

pub struct Card {
    pub canvas: Canvas,
    /// What stands still.
    background: Canvas,
    places: Places,
    clock_font: Font,
    small_font: Font,
    /// Where the ball is drawn now.
    ball: Rect,
}

/// What one picture shows.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub wall_clock: SystemTime,
    pub frame: u64,
    pub fps: u32,
    /// Within a mark of the beat.
    pub flash: bool,
    /// How far the second of the wall clock is gone, 0 to 1.
    pub second: f32,
}

impl Card {
    /// `name` is the stream's, `details` says how it is made.
    pub fn new(width: usize, height: usize, name: &str, details: &str) -> Self {
        let palette = Palette::new();
        let places = Places::new(width, height);
        let mut background = Canvas::new(width, height, palette.back);
        let mut fonts = places.fonts();
        let left = places.clock.x;
        let room = places.flash.x.saturating_sub(left);
        fonts.title.write(&mut background, left, places.title_y, "Shardcast", palette.text);
        let name: String = name.chars().take(fonts.name.fits(room)).collect();
        fonts.name.write(&mut background, left, places.name_y, &name, palette.accent);
        fonts.small.write(&mut background, left, places.details_y, details, palette.dim);
        bars(&mut background, &places);
        background.fill(places.panel, palette.panel);
        background.fill(places.lane, palette.panel);
        background.fill(places.flash, palette.panel);
        Self {
            canvas: background.clone(),
            background,
            clock_font: fonts.clock,
            small_font: fonts.small,
            ball: Rect { x: 0, y: 0, width: 0, height: 0 },
            places,
        }
    }

    pub fn draw(&mut self, moment: &Moment) {
        let palette = Palette::new();
        let Self { canvas, background, places, clock_font, small_font, .. } = self;
        let (date, time) = clock::utc(moment.wall_clock);

        canvas.restore(background, places.panel);
        clock_font.write(canvas, places.clock.x + places.inset, places.clock.y, &time, palette.text);
        let day = format!("{date} UTC");
        small_font.write(canvas, places.clock.x + places.inset, places.date_y, &day, palette.dim);
        let counter = format!("frame {:010}", moment.frame);
        let right = places.panel.x + places.panel.width - places.inset;
        let x = right.saturating_sub(small_font.width(&counter));
        small_font.write(canvas, x, places.date_y, &counter, palette.dim);
        let done = (places.sweep.width as f32 * moment.second.clamp(0.0, 1.0)) as usize & !1;
        canvas.fill(Rect { width: done, ..places.sweep }, palette.accent);

        let flash = if moment.flash { palette.flash } else { palette.panel };
        canvas.fill(places.flash, flash);

        canvas.restore(background, self.ball);
        let (rect, mask) = ball(places, moment);
        canvas.blend(rect.x, rect.y, &mask, palette.ball);
        self.ball = rect;
    }
}

impl Card {
    /// The luma of the pictures' rows that show the clock.
    #[cfg(test)]
    pub fn clock_rows(&self) -> &[u8] {
        let clock = &self.places.clock;
        &self.canvas.y[clock.y * self.canvas.width..][..clock.height * self.canvas.width]
    }
}

/// The ball's box and shape: it moves by less than a pixel at its turning points, and shows it.
fn ball(places: &Places, moment: &Moment) -> (Rect, Mask) {
    let radius = BALL_RADIUS * places.scale;
    let at = moment.frame as f64 / f64::from(moment.fps.max(1)) / BALL_PERIOD_S;
    let way = (1.0 - (at.fract() * std::f64::consts::TAU).cos()) / 2.0;
    let lane = &places.lane;
    let x = lane.x as f32 + (lane.width as f32 - 2.0 * radius) * way as f32 + radius;
    let y = lane.y as f32 + lane.height as f32 / 2.0;
    let size = (2.0 * radius) as usize + 4;
    let rect = Rect {
        x: (x - radius).max(0.0) as usize & !1,
        y: (y - radius).max(0.0) as usize & !1,
        width: size,
        height: size,
    };
    let (x, y) = (x - rect.x as f32, y - rect.y as f32);
    (rect, Mask::from_distance(size, size, |px, py| (px - x).hypot(py - y) - radius))
}

/// Colour bars at 75 % (after ITU-R BT.1729) over a ramp of greys.
fn bars(canvas: &mut Canvas, places: &Places) {
    const B: u8 = 191;
    let colours = [(B, B, B), (B, B, 0), (0, B, B), (0, B, 0), (B, 0, B), (B, 0, 0), (0, 0, B), (0, 0, 0)];
    strip(canvas, places.bars, colours.len(), |n| {
        let (r, g, b) = colours[n];
        Colour::rgb(r, g, b)
    });
    strip(canvas, places.greys, 16, |n| Colour::rgb(n as u8 * 17, n as u8 * 17, n as u8 * 17));
}

fn strip(canvas: &mut Canvas, rect: Rect, count: usize, colour: impl Fn(usize) -> Colour) {
    for n in 0..count {
        let (from, to) = ((rect.width * n / count) & !1, (rect.width * (n + 1) / count) & !1);
        canvas.fill(Rect { x: rect.x + from, width: to - from, ..rect }, colour(n));
    }
}

struct Palette {
    back: Colour,
    panel: Colour,
    text: Colour,
    dim: Colour,
    accent: Colour,
    ball: Colour,
    flash: Colour,
}

impl Palette {
    fn new() -> Self {
        Self {
            back: Colour::rgb(18, 24, 38),
            panel: Colour::rgb(30, 41, 64),
            text: Colour::rgb(245, 247, 250),
            dim: Colour::rgb(160, 174, 200),
            accent: Colour::rgb(64, 200, 190),
            ball: Colour::rgb(255, 140, 60),
            flash: Colour::rgb(255, 255, 255),
        }
    }
}

struct Fonts {
    title: Font,
    name: Font,
    clock: Font,
    small: Font,
}

/// Where everything is, in pixels, at even coordinates.
struct Places {
    scale: f32,
    inset: usize,
    title_y: usize,
    name_y: usize,
    details_y: usize,
    date_y: usize,
    panel: Rect,
    clock: Rect,
    sweep: Rect,
    flash: Rect,
    lane: Rect,
    bars: Rect,
    greys: Rect,
}

impl Places {
    fn new(width: usize, height: usize) -> Self {
        let (sx, sy) = (width as f32 / LAYOUT_WIDTH, height as f32 / LAYOUT_HEIGHT);
        let even = |at: f32| at.round() as usize & !1;
        let rect = |x: f32, y: f32, width: f32, height: f32| Rect {
            x: even(x * sx),
            y: even(y * sy),
            width: even((x + width) * sx) - even(x * sx),
            height: even((y + height) * sy) - even(y * sy),
        };
        Self {
            scale: sx.min(sy),
            inset: even(32.0 * sx),
            title_y: even(48.0 * sy),
            name_y: even(130.0 * sy),
            details_y: even(178.0 * sy),
            date_y: even(254.0 * sy),
            panel: rect(64.0, 228.0, 1152.0, 204.0),
            clock: rect(64.0, 304.0, 1152.0, 100.0),
            sweep: rect(64.0, 424.0, 1152.0, 8.0),
            flash: rect(1056.0, 48.0, 160.0, 160.0),
            lane: rect(64.0, 448.0, 1152.0, 88.0),
            bars: rect(0.0, 560.0, 1280.0, 120.0),
            greys: rect(0.0, 680.0, 1280.0, 40.0),
        }
    }

    fn fonts(&self) -> Fonts {
        let font = |capital: f32| Font::new(capital * self.scale);
        Fonts { title: font(60.0), name: font(30.0), clock: font(96.0), small: font(24.0) }
    }
}
