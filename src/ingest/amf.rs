//! Reads AMF0 values that a stranger wrote, and the AMF3 ones (`amf3`) to which they may switch.
//!
//! Tolerant of what encoders really send (dates, long strings, XML, typed objects, a missing object end), and
//! bounded in depth and in number. What has no counterpart among [`Amf0Value`]s becomes the nearest one.

use std::collections::HashMap;

pub(crate) use rml_amf0::Amf0Value;

use super::amf3;

/// A message whose values cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmfError {
    /// It ends within a value.
    #[error("an AMF value is cut short")]
    Truncated,
    /// Objects in objects beyond [`DEPTH_MAX`].
    #[error("AMF values are nested more than {DEPTH_MAX} deep")]
    TooDeep,
    /// More than [`VALUES_MAX`] values.
    #[error("more than {VALUES_MAX} AMF values")]
    TooMany,
    /// More than [`TEXT_BYTES_MAX`] bytes of text after references to it were followed.
    #[error("more than {TEXT_BYTES_MAX} bytes of text in AMF3 values")]
    TooLong,
    /// A type marker that AMF0 does not have.
    #[error("AMF0 has no type {0:#04x}")]
    Marker(u8),
    /// A type marker that AMF3 does not have.
    #[error("AMF3 has no type {0:#04x}")]
    Marker3(u8),
    /// A reference to what was not there before.
    #[error("an AMF3 reference into nothing")]
    Reference,
    /// An object whose form only its own class knows.
    #[error("an AMF3 object of an unknown external class")]
    External,
}

/// How deep objects and arrays may be nested.
pub const DEPTH_MAX: usize = 16;
/// How many values a message may hold, at all depths together.
pub const VALUES_MAX: usize = 4096;
/// How many bytes of text the AMF3 values of a message may hold together.
pub const TEXT_BYTES_MAX: usize = 256 << 10;

/// What has been read of a message so far, where it is bounded.
#[derive(Default)]
pub(super) struct Budget {
    values: usize,
    text_bytes: usize,
}

impl Budget {
    /// One more value, at this depth.
    pub(super) fn value(&mut self, depth: usize) -> Result<(), AmfError> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(AmfError::TooMany);
        }
        if depth > DEPTH_MAX { Err(AmfError::TooDeep) } else { Ok(()) }
    }

    /// More text.
    pub(super) fn text(&mut self, bytes: usize) -> Result<(), AmfError> {
        self.text_bytes = self.text_bytes.saturating_add(bytes);
        if self.text_bytes > TEXT_BYTES_MAX { Err(AmfError::TooLong) } else { Ok(()) }
    }
}

/// All values of a message.
///
/// # Errors
/// [`AmfError`].
pub fn read_values(bytes: &[u8]) -> Result<Vec<Amf0Value>, AmfError> {
    let mut reader = Reader { rest: bytes, budget: Budget::default() };
    let mut values = Vec::new();
    while !reader.rest.is_empty() {
        values.push(reader.value(0)?);
    }
    Ok(values)
}

struct Reader<'a> {
    rest: &'a [u8],
    budget: Budget,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Amf0Value, AmfError> {
        self.budget.value(depth)?;
        let [marker] = self.take()?;
        match marker {
            0x00 => Ok(Amf0Value::Number(f64::from_be_bytes(self.take()?))),
            0x01 => Ok(Amf0Value::Boolean(self.take::<1>()? != [0])),
            0x02 => self.string().map(Amf0Value::Utf8String),
            0x03 => self.object(depth).map(Amf0Value::Object),
            0x05 => Ok(Amf0Value::Null),
            // Undefined, and Unsupported.
            0x06 | 0x0d => Ok(Amf0Value::Undefined),
            0x07 => self.take::<2>().map(|_| Amf0Value::Undefined),
            0x08 => self.ecma_array(depth),
            0x0a => self.strict_array(depth),
            0x0b => self.date(),
            // Long strings, and XML documents.
            0x0c | 0x0f => self.long_string().map(Amf0Value::Utf8String),
            0x10 => self.string().and_then(|_class| self.object(depth)).map(Amf0Value::Object),
            0x11 => amf3::read_value(&mut self.rest, depth, &mut self.budget),
            other => Err(AmfError::Marker(other)),
        }
    }

    /// Properties up to the end marker, or to the end of the message, which some encoders put in its place.
    fn object(&mut self, depth: usize) -> Result<HashMap<String, Amf0Value>, AmfError> {
        let mut properties = HashMap::new();
        while !self.rest.is_empty() {
            if let Some(after) = self.rest.strip_prefix(&[0, 0, 9]) {
                self.rest = after;
                break;
            }
            let name = self.string()?;
            let value = self.value(depth + 1)?;
            properties.insert(name, value);
        }
        Ok(properties)
    }

    /// Its count is advice only; the end marker rules.
    fn ecma_array(&mut self, depth: usize) -> Result<Amf0Value, AmfError> {
        self.take::<4>()?;
        self.object(depth).map(Amf0Value::Object)
    }

    fn strict_array(&mut self, depth: usize) -> Result<Amf0Value, AmfError> {
        let count = u32::from_be_bytes(self.take()?);
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(depth + 1)?);
        }
        Ok(Amf0Value::StrictArray(values))
    }

    /// Milliseconds since 1970, and a time zone that is always 0.
    fn date(&mut self) -> Result<Amf0Value, AmfError> {
        let millis = f64::from_be_bytes(self.take()?);
        self.take::<2>()?;
        Ok(Amf0Value::Number(millis))
    }

    fn string(&mut self) -> Result<String, AmfError> {
        let length = u16::from_be_bytes(self.take()?);
        self.text(usize::from(length))
    }

    fn long_string(&mut self) -> Result<String, AmfError> {
        let length = u32::from_be_bytes(self.take()?);
        self.text(length as usize)
    }

    fn text(&mut self, length: usize) -> Result<String, AmfError> {
        let (text, rest) = self.rest.split_at_checked(length).ok_or(AmfError::Truncated)?;
        self.rest = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(AmfError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nested_objects_of_16_mb_are_refused() {
        let bytes = [0x03, 0, 1, b'a'].repeat(4 << 20);
        assert_eq!(read_values(&bytes), Err(AmfError::TooDeep));
    }

    #[test]
    fn lying_counts_and_floods_are_refused() {
        assert_eq!(read_values(&[0x0a, 0xff, 0xff, 0xff, 0xff]), Err(AmfError::Truncated));
        assert_eq!(read_values(&[0x0c, 0xff, 0xff, 0xff, 0xff]), Err(AmfError::Truncated));
        assert_eq!(read_values(&[0x05; VALUES_MAX + 1]), Err(AmfError::TooMany));
        assert_eq!(
            read_values(&[0x0a, 0xff, 0xff, 0xff, 0xff].iter().chain(&[5; 9999]).copied().collect::<Vec<_>>()),
            Err(AmfError::TooMany)
        );
        assert_eq!(read_values(&[0x12]), Err(AmfError::Marker(0x12)));
    }

    #[test]
    fn r7_row_29_exotic_values_are_read() {
        let mut bytes = vec![0x0b];
        bytes.extend(1.5e12f64.to_be_bytes());
        bytes.extend([0, 0, 0x0c, 0, 0, 0, 2, b'h', b'i', 0x0f, 0, 0, 0, 1, b'x', 0x07, 0, 1, 0x0d]);
        bytes.extend([0x10, 0, 1, b'C', 0, 1, b'k', 0x05, 0, 0, 9, 0x0a, 0, 0, 0, 1, 0x01, 1]);
        let object = HashMap::from([("k".to_owned(), Amf0Value::Null)]);
        let expected = vec![
            Amf0Value::Number(1.5e12),
            Amf0Value::Utf8String("hi".into()),
            Amf0Value::Utf8String("x".into()),
            Amf0Value::Undefined,
            Amf0Value::Undefined,
            Amf0Value::Object(object.clone()),
            Amf0Value::StrictArray(vec![Amf0Value::Boolean(true)]),
        ];
        assert_eq!(read_values(&bytes), Ok(expected));
        assert_eq!(
            read_values(&[0x08, 0, 0, 0, 7, 0, 1, b'k', 0x05]),
            Ok(vec![Amf0Value::Object(object)]),
            "no object end"
        );
    }

    proptest! {
        #[test]
        fn whatever_rml_writes_is_read_back(name in "[a-z]{0,9}", number: f64, text in ".{0,40}", flag: bool) {
            prop_assume!(!number.is_nan());
            let object = HashMap::from([(format!("x{name}"), Amf0Value::Number(number)), ("t".into(), Amf0Value::Utf8String(text))]);
            let values = vec![Amf0Value::Object(object), Amf0Value::Boolean(flag), Amf0Value::Null];
            prop_assert_eq!(read_values(&rml_amf0::serialize(&values).unwrap()), Ok(values));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = read_values(&bytes);
        }
    }
}
