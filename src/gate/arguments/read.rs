//! Reading of arguments: bytes to a value, within bounds, with nothing lost and nothing said twice.

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{DEPTH_MAX, Fault};

/// Bytes of the arguments of one call at most.
pub const BYTES_MAX: usize = 1024 * 1024;

/// A decimal number with this many digits at most always survives the way through a double.
const EXACT_DIGITS: usize = 15;

/// Characters of one number at most.
const NUMBER_BYTES_MAX: usize = 64;

/// Reads arguments. The work is linear in the bytes, and nothing is allocated before length and depth are known to be
/// within [`BYTES_MAX`] and [`DEPTH_MAX`].
///
/// # Errors
///
/// Too long (`too_large`), too deep (`too_deep`), not JSON in UTF-8 (`not_json`), a member that stands twice in one
/// object (`duplicate_member`), a number that this service could not hand on unchanged (`number`).
pub fn read(bytes: &[u8]) -> Result<Value, Fault> {
    if bytes.len() > BYTES_MAX {
        return Err(Fault::new("", "too_large", format!("at most {BYTES_MAX} bytes")));
    }
    scan(bytes)?;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let strict = Strict::deserialize(&mut reader).map_err(|error| refused(&error))?;
    reader.end().map_err(|error| refused(&error))?;
    Ok(strict.0)
}

const DUPLICATE: &str = "a member stands twice in one object";

fn refused(error: &serde_json::Error) -> Fault {
    if error.is_data() {
        return Fault::new("", "duplicate_member", DUPLICATE);
    }
    Fault::new("", "not_json", format!("not JSON at line {}, column {}", error.line(), error.column()))
}

/// One pass over the bytes, before any is parsed: depth and numbers.
fn scan(bytes: &[u8]) -> Result<(), Fault> {
    let mut depth = 0_usize;
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'"' => after_string(after),
            b'[' | b'{' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(Fault::new("", "too_deep", format!("at most {DEPTH_MAX} levels")));
                }
                after
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                after
            }
            b'-' | b'0'..=b'9' => {
                let part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                let end = rest.iter().position(|byte| !part(byte)).unwrap_or(rest.len());
                let (number, after) = rest.split_at(end);
                if !is_kept(number) {
                    return Err(Fault::new("", "number", "a number that would lose digits"));
                }
                after
            }
            _ => after,
        };
    }
    Ok(())
}

/// What follows a string whose opening quote is gone.
fn after_string(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'"' => return after,
            b'\\' => after.get(1..).unwrap_or_default(),
            _ => after,
        };
    }
    rest
}

/// Whether a number comes out of the parser as it went in. What is no number at all is left to the parser.
fn is_kept(number: &[u8]) -> bool {
    if number.len() > NUMBER_BYTES_MAX {
        return false;
    }
    let Ok(text) = std::str::from_utf8(number) else { return false };
    if !text.contains(['.', 'e', 'E']) {
        return text.parse::<u64>().is_ok() || text.parse::<i64>().is_ok();
    }
    let Ok(value) = text.parse::<f64>() else { return true };
    if !value.is_finite() {
        return false;
    }
    let written = digits(text);
    // Zero that was not written as zero is too small for a double.
    if value == 0.0 {
        written.is_empty()
    } else {
        written.len() <= EXACT_DIGITS || written == digits(&value.to_string())
    }
}

/// The significant digits of a number: no sign, point, exponent, zeros at either end.
fn digits(number: &str) -> String {
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let all: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    all.trim_matches('0').to_owned()
}

/// A value of which no object says a member twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        StrictSeed.deserialize(from).map(Strict)
    }
}

struct StrictSeed;

impl<'de> DeserializeSeed<'de> for StrictSeed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictSeed {
    type Value = Value;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("JSON")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(StrictSeed)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            let value = from.next_value_seed(StrictSeed)?;
            if members.insert(name, value).is_some() {
                return Err(de::Error::custom(DUPLICATE));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> &'static str {
        read(text.as_bytes()).map_or_else(|fault| fault.code, |_| "")
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let text = r#"{"a":[1,-2,2.5,1e3,null,true,"\u00e9\""],"b":{"c":{}},"n":0.30000000000000004}"#;
        assert_eq!(read(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        for kept in ["18446744073709551615", "-9223372036854775808", "0.1", "-0.0", "1.7976931348623157e308", "0e5"] {
            assert_eq!(code(kept), "", "{kept}");
        }
    }

    #[test]
    fn what_would_change_on_the_way_is_refused() {
        for lost in ["18446744073709551616", "-9223372036854775809", "0.1234567890123456789", "1e400", "1e-400"] {
            assert_eq!(code(lost), "number", "{lost}");
        }
        assert_eq!(code(&"9".repeat(100)), "number");
        for twice in [r#"{"a":1,"a":2}"#, r#"[{"b":{"a":1,"\u0061":1}}]"#] {
            assert_eq!(code(twice), "duplicate_member", "{twice}");
        }
        for broken in ["", "{", "{}x", "[1,]", "nan", "\u{feff}{}", r#""\ud800""#, "01", "{\"a\":1}{}", "\"\n\""] {
            assert_eq!(code(broken), "not_json", "{broken}");
        }
        assert_eq!(read(b"\"\xff\"").unwrap_err().code, "not_json");
    }

    #[test]
    fn size_and_depth_are_known_before_anything_is_built() {
        assert_eq!(code(&format!("\"{}\"", "x".repeat(10_000_000))), "too_large");
        assert_eq!(code(&"[".repeat(1_000_000)), "too_deep");
        assert_eq!(code(&"{\"a\":".repeat(100_000)), "too_deep");
        let within = format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
        assert_eq!(code(&within), "");
        assert_eq!(code(&format!("\"{}\"", "[".repeat(1000))), "", "brackets in a text are no levels");
    }
}
