//! A storyboard: what is shown of a recording while somebody looks for a place in it. Small pictures as tiles of sheets, and a WebVTT
//! file that says which tile belongs to which time, as players on hls.js show it.
//!
//! It is given pictures that are decoded anyway, those of [`super::still()`], and their times; it asks no clock and writes nothing.

use fast_image_resize::images::{CroppedImageMut, Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::picture::Picture;
use super::scale::Frame;
use crate::media::MediaTime;

/// How a storyboard is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Tiles beside each other on a sheet; at least one.
    pub columns: u32,
    /// Tiles below each other; at least one.
    pub rows: u32,
    /// Of a tile. Its height follows from the first picture.
    pub tile_width: u32,
}

/// A storyboard that is being made: the sheet that is not full yet, and nothing of those before it.
#[derive(Debug)]
pub struct Storyboard {
    grid: Grid,
    /// Width and height, once there is a picture.
    tile: Option<(u32, u32)>,
    number: u32,
    taken: u32,
    sheet: Vec<u8>,
    latest: Option<MediaTime>,
    resizer: Resizer,
}

/// Where a picture is, and from when on it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// From the start of the recording.
    pub at: MediaTime,
    /// Its sheet, from 0.
    pub sheet: u32,
    /// Its left and upper edge there, its width and its height, in pixels.
    pub place: [u32; 4],
}

impl Storyboard {
    /// An empty one, whose first sheet has this number: 0, or the next where one is gone on with.
    #[must_use]
    pub fn new(grid: Grid, number: u32) -> Self {
        let grid = Grid {
            columns: grid.columns.clamp(1, TILES_MAX),
            rows: grid.rows.clamp(1, TILES_MAX),
            tile_width: grid.tile_width.clamp(16, TILE_WIDTH_MAX),
        };
        Self { grid, tile: None, number, taken: 0, sheet: Vec::new(), latest: None, resizer: Resizer::new() }
    }

    /// Adds what is shown from `at` on, and says where. None for what is not later than the picture before, and for what is no
    /// picture. Where the sheet [is full](Self::is_full), this begins the next: it is to be taken before.
    pub fn add(&mut self, at: MediaTime, picture: &Picture) -> Option<Tile> {
        if self.latest.is_some_and(|latest| at <= latest) || picture.width == 0 || picture.height == 0 {
            return None;
        }
        let (width, height) = *self.tile.get_or_insert_with(|| tile(self.grid.tile_width, picture));
        if self.is_full() {
            (self.number, self.taken) = (self.number.saturating_add(1), 0);
            self.sheet.clear();
        }
        let (column, row) = (self.taken % self.grid.columns, self.taken / self.grid.columns);
        let (left, top) = (column * width, row * height);
        let (sheet_width, sheet_height) = (self.grid.columns * width, self.grid.rows * height);
        let bytes = u64::from(sheet_width) * u64::from(sheet_height) * 4;
        self.sheet.resize(usize::try_from(bytes).ok()?, 0);
        let frame = Frame::fit((picture.width, picture.height), width, height);
        let mut sheet = Image::from_slice_u8(sheet_width, sheet_height, &mut self.sheet, PixelType::U8x4).ok()?;
        let (x, y) = (left + frame.left, top + frame.top);
        let mut tile = CroppedImageMut::new(&mut sheet, x, y, frame.width, frame.height).ok()?;
        let source = ImageRef::new(picture.width, picture.height, &picture.pixels, PixelType::U8x4).ok()?;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).use_alpha(false);
        self.resizer.resize(&source, &mut tile, Some(&options)).ok()?;
        self.taken += 1;
        self.latest = Some(at);
        Some(Tile { at, sheet: self.number, place: [left, top, width, height] })
    }

    /// There is no room for a further picture on the sheet.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.taken >= self.grid.columns * self.grid.rows
    }

    /// The sheet as it is now, its rows that have pictures; none before the first. [`Picture::jpeg`] makes a file of it.
    #[must_use]
    pub fn sheet(&self) -> Option<(u32, Picture)> {
        let (width, height) = self.tile.filter(|_| self.taken > 0)?;
        let (width, height) = (self.grid.columns * width, self.taken.div_ceil(self.grid.columns) * height);
        let bytes = usize::try_from(u64::from(width) * u64::from(height) * 4).ok()?;
        let pixels = self.sheet.get(..bytes)?.to_vec().into();
        Some((self.number, Picture { width, height, pixels }))
    }
}

/// The size of the tiles, for pictures of this shape; even, as JPEG halves colours.
fn tile(width: u32, picture: &Picture) -> (u32, u32) {
    let height = u64::from(width) * u64::from(picture.height) / u64::from(picture.width.max(1));
    let height = u32::try_from(height).unwrap_or(u32::MAX).clamp(16, width * 4);
    (width & !1, height & !1)
}

/// The WebVTT file of `tiles`, the last of which is shown until `end`. `uri` is where a sheet is, as seen from the file.
#[must_use]
pub fn webvtt(tiles: &[Tile], end: MediaTime, uri: impl Fn(u32) -> String) -> String {
    let mut text = "WEBVTT\n".to_owned();
    let ends = tiles.iter().skip(1).map(|next| next.at).chain([end]);
    for (tile, end) in tiles.iter().zip(ends).filter(|(tile, end)| tile.at < *end) {
        let [left, top, width, height] = tile.place;
        let (from, to, uri) = (timestamp(tile.at), timestamp(end), uri(tile.sheet));
        text += &format!("\n{from} --> {to}\n{uri}#xywh={left},{top},{width},{height}\n");
    }
    text
}

/// `HH:MM:SS.mmm`, hours in as many digits as they take.
fn timestamp(at: MediaTime) -> String {
    let millis = at.as_millis().max(0);
    let (seconds, minutes, hours) = (millis / 1_000, millis / 60_000, millis / 3_600_000);
    format!("{hours:02}:{:02}:{:02}.{:03}", minutes % 60, seconds % 60, millis % 1_000)
}

/// Tiles beside or below each other.
const TILES_MAX: u32 = 32;
/// Of one tile. A sheet of the most and the greatest is still one that browsers show.
const TILE_WIDTH_MAX: u32 = 480;

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { columns: 3, rows: 2, tile_width: 160 };

    /// A picture of one colour.
    fn plain(width: u32, height: u32, colour: [u8; 3]) -> Picture {
        let [red, green, blue] = colour;
        let pixels = [red, green, blue, 0].repeat((width * height) as usize).into();
        Picture { width, height, pixels }
    }

    fn colour(number: u32) -> [u8; 3] {
        let step = u8::try_from(number * 20).unwrap();
        [40 + step, 220 - step, 100]
    }

    /// The colour in the middle of a place.
    fn seen(sheet: &Picture, [left, top, width, height]: [u32; 4]) -> [u8; 3] {
        let at = ((top + height / 2) * sheet.width + left + width / 2) as usize * 4;
        sheet.pixels[at..at + 3].try_into().unwrap()
    }

    fn near(one: [u8; 3], other: [u8; 3]) -> bool {
        one.iter().zip(other).all(|(one, other)| one.abs_diff(other) <= 6)
    }

    /// Sheets, and where the pictures are, of so many pictures.
    fn made(count: u32) -> (Vec<(u32, Picture)>, Vec<Tile>) {
        let (mut board, mut sheets, mut tiles) = (Storyboard::new(GRID, 0), Vec::new(), Vec::new());
        for number in 0..count {
            if board.is_full() {
                sheets.extend(board.sheet());
            }
            let at = MediaTime::from_millis(10_000 * i64::from(number));
            tiles.push(board.add(at, &plain(640, 360, colour(number))).unwrap());
        }
        sheets.extend(board.sheet());
        (sheets, tiles)
    }

    #[test]
    fn each_tile_holds_its_picture_in_a_jpeg() {
        super::super::init().unwrap();
        let (sheets, tiles) = made(8);
        let sizes: Vec<_> = sheets.iter().map(|(number, sheet)| (*number, sheet.width, sheet.height)).collect();
        assert_eq!(sizes, [(0, 480, 180), (1, 480, 90)]);
        let decoded: Vec<_> = sheets
            .iter()
            .map(|(_, sheet)| {
                let file = sheet.jpeg().unwrap();
                assert!(file.starts_with(&[0xff, 0xd8]) && file.ends_with(&[0xff, 0xd9]));
                let back = Picture::decode(file, 10_000).unwrap();
                assert_eq!((back.width, back.height), (sheet.width, sheet.height));
                back
            })
            .collect();
        for (number, tile) in (0..).zip(&tiles) {
            let found = seen(&decoded[tile.sheet as usize], tile.place);
            assert!(near(found, colour(number)), "{number}: {found:?}");
        }
    }

    #[test]
    fn pictures_of_another_shape_are_framed_and_old_ones_left_out() {
        let mut board = Storyboard::new(GRID, 4);
        assert!(board.sheet().is_none());
        let second = MediaTime::from_millis(1_000);
        let tile = board.add(second, &plain(640, 360, [200; 3])).unwrap();
        assert_eq!(tile, Tile { at: second, sheet: 4, place: [0, 0, 160, 90] });
        assert!(board.add(second, &plain(640, 360, [90; 3])).is_none());
        assert!(board.add(second + second, &plain(0, 0, [90; 3])).is_none());
        let tall = board.add(second + second, &plain(360, 640, [200; 3])).unwrap();
        let (_, sheet) = board.sheet().unwrap();
        assert_eq!(seen(&sheet, tall.place), [200; 3]);
        let [left, top, _, height] = tall.place;
        assert_eq!(seen(&sheet, [left, top, 20, height]), [0; 3], "bars are black");
    }

    #[test]
    fn the_file_says_which_tile_is_shown_when() {
        let (_, tiles) = made(7);
        let tiles = [&tiles[..2], &tiles[5..]].concat();
        let text = webvtt(&tiles, MediaTime::from_millis(3_723_456), |sheet| format!("storyboard/{sheet}.jpg"));
        assert_eq!(
            text,
            "WEBVTT

00:00:00.000 --> 00:00:10.000
storyboard/0.jpg#xywh=0,0,160,90

00:00:10.000 --> 00:00:50.000
storyboard/0.jpg#xywh=160,0,160,90

00:00:50.000 --> 00:01:00.000
storyboard/0.jpg#xywh=320,90,160,90

00:01:00.000 --> 01:02:03.456
storyboard/1.jpg#xywh=0,0,160,90
"
        );
        assert_eq!(webvtt(&[], MediaTime::ZERO, |_| String::new()), "WEBVTT\n");
        let over = webvtt(&tiles[..1], MediaTime::ZERO, |_| String::new());
        assert_eq!(over, "WEBVTT\n", "nothing is shown for no time");
    }
}
