//! Scaling of 4:2:0 pictures, plane by plane, with a bicubic filter that averages when it makes smaller. Knows nothing of GStreamer.
//!
//! What it costs, and how its pictures look beside ffmpeg's, is measured in `benches/processes.rs`.

use fast_image_resize::images::{CroppedImageMut, Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// A plane of 8-bit samples that can be read.
#[derive(Clone, Copy)]
pub(super) struct Plane<'a> {
    pub(super) samples: &'a [u8],
    /// Samples from one line to the next.
    pub(super) stride: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// A plane of 8-bit samples that can be written.
pub(super) struct PlaneMut<'a> {
    pub(super) samples: &'a mut [u8],
    pub(super) stride: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// Where in the target the picture stands; the rest is black. All even, so that chroma can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) left: u32,
    pub(super) top: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Frame {
    /// The largest place in a picture of `width` by `height` for one that is shown `display.0` wide and `display.1` high.
    /// What would leave bars of no more than two samples fills the whole.
    pub(super) fn fit(display: (u32, u32), width: u32, height: u32) -> Self {
        let (wide, high) = (u64::from(display.0.max(1)), u64::from(display.1.max(1)));
        let fitted_width = u32::try_from(u64::from(height) * wide / high).unwrap_or(width).min(width);
        let fitted_height = u32::try_from(u64::from(width) * high / wide).unwrap_or(height).min(height);
        let inner = |fitted: u32, whole: u32| if fitted + 4 >= whole { whole } else { (fitted & !1).max(2) };
        let (inner_width, inner_height) = (inner(fitted_width, width), inner(fitted_height, height));
        Self {
            left: ((width - inner_width) / 2) & !1,
            top: ((height - inner_height) / 2) & !1,
            width: inner_width,
            height: inner_height,
        }
    }

    /// It leaves no bars in a picture of this size.
    pub(super) fn fills(&self, width: u32, height: u32) -> bool {
        (self.width, self.height) == (width, height)
    }

    fn chroma(self) -> Self {
        Self { left: self.left / 2, top: self.top / 2, width: self.width / 2, height: self.height / 2 }
    }
}

/// Scales pictures; keeps its buffers from one to the next.
#[derive(Default)]
pub(super) struct Scaler {
    resizer: Resizer,
}

impl Scaler {
    /// Scales luma and both chroma planes into `frame` of the target. False where the planes are smaller than they say.
    pub(super) fn scale(&mut self, from: [Plane<'_>; 3], to: [PlaneMut<'_>; 3], frame: Frame) -> bool {
        let [luma, blue, red] = from;
        let [to_luma, to_blue, to_red] = to;
        self.plane(luma, to_luma, frame, 16)
            && self.plane(blue, to_blue, frame.chroma(), 128)
            && self.plane(red, to_red, frame.chroma(), 128)
    }

    fn plane(&mut self, from: Plane<'_>, to: PlaneMut<'_>, frame: Frame, black: u8) -> bool {
        if !frame.fills(to.width, to.height) {
            to.samples.fill(black);
        }
        self.resize(from, to, frame).is_some()
    }

    fn resize(&mut self, from: Plane<'_>, to: PlaneMut<'_>, frame: Frame) -> Option<()> {
        let source =
            ImageRef::new(from.stride, from.height, lines(from.samples, from.stride, from.height)?, PixelType::U8);
        let target_size = usize::try_from(u64::from(to.stride) * u64::from(to.height)).ok()?;
        let samples = to.samples.get_mut(..target_size)?;
        let mut target = Image::from_slice_u8(to.stride, to.height, samples, PixelType::U8).ok()?;
        let mut inner = CroppedImageMut::new(&mut target, frame.left, frame.top, frame.width, frame.height).ok()?;
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
            .use_alpha(false)
            .crop(0.0, 0.0, f64::from(from.width), f64::from(from.height));
        self.resizer.resize(&source.ok()?, &mut inner, Some(&options)).ok()
    }
}

fn lines(samples: &[u8], stride: u32, height: u32) -> Option<&[u8]> {
    samples.get(..usize::try_from(u64::from(stride) * u64::from(height)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_picture_of_another_shape_is_framed() {
        assert_eq!(Frame::fit((1280, 720), 640, 360), Frame { left: 0, top: 0, width: 640, height: 360 });
        assert_eq!(Frame::fit((853, 479), 854, 480), Frame { left: 0, top: 0, width: 854, height: 480 });
        assert_eq!(Frame::fit((640, 480), 1280, 720), Frame { left: 160, top: 0, width: 960, height: 720 });
        assert_eq!(Frame::fit((720, 1280), 640, 360), Frame { left: 218, top: 0, width: 202, height: 360 });
    }

    #[test]
    fn planes_keep_their_colours_and_bars_are_black() {
        let source = |value: u8, width: u32, height: u32| (vec![value; (width * height) as usize], width, height);
        let planes = [source(200, 40, 20), source(90, 20, 10), source(160, 20, 10)];
        let from = planes.each_ref().map(|(s, width, height)| Plane {
            samples: s,
            stride: *width,
            width: *width,
            height: *height,
        });
        let mut targets = [vec![0; 24 * 16], vec![0; 12 * 8], vec![0; 12 * 8]];
        let [luma, blue, red] = &mut targets;
        let to = [
            PlaneMut { samples: luma, stride: 24, width: 20, height: 16 },
            PlaneMut { samples: blue, stride: 12, width: 10, height: 8 },
            PlaneMut { samples: red, stride: 12, width: 10, height: 8 },
        ];
        let frame = Frame { left: 0, top: 4, width: 20, height: 10 };
        assert!(Scaler::default().scale(from, to, frame));
        assert_eq!((targets[0][0], targets[0][24 * 4], targets[0][24 * 13], targets[0][24 * 14]), (16, 200, 200, 16));
        assert_eq!((targets[1][0], targets[1][12 * 3]), (128, 90));
        assert_eq!(targets[2][12 * 3], 160);
    }

    proptest! {
        #[test]
        fn the_frame_is_even_and_inside(display in (16u32..5000, 16u32..5000), half in (8u32..1000, 8u32..1000)) {
            let (width, height) = (half.0 * 2, half.1 * 2);
            let frame = Frame::fit(display, width, height);
            prop_assert!([frame.left, frame.top, frame.width, frame.height].iter().all(|length| length.is_multiple_of(2)));
            prop_assert!(frame.width >= 2 && frame.height >= 2);
            prop_assert!(frame.left + frame.width <= width && frame.top + frame.height <= height);
        }
    }
}
