//! A picture in I420 and the few ways to draw on it. Drawing clips at the edges; there is no RGB
//! picture in between, because converting one costs more than encoding it.

/// A colour in BT.709, limited range (ITU-R BT.709-6 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    pub y: u8,
    pub u: u8,
    pub v: u8,
}

impl Colour {
    pub fn rgb(r: u8, g: u8, b: u8) -> Self {
        let (r, g, b) = (f32::from(r) / 255.0, f32::from(g) / 255.0, f32::from(b) / 255.0);
        let luma = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        Self {
            y: (16.0 + 219.0 * luma).round() as u8,
            u: (128.0 + 224.0 * (b - luma) / 1.8556).round() as u8,
            v: (128.0 + 224.0 * (r - luma) / 1.5748).round() as u8,
        }
    }
}

/// A rectangle in pixels. The card keeps all of them on even coordinates, so that they fit chroma.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

/// Coverage of a shape, 0 to 255 per pixel, row by row.
#[derive(Clone, Debug)]
pub struct Mask {
    pub width: usize,
    pub height: usize,
    pub coverage: Vec<u8>,
}

impl Mask {
    /// A shape from its distance function: `distance(x, y)` at a pixel's centre, negative inside.
    pub fn from_distance(width: usize, height: usize, distance: impl Fn(f32, f32) -> f32) -> Self {
        let mut coverage = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let inside = 0.5 - distance(x as f32 + 0.5, y as f32 + 0.5);
                coverage.push((inside.clamp(0.0, 1.0) * 255.0) as u8);
            }
        }
        Self { width, height, coverage }
    }

    fn at(&self, x: usize, y: usize) -> u8 {
        if x < self.width && y < self.height { self.coverage[y * self.width + x] } else { 0 }
    }
}

/// Width and height are even.
#[derive(Clone, Debug)]
pub struct Canvas {
    pub width: usize,
    pub height: usize,
    pub y: Vec<u8>,
    pub u: Vec<u8>,
    pub v: Vec<u8>,
}

impl Canvas {
    pub fn new(width: usize, height: usize, colour: Colour) -> Self {
        let (width, height) = (width & !1, height & !1);
        let (luma, chroma) = (width * height, width * height / 4);
        Self { width, height, y: vec![colour.y; luma], u: vec![colour.u; chroma], v: vec![colour.v; chroma] }
    }

    pub fn fill(&mut self, rect: Rect, colour: Colour) {
        let rect = self.clip(rect);
        let half = halved(rect);
        fill_plane(&mut self.y, self.width, rect, colour.y);
        fill_plane(&mut self.u, self.width / 2, half, colour.u);
        fill_plane(&mut self.v, self.width / 2, half, colour.v);
    }

    /// Puts back what `background`, a canvas of the same size, has there.
    pub fn restore(&mut self, background: &Canvas, rect: Rect) {
        let rect = self.clip(rect);
        let half = halved(rect);
        copy_plane(&mut self.y, &background.y, self.width, rect);
        copy_plane(&mut self.u, &background.u, self.width / 2, half);
        copy_plane(&mut self.v, &background.v, self.width / 2, half);
    }

    /// Lays `colour` over the picture where `mask` covers it, its corner at `x`, `y`.
    pub fn blend(&mut self, x: usize, y: usize, mask: &Mask, colour: Colour) {
        let rect = self.clip(Rect { x, y, width: mask.width, height: mask.height });
        for row in 0..rect.height {
            let at = (rect.y + row) * self.width + rect.x;
            let line = &mut self.y[at..at + rect.width];
            for (pixel, &cover) in line.iter_mut().zip(&mask.coverage[row * mask.width..]) {
                *pixel = mix(*pixel, colour.y, cover);
            }
        }
        // A chroma sample takes the mean cover of the up to four pixels that share it.
        let stride = self.width / 2;
        for cy in rect.y / 2..(rect.y + rect.height).div_ceil(2) {
            for cx in rect.x / 2..(rect.x + rect.width).div_ceil(2) {
                let mut sum = 0u32;
                for (px, py) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    let (px, py) = (2 * cx + px, 2 * cy + py);
                    if px >= x && py >= y {
                        sum += u32::from(mask.at(px - x, py - y));
                    }
                }
                let cover = (sum / 4) as u8;
                if cover > 0 {
                    let at = cy * stride + cx;
                    self.u[at] = mix(self.u[at], colour.u, cover);
                    self.v[at] = mix(self.v[at], colour.v, cover);
                }
            }
        }
    }

    fn clip(&self, rect: Rect) -> Rect {
        let (x, y) = (rect.x.min(self.width), rect.y.min(self.height));
        let (width, height) = (rect.width.min(self.width - x), rect.height.min(self.height - y));
        Rect { x, y, width, height }
    }
}

fn mix(below: u8, above: u8, cover: u8) -> u8 {
    let (below, above, cover) = (u32::from(below), u32::from(above), u32::from(cover));
    ((below * (255 - cover) + above * cover + 127) / 255) as u8
}

fn halved(rect: Rect) -> Rect {
    let (x, y) = (rect.x / 2, rect.y / 2);
    let (right, bottom) = ((rect.x + rect.width).div_ceil(2), (rect.y + rect.height).div_ceil(2));
    Rect { x, y, width: right - x, height: bottom - y }
}

fn fill_plane(plane: &mut [u8], stride: usize, rect: Rect, value: u8) {
    for row in rect.y..rect.y + rect.height {
        plane[row * stride + rect.x..][..rect.width].fill(value);
    }
}

fn copy_plane(plane: &mut [u8], from: &[u8], stride: usize, rect: Rect) {
    for row in rect.y..rect.y + rect.height {
        let at = row * stride + rect.x;
        plane[at..at + rect.width].copy_from_slice(&from[at..at + rect.width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_over_the_edge_is_clipped() {
        let black = Colour::rgb(0, 0, 0);
        let mut canvas = Canvas::new(16, 16, black);
        canvas.fill(Rect { x: 12, y: 12, width: 100, height: 100 }, Colour::rgb(255, 255, 255));
        let mask = Mask { width: 9, height: 9, coverage: vec![255; 81] };
        canvas.blend(11, 11, &mask, Colour::rgb(255, 0, 0));
        canvas.blend(99, 99, &mask, black);
        assert_eq!((canvas.y[10 * 16 + 10], canvas.y[15 * 16 + 15]), (16, Colour::rgb(255, 0, 0).y));
    }

    #[test]
    fn colours_are_bt709_limited_range() {
        assert_eq!(Colour::rgb(255, 255, 255), Colour { y: 235, u: 128, v: 128 });
        assert_eq!(Colour::rgb(0, 0, 255), Colour { y: 32, u: 240, v: 118 });
    }
}
