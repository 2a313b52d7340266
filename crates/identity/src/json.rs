//! JSON that cannot be read in two ways: an object with two equal keys is refused.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The key under which serde_json hands over a number that keeps its digits.
const NUMBER: &str = "$serde_json::private::Number";

/// A JSON value. Numbers keep their spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// An object, and nothing behind it.
    pub(crate) fn object(bytes: &[u8]) -> Option<BTreeMap<String, Json>> {
        match serde_json::from_slice(bytes) {
            Ok(Json::Object(fields)) => Some(fields),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number that is not negative. A fraction, as some issuers write times with, is cut.
    pub(crate) fn seconds(&self) -> Option<u64> {
        let Json::Number(digits) = self else { return None };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if is_number(whole) && is_number(fraction) { whole.parse().ok() } else { None }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let value: Json = map.next_value()?;
            if fields.insert(key, value).is_some() {
                return Err(A::Error::custom("two equal keys"));
            }
        }
        // With digits kept, a number comes as an object of one member. Whoever writes such an object
        // gets a number whose spelling is checked where it is used.
        if fields.len() == 1
            && let Some(Json::Text(digits)) = fields.get(NUMBER)
        {
            return Ok(Json::Number(digits.clone()));
        }
        Ok(Json::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_equal_keys_are_refused_at_any_depth() {
        assert!(Json::object(br#"{"a":1,"b":{"a":2}}"#).is_some());
        for text in [r#"{"a":1,"a":1}"#, r#"{"b":{"a":1,"a":2}}"#, r#"{"l":[{"a":1,"\u0061":2}]}"#]
        {
            assert_eq!(Json::object(text.as_bytes()), None, "{text}");
        }
        for text in ["", "{", "[]", "1", "{} ", "{}x", "nul", "{\"a\":01}"] {
            assert_eq!(Json::object(text.as_bytes()).is_some(), text == "{} ", "{text}");
        }
    }

    #[test]
    fn seconds_are_whole_and_not_negative() {
        for (text, seconds) in [
            ("0", Some(0)),
            ("1700000000", Some(1_700_000_000)),
            ("1700000000.75", Some(1_700_000_000)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-1", None),
            ("1e9", None),
            ("\"5\"", None),
        ] {
            let fields = Json::object(format!("{{\"t\":{text}}}").as_bytes()).unwrap();
            assert_eq!(fields.get("t").and_then(Json::seconds), seconds, "{text}");
        }
    }
}
