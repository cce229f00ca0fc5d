//! Reads bits: of configurations as they stand, and of NAL units without their emulation prevention bytes.

/// Bits, the first the most significant. Every reader gives None where there are fewer.
#[derive(Clone, Debug)]
pub(super) struct Bits<'a> {
    rest: &'a [u8],
    /// Zero bytes in a row, where the byte 3 behind two of them is to be left out.
    zeros: Option<u8>,
    byte: u8,
    left: u8,
}

impl<'a> Bits<'a> {
    /// Of bytes as they stand.
    pub(super) fn plain(rest: &'a [u8]) -> Self {
        Self { rest, zeros: None, byte: 0, left: 0 }
    }

    /// Of a NAL unit, leaving out its emulation prevention bytes (H.264, 7.4.1; H.265, 7.4.2).
    pub(super) fn nal(rest: &'a [u8]) -> Self {
        Self { zeros: Some(0), ..Self::plain(rest) }
    }

    pub(super) fn bit(&mut self) -> Option<bool> {
        if self.left == 0 {
            self.byte = self.next_byte()?;
            self.left = 8;
        }
        self.left -= 1;
        Some(self.byte >> self.left & 1 == 1)
    }

    fn next_byte(&mut self) -> Option<u8> {
        let (mut byte, mut rest) = self.rest.split_first()?;
        if let Some(zeros) = &mut self.zeros {
            if *zeros >= 2 && *byte == 3 {
                *zeros = 0;
                (byte, rest) = rest.split_first()?;
            }
            *zeros = if *byte == 0 { zeros.saturating_add(1) } else { 0 };
        }
        self.rest = rest;
        Some(*byte)
    }

    /// At most 32 bits.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Some(value)
    }

    /// At most 8 bits.
    pub(super) fn small(&mut self, count: u32) -> Option<u8> {
        u8::try_from(self.take(count)?).ok()
    }

    /// 16 bits.
    pub(super) fn u16(&mut self) -> Option<u16> {
        u16::try_from(self.take(16)?).ok()
    }

    /// Leaves out as many.
    pub(super) fn skip(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.bit()?;
        }
        Some(())
    }

    /// An unsigned Exp-Golomb code (H.264, 9.1; AV1's `uvlc`) of at most 32 bits.
    pub(super) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0u32;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let mut value = 1u64;
        for _ in 0..zeros {
            value = value << 1 | u64::from(self.bit()?);
        }
        u32::try_from(value - 1).ok()
    }

    /// The same, where it is no more than `max`.
    pub(super) fn ue_up_to(&mut self, max: u32) -> Option<u32> {
        self.ue().filter(|value| *value <= max)
    }

    /// A signed Exp-Golomb code (H.264, 9.1.1).
    pub(super) fn se(&mut self) -> Option<i64> {
        let code = i64::from(self.ue()?);
        Some(if code & 1 == 1 { (code + 1) / 2 } else { -(code / 2) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulation_prevention_is_left_out_of_nal_units_only() {
        assert_eq!(Bits::nal(&[0, 0, 3, 1]).take(24), Some(1));
        assert_eq!(Bits::plain(&[0, 0, 3, 1]).take(24), Some(3));
        assert_eq!(Bits::nal(&[0, 0, 3]).take(24), None);
    }

    #[test]
    fn codes_are_read() {
        let mut bits = Bits::plain(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        assert_eq!([bits.ue(), bits.ue(), bits.ue(), bits.ue()], [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(bits.se(), Some(-2));
        assert_eq!(Bits::plain(&[0; 8]).ue(), None);
    }
}
