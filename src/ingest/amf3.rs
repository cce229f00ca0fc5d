//! Reads the AMF3 values of a stranger, to which AMF0 switches by its `avmplus` marker.
//!
//! Bounded as [`amf`](super::amf) is. References to strings and traits are resolved, as names of properties are mostly
//! such; one to an earlier object becomes Undefined, so that nothing can refer to itself.
//! Clauses are those of Adobe's "AMF 3 Specification" of January 2013.

use std::collections::HashMap;
use std::rc::Rc;

use super::amf::{Amf0Value, AmfError, Budget, take_array, take_bytes};

/// Reads one value from the front of `rest`. Its tables of references are its own.
///
/// # Errors
/// [`AmfError`].
pub(super) fn read_value(rest: &mut &[u8], depth: usize, budget: &mut Budget) -> Result<Amf0Value, AmfError> {
    let mut reader = Reader { rest, budget, strings: Vec::new(), traits: Vec::new() };
    let value = reader.value(depth)?;
    *rest = reader.rest;
    Ok(value)
}

/// What an object's class says of its properties (3.12).
struct Traits<'a> {
    class: &'a [u8],
    /// The class reads itself.
    external: bool,
    /// Further properties follow those that are named here.
    dynamic: bool,
    names: Vec<&'a [u8]>,
}

struct Reader<'a, 'b> {
    rest: &'a [u8],
    budget: &'b mut Budget,
    strings: Vec<&'a [u8]>,
    traits: Vec<Rc<Traits<'a>>>,
}

impl<'a> Reader<'a, '_> {
    fn value(&mut self, depth: usize) -> Result<Amf0Value, AmfError> {
        self.budget.value(depth)?;
        let [marker] = self.take()?;
        match marker {
            0x00 => Ok(Amf0Value::Undefined),
            0x01 => Ok(Amf0Value::Null),
            0x02 => Ok(Amf0Value::Boolean(false)),
            0x03 => Ok(Amf0Value::Boolean(true)),
            0x04 => self.integer(),
            0x05 => self.double().map(Amf0Value::Number),
            0x06 => self.text().map(Amf0Value::Utf8String),
            // XML documents, old and new.
            0x07 | 0x0b => self.xml(),
            0x08 => self.date(),
            0x09 => self.array(depth),
            0x0a => self.object(depth),
            0x0c => self.byte_array(),
            0x0d => self.numbers(|reader| reader.take().map(|b| f64::from(i32::from_be_bytes(b)))),
            0x0e => self.numbers(|reader| reader.take().map(|b| f64::from(u32::from_be_bytes(b)))),
            0x0f => self.numbers(Self::double),
            0x10 => self.vector(depth),
            0x11 => self.dictionary(depth),
            other => Err(AmfError::Marker3(other)),
        }
    }

    /// 29 bits, signed (3.6).
    fn integer(&mut self) -> Result<Amf0Value, AmfError> {
        let unsigned = i32::try_from(self.u29()?).unwrap_or(0);
        let signed = if unsigned >= 1 << 28 { unsigned - (1 << 29) } else { unsigned };
        Ok(Amf0Value::Number(f64::from(signed)))
    }

    fn double(&mut self) -> Result<f64, AmfError> {
        self.take().map(f64::from_be_bytes)
    }

    fn xml(&mut self) -> Result<Amf0Value, AmfError> {
        let Some(length) = self.length()? else { return Ok(Amf0Value::Undefined) };
        let text = self.bytes(length)?;
        self.owned(text).map(Amf0Value::Utf8String)
    }

    /// Milliseconds since 1970 (3.10).
    fn date(&mut self) -> Result<Amf0Value, AmfError> {
        match self.length()? {
            Some(_) => self.double().map(Amf0Value::Number),
            None => Ok(Amf0Value::Undefined),
        }
    }

    /// Named values, then counted ones (3.11). One that has both becomes an object.
    fn array(&mut self, depth: usize) -> Result<Amf0Value, AmfError> {
        let Some(count) = self.length()? else { return Ok(Amf0Value::Undefined) };
        let mut properties = HashMap::new();
        self.properties(depth, &mut properties)?;
        if properties.is_empty() {
            return self.values(count, depth);
        }
        for n in 0..count {
            properties.insert(n.to_string(), self.value(depth + 1)?);
        }
        Ok(Amf0Value::Object(properties))
    }

    fn values(&mut self, count: usize, depth: usize) -> Result<Amf0Value, AmfError> {
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(depth + 1)?);
        }
        Ok(Amf0Value::StrictArray(values))
    }

    /// Names and values up to an empty name.
    fn properties(&mut self, depth: usize, into: &mut HashMap<String, Amf0Value>) -> Result<(), AmfError> {
        loop {
            let name = self.text()?;
            if name.is_empty() {
                return Ok(());
            }
            let value = self.value(depth + 1)?;
            into.insert(name, value);
        }
    }

    fn object(&mut self, depth: usize) -> Result<Amf0Value, AmfError> {
        let header = self.u29()?;
        if header & 1 == 0 {
            return Ok(Amf0Value::Undefined);
        }
        let traits = if header & 2 == 0 { self.known_traits(header >> 2)? } else { self.new_traits(header, depth)? };
        if traits.external {
            return self.external(&traits, depth);
        }
        let mut properties = HashMap::new();
        for name in &traits.names {
            let name = self.owned(name)?;
            properties.insert(name, self.value(depth + 1)?);
        }
        if traits.dynamic {
            self.properties(depth, &mut properties)?;
        }
        Ok(Amf0Value::Object(properties))
    }

    fn known_traits(&self, position: u32) -> Result<Rc<Traits<'a>>, AmfError> {
        self.traits.get(position as usize).cloned().ok_or(AmfError::Reference)
    }

    fn new_traits(&mut self, header: u32, depth: usize) -> Result<Rc<Traits<'a>>, AmfError> {
        let class = self.string()?;
        let (external, dynamic) = (header & 4 != 0, header & 8 != 0);
        let mut names = Vec::new();
        for _ in 0..if external { 0 } else { header >> 4 } {
            // Names cost as much as values, or a class of a million of them would cost nothing.
            self.budget.value(depth)?;
            names.push(self.string()?);
        }
        let traits = Rc::new(Traits { class, external, dynamic, names });
        self.traits.push(Rc::clone(&traits));
        Ok(traits)
    }

    /// Only Flex's wrappers are known, which hold one value.
    fn external(&mut self, traits: &Traits<'_>, depth: usize) -> Result<Amf0Value, AmfError> {
        match traits.class {
            b"flex.messaging.io.ArrayCollection" | b"flex.messaging.io.ObjectProxy" => self.value(depth + 1),
            _ => Err(AmfError::External),
        }
    }

    /// Bytes are passed over.
    fn byte_array(&mut self) -> Result<Amf0Value, AmfError> {
        if let Some(length) = self.length()? {
            self.bytes(length)?;
        }
        Ok(Amf0Value::Undefined)
    }

    /// A vector of numbers (3.15): their count, whether that is fixed, and they.
    fn numbers(&mut self, one: impl Fn(&mut Self) -> Result<f64, AmfError>) -> Result<Amf0Value, AmfError> {
        let Some(count) = self.length()? else { return Ok(Amf0Value::Undefined) };
        self.take::<1>()?;
        let mut values = Vec::new();
        for _ in 0..count {
            self.budget.value(0)?;
            values.push(Amf0Value::Number(one(self)?));
        }
        Ok(Amf0Value::StrictArray(values))
    }

    fn vector(&mut self, depth: usize) -> Result<Amf0Value, AmfError> {
        let Some(count) = self.length()? else { return Ok(Amf0Value::Undefined) };
        self.take::<1>()?;
        self.string()?;
        self.values(count, depth)
    }

    /// Keys may be of any type (3.16); what has another than a text is passed over.
    fn dictionary(&mut self, depth: usize) -> Result<Amf0Value, AmfError> {
        let Some(count) = self.length()? else { return Ok(Amf0Value::Undefined) };
        self.take::<1>()?;
        let mut properties = HashMap::new();
        for _ in 0..count {
            let (key, value) = (self.value(depth + 1)?, self.value(depth + 1)?);
            if let Amf0Value::Utf8String(name) = key {
                properties.insert(name, value);
            }
        }
        Ok(Amf0Value::Object(properties))
    }

    /// A text, as a copy that is accounted for: by references, a short message can name a long text often.
    fn text(&mut self) -> Result<String, AmfError> {
        let text = self.string()?;
        self.owned(text)
    }

    fn owned(&mut self, text: &[u8]) -> Result<String, AmfError> {
        self.budget.text(text.len())?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// A text, or a reference to an earlier one; the empty one is never referred to (1.3.2).
    fn string(&mut self) -> Result<&'a [u8], AmfError> {
        let header = self.u29()?;
        let length = header >> 1;
        if header & 1 == 0 {
            return self.strings.get(length as usize).copied().ok_or(AmfError::Reference);
        }
        let text = self.bytes(length as usize)?;
        if !text.is_empty() {
            self.strings.push(text);
        }
        Ok(text)
    }

    /// A length or count. None where the number is a reference to an earlier object.
    fn length(&mut self) -> Result<Option<usize>, AmfError> {
        let header = self.u29()?;
        Ok((header & 1 == 1).then_some((header >> 1) as usize))
    }

    /// One to four bytes: seven bits each, and eight in the fourth (1.3.1).
    fn u29(&mut self) -> Result<u32, AmfError> {
        let mut value = 0;
        for _ in 0..3 {
            let [byte] = self.take()?;
            value = value << 7 | u32::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        let [byte] = self.take()?;
        Ok(value << 8 | u32::from(byte))
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], AmfError> {
        take_bytes(&mut self.rest, length)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        take_array(&mut self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::amf::{DEPTH_MAX, read_values};
    use super::*;
    use proptest::prelude::*;

    /// The values of a message that switches to AMF3 for one.
    fn read(amf3: &[u8]) -> Result<Vec<Amf0Value>, AmfError> {
        read_values(&[&[0x11], amf3].concat())
    }

    fn text(text: &str) -> Amf0Value {
        Amf0Value::Utf8String(text.into())
    }

    fn object<const N: usize>(properties: [(&str, Amf0Value); N]) -> Amf0Value {
        Amf0Value::Object(properties.map(|(name, value)| (name.to_owned(), value)).into())
    }

    fn u29(value: u32) -> Vec<u8> {
        let bits = |shift: u32, mask: u32| u8::try_from(value >> shift & mask).unwrap();
        match value {
            0..0x80 => vec![bits(0, 0x7f)],
            0x80..0x4000 => vec![bits(7, 0x7f) | 0x80, bits(0, 0x7f)],
            0x4000..0x20_0000 => vec![bits(14, 0x7f) | 0x80, bits(7, 0x7f) | 0x80, bits(0, 0x7f)],
            _ => vec![bits(22, 0x7f) | 0x80, bits(15, 0x7f) | 0x80, bits(8, 0x7f) | 0x80, bits(0, 0xff)],
        }
    }

    #[test]
    fn each_simple_type_is_read() {
        for (bytes, value) in [
            (&[0x00][..], Amf0Value::Undefined),
            (&[0x01], Amf0Value::Null),
            (&[0x02], Amf0Value::Boolean(false)),
            (&[0x03], Amf0Value::Boolean(true)),
            (&[0x04, 0x7f], Amf0Value::Number(127.0)),
            (&[0x04, 0xff, 0xff, 0xff, 0xff], Amf0Value::Number(-1.0)),
            (&[0x04, 0xc0, 0x80, 0x80, 0x00], Amf0Value::Number(-268_435_456.0)),
            (&[0x05, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0], Amf0Value::Number(1.5)),
            (&[0x06, 0x05, b'h', b'i'], text("hi")),
            (&[0x06, 0x01], text("")),
            (&[0x07, 0x05, b'<', b'>'], text("<>")),
            (&[0x0b, 0x02], Amf0Value::Undefined),
            (&[0x08, 0x01, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0], Amf0Value::Number(1.5)),
            (&[0x0c, 0x05, 1, 2], Amf0Value::Undefined),
            (&[0x0d, 0x03, 0, 0xff, 0xff, 0xff, 0xfe], Amf0Value::StrictArray(vec![Amf0Value::Number(-2.0)])),
            (&[0x0e, 0x03, 1, 0, 0, 1, 0], Amf0Value::StrictArray(vec![Amf0Value::Number(256.0)])),
            (&[0x0f, 0x03, 0, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0], Amf0Value::StrictArray(vec![Amf0Value::Number(1.5)])),
            (&[0x10, 0x03, 0, 0x01, 0x03], Amf0Value::StrictArray(vec![Amf0Value::Boolean(true)])),
            (&[0x09, 0x03, 0x01, 0x01], Amf0Value::StrictArray(vec![Amf0Value::Null])),
            (
                &[0x09, 0x03, 0x03, b'k', 0x02, 0x01, 0x01],
                object([("k", Amf0Value::Boolean(false)), ("0", Amf0Value::Null)]),
            ),
            (&[0x11, 0x05, 0, 0x06, 0x03, b'k', 0x03, 0x04, 1, 0x03], object([("k", Amf0Value::Boolean(true))])),
        ] {
            assert_eq!(read(bytes), Ok(vec![value]), "{bytes:x?}");
        }
    }

    #[test]
    fn objects_refer_to_texts_traits_and_each_other() {
        // Two objects of a class with the sealed property `a`, the second dynamic property of each named by reference.
        let first = [&[0x0a, 0x1b, 0x03, b'C', 0x03, b'a', 0x04, 1][..], &[0x03, b'b', 0x06, 0x02], &[0x01]].concat();
        let second = [&[0x0a, 0x01, 0x04, 2][..], &[0x04, 0x0a, 0x00], &[0x01]].concat();
        let both = [&[0x09, 0x05, 0x01][..], &first, &second].concat();
        let expected = Amf0Value::StrictArray(vec![
            object([("a", Amf0Value::Number(1.0)), ("b", text("a"))]),
            object([("a", Amf0Value::Number(2.0)), ("b", Amf0Value::Undefined)]),
        ]);
        assert_eq!(read(&both), Ok(vec![expected]));
        assert_eq!(read(&[0x06, 0x02]), Err(AmfError::Reference));
        assert_eq!(read(&[0x0a, 0x05]), Err(AmfError::Reference));
    }

    #[test]
    fn flex_wrappers_are_opened_and_other_external_classes_refused() {
        let class = b"flex.messaging.io.ArrayCollection";
        let header =
            |class: &[u8]| [&[0x0a, 0x07][..], &u29(u32::try_from(class.len()).unwrap() << 1 | 1), class].concat();
        assert_eq!(read(&[&header(class)[..], &[0x04, 7]].concat()), Ok(vec![Amf0Value::Number(7.0)]));
        assert_eq!(read(&[&header(b"X")[..], &[0x04, 7]].concat()), Err(AmfError::External));
    }

    #[test]
    fn amf0_goes_on_after_the_value() {
        let bytes = [0x11, 0x04, 1, 0x05, 0x11, 0x03, 0x01, 0x01];
        let values = vec![Amf0Value::Number(1.0), Amf0Value::Null, Amf0Value::Boolean(true), Amf0Value::Boolean(true)];
        assert_eq!(read_values(&bytes), Ok(values));
    }

    #[test]
    fn what_is_read_is_bounded() {
        let nested = [&[0x09, 0x03, 0x01].repeat(100_000)[..], &[0x01]].concat();
        assert_eq!(read(&nested), Err(AmfError::TooDeep));
        assert_eq!(read(&[&[0x09, 0x03, 0x01].repeat(DEPTH_MAX)[..], &[0x01]].concat()).map(|v| v.len()), Ok(1));
        let flood = [&[0x09][..], &u29(0x1fff_ffff), &[0x01], &[0x01; 9_999]].concat();
        assert_eq!(read(&flood), Err(AmfError::TooMany));
        let numbers = [&[0x0d][..], &u29(0x1fff_ffff), &[0; 99_999]].concat();
        assert_eq!(read(&numbers), Err(AmfError::TooMany));
        let names = [&[0x0a][..], &u29(0x1fff_fffb), &[0x01], &[0x01; 9_999]].concat();
        assert_eq!(read(&names), Err(AmfError::TooMany));
        let long = [&[0x09][..], &u29(0x1fff_ffff), &[0x01, 0x06], &u29(30_001), &[b'x'; 15_000], &[6, 0].repeat(999)];
        assert_eq!(read(&long.concat()), Err(AmfError::TooLong));
        assert_eq!(read(&[0x06, 0xff, 0xff, 0xff, 0xff]), Err(AmfError::Truncated));
        assert_eq!(read(&[0x12]), Err(AmfError::Marker3(0x12)));
    }

    proptest! {
        #[test]
        fn integers_keep_their_29_bits(value in -(1i32 << 28)..1 << 28) {
            let bytes = [&[0x04][..], &u29(u32::from_be_bytes(value.to_be_bytes()) & 0x1fff_ffff)].concat();
            prop_assert_eq!(read(&bytes), Ok(vec![Amf0Value::Number(f64::from(value))]));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
