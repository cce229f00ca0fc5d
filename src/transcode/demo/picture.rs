//! The test picture: colour bars, a clock in large figures, a frame counter, a block that moves, and a flash with each beep.
//! Pure: a frame follows from its number and the time of day.

/// Size and rate of the picture.
pub(super) const WIDTH: usize = 1280;
pub(super) const HEIGHT: usize = 720;
pub(super) const FRAMES_PER_SECOND: u64 = 30;

/// How many frames a flash lasts, which is as long as a beep.
const FLASH_FRAMES: u64 = 3;

/// Luma and both chroma values.
type Colour = [u8; 3];

const WHITE: Colour = [235, 128, 128];
const BLACK: Colour = [16, 128, 128];
const YELLOW: Colour = [210, 16, 146];
const BARS: [Colour; 8] = [
    [180, 128, 128],
    [162, 44, 142],
    [131, 156, 44],
    [112, 72, 58],
    [84, 184, 198],
    [65, 100, 212],
    [35, 212, 114],
    [16, 128, 128],
];

/// Which of the seven segments make a figure: top, upper left, upper right, middle, lower left, lower right, bottom.
const FIGURES: [[bool; 7]; 10] = [
    [true, true, true, false, true, true, true],
    [false, false, true, false, false, true, false],
    [true, false, true, true, true, false, true],
    [true, false, true, true, false, true, true],
    [false, true, true, true, false, true, false],
    [true, true, false, true, false, true, true],
    [true, true, false, true, true, true, true],
    [true, false, true, false, false, true, false],
    [true, true, true, true, true, true, true],
    [true, true, true, true, false, true, true],
];

#[derive(Clone, Copy)]
struct Area {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

/// Paints frames over a background that is painted once.
pub(super) struct Painter {
    background: Vec<u8>,
}

impl Painter {
    /// With its background.
    pub(super) fn new() -> Self {
        let mut canvas = Canvas { samples: vec![0; WIDTH * HEIGHT * 3 / 2] };
        let width = WIDTH / BARS.len();
        for (position, colour) in BARS.into_iter().enumerate() {
            canvas.fill(Area { left: position * width, top: 0, width, height: HEIGHT }, colour);
        }
        canvas.fill(Area { left: 80, top: 200, width: 1120, height: 240 }, BLACK);
        canvas.fill(Area { left: 80, top: 560, width: 1120, height: 100 }, BLACK);
        Self { background: canvas.samples }
    }

    /// Frame `number`, at this many milliseconds of the day, as I420 without padding.
    pub(super) fn frame(&self, number: u64, millis_of_day: u64) -> Vec<u8> {
        let mut canvas = Canvas { samples: self.background.clone() };
        let clock = clock_text(millis_of_day);
        canvas.text(&clock, Area { left: 116, top: 240, width: 68, height: 160 }, 20, YELLOW);
        canvas.text(&format!("{number:08}"), Area { left: 120, top: 580, width: 32, height: 60 }, 12, WHITE);
        canvas.fill(Area { left: 560 + sweep(number, 560), top: 580, width: 60, height: 60 }, WHITE);
        if number % FRAMES_PER_SECOND < FLASH_FRAMES {
            canvas.fill(Area { left: 1120, top: 40, width: 120, height: 120 }, WHITE);
        }
        canvas.samples
    }
}

/// `HH:MM:SS.mmm`.
fn clock_text(millis_of_day: u64) -> String {
    let (millis, seconds) = (millis_of_day % 1000, millis_of_day / 1000);
    format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// Back and forth over `range`, 8 samples a frame.
fn sweep(number: u64, range: usize) -> usize {
    let at = usize::try_from(number).unwrap_or(0).wrapping_mul(8) % (2 * range);
    (if at > range { 2 * range - at } else { at }) & !1
}

struct Canvas {
    samples: Vec<u8>,
}

impl Canvas {
    fn fill(&mut self, area: Area, colour: Colour) {
        let luma = WIDTH * HEIGHT;
        let half = Area { left: area.left / 2, top: area.top / 2, width: area.width / 2, height: area.height / 2 };
        let [y, u, v] = colour;
        self.fill_plane(0, WIDTH, area, y);
        self.fill_plane(luma, WIDTH / 2, half, u);
        self.fill_plane(luma + luma / 4, WIDTH / 2, half, v);
    }

    fn fill_plane(&mut self, offset: usize, stride: usize, area: Area, value: u8) {
        for line in area.top..area.top + area.height {
            let from = offset + line * stride + area.left;
            if let Some(samples) = self.samples.get_mut(from..from + area.width) {
                samples.fill(value);
            }
        }
    }

    /// Figures from left to right, `gap` apart; colons and points take half a figure.
    fn text(&mut self, text: &str, first: Area, gap: usize, colour: Colour) {
        let mut at = first;
        for sign in text.chars() {
            at.left += match sign.to_digit(10).and_then(|digit| FIGURES.get(usize::try_from(digit).ok()?)) {
                Some(figure) => {
                    self.figure(figure, at, colour);
                    at.width + gap
                }
                None => {
                    self.dots(sign, at, colour);
                    at.width / 2 + gap
                }
            };
        }
    }

    fn figure(&mut self, segments: &[bool; 7], at: Area, colour: Colour) {
        let bar = (at.width / 5) & !1;
        let half = at.height / 2;
        let across = |top| Area { top, height: bar, ..at };
        let down = |left, top| Area { left, top, width: bar, height: half };
        let right = at.left + at.width - bar;
        let areas = [
            across(at.top),
            down(at.left, at.top),
            down(right, at.top),
            across(at.top + half - bar / 2),
            down(at.left, at.top + half),
            down(right, at.top + half),
            across(at.top + at.height - bar),
        ];
        for (area, _) in areas.into_iter().zip(segments).filter(|(_, lit)| **lit) {
            self.fill(area, colour);
        }
    }

    fn dots(&mut self, sign: char, at: Area, colour: Colour) {
        let size = (at.width / 4) & !1;
        let dot = |top| Area { left: at.left + size / 2, top, width: size, height: size };
        if sign == ':' {
            self.fill(dot(at.top + at.height / 4), colour);
            self.fill(dot(at.top + at.height * 3 / 5), colour);
        } else {
            self.fill(dot(at.top + at.height - size), colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_reads_hours_to_milliseconds() {
        assert_eq!(clock_text(((13 * 60 + 4) * 60 + 5) * 1000 + 78), "13:04:05.078");
    }

    #[test]
    fn frames_differ_and_flash_each_second() {
        let painter = Painter::new();
        let (first, later) = (painter.frame(0, 0), painter.frame(15, 500));
        assert_eq!(first.len(), 1280 * 720 * 3 / 2);
        assert_ne!(first, later);
        let flash = 100 * WIDTH + 1180;
        assert_eq!((first[flash], later[flash], painter.frame(30, 1000)[flash]), (235, 35.min(later[flash]), 235));
    }

    #[test]
    fn a_figure_lights_its_segments() {
        let painter = Painter::new();
        let top_of_first_figure = 245 * WIDTH + 150;
        assert_eq!(painter.frame(0, 0)[top_of_first_figure], 210, "0 has a top");
        assert_eq!(painter.frame(0, 10 * 3_600_000)[top_of_first_figure], 16, "1 has none");
    }
}
