//! AMF0 (Adobe's Action Message Format 0): the values that RTMP commands and FLV metadata are made of.
//!
//! AMF3 is not read: a peer that switches to it gets an error that says so.

use shardcast_engine::metadata::{self, Metadata};

/// An AMF0 value (AMF0 §2). Objects keep the order of their members.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    Boolean(bool),
    /// A string or long string; which one is chosen by its length.
    String(String),
    Object(Vec<(String, Value)>),
    /// Null; also what a reference (§2.9) reads as, as nothing that a peer has to say needs one.
    Null,
    Undefined,
    EcmaArray(Vec<(String, Value)>),
    StrictArray(Vec<Value>),
    /// Milliseconds since 1970; `zone` in minutes, which the format reserves as 0.
    Date {
        ms: f64,
        zone: i16,
    },
    Unsupported,
    XmlDocument(String),
    TypedObject {
        class: String,
        members: Vec<(String, Value)>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmfError {
    #[error("AMF0 value at byte {at} wants {need} more bytes, {left} are left")]
    Truncated { at: usize, need: usize, left: usize },
    #[error("AMF0 has no value with marker {marker:#04x} (byte {at})")]
    UnknownMarker { marker: u8, at: usize },
    #[error("the peer switches to AMF3 at byte {at}, which is not spoken here")]
    Amf3 { at: usize },
    #[error("AMF0 value nests deeper than {max} levels")]
    TooDeep { max: usize },
    #[error("AMF0 message has more than {max} values")]
    TooManyValues { max: usize },
}

/// How deep objects and arrays may nest.
pub const MAX_DEPTH: usize = 32;
/// How many values, nested ones included, one decoding may give.
pub const MAX_VALUES: usize = 4096;

// Markers, AMF0 §2.1.
const NUMBER: u8 = 0x00;
const BOOLEAN: u8 = 0x01;
const STRING: u8 = 0x02;
const OBJECT: u8 = 0x03;
const NULL: u8 = 0x05;
const UNDEFINED: u8 = 0x06;
const REFERENCE: u8 = 0x07;
const ECMA_ARRAY: u8 = 0x08;
const OBJECT_END: u8 = 0x09;
const STRICT_ARRAY: u8 = 0x0a;
const DATE: u8 = 0x0b;
const LONG_STRING: u8 = 0x0c;
const UNSUPPORTED: u8 = 0x0d;
const XML_DOCUMENT: u8 = 0x0f;
const TYPED_OBJECT: u8 = 0x10;
const AVMPLUS: u8 = 0x11;

/// The first value of `input`, and how many bytes it took.
pub fn decode(input: &[u8]) -> Result<(Value, usize), AmfError> {
    let mut cursor = Cursor { input, at: 0, values: 0 };
    let value = cursor.value(0)?;
    Ok((value, cursor.at))
}

/// All values of `input`, to its end.
pub fn decode_all(input: &[u8]) -> Result<Vec<Value>, AmfError> {
    let mut cursor = Cursor { input, at: 0, values: 0 };
    let mut values = Vec::new();
    while !cursor.is_empty() {
        values.push(cursor.value(0)?);
    }
    Ok(values)
}

/// The stream metadata in an object or ECMA array: its numbers, booleans and strings.
pub fn metadata(value: &Value) -> Option<Metadata> {
    let (Value::Object(members) | Value::EcmaArray(members)) = value else { return None };
    let plain = members.iter().filter_map(|(name, value)| {
        let value = match value {
            Value::Number(number) => metadata::Value::Number(*number),
            Value::Boolean(boolean) => metadata::Value::Bool(*boolean),
            Value::String(text) => metadata::Value::Text(text.clone()),
            _ => return None,
        };
        Some((name.clone(), value))
    });
    Some(Metadata(plain.collect()))
}

/// Appends `metadata` as an ECMA array.
pub fn encode_metadata(metadata: &Metadata, out: &mut Vec<u8>) {
    out.push(ECMA_ARRAY);
    put_count(metadata.0.len(), out);
    for (name, value) in &metadata.0 {
        put_text(name, out);
        match value {
            metadata::Value::Number(number) => put_number(*number, out),
            metadata::Value::Bool(boolean) => put_boolean(*boolean, out),
            metadata::Value::Text(text) => put_string(text, out),
        }
    }
    out.extend_from_slice(&[0, 0, OBJECT_END]);
}

impl Value {
    /// Appends the value. A member name or class longer than 65 535 bytes is cut, as the format has
    /// no room for it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Number(number) => put_number(*number, out),
            Value::Boolean(boolean) => put_boolean(*boolean, out),
            Value::String(text) => put_string(text, out),
            Value::Object(members) => {
                out.push(OBJECT);
                put_members(members, out);
            }
            Value::Null => out.push(NULL),
            Value::Undefined => out.push(UNDEFINED),
            Value::EcmaArray(members) => {
                out.push(ECMA_ARRAY);
                put_count(members.len(), out);
                put_members(members, out);
            }
            Value::StrictArray(values) => {
                out.push(STRICT_ARRAY);
                put_count(values.len(), out);
                values.iter().for_each(|value| value.encode(out));
            }
            Value::Date { ms, zone } => {
                out.push(DATE);
                out.extend_from_slice(&ms.to_be_bytes());
                out.extend_from_slice(&zone.to_be_bytes());
            }
            Value::Unsupported => out.push(UNSUPPORTED),
            Value::XmlDocument(text) => {
                out.push(XML_DOCUMENT);
                put_long_text(text, out);
            }
            Value::TypedObject { class, members } => {
                out.push(TYPED_OBJECT);
                put_text(class, out);
                put_members(members, out);
            }
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }

    /// The member `name` of an object, typed object or ECMA array.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let (Value::Object(members) | Value::EcmaArray(members) | Value::TypedObject { members, .. }) = self else {
            return None;
        };
        members.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Number(number)
    }
}

impl From<bool> for Value {
    fn from(boolean: bool) -> Self {
        Value::Boolean(boolean)
    }
}

fn put_number(number: f64, out: &mut Vec<u8>) {
    out.push(NUMBER);
    out.extend_from_slice(&number.to_be_bytes());
}

fn put_boolean(boolean: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(&[BOOLEAN, boolean.into()]);
}

fn put_string(text: &str, out: &mut Vec<u8>) {
    if u16::try_from(text.len()).is_ok() {
        out.push(STRING);
        put_text(text, out);
    } else {
        out.push(LONG_STRING);
        put_long_text(text, out);
    }
}

fn put_members(members: &[(String, Value)], out: &mut Vec<u8>) {
    for (name, value) in members {
        put_text(name, out);
        value.encode(out);
    }
    out.extend_from_slice(&[0, 0, OBJECT_END]);
}

/// UTF-8 (AMF0 §1.3.1): a 16-bit length and the bytes.
fn put_text(text: &str, out: &mut Vec<u8>) {
    let text = cut(text, u16::MAX.into());
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// UTF-8-long (AMF0 §1.3.1): a 32-bit length and the bytes.
fn put_long_text(text: &str, out: &mut Vec<u8>) {
    let text = cut(text, u32::MAX as usize);
    put_count(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

/// As much of `text` as fits `max` bytes without splitting a character.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
    /// Values read so far.
    values: usize,
}

impl<'a> Cursor<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, AmfError> {
        if depth > MAX_DEPTH {
            return Err(AmfError::TooDeep { max: MAX_DEPTH });
        }
        if self.values >= MAX_VALUES {
            return Err(AmfError::TooManyValues { max: MAX_VALUES });
        }
        self.values += 1;
        let at = self.at;
        Ok(match self.u8()? {
            NUMBER => Value::Number(self.f64()?),
            BOOLEAN => Value::Boolean(self.u8()? != 0),
            STRING => Value::String(self.text()?),
            OBJECT => Value::Object(self.members(depth)?),
            NULL => Value::Null,
            UNDEFINED => Value::Undefined,
            REFERENCE => {
                self.u16()?;
                Value::Null
            }
            ECMA_ARRAY => {
                // Encoders that write while they live put 0 here, so the end marker decides.
                self.u32()?;
                Value::EcmaArray(self.members(depth)?)
            }
            STRICT_ARRAY => {
                // No allocation from the count: it is the peer's word.
                let count = self.u32()?;
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(depth + 1)?);
                }
                Value::StrictArray(values)
            }
            DATE => {
                let ms = self.f64()?;
                Value::Date { ms, zone: self.u16()?.cast_signed() }
            }
            LONG_STRING => Value::String(self.long_text()?),
            UNSUPPORTED => Value::Unsupported,
            XML_DOCUMENT => Value::XmlDocument(self.long_text()?),
            TYPED_OBJECT => {
                let class = self.text()?;
                Value::TypedObject { class, members: self.members(depth)? }
            }
            AVMPLUS => return Err(AmfError::Amf3 { at }),
            marker => return Err(AmfError::UnknownMarker { marker, at }),
        })
    }

    /// Members up to the end marker (AMF0 §2.5), or up to the end of the input, as some encoders
    /// forget the marker at the end of their metadata.
    fn members(&mut self, depth: usize) -> Result<Vec<(String, Value)>, AmfError> {
        let mut members = Vec::new();
        while !self.is_empty() {
            if self.rest().starts_with(&[0, 0, OBJECT_END]) {
                self.take(3)?;
                break;
            }
            let name = self.text()?;
            members.push((name, self.value(depth + 1)?));
        }
        Ok(members)
    }

    fn text(&mut self) -> Result<String, AmfError> {
        let len = self.u16()?;
        self.utf8(len.into())
    }

    fn long_text(&mut self) -> Result<String, AmfError> {
        let len = self.u32()?;
        self.utf8(usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// Bytes that are no UTF-8 become U+FFFD: a badly encoded title should not end a stream.
    fn utf8(&mut self, len: usize) -> Result<String, AmfError> {
        Ok(String::from_utf8_lossy(self.take(len)?).into_owned())
    }

    fn u8(&mut self) -> Result<u8, AmfError> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, AmfError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, AmfError> {
        self.array().map(u32::from_be_bytes)
    }

    fn f64(&mut self) -> Result<f64, AmfError> {
        self.array().map(f64::from_be_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let short = self.truncated(N);
        let array = *self.rest().first_chunk::<N>().ok_or(short)?;
        self.at += N;
        Ok(array)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], AmfError> {
        let taken = self.rest().get(..len).ok_or(self.truncated(len))?;
        self.at += len;
        Ok(taken)
    }

    fn truncated(&self, need: usize) -> AmfError {
        AmfError::Truncated { at: self.at, need, left: self.rest().len() }
    }

    fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::{hex, mutations};
    use proptest::{collection, prelude::*};

    /// onMetaData as ffmpeg 5.1 writes it into FLV.
    const METADATA: &str = "02000a6f6e4d65746144617461080000000b000577696474680040742000000000000006686569676874
        004066c00000000000000d766964656f646174617261746500000000000000000000096672616d6572617465004039
        000000000000000c766964656f636f646563696400401c000000000000000d617564696f64617461726174650040
        5f400000000000000f617564696f73616d706c65726174650040e5888000000000000f617564696f73616d706c65
        73697a65004030000000000000000673746572656f0101000c617564696f636f6465636964004024000000000000
        0007656e636f64657202000d4c61766635392e32372e313030000009";

    fn encoded(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        value.encode(&mut out);
        out
    }

    #[test]
    fn reads_and_writes_the_metadata_of_ffmpeg() {
        let golden = hex(METADATA);
        let values = decode_all(&golden).unwrap();
        assert_eq!(values[0].as_str(), Some("onMetaData"));
        assert_eq!(values[1].field("width").and_then(Value::as_f64), Some(322.0));
        assert_eq!(values[1].field("stereo").and_then(Value::as_bool), Some(true));
        let metadata = metadata(&values[1]).unwrap();
        assert_eq!(metadata.value("encoder"), Some(&metadata::Value::Text("Lavf59.27.100".into())));
        let mut out = encoded(&values[0]);
        encode_metadata(&metadata, &mut out);
        assert_eq!(out, golden);
        assert_eq!(values.iter().flat_map(encoded).collect::<Vec<_>>(), golden);
    }

    #[test]
    fn missing_end_marker_is_forgiven_at_the_end_only() {
        let golden = hex(METADATA);
        let values = decode_all(&golden).unwrap();
        assert_eq!(decode_all(&golden[..golden.len() - 3]).unwrap(), values);
        assert!(matches!(decode_all(&golden[..golden.len() - 1]), Err(AmfError::Truncated { .. })));
    }

    #[test]
    fn metadata_keeps_plain_values_only() {
        let members = vec![
            ("n".into(), Value::from(1.5)),
            ("list".into(), Value::StrictArray(vec![Value::Null])),
            ("b".into(), Value::from(true)),
        ];
        let plain = metadata(&Value::Object(members)).unwrap();
        let expected = [("n".into(), metadata::Value::Number(1.5)), ("b".into(), metadata::Value::Bool(true))];
        assert_eq!(plain.0, expected);
        assert_eq!(metadata(&Value::from("no object")), None);
    }

    #[test]
    fn names_what_it_does_not_read() {
        assert_eq!(decode(&[AVMPLUS, 1]), Err(AmfError::Amf3 { at: 0 }));
        assert_eq!(decode_all(&[NULL, 0x0e]), Err(AmfError::UnknownMarker { marker: 0x0e, at: 1 }));
        assert_eq!(decode(&[REFERENCE, 0, 7, NULL]), Ok((Value::Null, 3)));
        assert_eq!(decode(&[STRING, 0, 5, b'a']), Err(AmfError::Truncated { at: 3, need: 5, left: 1 }));
        assert_eq!(decode(&[]), Err(AmfError::Truncated { at: 0, need: 1, left: 0 }));
    }

    #[test]
    fn nesting_and_values_are_bounded() {
        let nested = |depth: usize| [STRICT_ARRAY, 0, 0, 0, 1].repeat(depth).into_iter().chain([NULL]).collect();
        let deepest: Vec<u8> = nested(MAX_DEPTH);
        assert!(decode(&deepest).is_ok());
        let deeper: Vec<u8> = nested(MAX_DEPTH + 1);
        assert_eq!(decode(&deeper), Err(AmfError::TooDeep { max: MAX_DEPTH }));
        assert!(decode_all(&[NULL; MAX_VALUES]).is_ok());
        assert_eq!(decode_all(&[NULL; MAX_VALUES + 1]), Err(AmfError::TooManyValues { max: MAX_VALUES }));
        let claimed = [&[STRICT_ARRAY, 0xff, 0xff, 0xff, 0xff][..], &[NULL; MAX_VALUES]].concat();
        assert_eq!(decode(&claimed), Err(AmfError::TooManyValues { max: MAX_VALUES }));
    }

    #[test]
    fn long_texts_take_the_long_form_and_long_names_are_cut() {
        let text = Value::String("é".repeat(40_000));
        assert_eq!(encoded(&text)[..5], [LONG_STRING, 0, 1, 0x38, 0x80]);
        assert_eq!(decode(&encoded(&text)).unwrap().0, text);
        let object = Value::Object(vec![("é".repeat(40_000), Value::Null)]);
        let (Value::Object(members), _) = decode(&encoded(&object)).unwrap() else { panic!("no object") };
        assert_eq!(members[0].0.len(), 65_534);
    }

    #[test]
    fn hostile_bytes_never_panic() {
        mutations(&hex(METADATA), 20_000, |bytes| {
            if let Ok((value, used)) = decode(bytes) {
                assert!(used <= bytes.len());
                metadata(&value);
            }
            let _ = decode_all(bytes);
        });
        let nested = hex("03000161 0a00000002 0b0000000000000000003c 10000143 000178 0f0000000178 000009 000009");
        assert!(decode(&nested).is_ok());
        mutations(&nested, 20_000, |bytes| drop(decode_all(bytes)));
    }

    fn values() -> impl Strategy<Value = Value> {
        let number = any::<f64>().prop_filter("NaN is not equal to itself", |number| !number.is_nan());
        let leaf = prop_oneof![
            number.prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            any::<String>().prop_map(Value::String),
            any::<String>().prop_map(Value::XmlDocument),
            (-1e15..1e15f64, any::<i16>()).prop_map(|(ms, zone)| Value::Date { ms, zone }),
            Just(Value::Null),
            Just(Value::Undefined),
            Just(Value::Unsupported),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            let members = collection::vec((any::<String>(), inner.clone()), 0..6);
            prop_oneof![
                members.clone().prop_map(Value::Object),
                members.clone().prop_map(Value::EcmaArray),
                (any::<String>(), members).prop_map(|(class, members)| Value::TypedObject { class, members }),
                collection::vec(inner, 0..6).prop_map(Value::StrictArray),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in values()) {
            let bytes = encoded(&value);
            prop_assert_eq!(decode(&bytes), Ok((value.clone(), bytes.len())));
            let twice = [bytes.clone(), bytes].concat();
            prop_assert_eq!(decode_all(&twice), Ok(vec![value.clone(), value]));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_all(&bytes);
        }
    }
}
